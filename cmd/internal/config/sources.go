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
	URL            string        `yaml:"url" required:"true" doc:"Its address, without /api/v1."`
	HTTP           document.Raw  `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
	Dialect        string        `yaml:"dialect" default:"promql" enum:"promql,metricsql" doc:"The language of its queries: with metricsql, what only VictoriaMetrics takes is a warning of check's and no error."`
	Method         string        `yaml:"method" default:"POST" enum:"POST,GET" doc:"How it is asked; a server or proxy that takes no POST, or drops its body, is found out and asked by GET."`
	Azure          *AzureLogin   `yaml:"azure" doc:"Ask Azure Managed Prometheus with an Entra token."`
	AWS            *aws.Login    `yaml:"aws" doc:"Ask Amazon Managed Prometheus with signed requests."`
	Timeout        time.Duration `yaml:"timeout" default:"10s" doc:"Bound of one request."`
	ScrapeInterval time.Duration `yaml:"scrapeInterval" doc:"The longest scrape interval of the metrics; read from the samples when missing."`
	Lag            time.Duration `yaml:"lag" doc:"The least age of what is read, for a source that corrects its samples; without it a reading ends where the data ends."`
}

// ScrapeSource reads /metrics.
type ScrapeSource struct {
	Targets map[string]map[string][]string `yaml:"targets" required:"true" doc:"Addresses by endpoint and deployment."`
	Timeout time.Duration                  `yaml:"timeout" default:"5s" doc:"Bound of one scrape."`
	HTTP    document.Raw                   `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// LogAnalyticsSource asks a Log Analytics workspace.
type LogAnalyticsSource struct {
	AzureLogin
	Workspace string        `yaml:"workspace" required:"true" doc:"The workspace's id, a GUID."`
	Endpoint  string        `yaml:"endpoint" doc:"The service's address, where it is not the cloud's."`
	Audience  string        `yaml:"audience" doc:"The token's audience, where it is not the cloud's."`
	Lag       time.Duration `yaml:"lag" doc:"How long rows may take to arrive; 10m when missing."`
	HTTP      document.Raw  `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// AzureMonitorSource asks Azure Monitor for platform metrics.
type AzureMonitorSource struct {
	AzureLogin
	Region        string        `yaml:"region" required:"true" doc:"Where the workspace is: westeurope."`
	Subscription  string        `yaml:"subscription" doc:"The subscription's id; that of the azureml routers when missing."`
	ResourceGroup string        `yaml:"resourceGroup" doc:"The workspace's resource group; that of the azureml routers when missing."`
	Workspace     string        `yaml:"workspace" doc:"The Azure ML workspace; that of the azureml routers when missing."`
	Endpoint      string        `yaml:"endpoint" doc:"The service's address, where it is not the cloud's."`
	Audience      string        `yaml:"audience" doc:"The token's audience, where it is not the cloud's."`
	Lag           time.Duration `yaml:"lag" doc:"How long a minute's figure may take to arrive; 3m when missing."`
	HTTP          document.Raw  `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// HTTPJSONSource asks any JSON over HTTP.
type HTTPJSONSource struct {
	URL     string        `yaml:"url" required:"true" doc:"The address; ${endpoint} and the like are put in, escaped."`
	Body    string        `yaml:"body" doc:"A JSON document to post; likewise."`
	Query   string        `yaml:"query" doc:"The query of expressions that name none."`
	Timeout time.Duration `yaml:"timeout" default:"10s" doc:"Bound of one request."`
	Lag     time.Duration `yaml:"lag" doc:"How long data may take to arrive; 1m when missing."`
	Step    time.Duration `yaml:"step" doc:"What intervals are multiples of; 1s when missing."`
	Partial []string      `yaml:"partial" doc:"Paths that select something, and not null, false, 0 or nothing, where an answer is a part or an error."`
	AWS     *aws.Login    `yaml:"aws" doc:"Sign the requests, for CloudWatch."`
	HTTP    document.Raw  `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
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
var sources = []adapter[SourceConfig, analysis.Source]{
	{"prometheus", func(c SourceConfig) bool { return c.Prometheus != nil }, buildPrometheus},
	{"scrape", func(c SourceConfig) bool { return c.Scrape != nil }, buildScrape},
	{"loganalytics", func(c SourceConfig) bool { return c.LogAnalytics != nil }, buildLogAnalytics},
	{"azuremonitor", func(c SourceConfig) bool { return c.AzureMonitor != nil }, buildAzureMonitor},
	{"httpjson", func(c SourceConfig) bool { return c.HTTPJSON != nil }, buildHTTPJSON},
}

func buildPrometheus(b *Builder, field string, c SourceConfig) (analysis.Source, error) {
	p := c.Prometheus
	if strings.Contains(strings.TrimRight(p.URL, "/")+"/", "/api/v1/") {
		return nil, errors.New("url: ends in /api/v1, which is added to it; write the address before that")
	}
	cl, err := b.client(field+".http", p.HTTP)
	if err != nil {
		return nil, err
	}
	if p.Azure != nil {
		credential, err := b.azure(field+".azure", *p.Azure)
		if err != nil {
			return nil, err
		}
		cl.Transport = &entra{next: cl.Transport, credential: credential, scope: p.Azure.where().prometheus()}
	}
	if err := b.sign(field, cl, p.AWS); err != nil {
		return nil, err
	}
	return prometheus.New(prometheus.Config{URL: p.URL, Client: cl, Timeout: p.Timeout, ScrapeInterval: p.ScrapeInterval, Lag: p.Lag, Get: p.Method == "GET", MetricsQL: p.Dialect == policies.DialectMetricsQL})
}

func buildScrape(b *Builder, field string, c SourceConfig) (analysis.Source, error) {
	cl, err := b.client(field+".http", c.Scrape.HTTP)
	if err != nil {
		return nil, err
	}
	return scrape.New(scrape.Config{Targets: c.Scrape.Targets, Timeout: c.Scrape.Timeout, Client: cl})
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
	return loganalytics.New(loganalytics.Config{Workspace: l.Workspace, Credential: credential, Client: cl, Endpoint: cmp.Or(l.Endpoint, l.where().logs), Audience: cmp.Or(l.Audience, l.where().logs), Lag: l.Lag})
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
	place := [3]string{a.Subscription, a.ResourceGroup, a.Workspace}
	for i, name := range []string{"subscription", "resourceGroup", "workspace"} {
		if place[i] == "" {
			if place[i], err = b.config.azurePlace(name, i); err != nil {
				return nil, err
			}
			b.read[name] = place[i]
		}
	}
	audience, endpoint := a.where().metrics(a.Region)
	return azuremonitor.New(azuremonitor.Config{Region: a.Region, Subscription: place[0], ResourceGroup: place[1], Workspace: place[2],
		Credential: credential, Client: cl, Endpoint: cmp.Or(a.Endpoint, endpoint), Audience: cmp.Or(a.Audience, audience), Lag: a.Lag})
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
	if err := b.sign(field, cl, h.AWS); err != nil {
		return nil, err
	}
	return httpjson.New(httpjson.Config{URL: h.URL, Body: h.Body, Query: h.Query, Client: cl, Timeout: h.Timeout, Lag: h.Lag, Step: h.Step, Partial: h.Partial})
}

// sign makes the client sign what it sends, where the source says so.
func (b *Builder) sign(field string, cl *http.Client, l *aws.Login) error {
	if l == nil {
		return nil
	}
	login := *l
	if login.CredentialsFile != "" {
		// It is read at every use: another content is not another adapter.
		if _, err := b.config.secret(field+".aws.credentialsFile", login.CredentialsFile); err != nil {
			return err
		}
		login.CredentialsFile = b.config.Path(login.CredentialsFile)
	}
	cl.Transport = aws.Sign(cl.Transport, login)
	return nil
}

// Sources makes the sources of metrics.
func (b *Builder) Sources() (map[string]analysis.Source, error) {
	return build(b, "sources", sources, b.config.Sources)
}
