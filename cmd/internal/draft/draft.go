// Package draft writes a first policy, a test for it and belayd's config out of
// what a live endpoint tells: `belay init`.
//
// The rules of the package:
//   - What it writes is valid: belayd takes the config, the policy has no errors,
//     and the test passes. What nobody could know is a value that is valid and
//     named as a Blank, with why it must be filled in.
//   - A check that needs a fact which the endpoint does not tell is left out, and
//     says in a comment which field is missing.
//   - Nothing is overwritten, and either all files are written or none.
//
// It reads nothing but what it is given and writes nothing to an endpoint.
package draft

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout/traffic"
)

// Kind is the kind of a router.
type Kind string

// The kinds of routers that can be drafted for.
const (
	AzureML Kind = "azureml"
	HAProxy Kind = "haproxy"
	Webhook Kind = "webhook"
)

// The names under which the config knows its parts.
const (
	sourceName   = "metrics"
	notifierName = "oncall"
	zeroGUID     = "00000000-0000-0000-0000-000000000000"
	localSource  = "http://127.0.0.1:9090"
	localAlerts  = "http://127.0.0.1:9093"
)

// Options say what is drafted, as people name it on the command line.
type Options struct {
	Kind     Kind
	Endpoint string
	// Owner answers for the policy; empty takes the endpoint's tag owner.
	Owner string
	// Prometheus and Alertmanager are addresses; empty are those of this machine.
	Prometheus, Alertmanager string

	Azure AzureOptions
	Proxy ProxyOptions
	Hook  HookOptions
}

// AzureOptions name a workspace of Azure Machine Learning.
type AzureOptions struct {
	Subscription, ResourceGroup, Workspace string
	// ResourceManager is the address in another cloud.
	ResourceManager string
	// Credential and TokenFile say as whom Azure is asked.
	Credential, TokenFile string
	// Logs is the id of the Log Analytics workspace that has the traffic log.
	Logs string
}

// ProxyOptions say where a HAProxy is.
type ProxyOptions struct {
	Socket string
	// Map is the map's file where deployments are backends; empty where they are
	// the servers of a backend.
	Map string
}

// HookOptions say where a webhook endpoint is.
type HookOptions struct {
	URL       string
	TokenFile string
}

// Live is what was read of the endpoint.
type Live struct {
	Split       traffic.Split
	Description traffic.Description
}

// A Blank is a value that must be filled in.
type Blank struct {
	File  string `json:"file"`
	Field string `json:"field"`
	Why   string `json:"why"`
}

// A File is a file to write.
type File struct {
	Name string
	Text string
}

// A Draft is everything for one endpoint.
type Draft struct {
	// Policy, Test and Config are the names of the files.
	Policy, Test, Config string
	Files                []File
	Blanks               []Blank
	// Notes are what stands in the way of a first rollout.
	Notes []string
}

// Router is the name of the router in the config.
func (o Options) Router() string { return string(o.Kind) }

// Compose drafts the files. The endpoint's name is set.
func Compose(o Options, live Live) (*Draft, error) {
	v := newView(o, live)
	d := &Draft{Policy: v.Name + ".yaml", Test: v.Name + ".test.yaml", Config: "belayd.yaml"}
	for _, f := range []struct{ name, template string }{{d.Policy, "policy"}, {d.Test, "test"}, {d.Config, "config"}} {
		text, err := v.render(f.template)
		if err != nil {
			return nil, err
		}
		d.Files = append(d.Files, File{f.name, text})
	}
	d.Blanks = o.blanks(v, d)
	d.Notes = notes(live)
	return d, nil
}

// Config is belayd's config without a policy, to reach the endpoint by.
func Config(o Options) (string, error) { return newView(o, Live{}).render("config") }

// blanks are the values that nobody could know.
func (o Options) blanks(v *view, d *Draft) []Blank {
	var out []Blank
	add := func(when bool, file, field, why string) {
		if when {
			out = append(out, Blank{file, field, why})
		}
	}
	add(!v.OwnerTold, d.Policy, "metadata.owner", "who answers for the policy")
	add(v.Runbook == "", d.Policy, "metadata.annotations.runbook", "where whoever is called reads what to do")
	add(v.Histogram, d.Policy, "spec.guardrails.p95.limit", "it is relative to stable; an absolute limit such as <= "+
		"450ms holds at 100% too")
	add(!v.Histogram, d.Policy, "spec.guardrails.response-time.limit",
		"the mean response time, in seconds, at which somebody is called")
	add(true, d.Policy, "spec.guardrails.ceiling.limit", "the share of failures that is too many whatever stable does")
	add(o.Kind == Webhook, d.Policy, "spec.metrics",
		"the names of your series and of the label that names the deployment")
	add(v.Kubernetes, d.Policy, "spec.metrics", "the scoring script must put the dimensions endpoint and deployment "+
		"into Application Insights")
	add(true, d.Test, "series", "requests per minute of your endpoint; the figures are examples")
	add(o.Kind == AzureML && o.Azure.Logs == "", d.Config, "sources."+sourceName+".loganalytics.workspace",
		"the id of the Log Analytics workspace; the figure is a placeholder")
	add(o.Kind != AzureML && o.Prometheus == "", d.Config, "sources."+sourceName+".prometheus.url",
		"the address of your Prometheus")
	add(o.Alertmanager == "", d.Config, "notifiers."+notifierName, "who is called: Alertmanager's address, or "+
		"pagerduty, slack, email, webhook")
	return out
}

// notes say what stands in the way of a first rollout.
func notes(live Live) []string {
	var out []string
	weights := traffic.Positive(live.Split.Weights)
	if len(weights) != 1 {
		out = append(out, fmt.Sprintf("no deployment has all the traffic now (%s): a rollout needs one that has, as "+
			"its stable", live.Split))
	}
	if n := len(live.Description.Deployments); n == 1 {
		out = append(out, "there is one deployment: a release needs a second one behind the endpoint, as its candidate")
	}
	for _, name := range slices.Sorted(maps.Keys(live.Description.Deployments)) {
		if d := live.Description.Deployments[name]; !d.Ready && told(live, "deployments."+name+".ready") {
			out = append(out, fmt.Sprintf("deployment %s is not ready: %s", name,
				cmp.Or(d.Reason, "the endpoint does not say why")))
		}
	}
	return out
}

// told reports whether the endpoint tells a field.
func told(live Live, field string) bool {
	for _, u := range live.Description.Unknown {
		if u == field || strings.HasPrefix(field, u+".") {
			return false
		}
	}
	return true
}
