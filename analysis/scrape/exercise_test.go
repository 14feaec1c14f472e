package scrape

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

// Every instance of the world has its own page, found by the name of its
// deployment; the address holds a password and a token.
func TestExercise(t *testing.T) {
	analysistest.Exercise(t, func(t *testing.T, w *analysistest.World) analysistest.Harness {
		page := func(rw http.ResponseWriter, r *http.Request) {
			name, _, _ := strings.Cut(r.URL.Host, ":")
			var mine []analysistest.Sample
			for _, s := range w.Now() {
				if s.Instance == name && strings.Contains(r.URL.Path, s.Endpoint) {
					mine = append(mine, s)
				}
			}
			rw.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
			_, _ = rw.Write([]byte(analysistest.Exposition(mine, true) + "# EOF\n"))
		}
		tr := &analysistest.Transport{Handler: http.HandlerFunc(page)}
		targets := map[string]map[string][]string{}
		for _, e := range analysistest.Endpoints {
			targets[e] = map[string][]string{}
			for _, d := range []string{analysistest.Stable, analysistest.Candidate} {
				targets[e][d] = []string{"dns+http://user:hunter2@" + e + "." + d + "/" + e + "/metrics?token=s3cr3t"}
			}
		}
		lookup := func(_ context.Context, host string) ([]string, error) {
			e, d, _ := strings.Cut(host, ".")
			var out []string
			for _, s := range w.Now() {
				if s.Endpoint == e && s.Deployment == d {
					out = append(out, s.Instance)
				}
			}
			if len(out) == 0 {
				out = []string{"silent"}
			}
			return out, nil
		}
		s, err := New(Config{Targets: targets, Client: &http.Client{Transport: tr}, LookupHost: lookup})
		if err != nil {
			t.Fatal(err)
		}
		return analysistest.Harness{
			Source: s, Transport: tr, Secrets: []string{"hunter2", "s3cr3t", "token="}, Instances: true,
			Metrics: map[analysis.Kind]analysis.Metric{
				analysis.KindCounts: {Name: "failures", Counts: &analysis.Counts{
					Total: `http_requests_total{endpoint="${endpoint}"}`, Bad: `http_requests_total{endpoint="${endpoint}",code=~"5..|424"}`,
				}},
				analysis.KindHistogram: {Name: "latency", Histogram: &analysis.Histogram{Series: `latency_seconds{endpoint="${endpoint}"}`, Unit: "s"}},
				analysis.KindMean: {Name: "revenue", Mean: &analysis.Mean{
					Count: `plays_total{endpoint="${endpoint}"}`, Sum: `revenue_sum{endpoint="${endpoint}"}`, SumOfSquares: `revenue_sum_of_squares{endpoint="${endpoint}"}`,
				}},
				analysis.KindValue: {Name: "load", Value: &analysis.Value{Query: `max(load{endpoint="${endpoint}"})`}},
			},
			Refused: analysis.Metric{Name: "refused", Counts: &analysis.Counts{Total: `rate(http_requests_total[1m])`, Bad: `x`}},
		}
	})
}
