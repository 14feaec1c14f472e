package analysis

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// nativeBounds are the bounds of a native histogram of the schema, from 10 ms
// to 4 s.
func nativeBounds(schema int) []float64 {
	var bounds []float64
	per := math.Pow(2, float64(schema))
	for j := math.Ceil(math.Log2(0.01) * per); j <= 2*per; j++ {
		bounds = append(bounds, math.Pow(2, j/per))
	}
	return bounds
}

var classicBounds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// lognormal is n latencies with the median and σ = 0.5, as a histogram.
func lognormal(r *rand.Rand, n, median float64, bounds []float64) Sample {
	x := Sample{Fresh: true, N: n}
	left, below := n, 0.0
	for _, b := range bounds {
		cdf := math.Erfc(-math.Log(b/median)/0.5/math.Sqrt2) / 2
		k := 0.0
		if below < 1-1e-12 {
			k = binom(r, left, math.Min(1, (cdf-below)/(1-below)))
		}
		x.Buckets = append(x.Buckets, Bucket{Upper: b, Count: k})
		left -= k
		below = cdf
	}
	return x
}

// latencyPanel has one guardrail on a quantile of latency.
func latencyPanel(limit Limit, detect float64) Panel {
	return Panel{
		Metrics: []Metric{{Name: "latency", Histogram: &Histogram{Series: "l", Unit: "s"}}},
		Guardrails: []Guardrail{{Name: "p95", Metric: "latency", Quantile: 0.95, Limit: limit, Detect: detect,
			OnBreach: ActionRollback, Evidence: EvidenceRequired, Test: TestSequential, Steps: []int{0}}},
		Alpha: 0.01, Beta: 0.05, Steps: 1, Interval: 15 * time.Second, OnSharedBreach: ActionHold,
	}
}

// latencyWorld is how latencies behave: medians by interval, and the
// candidate's factor.
type latencyWorld struct {
	bounds func(i int) []float64
	median func(i int) float64
	factor float64
	weight int
	events float64 // of both arms in an interval
}

// run judges at most n intervals and returns the last verdicts and how many it
// took to breach, or else to pass.
func (w latencyWorld) run(seed uint64, p Panel, n int) (v Verdicts, breach, pass int) {
	r := seeded(seed)
	var e Evidence
	for i := range n {
		at := StepContext{At: epoch.Add(time.Duration(i+1) * p.Interval), StepStart: epoch,
			StableWeight: 100 - w.weight, CandidateWeight: w.weight, Serving: true}
		nc, nb := w.events*float64(w.weight)/100, w.events*float64(100-w.weight)/100
		x := Reading{Metric: "latency", Status: StatusOK, From: at.At.Add(-p.Interval), To: at.At,
			Candidate: lognormal(r, math.Round(nc), w.factor*w.median(i), w.bounds(i)),
			Stable:    lognormal(r, math.Round(nb), w.median(i), w.bounds(i))}
		e, v = Judge(p, e, at, []Reading{x})
		if v.MayEnd && pass == 0 {
			pass = i + 1
		}
		if len(v.Breaches) > 0 {
			return v, i + 1, pass
		}
	}
	return v, 0, pass
}

func always[T any](v T) func(int) T { return func(int) T { return v } }

// A quantile relative to stable: a healthy release passes and is never rolled
// back, also while latencies wander by a factor of two for both; a slower one
// is rolled back; with fine and with coarse buckets.
func TestRelativeQuantile(t *testing.T) {
	p := latencyPanel(Limit{Relative: true, Value: 1.2, Text: "<= 1.2x stable"}, 2)
	wander := func(i int) float64 { return 0.1 * math.Exp(0.5*math.Sin(float64(i)/12)) }
	for _, c := range []struct {
		name           string
		world          latencyWorld
		breach, passes bool
		effective      string
	}{
		{"native, healthy", latencyWorld{always(nativeBounds(3)), always(0.1), 1, 25, 8000}, false, true, "1.297x"},
		{"native, wandering", latencyWorld{always(nativeBounds(3)), wander, 1, 25, 8000}, false, true, "for rollback and as"},
		{"native, slower", latencyWorld{always(nativeBounds(3)), always(0.1), 1.7, 25, 8000}, true, false, "1.297x"},
		{"classic, healthy", latencyWorld{always(classicBounds), always(0.1), 1, 25, 8000}, false, true, "times stable's for rollback"},
		{"classic, far from a bound", latencyWorld{always(classicBounds), always(0.08), 1, 25, 8000}, false, true, "slower than 250 ms"},
		{"classic, far from a bound, slower", latencyWorld{always(classicBounds), always(0.08), 2.5, 25, 8000}, true, false, "250 ms"},
		{"classic, slower", latencyWorld{always(classicBounds), always(0.1), 2, 25, 8000}, true, false, "slower than 250 ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(10) {
				v, breach, pass := c.world.run(seed, p, 80)
				if got := breach > 0; got != c.breach {
					t.Fatalf("seed %d: got breach %v, want %v: %s", seed, got, c.breach, v.Each[0].Sentence)
				}
				if got := pass > 0; got != c.passes {
					t.Errorf("seed %d: got pass %v, want %v: %s", seed, got, c.passes, v.Each[0].Sentence)
				}
				if !strings.Contains(v.Each[0].Effective, c.effective) {
					t.Errorf("seed %d: got effective %q, want %q in it", seed, v.Each[0].Effective, c.effective)
				}
				if seed == 0 {
					t.Logf("breach %d pass %d: %s | %s", breach, pass, v.Each[0].Sentence, v.Each[0].Effective)
				}
			}
		})
	}
}

// Where no bound is anywhere near stable's quantile, nothing is judged, and the
// verdict says what is missing.
func TestRelativeQuantileTooCoarse(t *testing.T) {
	p := latencyPanel(Limit{Relative: true, Value: 1.2, Text: "<= 1.2x stable"}, 2)
	w := latencyWorld{always([]float64{0.01, 5}), always(0.1), 3, 25, 8000}
	v, breach, pass := w.run(1, p, 20)
	if got := v.Each[0]; breach > 0 || pass > 0 || !strings.Contains(got.Needed, "finer buckets") {
		t.Errorf("got %s, needed %q, want finer buckets to be asked for", got.Outcome, got.Needed)
	}
}

// A candidate that is exactly as slow as its relative limit allows is rolled
// back no more often than α.
func TestRelativeQuantileAtLimit(t *testing.T) {
	p := latencyPanel(Limit{Relative: true, Value: 1.2, Text: "<= 1.2x stable"}, 2)
	for _, c := range []struct {
		name   string
		bounds []float64
	}{{"native", nativeBounds(3)}, {"classic", classicBounds}} {
		back := 0
		const trials = 150
		for seed := range uint64(trials) {
			w := latencyWorld{always(c.bounds), always(0.1), 1.2, 25, 8000}
			if _, breach, _ := w.run(seed, p, 60); breach > 0 {
				back++
			}
		}
		if back > 5 {
			t.Errorf("%s: got %d of %d rolled back at the limit, want at most 5 (α = 1%%)", c.name, back, trials)
		}
	}
}

// An absolute limit between two bounds is judged on the upper one for a breach
// and on the lower one for a pass, and the verdict says so.
func TestAbsoluteQuantileBounds(t *testing.T) {
	for _, c := range []struct {
		name      string
		limit     float64
		bounds    []float64
		factor    float64
		breach    bool
		pass      bool
		effective string
	}{
		{"on a bound", 0.25, classicBounds, 1, false, true, ""},
		{"on a bound, beyond it", 0.25, classicBounds, 1.6, true, false, ""},
		{"between bounds, both kept", 0.3, classicBounds, 0.9, false, true, "<= 500 ms for rollback and as <= 250 ms for promotion"},
		// p95 is 0.1·e^0.822·1.4 = 319 ms: over the limit, but these buckets cannot tell.
		{"between bounds, in between", 0.3, classicBounds, 1.4, false, false, "<= 500 ms for rollback and as <= 250 ms for promotion"},
		{"between bounds, beyond both", 0.3, classicBounds, 3, true, false, "<= 500 ms for rollback and as <= 250 ms for promotion"},
		{"native between bounds", 0.3, nativeBounds(3), 2, true, false, "for rollback and as"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := latencyPanel(Limit{Value: c.limit, Text: "<= " + latency(c.limit)}, 0.1)
			w := latencyWorld{always(c.bounds), always(0.1), c.factor, 25, 8000}
			v, breach, pass := w.run(1, p, 60)
			if (breach > 0) != c.breach || (pass > 0) != c.pass {
				t.Errorf("got breach %v and pass %v, want %v and %v: %s", breach > 0, pass > 0, c.breach, c.pass, v.Each[0].Sentence)
			}
			got := v.Each[0].Effective
			if c.effective == "" && got != "" || !strings.Contains(got, c.effective) {
				t.Errorf("got effective %q, want %q", got, c.effective)
			}
		})
	}
}

// A native histogram may lower its resolution under way: each interval is
// judged on its own bounds.
func TestQuantileChangingSchema(t *testing.T) {
	schema := func(i int) []float64 { return nativeBounds(5 - i/10) }
	absolute := latencyPanel(Limit{Value: 0.3, Text: "<= 300ms"}, 0.1)
	relative := latencyPanel(Limit{Relative: true, Value: 1.5, Text: "<= 1.5x stable"}, 2)
	for _, p := range []Panel{absolute, relative} {
		for _, c := range []struct {
			factor float64
			breach bool
		}{{1, false}, {2.5, true}} {
			w := latencyWorld{schema, always(0.1), c.factor, 25, 8000}
			v, breach, pass := w.run(3, p, 40)
			if (breach > 0) != c.breach || (pass > 0) == c.breach {
				t.Errorf("%s at factor %v: got breach %v pass %v, want breach %v: %s", p.Guardrails[0].Limit.Text, c.factor, breach, pass, c.breach, v.Each[0].Sentence)
			}
		}
	}
}

// Where the buckets end below the limit, nothing is judged, and it is said.
func TestQuantileBeyondBuckets(t *testing.T) {
	p := latencyPanel(Limit{Value: 20, Text: "<= 20s"}, 0.1)
	w := latencyWorld{always(classicBounds[:5]), always(0.1), 1, 25, 8000}
	v, _, _ := w.run(1, p, 3)
	if got := v.Each[0]; got.Outcome != OutcomeError || v.Sights[0].Trouble != OutcomeError || !strings.Contains(got.Sentence, "100 ms") {
		t.Errorf("got %s %q, want an error that names the last bucket", got.Outcome, got.Sentence)
	}
}

// The latency that promotion must exclude may be given by itself.
func TestQuantileDetectLatency(t *testing.T) {
	p := latencyPanel(Limit{Value: 0.25, Text: "<= 250ms"}, 0.5)
	p.Guardrails[0].DetectLatency = true
	for _, c := range []struct {
		factor       float64
		breach, pass bool
	}{{0.9, false, true}, {1.1, false, true}, {2.5, true, false}} {
		w := latencyWorld{always(classicBounds), always(0.1), c.factor, 25, 8000}
		v, breach, pass := w.run(2, p, 40)
		if (breach > 0) != c.breach || (pass > 0) != c.pass {
			t.Errorf("factor %v: got breach %d pass %d, want %v %v: %s", c.factor, breach, pass, c.breach, c.pass, v.Each[0].Sentence)
		}
	}
}

// What the judge shows of a quantile is near the truth, and its interval holds
// it.
func TestQuantileEstimate(t *testing.T) {
	p := latencyPanel(Limit{Value: 0.45, Text: "<= 450ms"}, 0.1)
	truth := 0.1 * math.Exp(0.5*1.6449)
	w := latencyWorld{always(nativeBounds(3)), always(0.1), 1, 25, 8000}
	v, _, _ := w.run(1, p, 20)
	for name, e := range map[string]Estimate{"candidate": v.Each[0].Candidate, "stable": v.Each[0].Stable} {
		if !e.Known || math.Abs(e.Value-truth) > 0.05 || e.Low > truth || e.High < truth {
			t.Errorf("%s: got %+v, want about %v within its interval", name, e, truth)
		}
	}
	if cuts := p.Cuts("latency", Evidence{}); len(cuts) == 0 || cuts[0] > 0.45 {
		t.Errorf("got cuts %v, want the limit's among them", cuts)
	}
}

// sparse leaves out what a native histogram does not transmit: empty buckets,
// unless they bound one that is not.
func sparse(x Sample) Sample {
	var kept []Bucket
	for i, b := range x.Buckets {
		if b.Count > 0 || i+1 < len(x.Buckets) && x.Buckets[i+1].Count > 0 {
			kept = append(kept, b)
		}
	}
	x.Buckets = kept
	return x
}

// With little traffic a native histogram has gaps that differ from interval to
// interval; the relative quantile is judged all the same.
func TestRelativeQuantileSparse(t *testing.T) {
	p := latencyPanel(Limit{Relative: true, Value: 1.3, Text: "<= 1.3x stable"}, 2)
	for _, c := range []struct {
		factor       float64
		breach, pass bool
	}{{1, false, true}, {2.5, true, false}} {
		r := seeded(9)
		var e Evidence
		var v Verdicts
		breach, pass := false, false
		for i := 1; i <= 200 && !breach; i++ {
			x := counted(i, 0, 0, 0, 0)
			x.Metric = "latency"
			x.Candidate = sparse(lognormal(r, pois(r, 15), 0.1*c.factor, nativeBounds(3)))
			x.Stable = sparse(lognormal(r, pois(r, 60), 0.1, nativeBounds(3)))
			e, v = Judge(p, e, moment(i), []Reading{x})
			breach, pass = len(v.Breaches) > 0, pass || v.MayEnd
		}
		if breach != c.breach || pass != c.pass {
			t.Errorf("factor %v: got breach %v pass %v, want %v %v: %s", c.factor, breach, pass, c.breach, c.pass, v.Each[0].Sentence)
		}
		roundTrip(t, e)
	}
}

// What is said before a rollout of whether a release as good as stable can pass is what the
// judge then does of one.
func TestNeverPasses(t *testing.T) {
	absolute := func(limit float64) Limit { return Limit{Value: limit, Text: latency(limit)} }
	twice := Limit{Relative: true, Value: 2, Text: "<= 2x stable"}
	for _, c := range []struct {
		name    string
		limit   Limit
		detect  float64
		median  float64
		bounds  []float64
		why     string
		cure    string
		latency bool
	}{
		{name: "between bounds", limit: absolute(0.2), detect: 0.1, median: 0.0835, bounds: classicBounds,
			why: "of stable's are slower than 100 ms", cure: "like 250 ms"},
		{name: "on a bound", limit: absolute(0.25), detect: 0.1, median: 0.0835, bounds: classicBounds},
		{name: "between bounds, far below", limit: absolute(0.2), detect: 0.1, median: 0.03, bounds: classicBounds},
		{name: "a latency to detect", limit: absolute(0.25), detect: 0.45, latency: true, median: 0.1, bounds: classicBounds},
		{name: "one between bounds", limit: absolute(0.25), detect: 0.3, latency: true, median: 0.1, bounds: []float64{0.1, 0.15, 0.25, 0.29, 1}},
		{name: "above the last bound", limit: absolute(2), detect: 0.1, median: 0.5, bounds: []float64{0.1, 0.5, 1},
			why: "last bucket ends at 1 s, below the limit", cure: "1 s or lower"},
		{name: "stable's above the last bound", limit: twice, detect: 2, median: 1, bounds: []float64{0.1, 0.5, 1},
			why: "last bucket ends at 1 s, below stable's p95", cure: "higher buckets"},
		{name: "relative", limit: twice, detect: 2, median: 0.0835, bounds: nativeBounds(3)},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := latencyPanel(c.limit, c.detect)
			g := &p.Guardrails[0]
			g.DetectLatency = c.latency
			x := lognormal(seeded(1), 20_000, c.median, c.bounds)
			why, cure := g.NeverPasses(&p.Metrics[0], &x)
			if (why == "") != (c.why == "") || !strings.Contains(why, c.why) || !strings.Contains(cure, c.cure) {
				t.Errorf("got %q and %q, want %q and %q", why, cure, c.why, c.cure)
			}
			w := latencyWorld{bounds: always(c.bounds), median: always(c.median), factor: 1, weight: 50, events: 2000}
			if _, _, pass := w.run(1, p, 200); (pass > 0) != (c.why == "") {
				t.Errorf("got a pass after %d intervals, want one: %t", pass, c.why == "")
			}
		})
	}
	p := meanPanel(Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.95)
	for sum, want := range map[float64]bool{-5000: true, 0: true, 5000: false} {
		why, cure := p.Guardrails[0].NeverPasses(&p.Metrics[0], &Sample{Fresh: true, N: 500, Sum: sum, SumSq: 51000})
		if (why != "") != want || want && !strings.Contains(cure, "absolute") {
			t.Errorf("a sum of %v: got %q and %q, want a reason: %t", sum, why, cure, want)
		}
	}
}
