package config

import (
	"fmt"
	"log/slog"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"

	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/azureml"
	"github.com/belayd/belay/rollout/traffic/haproxy"
	"github.com/belayd/belay/rollout/traffic/webhook"
)

// RouterConfig is a router; exactly one kind.
type RouterConfig struct {
	AzureML *AzureMLRouter `yaml:"azureml" oneof:"router" doc:"Azure Machine Learning online endpoints, managed and Kubernetes."`
	HAProxy *HAProxyRouter `yaml:"haproxy" oneof:"router" doc:"HAProxy over its runtime socket."`
	Webhook *WebhookRouter `yaml:"webhook" oneof:"router" doc:"Anything that keeps the webhook contract."`
}

// AzureMLRouter moves the traffic of one workspace's online endpoints.
type AzureMLRouter struct {
	azureml.Config

	AzureLogin
	ResourceManager string      `yaml:"resourceManager" doc:"Address of the resource manager in another cloud."`
	Probe           ProbeConfig `yaml:"probe" doc:"How sample requests are sent."`
}

// HAProxyRouter moves the weights of one HAProxy.
type HAProxyRouter struct {
	haproxy.Config

	Endpoints map[string]HAProxyEndpoint `yaml:"endpoints" doc:"What HAProxy cannot tell of its endpoints."`
	Probe     ProbeConfig                `yaml:"probe" doc:"How sample requests are sent."`
}

// HAProxyEndpoint is what the config tells of an endpoint.
type HAProxyEndpoint haproxy.Endpoint

// WebhookRouter moves traffic over the webhook contract.
type WebhookRouter struct {
	webhook.Config

	HTTP  document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
	Probe ProbeConfig  `yaml:"probe" doc:"How sample requests are sent."`
}

// ProbeConfig says how sample requests are sent. They never carry the router's
// own credentials.
type ProbeConfig struct {
	KeyFile string       `yaml:"keyFile" doc:"File with the key or token that may ask for predictions, sent as a bearer token."`
	Header  string       `yaml:"header" doc:"Request header that names the deployment."`
	HTTP    document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig, instead of keyFile."`
}

// routers is the list of the routers there are.
var routers = []adapter[RouterConfig, traffic.Router]{
	{"azureml", func(c RouterConfig) bool { return c.AzureML != nil }, buildAzureML},
	{"haproxy", func(c RouterConfig) bool { return c.HAProxy != nil }, buildHAProxy},
	{"webhook", func(c RouterConfig) bool { return c.Webhook != nil }, buildWebhookRouter},
}

func buildAzureML(b *Builder, field string, c RouterConfig) (traffic.Router, error) {
	a := c.AzureML
	credential, err := b.azure(field, a.AzureLogin)
	if err != nil {
		return nil, err
	}
	prober, err := b.prober(field+".probe", a.Probe, isLoopbackURL(a.ResourceManager))
	if err != nil {
		return nil, err
	}
	own := a.Config
	own.Credential, own.Prober = credential, prober
	own.Options = &arm.ClientOptions{ClientOptions: a.where().options(a.ResourceManager)}
	return azureml.New(own)
}

func buildHAProxy(b *Builder, field string, c RouterConfig) (traffic.Router, error) {
	h := c.HAProxy
	own, local := h.Config, false
	own.Endpoints = map[string]haproxy.Endpoint{}
	for name, e := range h.Endpoints {
		own.Endpoints[name] = haproxy.Endpoint(e)
		local = local || isLoopbackURL(e.ScoringURI)
	}
	var err error
	if own.Prober, err = b.prober(field+".probe", h.Probe, local); err != nil {
		return nil, err
	}
	return haproxy.New(own)
}

func buildWebhookRouter(b *Builder, field string, c RouterConfig) (traffic.Router, error) {
	w := c.Webhook
	cl, err := b.client(field+".http", w.HTTP)
	if err != nil {
		return nil, err
	}
	prober, err := b.prober(field+".probe", w.Probe, isLoopbackURL(w.URL))
	if err != nil {
		return nil, err
	}
	own := w.Config
	own.Client, own.Prober = cl, prober
	return webhook.New(own)
}

// OpenRouter builds the one router of the config that is so called, as belayd
// does. It makes no connection.
func (c *Config) OpenRouter(name string) (traffic.Router, error) {
	rc, ok := c.Routers[name]
	if !ok {
		return nil, fmt.Errorf("routers.%s: is missing", name)
	}
	all, err := build(NewBuilder(c, slog.New(slog.DiscardHandler)), "routers", routers, map[string]RouterConfig{name: rc})
	if err != nil {
		return nil, err
	}
	return all[name], nil
}

// Routers makes the routers.
func (b *Builder) Routers() (map[string]traffic.Router, error) {
	return build(b, "routers", routers, b.config.Routers)
}
