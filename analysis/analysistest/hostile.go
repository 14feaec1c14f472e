package analysistest

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/belayd/belay/analysis"
)

// answering is a server that gives one answer to every question.
type answering string

// RoundTrip implements http.RoundTripper.
func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(a))), Request: r,
	}, nil
}

// Hostile fuzzes the decoders of a source: whatever JSON, or none, its server answers to
// questions about the metrics, the source does not panic, and each reading is an
// error in one line or has numbers that a judge can take. The seeds are answers of
// the kind that the server gives.
func Hostile(f *testing.F, build func(*http.Client) (analysis.Source, error), metrics map[analysis.Kind]analysis.Metric,
	seeds ...string) {
	fresh := false
	for _, s := range seeds {
		f.Add(s)
		for _, r := range readings(f, build, metrics, s) {
			fresh = fresh || r.Stable.Fresh
		}
	}
	if !fresh {
		f.Fatal("no seed gives a reading: the decoders would never be reached")
	}
	f.Fuzz(func(t *testing.T, answer string) {
		for _, r := range readings(t, build, metrics, answer) {
			if why := insane(&r); why != "" {
				t.Errorf("%s: %s: %q", r.Metric, why, answer)
			}
		}
	})
}

// readings are a new source's answers about the last hour to a question of each metric.
func readings(t testing.TB, build func(*http.Client) (analysis.Source, error),
	metrics map[analysis.Kind]analysis.Metric, answer string) []analysis.Reading {
	t.Helper()
	s, err := build(&http.Client{Transport: answering(answer)})
	if err != nil {
		t.Fatal(err)
	}
	names := analysis.Names{Endpoint: Endpoints[0], Stable: Stable, Candidate: Candidate}
	now := time.Now().UTC()
	var qs []analysis.Query
	for _, kind := range kinds {
		if m, ok := metrics[kind]; ok {
			qs = append(qs, analysis.Query{Metric: m, Names: names, From: now.Add(-time.Hour), To: now})
		}
	}
	rs, err := s.Read(t.Context(), qs)
	if err != nil || len(rs) != len(qs) {
		t.Fatalf("got %d readings and %v, want %d", len(rs), err, len(qs))
	}
	return rs
}

// insane says what is wrong with a reading.
func insane(r *analysis.Reading) string {
	if len(r.Reason) > 2000 || strings.ContainsAny(r.Reason, "\r\n\x1b") || !utf8.ValidString(r.Reason) {
		return "its reason is not one short line"
	}
	if r.Status != analysis.StatusOK {
		if r.Reason == "" {
			return "an error without a reason"
		}
		return ""
	}
	for _, x := range []*analysis.Sample{&r.Stable, &r.Candidate} {
		for _, v := range []float64{x.N, x.K, x.N - x.K, x.SumSq, x.Batches} {
			if !(v >= 0) || math.IsInf(v, 1) {
				return fmt.Sprintf("%+v holds %v", *x, v)
			}
		}
		if math.IsNaN(x.Value+x.Sum) || math.IsInf(x.Value+x.Sum, 0) {
			return fmt.Sprintf("%+v holds what is no number", *x)
		}
		below := math.Inf(-1)
		for _, b := range x.Buckets {
			if !(b.Upper > below) || math.IsInf(b.Upper, 1) || !(b.Count >= 0) {
				return fmt.Sprintf("the bucket %+v after %v", b, below)
			}
			below = b.Upper
		}
	}
	return ""
}
