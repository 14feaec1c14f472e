package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/azuremonitor"
	"github.com/belayd/belay/analysis/httpjson"
	"github.com/belayd/belay/analysis/loganalytics"
	"github.com/belayd/belay/analysis/prometheus"
	"github.com/belayd/belay/analysis/scrape"
	"github.com/belayd/belay/cmd/internal/aws"
	"github.com/belayd/belay/cmd/internal/secret"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
)

// SourceConfig is a source of metrics; exactly one kind.
type SourceConfig struct {
	Prometheus   *PrometheusSource   `yaml:"prometheus" oneof:"source" doc:"Prometheus, Thanos, Mimir or VictoriaMetrics."`
	Scrape       *ScrapeSource       `yaml:"scrape" oneof:"source" doc:"The deployments' own /metrics, read by belayd."`
	LogAnalytics *LogAnalyticsSource `yaml:"loganalytics" oneof:"source" doc:"Exact counts out of Azure Monitor logs."`
	AzureMonitor *AzureMonitorSource `yaml:"azuremonitor" oneof:"source" doc:"Azure Monitor platform metrics; a tripwire, not for quantiles."`
	HTTPJSON     *HTTPJSONSource     `yaml:"httpjson" oneof:"source" doc:"Any JSON over HTTP: a warehouse, a vendor."`
}

// PrometheusSource asks a Prometheus.
type PrometheusSource struct {
	prometheus.Config

	HTTP    document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
	Dialect string       `yaml:"dialect" default:"promql" enum:"promql,metricsql" doc:"The language of its queries: with metricsql, what only VictoriaMetrics takes is a warning of check's and no error."`
	Method  string       `yaml:"method" default:"POST" enum:"POST,GET" doc:"How it is asked; a server or proxy that takes no POST, or drops its body, is found out and asked by GET."`
	Azure   *AzureLogin  `yaml:"azure" doc:"Ask Azure Managed Prometheus with an Entra token."`
	AWS     *aws.Login   `yaml:"aws" doc:"Ask Amazon Managed Prometheus with signed requests."`
}

// ScrapeSource reads /metrics.
type ScrapeSource struct {
	scrape.Config

	HTTP document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// LogAnalyticsSource asks a Log Analytics workspace.
type LogAnalyticsSource struct {
	loganalytics.Config

	AzureLogin
	HTTP document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// AzureMonitorSource asks Azure Monitor for platform metrics.
type AzureMonitorSource struct {
	azuremonitor.Config

	AzureLogin
	HTTP document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// HTTPJSONSource asks any JSON over HTTP.
type HTTPJSONSource struct {
	httpjson.Config

	AWS  *aws.Login   `yaml:"aws" doc:"Sign the requests, for CloudWatch."`
	HTTP document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// lag is how old the source's youngest reading always is: as configured, or by itself; 0
// where a reading ends where the data ends.
func (c SourceConfig) lag() time.Duration {
	switch {
	case c.Prometheus != nil:
		return c.Prometheus.Lag
	case c.LogAnalytics != nil:
		return cmp.Or(c.LogAnalytics.Lag, loganalytics.DefaultLag)
	case c.AzureMonitor != nil:
		return cmp.Or(c.AzureMonitor.Lag, azuremonitor.DefaultLag)
	case c.HTTPJSON != nil:
		return cmp.Or(c.HTTPJSON.Lag, httpjson.DefaultLag)
	}
	return 0
}

// sources is the list of the sources there are.
var sources = []adapter[SourceConfig, Source]{
	{"prometheus", func(c SourceConfig) bool { return c.Prometheus != nil }, buildPrometheus},
	{"scrape", func(c SourceConfig) bool { return c.Scrape != nil }, onlySource(buildScrape)},
	{"loganalytics", func(c SourceConfig) bool { return c.LogAnalytics != nil }, onlySource(buildLogAnalytics)},
	{"azuremonitor", func(c SourceConfig) bool { return c.AzureMonitor != nil }, onlySource(buildAzureMonitor)},
	{"httpjson", func(c SourceConfig) bool { return c.HTTPJSON != nil }, onlySource(buildHTTPJSON)},
}

func buildPrometheus(b *Builder, field string, c SourceConfig) (Source, error) {
	p := c.Prometheus
	if strings.Contains(strings.TrimRight(p.URL, "/")+"/", "/api/v1/") {
		return Source{}, errors.New("url: ends in /api/v1, which is added to it; write the address before that")
	}
	cl, err := b.client(field+".http", p.HTTP)
	if err != nil {
		return Source{}, err
	}
	if p.Azure != nil {
		credential, err := b.azure(field+".azure", *p.Azure)
		if err != nil {
			return Source{}, err
		}
		cl.Transport = &entra{next: cl.Transport, credential: credential, scope: p.Azure.where().prometheus()}
	}
	if err := b.sign(field+".aws", cl, p.AWS); err != nil {
		return Source{}, err
	}
	own := p.Config
	own.Client, own.Get, own.MetricsQL = cl, p.Method == "GET", p.Dialect == policies.DialectMetricsQL
	s, err := prometheus.New(own)
	if err != nil {
		return Source{}, err
	}
	return OfPrometheus(s), nil
}

// OfPrometheus is a Prometheus as a source of the config would be.
func OfPrometheus(s *prometheus.Source) Source {
	return Source{Source: s, ScrapeInterval: s.ScrapeInterval, Behind: s.Behind}
}

func buildScrape(b *Builder, field string, c SourceConfig) (analysis.Source, error) {
	cl, err := b.client(field+".http", c.Scrape.HTTP)
	if err != nil {
		return nil, err
	}
	own := c.Scrape.Config
	own.Client = cl
	return scrape.New(own)
}

func buildLogAnalytics(b *Builder, field string, c SourceConfig) (analysis.Source, error) {
	l := c.LogAnalytics
	cl, err := b.client(field+".http", l.HTTP)
	if err != nil {
		return nil, err
	}
	credential, err := b.azure(field, l.AzureLogin)
	if err != nil {
		return nil, err
	}
	own := l.Config
	own.Credential, own.Client = credential, cl
	own.Endpoint, own.Audience = cmp.Or(own.Endpoint, l.where().logs), cmp.Or(own.Audience, l.where().logs)
	return loganalytics.New(own)
}

func buildAzureMonitor(b *Builder, field string, c SourceConfig) (analysis.Source, error) {
	a := c.AzureMonitor
	cl, err := b.client(field+".http", a.HTTP)
	if err != nil {
		return nil, err
	}
	credential, err := b.azure(field, a.AzureLogin)
	if err != nil {
		return nil, err
	}
	own := a.Config
	for i, at := range []*string{&own.Subscription, &own.ResourceGroup, &own.Workspace} {
		name := []string{"subscription", "resourceGroup", "workspace"}[i]
		if *at == "" {
			if *at, err = b.config.azurePlace(name, i); err != nil {
				return nil, err
			}
			b.read[name] = *at
		}
	}
	audience, endpoint := a.where().metrics(a.Region)
	own.Credential, own.Client = credential, cl
	own.Endpoint, own.Audience = cmp.Or(own.Endpoint, endpoint), cmp.Or(own.Audience, audience)
	return azuremonitor.New(own)
}

// azurePlace is the one subscription, resource group or workspace of all azureml
// routers.
func (c *Config) azurePlace(name string, i int) (string, error) {
	found := ""
	for _, router := range sortedKeys(c.Routers) {
		r := c.Routers[router].AzureML
		if r == nil {
			continue
		}
		at := [3]string{r.Subscription, r.ResourceGroup, r.Workspace}[i]
		if found != "" && at != found {
			return "", fmt.Errorf("%s: is missing, and the azureml routers name several; name the one that is meant", name)
		}
		found = at
	}
	if found == "" {
		return "", fmt.Errorf("%s: is missing, and there is no azureml router to take it from", name)
	}
	return found, nil
}

func buildHTTPJSON(b *Builder, field string, c SourceConfig) (analysis.Source, error) {
	h := c.HTTPJSON
	cl, err := b.config.guarded(field+".http", h.HTTP, isLoopbackURL(h.URL))
	if err != nil {
		return nil, err
	}
	if err := b.sign(field+".aws", cl, h.AWS); err != nil {
		return nil, err
	}
	own := h.Config
	own.Client = cl
	return httpjson.New(own)
}

// sign makes the client sign what it sends, where the source says so.
func (b *Builder) sign(field string, cl *http.Client, l *aws.Login) error {
	if l == nil {
		return nil
	}
	login := *l
	if login.CredentialsFile != "" {
		// It is read at every use: another content is not another adapter.
		if _, err := b.config.secret(field+".credentialsFile", login.CredentialsFile); err != nil {
			return err
		}
		login.CredentialsFile = b.config.Path(login.CredentialsFile)
	}
	cl.Transport = secret.Discreet(aws.Sign(cl.Transport, login)) // the signature's headers are secrets too
	return nil
}

// Sources makes the sources of metrics.
func (b *Builder) Sources() (map[string]Source, error) {
	return build(b, "sources", sources, b.config.Sources)
}
