package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/prometheus"
	"github.com/belayd/belay/analysis/scrape"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/alertmanager"
	"github.com/belayd/belay/notifier/pagerduty"
	notifyhook "github.com/belayd/belay/notifier/webhook"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout/traffic"
	trafficwebhook "github.com/belayd/belay/rollout/traffic/webhook"
)

// This file is the list of adapters. Adding one is a package, its conformance
// test, an example and one row here with its configuration.

// SourceConfig is a source of metrics; exactly one kind.
type SourceConfig struct {
	Prometheus *PrometheusSource `yaml:"prometheus" oneof:"source" doc:"Prometheus, Thanos, Mimir or VictoriaMetrics."`
	Scrape     *ScrapeSource     `yaml:"scrape" oneof:"source" doc:"The deployments' own /metrics, read by belayd."`
}

// RouterConfig is a router; exactly one kind.
type RouterConfig struct {
	Webhook *WebhookRouter `yaml:"webhook" oneof:"router" doc:"Anything that keeps the webhook contract."`
}

// NotifierConfig is a notifier; exactly one kind.
type NotifierConfig struct {
	PagerDuty    *PagerDutyNotifier    `yaml:"pagerduty" oneof:"notifier" doc:"PagerDuty Events v2."`
	Alertmanager *AlertmanagerNotifier `yaml:"alertmanager" oneof:"notifier" doc:"Prometheus Alertmanager."`
	Webhook      *WebhookNotifier      `yaml:"webhook" oneof:"notifier" doc:"Signed CloudEvents over HTTP."`
}

// ScrapeSource reads /metrics.
type ScrapeSource struct {
	Targets map[string]map[string][]string `yaml:"targets" required:"true" doc:"Addresses by endpoint and deployment."`
	Timeout time.Duration                  `yaml:"timeout" default:"5s" doc:"Bound of one scrape."`
	HTTP    policies.Raw                   `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// PrometheusSource asks a Prometheus.
type PrometheusSource struct {
	URL            string        `yaml:"url" required:"true" doc:"Its address, without /api/v1."`
	HTTP           policies.Raw  `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
	Timeout        time.Duration `yaml:"timeout" default:"10s" doc:"Bound of one request."`
	ScrapeInterval time.Duration `yaml:"scrapeInterval" doc:"The longest scrape interval of the metrics; read from the samples when missing."`
	Lag            time.Duration `yaml:"lag" doc:"How long samples may take to arrive; one scrape interval and 5s when missing."`
}

// WebhookRouter moves traffic over the webhook contract.
type WebhookRouter struct {
	URL         string       `yaml:"url" required:"true" doc:"The contract's address."`
	HTTP        policies.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
	Probe       policies.Raw `yaml:"probe" doc:"HTTPClientConfig for sample requests; it never carries the router's own credentials."`
	ProbeHeader string       `yaml:"probeHeader" doc:"Header that names the deployment of a sample request."`
	CurlArgs    []string     `yaml:"curlArgs" doc:"Arguments of the curl command for a rollback by hand, for example a --config file."`
}

// PagerDutyNotifier pages.
type PagerDutyNotifier struct {
	RoutingKeyFile string       `yaml:"routingKeyFile" required:"true" doc:"File with the integration key."`
	URL            string       `yaml:"url" doc:"Another region, or a proxy."`
	HTTP           policies.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// AlertmanagerNotifier raises alerts.
type AlertmanagerNotifier struct {
	URL  string       `yaml:"url" required:"true" doc:"Alertmanager's address."`
	HTTP policies.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// WebhookNotifier posts signed events.
type WebhookNotifier struct {
	URL        string       `yaml:"url" required:"true" doc:"Where the events go."`
	SecretFile string       `yaml:"secretFile" required:"true" doc:"File with the signing secret."`
	HTTP       policies.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// An adapter is one row: what its kind is called, whether a configuration is of
// it, and how it is built. field is where the configuration stands.
type adapter[C, A any] struct {
	kind  string
	is    func(C) bool
	build func(b *builder, field string, c C) (A, error)
}

var sources = []adapter[SourceConfig, analysis.Source]{
	{"prometheus", func(c SourceConfig) bool { return c.Prometheus != nil }, func(b *builder, field string, c SourceConfig) (analysis.Source, error) {
		p := c.Prometheus
		cl, err := b.client(field+".http", p.HTTP)
		if err != nil {
			return nil, err
		}
		return prometheus.New(prometheus.Config{URL: p.URL, Client: cl, Timeout: p.Timeout, ScrapeInterval: p.ScrapeInterval, Lag: p.Lag})
	}},
	{"scrape", func(c SourceConfig) bool { return c.Scrape != nil }, func(b *builder, field string, c SourceConfig) (analysis.Source, error) {
		cl, err := b.client(field+".http", c.Scrape.HTTP)
		if err != nil {
			return nil, err
		}
		return scrape.New(scrape.Config{Targets: c.Scrape.Targets, Timeout: c.Scrape.Timeout, Client: cl})
	}},
}

var routers = []adapter[RouterConfig, traffic.Router]{
	{"webhook", func(c RouterConfig) bool { return c.Webhook != nil }, func(b *builder, field string, c RouterConfig) (traffic.Router, error) {
		w := c.Webhook
		cl, err := b.client(field+".http", w.HTTP)
		if err != nil {
			return nil, err
		}
		local := isLoopbackURL(w.URL)
		anonymous, err := b.config.guarded(field+".probe", "", local)
		if err != nil {
			return nil, err
		}
		prober, err := b.config.guarded(field+".probe", w.Probe, local)
		if err != nil {
			return nil, err
		}
		return trafficwebhook.New(trafficwebhook.Config{URL: w.URL, Client: cl, Prober: traffic.Prober{Authorized: prober, Anonymous: anonymous, Header: w.ProbeHeader}, CurlArgs: w.CurlArgs})
	}},
}

var notifiers = []adapter[NotifierConfig, notifier.Notifier]{
	{"pagerduty", func(c NotifierConfig) bool { return c.PagerDuty != nil }, func(b *builder, field string, c NotifierConfig) (notifier.Notifier, error) {
		key, err := b.secret(field+".routingKeyFile", c.PagerDuty.RoutingKeyFile)
		if err != nil {
			return nil, err
		}
		cl, err := b.client(field+".http", c.PagerDuty.HTTP)
		if err != nil {
			return nil, err
		}
		return pagerduty.New(pagerduty.Config{RoutingKey: key.Reveal(), URL: c.PagerDuty.URL, Client: cl})
	}},
	{"alertmanager", func(c NotifierConfig) bool { return c.Alertmanager != nil }, func(b *builder, field string, c NotifierConfig) (notifier.Notifier, error) {
		cl, err := b.client(field+".http", c.Alertmanager.HTTP)
		if err != nil {
			return nil, err
		}
		return alertmanager.New(alertmanager.Config{URL: c.Alertmanager.URL, Client: cl, Log: b.log})
	}},
	{"webhook", func(c NotifierConfig) bool { return c.Webhook != nil }, func(b *builder, field string, c NotifierConfig) (notifier.Notifier, error) {
		secret, err := b.secret(field+".secretFile", c.Webhook.SecretFile)
		if err != nil {
			return nil, err
		}
		cl, err := b.client(field+".http", c.Webhook.HTTP)
		if err != nil {
			return nil, err
		}
		return notifyhook.New(notifyhook.Config{URL: c.Webhook.URL, Secret: secret.Reveal(), Client: cl})
	}},
}

// A builder makes adapters of a configuration and hands them what they share.
type builder struct {
	config *Config
	log    *slog.Logger
}

func (b *builder) client(field string, raw policies.Raw) (*http.Client, error) {
	return b.config.client(field, raw)
}

func (b *builder) secret(field, ref string) (Secret, error) { return b.config.secret(field, ref) }

// runner is an adapter with work of its own between calls.
type runner interface {
	Run(ctx context.Context) error
}

// build makes the adapters of one kind by their rows; all that fails is said.
func build[C, A any](b *builder, section string, table []adapter[C, A], configs map[string]C) (map[string]A, error) {
	out := map[string]A{}
	var errs []error
	for _, name := range sortedKeys(configs) {
		c := configs[name]
		i := slices.IndexFunc(table, func(a adapter[C, A]) bool { return a.is(c) })
		if i < 0 {
			errs = append(errs, fmt.Errorf("%s.%s: no kind is given", section, name))
			continue
		}
		field := fmt.Sprintf("%s.%s.%s", section, name, table[i].kind)
		a, err := table[i].build(b, field, c)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
			continue
		}
		out[name] = a
	}
	return out, errors.Join(errs...)
}

// kinds names the kind of each configured adapter, for the policy checker.
func kinds[C, A any](table []adapter[C, A], configs map[string]C) map[string]string {
	out := map[string]string{}
	for name, c := range configs {
		for _, a := range table {
			if a.is(c) {
				out[name] = a.kind
			}
		}
	}
	return out
}
