package analysistest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
)

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
					qs = append(qs, analysis.Query{Metric: m, Names: analysis.Names{Endpoint: e, Stable: Stable,
						Candidate: Candidate}, From: start, To: time.Now().UTC()})
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
