package analysistest

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
)

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
			t.Errorf("%s: got %s (%s), stable fresh %t, candidate fresh %t, want ok, true, false", k, r.Status,
				r.Reason, r.Stable.Fresh, r.Candidate.Fresh)
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
	for i, want := range []analysis.Status{analysis.StatusError, analysis.StatusOK, analysis.StatusError,
		analysis.StatusOK} {
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
