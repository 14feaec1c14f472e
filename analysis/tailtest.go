package analysis

import (
	"math"
	"slices"

	"github.com/belayd/belay/analysis/sequential"
)

// A TailTest is how a relative quantile is judged: by counting, in every interval,
// what is slower than a cut near stable's quantile. The cut and all that
// depends on it come from stable's past, never from the interval itself.
type TailTest struct {
	// Bounds are bucket bounds around stable's quantile; Slower counts stable's
	// past events slower than each, out of N, forgetting slowly.
	Bounds []float64 `json:"le,omitempty"`
	Slower []float64 `json:"slower,omitempty"`
	N      float64   `json:"n,omitempty"`
	// Aim is where the quantile is cut; nil until enough is known.
	Aim *TailThreshold `json:"aim,omitempty"`
}

const (
	// tailBounds is how many bucket bounds are followed, and thinnest the least
	// ratio between two of them.
	tailBounds = 20
	thinnest   = 1.08
	// tailEvents is how many of stable's events must be known before a cut is
	// chosen, and tailSlow how many of them beyond the quantile.
	tailEvents = 200
	tailSlow   = 10
	// farthest is how many times heavier or lighter than the quantile's own tail
	// the tail beyond the cut may be.
	farthest = 8
	// exact is how much the ratio of two bounds may exceed the limit's before
	// both arms are rather cut at the same bound.
	exact = 1.1
)

func (t *TailTest) clone() *TailTest {
	if t == nil {
		return nil
	}
	c := *t
	c.Slower = slices.Clone(t.Slower)
	c.Aim = cloned(t.Aim)
	return &c // the bounds never change in place
}

// test is the test at the present cuts.
func (t *TailTest) test(g *Guardrail) (sequential.Hypotheses, sequential.Pilot) {
	if t == nil || t.Aim == nil {
		return sequential.Relative(1, 2, 1), sequential.Pilot{} // unreachable: nothing is judged without an aim
	}
	a := t.Aim
	test := sequential.Relative(a.Limit, a.Limit*tailDetect(g), 1)
	pass := sequential.Relative(a.PassLimit, a.PassLimit, a.Healthy)
	test.PassLimit, test.PassGrid = pass.PassLimit, pass.PassGrid
	return test, a.Pilot
}

// tailDetect is the ratio of the tails that must be caught.
func tailDetect(g *Guardrail) float64 {
	if g.Detect > 1 {
		return g.Detect
	}
	return 2
}

// relativeQuantile takes a reading of a histogram in.
func (s *GuardrailState) relativeQuantile(v *observation) {
	g, r := v.guardrail, v.reading
	if s.Tail == nil {
		s.Tail = &TailTest{}
	}
	if s.Pending == nil {
		s.Tail.Aim = s.Tail.aim(g)
	}
	if a := s.Tail.Aim; a != nil {
		t := sequential.Tally{NC: r.Candidate.N, NB: r.Stable.N}
		t.KC = g.beyond(&r.Candidate, r.Candidate.bound(a.Breach, !g.Limit.AtLeast))
		// Counting too few of stable's for a breach, or too many for a pass, would
		// not be safe: its cut must be one of its bounds.
		below, above := r.Stable.bound(a.Stable, false), r.Stable.bound(a.Stable, true)
		t.KB = g.beyond(&r.Stable, below)
		u := t
		u.KC = g.beyond(&r.Candidate, r.Candidate.bound(a.Pass, g.Limit.AtLeast))
		u.KB = g.beyond(&r.Stable, above)
		if g.Limit.AtLeast {
			t.KB, u.KB = g.beyond(&r.Stable, above), g.beyond(&r.Stable, below)
		}
		s.count(v, t)
		s.shape(v)
		test, _ := s.Tail.test(g)
		s.updateBinomial(v, tallied{
			test: test, breach: t, pass: u,
			events: func(x *Sample) float64 { return g.beyond(x, x.bound(a.Breach, !g.Limit.AtLeast)) },
		})
		slow := func(x *Sample) float64 { return g.beyond(x, x.bound(a.Stable, !g.Limit.AtLeast)) }
		s.disperse(&r.Stable, slow)
	}
	s.Tail.learn(g, &r.Stable)
}

// learnTail takes a histogram of stable alone in.
func (s *GuardrailState) learnTail(g *Guardrail, x *Sample) {
	if s.Tail == nil {
		s.Tail = &TailTest{}
	}
	if a := s.Tail.aim(g); a != nil {
		s.disperse(x, func(x *Sample) float64 { return g.beyond(x, x.bound(a.Stable, !g.Limit.AtLeast)) })
	}
	s.Tail.learn(g, x)
}

// learn adds one interval of stable to the past.
func (t *TailTest) learn(g *Guardrail, x *Sample) {
	if x.N <= 0 || len(x.Buckets) == 0 {
		return
	}
	if !t.covers(g, x) {
		t.Bounds = tailWindow(g, x)
		t.Slower, t.N = make([]float64, len(t.Bounds)), 0
	}
	for _, b := range x.Buckets {
		t.insert(g, b.Upper)
	}
	t.N = meanForget*t.N + x.N
	for i, b := range t.Bounds {
		t.Slower[i] = meanForget*t.Slower[i] + x.slowerThan(b)
	}
}

// insert follows another bound, where one was missing because a sparse
// histogram had nothing there yet.
func (t *TailTest) insert(g *Guardrail, f float64) {
	i, found := slices.BinarySearch(t.Bounds, f)
	if found || len(t.Bounds) >= tailBounds {
		return
	}
	low, lowSlower, high, highSlower := 0.0, t.N, math.Inf(1), 0.0
	if i > 0 {
		low, lowSlower = t.Bounds[i-1], t.Slower[i-1]
	}
	if i < len(t.Bounds) {
		high, highSlower = t.Bounds[i], t.Slower[i]
	}
	tail := math.Min(0.9, 5*(1-g.Quantile))
	if f < low*thinnest || high < f*thinnest || !g.Limit.AtLeast && highSlower > tail*t.N {
		return
	}
	slower := highSlower
	if !math.IsInf(high, 1) {
		slower = lowSlower + (highSlower-lowSlower)*(f-low)/(high-low)
	}
	t.Bounds = slices.Insert(slices.Clone(t.Bounds), i, f)
	t.Slower = slices.Insert(t.Slower, i, slower)
}

// covers reports whether the sample has the followed bounds and the quantile
// is still among them.
func (t *TailTest) covers(g *Guardrail, x *Sample) bool {
	if len(t.Bounds) == 0 {
		return false
	}
	if last := t.Bounds[len(t.Bounds)-1]; t.N > tailEvents && last < x.last() &&
		t.Slower[len(t.Bounds)-1] > (1-g.Quantile)*t.N {
		return false
	}
	i := 0
	for _, b := range x.Buckets {
		if i < len(t.Bounds) && math.Abs(b.Upper-t.Bounds[i]) <= sameBound*b.Upper {
			i++
		}
	}
	if i == len(t.Bounds) {
		return true
	}
	// A sparse histogram leaves out what is empty: only a bound that splits a
	// bucket of the sample is a change.
	low := 0.0
	for _, b := range x.Buckets {
		for _, f := range t.Bounds {
			if f > low*(1+sameBound) && f < b.Upper*(1-sameBound) && b.Count > 0 && b.Upper > f*1.5 {
				return false
			}
		}
		low = b.Upper
	}
	return true
}

// tailWindow are the sample's bounds around its quantile, thinned where they
// are closer than needed.
func tailWindow(g *Guardrail, x *Sample) []float64 {
	var bounds []float64
	at := -1
	for i, b := range x.Buckets {
		if n := len(bounds); n > 0 && i < len(x.Buckets)-1 && b.Upper < bounds[n-1]*thinnest {
			continue
		}
		bounds = append(bounds, b.Upper)
		if at < 0 && x.slower(b.Upper) <= (1-g.Quantile)*x.N {
			at = len(bounds) - 1
		}
	}
	if at < 0 {
		at = len(bounds) - 1
	}
	// Most of the window is on the side that a regression moves to.
	before := tailBounds / 3
	if g.Limit.AtLeast {
		before = tailBounds - before
	}
	from := max(0, min(at-before, len(bounds)-tailBounds))
	return slices.Clip(bounds[from:min(len(bounds), from+tailBounds)])
}
