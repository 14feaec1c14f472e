package analysistest

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
)

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// Interval is the time between two steps that Exercise takes.
const Interval = 15 * time.Second

// A Harness is a source that stands before a world.
type Harness struct {
	Source analysis.Source
	// Transport carries the source's requests; faults are injected here.
	Transport *Transport
	// Metrics are how the source is asked about the world: counts (total and bad
	// requests), and as far as it can a histogram of latencies, a mean of the
	// revenue, and a value that is 1.
	Metrics map[analysis.Kind]analysis.Metric
	// Refused is a metric that the source cannot understand.
	Refused analysis.Metric
	// Secrets may stand in no error and no reason.
	Secrets []string
	// Lag is the longest time after which the source knows of an event.
	Lag time.Duration
	// Instances: the source tells instances apart.
	Instances bool
	// Partial makes the backend say that its answers are incomplete; nil where it
	// has no way to.
	Partial func(on bool)
	// NoGaps: the backend holds events, not samples; it cannot miss one.
	NoGaps bool
	// Idle: a deployment without events is not told from one that is not there.
	Idle bool
}

// Exercise holds a source to the contract. build stands it before the world,
// inside a bubble; what it starts must have ended when the test does.
func Exercise(t *testing.T, build func(t *testing.T, w *World) Harness) {
	run := func(name string, f func(t *testing.T, w *World, h Harness)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := NewWorld()
				f(t, w, build(t, w))
			})
		})
	}
	run("answers in order", answersInOrder)
	run("tiles", tiles)
	run("restarts, births and ends", restarts)
	run("gaps", gaps)
	run("asks again", asksAgain)
	run("missing deployment", missing)
	run("numbers that are none", poisoned)
	run("faults", faults)
	run("partial answers", partial)
	run("refused questions", refused)
	run("cancellation", cancellation)
	run("many at once", manyAtOnce)
}

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
	default:
		return Counts{}
	}
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
	default:
		return Counts{}
	}
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
	switch r.Status {
	case analysis.StatusError:
		if r.Reason == "" {
			t.Error("an error reading says no reason")
		}
		return
	case analysis.StatusOK:
	default:
		t.Errorf("reading has the status %q", r.Status)
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

var kinds = []analysis.Kind{analysis.KindCounts, analysis.KindHistogram, analysis.KindMean, analysis.KindValue}

// One question after another and the same one twice: every reading answers the
// question at its place.
func answersInOrder(t *testing.T, w *World, h Harness) {
	var qs []analysis.Query
	start := w.Start
	for range 3 {
		w.Step(Interval)
	}
	for range 2 {
		for _, e := range Endpoints {
			for _, k := range kinds {
				if m, ok := h.Metrics[k]; ok {
					m.Name = string(k) + "-" + e
					qs = append(qs, analysis.Query{Metric: m, Names: analysis.Names{Endpoint: e, Stable: Stable, Candidate: Candidate}, From: start, To: time.Now().UTC()})
				}
			}
		}
	}
	rs, err := h.Source.Read(t.Context(), qs)
	if err != nil || len(rs) != len(qs) {
		t.Fatalf("Read: got %d readings and %v, want %d", len(rs), err, len(qs))
	}
	for i, r := range rs {
		checkReading(t, h, qs[i], r)
		if r.Status != analysis.StatusOK {
			t.Errorf("%s: got %s: %s, want ok", qs[i].Metric.Name, r.Status, r.Reason)
		}
	}
	if rs, err := h.Source.Read(t.Context(), nil); err != nil || len(rs) != 0 {
		t.Errorf("Read of no question: got %v, %v, want nothing", rs, err)
	}
}

// Whatever the intervals, they add up to what happened.
func tiles(t *testing.T, w *World, h Harness) {
	var all []*follower
	for _, k := range kinds {
		if _, ok := h.Metrics[k]; !ok || k == analysis.KindValue {
			continue
		}
		for _, every := range []int{1, 3} {
			all = append(all, follow(t, w, h, k, Endpoints[every/2]))
		}
	}
	if _, ok := h.Metrics[analysis.KindHistogram]; ok {
		f := follow(t, w, h, analysis.KindHistogram, Endpoints[0])
		f.cuts = []float64{Bounds[1]}
		all = append(all, f)
	}
	for step := range 18 {
		for i, f := range all {
			if i%2 == 0 || step%3 == 0 {
				f.ask()
			}
		}
		w.Step(Interval)
	}
	for _, f := range all {
		f.ask()
	}
	for _, f := range all {
		f.settle(w)
		f.want(w)
		if h.Instances && len(f.read) == 0 {
			t.Errorf("%s: no instance was told apart", f.metric.Kind())
		}
	}
}

// Processes that restart, begin and end take nothing away and add nothing.
func restarts(t *testing.T, w *World, h Harness) {
	for _, k := range kinds[:3] {
		if _, ok := h.Metrics[k]; !ok {
			continue
		}
		f := follow(t, w, h, k, Endpoints[0])
		f.ask()
		for step := range 16 {
			switch step {
			case 3:
				w.Restart(Endpoints[0], Candidate+"-0")
			case 5:
				w.Add(Endpoints[0], Candidate, Candidate+"-"+string(k))
			case 9:
				w.Remove(Endpoints[0], Candidate+"-"+string(k))
				w.Restart(Endpoints[0], Stable+"-1")
			case 11:
				w.Restart(Endpoints[0], Candidate+"-0")
			}
			w.Step(Interval)
			f.ask()
		}
		f.settle(w)
		f.want(w)
	}
}

// A backend that missed samples for a while has lost nothing.
func gaps(t *testing.T, w *World, h Harness) {
	if h.NoGaps {
		t.Skip("the backend holds events")
	}
	f := follow(t, w, h, analysis.KindCounts, Endpoints[0])
	f.ask()
	for step := range 22 {
		if step%7 == 4 || step%7 == 5 {
			w.Gap(Interval)
		} else {
			w.Step(Interval)
		}
		f.ask()
	}
	f.settle(w)
	f.want(w)
}

// After a crash the same interval is asked for again, from an older cursor, in
// other pieces: the answer is the same.
func asksAgain(t *testing.T, w *World, h Harness) {
	for _, k := range kinds[:3] {
		if _, ok := h.Metrics[k]; !ok {
			continue
		}
		f := follow(t, w, h, k, Endpoints[0])
		for range 8 {
			f.ask()
			w.Step(Interval)
		}
		f.settle(w)
		q := f.query(f.begin, f.cursor)
		rs, err := h.Source.Read(t.Context(), []analysis.Query{q, q})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			again := follow(t, w, h, k, Endpoints[0])
			again.take(q, r)
			if again.begin != f.begin || again.cursor != f.cursor {
				t.Errorf("asked again: got (%s, %s], want (%s, %s]", again.begin, again.cursor, f.begin, f.cursor)
			}
			again.want(w)
		}
	}
}

// A deployment that gives nothing is not fresh, and not an error.
func missing(t *testing.T, w *World, h Harness) {
	for _, k := range kinds {
		if _, ok := h.Metrics[k]; !ok || (h.Idle && k == analysis.KindValue) {
			continue
		}
		f := follow(t, w, h, k, Endpoints[0])
		f.ask()
		w.Silence(Candidate, true)
		for range int((h.Lag+5*time.Minute)/Interval) + 2 {
			w.Step(Interval)
			f.ask()
		}
		r := f.next(w)
		if r.Status != analysis.StatusOK || !r.Stable.Fresh || r.Candidate.Fresh {
			t.Errorf("%s: got %s (%s), stable fresh %t, candidate fresh %t, want ok, true, false", k, r.Status, r.Reason, r.Stable.Fresh, r.Candidate.Fresh)
		}
		if r.Reason == "" {
			t.Errorf("%s: a deployment is missing and no reason is said", k)
		}
		w.Silence(Candidate, false)
	}
}

// next lets time pass until a reading says something, or is an error.
func (f *follower) next(w *World) analysis.Reading {
	f.t.Helper()
	for range 8 {
		w.Step(Interval)
		if r := f.ask(); r.Status != analysis.StatusOK || r.To.After(r.From) {
			return r
		}
	}
	f.t.Fatalf("nothing new is known after %s", 8*Interval)
	return analysis.Reading{}
}

// warm is how many steps a source needs before it has something to say.
func warm(h Harness) int { return int(h.Lag/Interval) + 3 }

// NaN and the infinities never come through as numbers.
func poisoned(t *testing.T, w *World, h Harness) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1} {
		f := follow(t, w, h, analysis.KindCounts, Endpoints[0])
		for range warm(h) {
			f.ask()
			w.Step(Interval)
		}
		w.Poison(Candidate, v)
		for range int(h.Lag/Interval) + 1 {
			w.Step(Interval)
		}
		if r := f.next(w); r.Status != analysis.StatusError {
			t.Errorf("total is %v: got %s with n=%v, want an error", v, r.Status, r.Candidate.N)
		}
		w.Poison(Candidate, 0)
		w.Step(Interval)
	}
}

// Whatever the backend does instead of answering, the reading is an error, comes in
// time, and afterwards nothing is missing.
func faults(t *testing.T, w *World, h Harness) {
	f := follow(t, w, h, analysis.KindCounts, Endpoints[0])
	for range warm(h) {
		f.ask()
		w.Step(Interval)
	}
	f.ask()
	for fault := FaultRefuse; fault <= FaultEndless; fault++ {
		h.Transport.Fail(fault, nil)
		for range warm(h) {
			w.Step(Interval)
		}
		began := time.Now()
		if r := f.ask(); r.Status != analysis.StatusError {
			t.Errorf("%s: got %s with n=%v, want an error", fault, r.Status, r.Stable.N)
		}
		if d := time.Since(began); d > 2*time.Minute {
			t.Errorf("%s: the answer took %s, want at most 2m", fault, d)
		}
		h.Transport.Fail(FaultNone, nil)
		if r := f.next(w); r.Status != analysis.StatusOK {
			t.Errorf("after %s: got %s: %s, want ok", fault, r.Status, r.Reason)
		}
	}
	f.settle(w)
	f.want(w)
}

// An answer that its backend calls incomplete is an error.
func partial(t *testing.T, w *World, h Harness) {
	if h.Partial == nil {
		t.Skip("the backend has no partial answers")
	}
	f := follow(t, w, h, analysis.KindCounts, Endpoints[0])
	for range warm(h) {
		f.ask()
		w.Step(Interval)
	}
	h.Partial(true)
	if r := f.next(w); r.Status != analysis.StatusError {
		t.Errorf("partial answer: got %s, want an error", r.Status)
	}
	h.Partial(false)
	w.Step(Interval)
	f.ask()
	f.settle(w)
	f.want(w)
}

// One question that cannot be asked spoils no other.
func refused(t *testing.T, w *World, h Harness) {
	w.Step(Interval)
	w.Step(Interval)
	names := analysis.Names{Endpoint: Endpoints[0], Stable: Stable, Candidate: Candidate}
	q := analysis.Query{Metric: h.Metrics[analysis.KindCounts], Names: names, From: w.Start, To: time.Now().UTC()}
	bad, none := q, q
	bad.Metric = h.Refused
	none.Metric = analysis.Metric{Name: "nothing"}
	qs := []analysis.Query{bad, q, none, q}
	rs, err := h.Source.Read(t.Context(), qs)
	if err != nil || len(rs) != len(qs) {
		t.Fatalf("Read: got %d readings and %v, want %d", len(rs), err, len(qs))
	}
	for i, want := range []analysis.Status{analysis.StatusError, analysis.StatusOK, analysis.StatusError, analysis.StatusOK} {
		checkReading(t, h, qs[i], rs[i])
		if rs[i].Status != want {
			t.Errorf("question %d: got %s (%s), want %s", i, rs[i].Status, rs[i].Reason, want)
		}
	}
}

// Read ends with its context, whatever the backend does.
func cancellation(t *testing.T, w *World, h Harness) {
	for range warm(h) {
		w.Step(Interval)
	}
	q := analysis.Query{
		Metric: h.Metrics[analysis.KindCounts], From: w.Start, To: time.Now().UTC(),
		Names: analysis.Names{Endpoint: Endpoints[0], Stable: Stable, Candidate: Candidate},
	}
	h.Transport.Fail(FaultHang, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	rs, err := h.Source.Read(ctx, []analysis.Query{q})
	if d := time.Since(began); d > time.Second {
		t.Errorf("Read of a context that ended: took %s, want at most 1s", d)
	}
	if err == nil && (len(rs) != 1 || rs[0].Status != analysis.StatusError) {
		t.Errorf("Read of a context that ended: got %+v, want an error", rs)
	}
	if err != nil {
		noSecret(t, h, err.Error())
	}
	h.Transport.Fail(FaultNone, nil)
	if _, err := h.Source.Read(t.Context(), []analysis.Query{q}); err != nil {
		t.Errorf("Read after one that was cancelled: got %v, want readings", err)
	}
}

// Many rollouts ask at once; each gets its own answer, and the backend is not
// asked more often than there are different questions.
func manyAtOnce(t *testing.T, w *World, h Harness) {
	fs := make([]*follower, 8)
	for i := range fs {
		fs[i] = follow(t, w, h, analysis.KindCounts, Endpoints[i%len(Endpoints)])
	}
	for range 6 {
		var wg sync.WaitGroup
		for _, f := range fs {
			q := f.query(f.cursor, time.Now().UTC())
			wg.Go(func() {
				rs, err := h.Source.Read(t.Context(), []analysis.Query{q})
				if err != nil || len(rs) != 1 {
					t.Errorf("Read: got %d readings and %v, want 1", len(rs), err)
					return
				}
				f.take(q, rs[0])
			})
		}
		wg.Wait()
		w.Step(Interval)
	}
	for _, f := range fs {
		f.ask()
		f.settle(w)
		f.want(w)
	}
}

var _ http.RoundTripper = (*Transport)(nil)
