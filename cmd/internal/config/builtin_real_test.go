package config

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/prometheus"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout/realtest"
)

// A real Prometheus understands every ready-made metric that is for one: it
// answers that there is no such series, which is no error.
func TestBuiltinsOnRealPrometheus(t *testing.T) {
	source, err := prometheus.New(prometheus.Config{URL: realtest.Prometheus(t, "global: {}\n").URL, Client: &http.Client{Timeout: 10 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	to := time.Now().Truncate(time.Second)
	ask := func(m analysis.Metric) analysis.Reading {
		t.Helper()
		rs, err := source.Read(t.Context(), []analysis.Query{{Metric: m, Names: analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}, From: to.Add(-5 * time.Minute), To: to}})
		if err != nil {
			t.Fatal(err)
		}
		return rs[0]
	}
	tried := 0
	for _, ref := range policies.Builtins() {
		b, _ := policies.FindBuiltin(ref)
		if !slices.Contains(b.Sources, "prometheus") {
			continue
		}
		tried++
		if r := ask(b.Definition(ref, "prom")); r.Status != analysis.StatusOK || r.Stable.Fresh || r.Candidate.Fresh {
			t.Errorf("%s: got %+v, want an answer without series", ref, r)
		}
	}
	if tried < 10 {
		t.Errorf("got %d definitions tried, want all", tried)
	}
	if r := ask(analysis.Metric{Name: "bad", Value: &analysis.Value{Query: `max(up{deployment="${deployment}"}`}}); r.Status != analysis.StatusError {
		t.Errorf("an expression without its end: got %+v, want an error", r)
	}
}
