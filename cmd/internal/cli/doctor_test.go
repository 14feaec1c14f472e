package cli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
)

// sourceLooks are sources in every state.
func sourceLooks() []api.SourceLook {
	recs := rollout.EndpointRef{Router: "edge", Name: "recs"}
	blue := api.DeploymentLook{Name: "blue", Fresh: true, N: 18041, PerSecond: 20.046, Instances: 2}
	return []api.SourceLook{
		{Name: "logs", Kind: "loganalytics", Took: "2.1s", Error: "the service answered 403", Remedy: "check the credentials of sources.logs", Metrics: []api.MetricLook{
			{Policy: "recs", Metric: "saturation", Kind: analysis.KindCounts, Endpoint: recs, Error: "the service answered 403", Stable: &api.DeploymentLook{Name: "blue"},
				Guardrails: []api.GuardrailLook{{Name: "saturation", Limit: "<= 1%", Sentence: "it cannot be judged: the service answered 403"}}},
		}},
		{Name: "prom", Kind: "prometheus", Took: "21ms", Metrics: []api.MetricLook{
			{Policy: "recs", Metric: "failures", Kind: analysis.KindCounts, Endpoint: recs, From: now.Add(-15 * time.Minute), To: now.Add(-20 * time.Second), Behind: "20s", ScrapeInterval: "15s", Stable: &blue, Candidate: &api.DeploymentLook{Name: "green"},
				Guardrails: []api.GuardrailLook{{Name: "failures", Limit: "<= 1.2x stable", Judgeable: true, Sentence: "it can be judged: blue had 18041 events in 15m"}}},
			{Policy: "recs", Metric: "latency", Kind: analysis.KindHistogram, Endpoint: recs, From: now.Add(-15 * time.Minute), To: now.Add(-20 * time.Second), Behind: "20s", Stable: &api.DeploymentLook{Name: "blue", Fresh: true, N: 18041, PerSecond: 20.046, Buckets: 4},
				Guardrails: []api.GuardrailLook{
					{Name: "p95", Limit: "<= 450ms", Effective: "breach at 500ms, pass at 250ms", Judgeable: true, Sentence: "it can be judged: blue had 18041 events in 15m"},
					{Name: "p99", Limit: "<= 9s", Sentence: "it cannot be judged: the histogram's last bucket ends at 5s, below the limit"},
				}},
			{Policy: "recs", Metric: "watched", Kind: analysis.KindCounts, Endpoint: recs, From: now.Add(-15 * time.Minute), To: now.Add(-20 * time.Second), Behind: "20s", Stable: &api.DeploymentLook{Name: "blue"}, Remedy: "correct watched in policy recs",
				Guardrails: []api.GuardrailLook{{Name: "watch-through", Limit: ">= 0.95x stable", Sentence: "it cannot be judged: there is no fresh series of blue"}}},
			{Policy: "recs", Metric: "cpu", Kind: analysis.KindValue, Endpoint: recs, From: now.Add(-15 * time.Minute), To: now.Add(-20 * time.Second), Behind: "20s", Stable: &api.DeploymentLook{Name: "blue", Fresh: true, Value: 0.7311},
				Guardrails: []api.GuardrailLook{{Name: "cpu", Limit: "<= 0.9", Judgeable: true, Sentence: "it can be judged: blue shows 0.731"}}},
			{Policy: "ads", Metric: "failures", Kind: analysis.KindCounts, Endpoint: rollout.EndpointRef{Router: "edge", Name: "ads"}, Error: "not read: connection refused", Remedy: "check the router edge",
				Guardrails: []api.GuardrailLook{{Name: "failures", Limit: "<= 1%", Sentence: "it cannot be judged: not read"}}},
		}},
		{Name: "warehouse", Kind: "httpjson", Metrics: []api.MetricLook{}},
	}
}

// A token that may not operate is not told what the sources show, and that is
// nothing wrong with them.
func TestDoctorWithoutOperate(t *testing.T) {
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"type":"x","title":"Not allowed","status":403}`))
	}))
	defer h.Close()
	c, err := api.NewClient(h.URL, h.Client(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got := lookSources(t.Context(), c); len(got) != 1 || !got[0].OK || !strings.Contains(got[0].Found, "operate") {
		t.Errorf("got %+v, want one line that names the role", got)
	}
}

// models serves one model server's counters that grow with every scrape.
func models(t *testing.T) string {
	n := 0
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++
		for code, per := range map[string]int{"200": 99, "503": 1} {
			_, _ = w.Write([]byte(`http_requests_total{endpoint="recs",deployment="blue",code="` + code + `"} ` + quantity(float64(n*per)) + "\n"))
		}
	}))
	t.Cleanup(h.Close)
	return h.URL
}

// Without a daemon doctor reads the config's sources itself: what answers is
// read twice where it cannot look back, and what does not says why and how to
// mend it.
func TestDoctorConfig(t *testing.T) {
	router := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endpoints/recs":
			_, _ = w.Write([]byte(`{"weights":{"blue":100},"deployments":{"blue":{"ready":true}},"manualRollback":"x"}`))
		default:
			_, _ = w.Write([]byte(`{"weights":{"blue":100},"deployments":{"blue":{"ready":true}}}`))
		}
	}))
	defer router.Close()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("recs.yaml", `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recs, owner: team}
spec:
  endpoint: {router: edge, name: recs, stable: blue}
  steps: [5%, 100%]
  bake: 30m
  metrics:
    failures: {source: pods, builtin: demo/failures}
    latency: {source: prom, builtin: demo/latency}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 5%"}
    - {name: p95, metric: latency, quantile: p95, limit: "<= 450ms"}
`)
	write("belayd.yaml", `listen: 127.0.0.1:0
store: {bolt: {path: belay.db}}
policies: [recs.yaml]
sources:
  pods: {scrape: {targets: {recs: {blue: ["`+models(t)+`/metrics"]}}}}
  prom: {prometheus: {url: "http://127.0.0.1:1"}}
  idle: {prometheus: {url: "http://127.0.0.1:1"}}
routers: {edge: {webhook: {url: "`+router.URL+`"}}}
`)
	code, out, errs := belay(t, "doctor", "--config", filepath.Join(dir, "belayd.yaml"))
	for _, want := range []string{
		"ok     source      idle (prometheus) was not read: no policy asks it",
		"ok     metric      recs/failures: blue 100 events, 1 instance; in 2",
		"ok     guardrail   recs/failures <= 5%: it can be judged: blue had 100 events in ",
		"WRONG  source      prom (prometheus): ", "refused", "check the address of sources.prom in belayd's config",
		"WRONG  guardrail   recs/p95 <= 450ms: it cannot be judged",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("got code %d without %q:\n%s%s", code, want, out, errs)
		}
	}
	if code != exitError {
		t.Errorf("got code %d, want %d: something is wrong", code, exitError)
	}
	code, out, _ = belay(t, "doctor", "--config", writeFile(t, "belayd.yaml", "lisen: x\n"))
	if code != exitError || !strings.Contains(out, "did you mean listen") || !strings.Contains(out, "belayd check-config ") {
		t.Errorf("a bad config: got code %d:\n%s", code, out)
	}
	if code, _, _ := belay(t, "doctor", "--config", "x", "--notify"); code != exitUsage {
		t.Errorf("--config with --notify: got code %d, want %d", code, exitUsage)
	}
}
