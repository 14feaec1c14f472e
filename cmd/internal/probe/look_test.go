package probe

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/realtest"
)

// Who asks while a look is under way gets its answer; when the one who began it
// goes away, another begins anew.
func TestLooksAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Flight
		var began, open, most atomic.Int32
		look := func(ctx context.Context) []api.SourceLook {
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
			n := began.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			return []api.SourceLook{{Name: fmt.Sprint(n)}}
		}
		first, leave := context.WithCancel(t.Context())
		got := make([][]api.SourceLook, 5)
		var wg sync.WaitGroup
		wg.Go(func() { s.Share(first, look) })
		synctest.Wait()
		for i := range got {
			wg.Go(func() { got[i] = s.Share(t.Context(), look) })
		}
		synctest.Wait()
		leave()
		wg.Wait()
		for i, l := range got {
			if len(l) != 1 || l[0].Name != "2" {
				t.Errorf("asker %d: got %v, want the second look's answer", i, l)
			}
		}
		if began.Load() != 2 || most.Load() != 1 {
			t.Errorf("got %d looks, %d at a time; want 2, 1", began.Load(), most.Load())
		}
		if gone := s.Share(first, look); gone != nil || began.Load() != 2 {
			t.Errorf("an asker that has gone: got %v, want nothing asked", gone)
		}
	})
}

// modelServer serves counters that grow with every scrape, of blue alone.
func modelServer(t *testing.T) string {
	var n atomic.Int64
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		x := n.Add(100)
		fmt.Fprintf(w, "http_requests_total{endpoint=\"recs\",deployment=\"blue\",code=\"200\"} %d\n", x)
		for _, le := range []string{"0.25", "0.5", "+Inf"} {
			fmt.Fprintf(w, "http_request_duration_seconds_bucket{endpoint=\"recs\",deployment=\"blue\",le=%q} %d\n", le, x)
		}
		fmt.Fprintf(w, "http_request_duration_seconds_count{endpoint=\"recs\",deployment=\"blue\"} %d\n", x)
	}))
	t.Cleanup(h.Close)
	return h.URL
}

// One look tells everything apart: what can be judged, on which buckets; a
// metric that names no series; a source that does not answer, with the remedy
// and without the secret; an endpoint whose router does not answer; a source
// that nobody asks.
func TestLook(t *testing.T) {
	router := realtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(strings.TrimSuffix(r.URL.Path, "/description"), "/recs") {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, `{"weights":{"blue":100},"deployments":{"blue":{"ready":true}}}`)
	}))
	locked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) }))
	defer locked.Close()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const policy = `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: %s, owner: team}
spec:
  endpoint: {router: edge, name: %s%s}
  steps: [5%%, 100%%]
  bake: 30m
  metrics:
    latency: {source: pods, builtin: demo/latency}
    lost: {source: pods, counts: {total: 'lost_total{endpoint="${endpoint}"}', bad: 'lost_total{endpoint="${endpoint}",code="500"}', deployment: deployment}}
    failures: {source: prom, builtin: demo/failures}
  guardrails:
    - {name: p95, metric: latency, quantile: p95, limit: "<= 300ms"}
    - {name: lost, metric: lost, limit: "<= 1%%"}
    - {name: failures, metric: failures, limit: "<= 1%%"}
`
	write("recs.yaml", fmt.Sprintf(policy, "recs", "recs", ", stable: blue"))
	write("ads.yaml", fmt.Sprintf(policy, "ads", "ads", ""))
	const canary = "c4n4ryc4n4ryc4n4ryc4n4ry"
	write("password", canary)
	write("belayd.yaml", `listen: 127.0.0.1:0
store: {bolt: {path: belay.db}}
policies: ["recs.yaml", "ads.yaml"]
sources:
  pods: {scrape: {targets: {recs: {blue: ["`+modelServer(t)+`/metrics"]}}}}
  prom: {prometheus: {url: "`+locked.URL+`", http: {basic_auth: {username: belay, password_file: password}}}}
  idle: {prometheus: {url: "http://127.0.0.1:1"}}
routers: {edge: {webhook: {url: "`+router.URL+`"}}}
`)
	a, err := OpenAdapters(filepath.Join(dir, "belayd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := a.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(fmt.Sprintf("%+v", all), canary) {
		t.Error("a secret is in the look")
	}
	by := map[string]api.SourceLook{}
	metrics := map[string]api.MetricLook{}
	for _, s := range all {
		by[s.Name] = s
		for _, m := range s.Metrics {
			metrics[m.Policy+"/"+m.Metric] = m
		}
	}
	if s := by["idle"]; s.Kind != "prometheus" || s.Took != "" || s.Error != "" || len(s.Metrics) != 0 {
		t.Errorf("idle: got %+v, want it not read", s)
	}
	if s := by["prom"]; !strings.Contains(s.Error, "401") || !strings.Contains(s.Remedy, "credentials of sources.prom") {
		t.Errorf("prom: got %+v, want the refusal and the remedy", s)
	}
	m := metrics["recs/latency"]
	if m.Error != "" || m.Stable == nil || !m.Stable.Fresh || m.Stable.N != 100 || m.Candidate != nil || len(m.Guardrails) != 1 {
		t.Fatalf("recs/latency: got %+v", m)
	}
	if g := m.Guardrails[0]; !g.Judgeable || g.Effective != "breach at 500ms, pass at 250ms" {
		t.Errorf("p95: got %+v, want it judged on the buckets", g)
	}
	if m := metrics["recs/lost"]; m.Stable == nil || m.Stable.Fresh || m.Remedy == "" || m.Guardrails[0].Judgeable || !strings.Contains(m.Guardrails[0].Sentence, "no fresh series of blue") {
		t.Errorf("recs/lost: got %+v", m)
	}
	if m := metrics["ads/latency"]; m.Stable != nil || !strings.Contains(m.Error, "not read: read the weights of edge/ads") || m.Guardrails[0].Judgeable {
		t.Errorf("ads/latency: got %+v, want the router's error", m)
	}
	// Without any router that answers it is still seen whether sources do.
	router.Close()
	lone := SourceProbe{Sources: a.Sources, Routers: a.Routers, Kinds: a.Environment.Sources}
	set, _, err := a.config.ReadPolicies(a.Environment)
	if err != nil {
		t.Fatal(err)
	}
	delete(set.ByName, "recs")
	for _, s := range lone.Look(t.Context(), set) {
		if asked := s.Took != ""; asked != (s.Name == "prom") || asked && !strings.Contains(s.Error, "401") {
			t.Errorf("without a router: got %+v", s)
		}
	}
	if len(metrics) != 6 {
		t.Errorf("got %d metrics, want 6", len(metrics))
	}
}

// What can be judged and what not, by what was told of stable.
func TestJudgeable(t *testing.T) {
	from := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	counts := analysis.Metric{Counts: &analysis.Counts{}}
	histogram := analysis.Metric{Histogram: &analysis.Histogram{}}
	p95 := analysis.Guardrail{Quantile: 0.95, Limit: analysis.Limit{Value: 0.3}}
	relative := analysis.Guardrail{Limit: analysis.Limit{Value: 1.2, Relative: true}}
	short := analysis.Sample{Fresh: true, N: 10, Buckets: []analysis.Bucket{{Upper: 0.1, Count: 4}, {Upper: 0.2, Count: 1}}}
	for _, c := range []struct {
		says    string
		ok      bool
		g       analysis.Guardrail
		m       analysis.Metric
		minutes int
		stable  analysis.Sample
	}{
		{"knows of no interval", false, relative, counts, 0, analysis.Sample{Fresh: true, N: 1}},
		{"no fresh series of blue (gone)", false, relative, counts, 5, analysis.Sample{}},
		{"blue had no events in the last 5m", false, relative, counts, 5, analysis.Sample{Fresh: true}},
		{"blue had 10 events in 5m; a candidate", true, relative, counts, 5, analysis.Sample{Fresh: true, N: 10}},
		{"no buckets", false, p95, histogram, 5, analysis.Sample{Fresh: true, N: 10}},
		{"no release as good as blue can pass it: the histogram's last bucket ends at 200 ms, below the limit. Put the limit at 200 ms", false, p95, histogram, 5, short},
		{"blue itself breaks it: 30.0%, beyond <= 1%", true, analysis.Guardrail{Limit: analysis.Limit{Value: 0.01, Text: "<= 1%"}}, counts, 5, analysis.Sample{Fresh: true, N: 10, K: 3}},
		{"blue shows 0.731", true, analysis.Guardrail{Test: analysis.TestThreshold}, analysis.Metric{Value: &analysis.Value{}}, 5, analysis.Sample{Fresh: true, Value: 0.7311}},
	} {
		s := &probeTarget{metric: c.m, serving: &servingSeen{Serving: Serving{Stable: "blue"}}, reading: analysis.Reading{
			Status: analysis.StatusOK, Reason: "gone", From: from, To: from.Add(time.Duration(c.minutes) * time.Minute), Stable: c.stable}}
		if ok, got := judgeable(&c.g, s); ok != c.ok || !strings.Contains(got, c.says) {
			t.Errorf("%+v: got %v, %q; want %v, %q", c.stable, ok, got, c.ok, c.says)
		}
	}
}

// tardy is a source whose data come late.
type tardy struct{}

// Behind says how late.
func (tardy) Behind(analysis.Metric) time.Duration { return 40 * time.Second }

// How late a source's data usually are is shown.
func TestLookShowsLateness(t *testing.T) {
	l := SourceProbe{Sources: map[string]config.Source{"prom": {Behind: tardy{}.Behind}}}
	now := time.Now()
	s := &probeTarget{plan: &rollout.Plan{}, metric: analysis.Metric{Name: "failures", Source: "prom"}, serving: &servingSeen{Serving: Serving{Stable: "blue"}}}
	s.reading = analysis.Reading{Status: analysis.StatusOK, From: now.Add(-time.Minute), To: now.Add(-30 * time.Second), Stable: analysis.Sample{Fresh: true}}
	if m := l.metric(s, now, ""); m.UsuallyBehind != "40s" || m.Behind != "30s" {
		t.Errorf("got %+v, want 30s behind and usually 40s", m)
	}
}
