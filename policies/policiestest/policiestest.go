// Package policiestest is what tests of policies and of what is built on them begin
// with: a config, and small policies.
package policiestest

import (
	"testing"
	"testing/fstest"
	_ "time/tzdata"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
)

func MustParse(t *testing.T, text string) *policies.Policy {
	t.Helper()
	p, ps := Parse(t, text, Config())
	if p == nil {
		t.Fatalf("got problems:\n%s\n%s", ps.Text(), text)
	}
	return p
}

// Config is what a belayd's config would define for the policies in the tests.
func Config() *policies.Environment {
	return &policies.Environment{
		Routers: map[string]string{"azureml-prod": "azureml", "edge": "haproxy", "local": "webhook"},
		Sources: map[string]string{"prom": "prometheus", "logs": "loganalytics", "azure": "azuremonitor",
			"warehouse": "httpjson"},
		Notifiers: map[string]string{"slack": "slack", "oncall": "pagerduty"},
		Metrics: map[string]policies.Metric{
			"failures": {Source: "prom", Counts: &policies.Counts{
				Total: `http_requests_total{endpoint="${endpoint}"}`,
				Bad:   `http_requests_total{endpoint="${endpoint}",code=~"5.."}`, Deployment: "deployment"}},
			"latency": {Source: "prom",
				Histogram: &policies.Histogram{Series: `http_request_duration_seconds{endpoint="${endpoint}"}`,
					Unit: "s", Deployment: "deployment"}},
			"watched": {Source: "prom", Counts: &policies.Counts{
				Total: `plays_started_total{endpoint="${endpoint}"}`,
				Good:  `plays_completed_total{endpoint="${endpoint}"}`, Deployment: "model"}},
		},
	}
}

const Smallest = `apiVersion: belay/v1
kind: RolloutPolicy
metadata:
  name: recommendations
  owner: team-recommendations
spec:
  endpoint: {router: azureml-prod, name: recs}
  steps: [5%, 25%, 60%, 95%, 100%]
  bake: 30m
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%"}
    - {name: p95, metric: latency, quantile: p95, limit: "<= 450ms"}
    - {name: watch-through, metric: watched, limit: ">= 0.98x stable"}
  page: [oncall]
`

func Parse(t *testing.T, text string, env *policies.Environment) (*policies.Policy, document.Problems) {
	t.Helper()
	return policies.Parse(fstest.MapFS{"p.yaml": {Data: []byte(text)}}, "p.yaml", env)
}
