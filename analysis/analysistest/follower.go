package analysistest

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
)

// A follower asks on, from where the last answer ended, and adds up.
type follower struct {
	t      *testing.T
	h      Harness
	metric analysis.Metric
	names  analysis.Names
	cuts   []float64

	begin, cursor time.Time
	sum           map[string]Counts
	// read holds the instances that were seen.
	read map[string]bool
}

func follow(t *testing.T, w *World, h Harness, kind analysis.Kind, endpoint string) *follower {
	t.Helper()
	m, ok := h.Metrics[kind]
	if !ok {
		t.Skipf("the source has no %s", kind)
	}
	return &follower{
		t: t, h: h, metric: m, cursor: w.Start, sum: map[string]Counts{}, read: map[string]bool{},
		names: analysis.Names{Endpoint: endpoint, Stable: Stable, Candidate: Candidate},
	}
}

func (f *follower) query(from, to time.Time) analysis.Query {
	return analysis.Query{Metric: f.metric, Names: f.names, From: from, To: to, Cuts: f.cuts}
}

// ask reads up to now, once; it reports what breaks the contract and returns
// the reading.
func (f *follower) ask() analysis.Reading {
	f.t.Helper()
	q := f.query(f.cursor, time.Now().UTC())
	rs, err := f.h.Source.Read(f.t.Context(), []analysis.Query{q})
	if err != nil {
		f.t.Fatalf("Read: got %v, want readings", err)
	}
	if len(rs) != 1 {
		f.t.Fatalf("Read: got %d readings, want 1", len(rs))
	}
	f.take(q, rs[0])
	return rs[0]
}

// take checks a reading against its question and adds it up.
func (f *follower) take(q analysis.Query, r analysis.Reading) {
	f.t.Helper()
	checkReading(f.t, f.h, q, r)
	if r.Status != analysis.StatusOK || !r.To.After(r.From) {
		return
	}
	if f.begin.IsZero() {
		f.begin = r.From
	} else if r.From.After(f.cursor) {
		f.t.Errorf("reading begins at %s, want %s: what lies between is lost", r.From, f.cursor)
	}
	f.cursor = r.To
	f.sum[Stable] = f.sum[Stable].Add(f.count(r.Stable))
	f.sum[Candidate] = f.sum[Candidate].Add(f.count(r.Candidate))
}

// count makes Counts of a sample, as far as the metric tells.
func (f *follower) count(s analysis.Sample) Counts {
	f.t.Helper()
	for _, i := range s.Instances {
		f.read[i.Name] = true
	}
	switch f.metric.Kind() {
	case analysis.KindCounts:
		return Counts{OK: s.N - s.K, Bad: s.K}
	case analysis.KindMean:
		return Counts{Plays: s.N, Sum: s.Sum, SumSq: s.SumSq}
	case analysis.KindHistogram:
		return f.latencies(s)
	case analysis.KindValue:
	}
	return Counts{}
}

// latencies sorts a histogram's increments into the world's bounds.
func (f *follower) latencies(s analysis.Sample) Counts {
	f.t.Helper()
	var c Counts
	before := 0.0
	for i, bound := range Bounds {
		if len(f.cuts) > 0 && bound != f.cuts[0] {
			continue
		}
		upTo, exact := 0.0, s.N == 0
		for _, b := range s.Buckets {
			if b.Upper <= bound*(1+1e-9) {
				upTo += b.Count
				exact = exact || math.Abs(b.Upper-bound) < 1e-9*bound || b.Upper > Latencies[i]*(1-1e-9)
			}
		}
		if !exact && len(f.cuts) > 0 {
			f.t.Errorf("histogram has no bound at the cut %v: got %v", bound, s.Buckets)
		}
		c.Slow[i] = upTo - before
		before = upTo
	}
	c.Slow[len(Bounds)] = s.N - before
	return c
}

// want compares the sums with the truth.
func (f *follower) want(w *World) {
	f.t.Helper()
	if f.begin.IsZero() {
		f.t.Fatal("nothing was read")
	}
	for _, d := range []string{Stable, Candidate} {
		truth := f.project(w.Truth(f.names.Endpoint, d, f.begin, f.cursor))
		if got := f.sum[d]; got != truth {
			f.t.Errorf("%s of %s in (%s, %s]: counted %+v, true %+v", f.metric.Kind(), d,
				f.begin.Format(time.TimeOnly), f.cursor.Format(time.TimeOnly), got, truth)
		}
	}
}

// project leaves of the truth what the metric can tell.
func (f *follower) project(c Counts) Counts {
	switch f.metric.Kind() {
	case analysis.KindCounts:
		return Counts{OK: c.OK, Bad: c.Bad}
	case analysis.KindMean:
		return Counts{Plays: c.Plays, Sum: c.Sum, SumSq: c.SumSq}
	case analysis.KindHistogram:
		if len(f.cuts) == 0 {
			return Counts{Slow: c.Slow}
		}
		var out Counts
		for i, n := range c.Slow {
			at := len(Bounds)
			for j, b := range Bounds {
				if b == f.cuts[0] && i <= j {
					at = j
				}
			}
			out.Slow[at] += n
		}
		return out
	case analysis.KindValue:
	}
	return Counts{}
}

// settle lets time pass until the source knows all that happened.
func (f *follower) settle(w *World) {
	f.t.Helper()
	end := time.Now().UTC()
	for range int(f.h.Lag/Interval) + 3 {
		w.Rest(Interval)
		f.ask()
		if !f.cursor.Before(end) {
			return
		}
	}
	f.t.Errorf("the source knows up to %s, want at least %s by %s", f.cursor, end, time.Now().UTC())
}

// checkReading is what holds for every reading.
func checkReading(t *testing.T, h Harness, q analysis.Query, r analysis.Reading) {
	t.Helper()
	noSecret(t, h, r.Reason)
	if r.Metric != q.Metric.Name {
		t.Errorf("reading of %q: got the metric %q", q.Metric.Name, r.Metric)
	}
	if r.Status == analysis.StatusError {
		if r.Reason == "" {
			t.Error("an error reading says no reason")
		}
		return
	}
	if r.Status != analysis.StatusOK {
		t.Errorf("reading has the status %q", r.Status)
	}
	if !r.Next.IsZero() && !r.Next.After(r.To) {
		t.Errorf("reading of (%s, %s]: more is expected at %s, want it after the reading's end, %s", q.From, q.To,
			r.Next, r.To)
	}
	if r.From.Before(q.From) || r.To.After(q.To) || r.To.Before(r.From) {
		t.Errorf("reading of (%s, %s]: got (%s, %s]", q.From, q.To, r.From, r.To)
	}
	checkSample(t, h, r.Stable)
	checkSample(t, h, r.Candidate)
}

func checkSample(t *testing.T, h Harness, s analysis.Sample) {
	t.Helper()
	if !s.Fresh {
		return
	}
	for _, x := range []float64{s.N, s.K, s.Sum, s.SumSq, s.Value} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			t.Errorf("sample holds %v: %+v", x, s)
		}
	}
	if s.K < 0 || s.K > s.N {
		t.Errorf("sample has k=%v of n=%v", s.K, s.N)
	}
	var in float64
	last := math.Inf(-1)
	for _, b := range s.Buckets {
		if b.Upper <= last || math.IsInf(b.Upper, 0) || b.Count < 0 {
			t.Errorf("buckets are not sorted, finite and positive: %v", s.Buckets)
		}
		last = b.Upper
		in += b.Count
	}
	if in > s.N {
		t.Errorf("buckets hold %v of n=%v", in, s.N)
	}
	if !h.Instances || len(s.Instances) == 0 {
		return
	}
	var n, k, sum float64
	for _, i := range s.Instances {
		n, k, sum = n+i.N, k+i.K, sum+i.Sum
		if i.Instances != nil || i.Name == "" {
			t.Errorf("instance %q has instances of its own or no name", i.Name)
		}
	}
	if n != s.N || k != s.K || math.Abs(sum-s.Sum) > 1e-9*math.Abs(sum) {
		t.Errorf("instances add up to n=%v k=%v sum=%v, want n=%v k=%v sum=%v", n, k, sum, s.N, s.K, s.Sum)
	}
}

func noSecret(t *testing.T, h Harness, text string) {
	t.Helper()
	for _, s := range h.Secrets {
		if strings.Contains(text, s) {
			t.Errorf("the secret %q stands in %q", s, text)
		}
	}
}
