package prometheus

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
	"github.com/belayd/belay/rollout/realtest"
)

// asMetadata answers questions about types with the text, and counts them.
func asMetadata(asked *atomic.Int64, status int, text string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/api/v1/metadata") {
				next.ServeHTTP(w, r)
				return
			}
			asked.Add(1)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, strings.ReplaceAll(text, "NAME", r.FormValue("metric")))
		})
	}
}

// TestDeclaredGauge: counts of what every target declares a gauge are an error that no retry
// mends; whatever else a server says, or does not say, of types refuses nothing. It is asked
// once a metric.
func TestDeclaredGauge(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		text    string
		refused bool
	}{
		"a gauge":                 {200, `{"status":"success","data":{"NAME":[{"type":"gauge","help":"","unit":""}]}}`, true},
		"a counter":               {200, `{"status":"success","data":{"NAME":[{"type":"counter"}]}}`, false},
		"one of two says counter": {200, `{"status":"success","data":{"NAME":[{"type":"gauge"},{"type":"counter"}]}}`, false},
		"unknown":                 {200, `{"status":"success","data":{}}`, false},
		"of another":              {200, `{"status":"success","data":{"other":[{"type":"gauge"}]}}`, false},
		"no such page":            {404, `404 page not found`, false},
		"no JSON":                 {200, `<html>`, false},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			w := analysistest.NewWorld()
			s, _ := newTest(t, w, asMetadata(&asked, c.status, c.text), Config{})
			y := analysis.Query{Metric: metrics()[analysis.KindCounts], Names: namesOf(analysistest.Endpoints[0])}
			var names int64
			for range 3 {
				y.From, y.To = time.Now().Add(-time.Minute), time.Now()
				rs, err := s.Read(t.Context(), []analysis.Query{y})
				if err != nil {
					t.Fatal(err)
				}
				r := rs[0]
				if refused := r.Permanent && strings.Contains(r.Reason, "a gauge, and counts are wanted"); refused != c.refused {
					t.Errorf("got %s, %q (permanent: %t), want it refused: %t", r.Status, r.Reason, r.Permanent, c.refused)
				}
				if names == 0 {
					names = asked.Load()
				}
			}
			if got := asked.Load(); got != names || got == 0 {
				t.Errorf("got %d questions about types after three readings, want the %d of the first", got, names)
			}
		})
	}
}

// TestRealDeclaredGauge: the real Prometheus says what its targets declare.
func TestRealDeclaredGauge(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		x := n.Add(1) * 10
		fmt.Fprintf(w, "# TYPE busy_workers gauge\n# TYPE jobs_total counter\n")
		for _, d := range []string{analysistest.Stable, analysistest.Candidate} {
			fmt.Fprintf(w, "busy_workers{deployment=%q} %d\njobs_total{deployment=%q} %d\n", d, x, d, x)
		}
	}))
	defer target.Close()
	url := realtest.Prometheus(t, fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs: [{job_name: x, static_configs: [{targets: [%q]}]}]\n",
		strings.TrimPrefix(target.URL, "http://"))).URL
	s, err := New(Config{URL: url, Client: &http.Client{}})
	if err != nil {
		t.Fatal(err)
	}
	query := func(series string) analysis.Query {
		return analysis.Query{Names: namesOf("recs"), From: time.Now().Add(-time.Minute), To: time.Now(),
			Metric: analysis.Metric{Name: series, Counts: &analysis.Counts{Total: series, Bad: series, Deployment: "deployment"}}}
	}
	for n.Load() < 4 {
		time.Sleep(100 * time.Millisecond)
	}
	rs, err := s.Read(t.Context(), []analysis.Query{query("busy_workers"), query("jobs_total")})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(rs[0].Reason, "declare busy_workers a gauge") {
		t.Errorf("busy_workers: got %s, %q, want the error that it is a gauge", rs[0].Status, rs[0].Reason)
	}
	if rs[1].Status != analysis.StatusOK {
		t.Errorf("jobs_total: got %s, %q, want a reading", rs[1].Status, rs[1].Reason)
	}
}
