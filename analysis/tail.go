package analysis

import (
	"math"
	"slices"

	"github.com/belayd/belay/analysis/sequential"
)

// A Tail is how a relative quantile is judged: by counting, in every interval,
// what is slower than a cut near stable's quantile. The cut and all that
// depends on it come from stable's past, never from the interval itself.
type Tail struct {
	// Bounds are bucket bounds around stable's quantile; Slower counts stable's
	// past events slower than each, out of N, forgetting slowly.
	Bounds []float64 `json:"le,omitempty"`
	Slower []float64 `json:"slower,omitempty"`
	N      float64   `json:"n,omitempty"`
	// Aim is where the quantile is cut; nil until enough is known.
	Aim *Aim `json:"aim,omitempty"`
}

// An Aim is a pair of cuts with what is expected of a good release there.
type Aim struct {
	// Stable is stable's cut; Breach and Pass are the candidate's.
	Stable float64 `json:"b"`
	Breach float64 `json:"c"`
	Pass   float64 `json:"p"`
	// Limit and PassLimit bound the candidate's tail in stable's for a breach and
	// for a pass, Healthy is the ratio of a good release.
	Limit     float64 `json:"limit"`
	PassLimit float64 `json:"passLimit"`
	Healthy   float64 `json:"healthy"`
	// Pilot is stable's tail so far.
	Pilot sequential.Pilot `json:"pilot"`
}

const (
	// tailBounds is how many bucket bounds are followed.
	tailBounds = 24
	// tailEvents is how many of stable's events must be known before a cut is
	// chosen, and tailSlow how many of them beyond the quantile.
	tailEvents = 200
	tailSlow   = 10
	// exact is how much the ratio of two bounds may exceed the limit's before
	// both arms are rather cut at the same bound.
	exact = 1.1
)

func (t *Tail) clone() *Tail {
	if t == nil {
		return nil
	}
	c := *t
	c.Slower = slices.Clone(t.Slower)
	c.Aim = cloned(t.Aim)
	return &c // the bounds never change in place
}

// test is the test at the present cuts.
func (t *Tail) test(g *Guardrail) (sequential.Test, sequential.Pilot) {
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
func (s *Standing) relativeQuantile(v *visit) {
	g, r := v.guardrail, v.reading
	if s.Tail == nil {
		s.Tail = &Tail{}
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
		s.Step = s.Step.Add(t)
		s.shape(g, r)
		test, _ := s.Tail.test(g)
		s.binary(v, test, t, u)
		slow := func(x *Sample) float64 { return g.beyond(x, x.bound(a.Stable, !g.Limit.AtLeast)) }
		s.disperse(&r.Stable, slow)
		s.suspect(v, t, func(x *Sample) float64 { return g.beyond(x, x.bound(a.Breach, !g.Limit.AtLeast)) })
	}
	s.Tail.learn(g, &r.Stable)
}

// learnTail takes a histogram of stable alone in.
func (s *Standing) learnTail(g *Guardrail, x *Sample) {
	if s.Tail == nil {
		s.Tail = &Tail{}
	}
	if a := s.Tail.aim(g); a != nil {
		s.disperse(x, func(x *Sample) float64 { return g.beyond(x, x.bound(a.Stable, !g.Limit.AtLeast)) })
	}
	s.Tail.learn(g, x)
}

// learn adds one interval of stable to the past.
func (t *Tail) learn(g *Guardrail, x *Sample) {
	if x.N <= 0 || len(x.Buckets) == 0 {
		return
	}
	if !t.covers(g, x) {
		t.Bounds = tailWindow(g, x)
		t.Slower, t.N = make([]float64, len(t.Bounds)), 0
	}
	t.N = meanForget*t.N + x.N
	for i, b := range t.Bounds {
		t.Slower[i] = meanForget*t.Slower[i] + x.slowerThan(b)
	}
}

// covers reports whether the sample has the followed bounds and the quantile
// is still among them.
func (t *Tail) covers(g *Guardrail, x *Sample) bool {
	if len(t.Bounds) == 0 {
		return false
	}
	if last := t.Bounds[len(t.Bounds)-1]; t.N > tailEvents && last < x.last() && t.Slower[len(t.Bounds)-1] > (1-g.Quantile)*t.N {
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

// tailWindow are the sample's bounds around its quantile.
func tailWindow(g *Guardrail, x *Sample) []float64 {
	at := 0
	for at < len(x.Buckets)-1 && x.slower(x.Buckets[at].Upper) > (1-g.Quantile)*x.N {
		at++
	}
	from := max(0, min(at-tailBounds/2, len(x.Buckets)-tailBounds))
	to := min(len(x.Buckets), from+tailBounds)
	bounds := make([]float64, 0, to-from)
	for _, b := range x.Buckets[from:to] {
		bounds = append(bounds, b.Upper)
	}
	return bounds
}

// aim chooses the cuts from stable's past; nil while it knows too little or the
// buckets allow none.
func (t *Tail) aim(g *Guardrail) *Aim {
	tail := 1 - g.Quantile
	if g.Limit.AtLeast {
		tail = g.Quantile
	}
	if t.N < tailEvents || t.N*math.Min(tail, 1-tail) < tailSlow {
		return nil
	}
	best, cost := -1, math.Inf(1)
	for i := range t.Bounds {
		if share := t.share(g, i); share > 0 {
			if c := math.Abs(math.Log(share / tail)); c < cost {
				best, cost = i, c
			}
		}
	}
	if best < 0 || cost > math.Log(4) {
		return nil
	}
	if a := t.twoCuts(g, best, exact); a != nil {
		return a
	}
	if a := t.sameCut(g, best); a != nil {
		return a
	}
	return t.twoCuts(g, best, math.Inf(1))
}

// share is the past share of stable's events beyond the i-th bound.
func (t *Tail) share(g *Guardrail, i int) float64 {
	if g.Limit.AtLeast {
		return math.Max(0, t.N-t.Slower[i]) / t.N
	}
	return t.Slower[i] / t.N
}

// pilot is the past of stable's tail at the i-th bound.
func (t *Tail) pilot(g *Guardrail, i int) sequential.Pilot {
	return sequential.Pilot{K: t.share(g, i) * t.N, N: t.N}
}

// twoCuts compares stable beyond one bound with the candidate beyond another,
// whose ratio is the limit's or, at most slack times, wider.
func (t *Tail) twoCuts(g *Guardrail, i int, slack float64) *Aim {
	x := t.Bounds[i]
	want := x * g.Limit.Value
	breach, pass := -1, -1
	for j, b := range t.Bounds {
		if math.Abs(b-want) <= sameBound*want {
			breach, pass = j, j
			break
		}
		if g.Limit.AtLeast {
			if b < want {
				breach = j
			} else if pass < 0 {
				pass = j
			}
			continue
		}
		if b < want {
			pass = j
		} else if breach < 0 {
			breach = j
		}
	}
	if breach < 0 || pass < 0 {
		return nil
	}
	if r := t.Bounds[breach] / want; r > slack || 1/r > slack {
		return nil
	}
	p := t.share(g, i)
	healthy := math.Min(math.Max(t.share(g, pass)/p, 0.05), 1)
	return &Aim{
		Stable: x, Breach: t.Bounds[breach], Pass: t.Bounds[pass],
		Limit: 1, PassLimit: tailDetect(g), Healthy: healthy, Pilot: t.pilot(g, i),
	}
}

// sameCut compares both arms beyond the same bound: a tail whose latencies are
// longer by the limit's factor is heavier by a multiplier there, which the
// slopes of stable's own tail bracket where its logarithm is concave in the
// logarithm of the latency.
func (t *Tail) sameCut(g *Guardrail, i int) *Aim {
	if g.Limit.AtLeast || i == 0 || i+1 >= len(t.Bounds) {
		return nil
	}
	s, left, right := t.share(g, i), t.share(g, i-1), t.share(g, i+1)
	tail := 1 - g.Quantile
	if s < 0.4*tail || s > 3*tail || right <= 0 || left <= s {
		return nil
	}
	x := t.Bounds[i]
	grow := math.Log(g.Limit.Value)
	high := math.Exp(grow * math.Log(s/right) / math.Log(t.Bounds[i+1]/x))
	low := math.Exp(grow * math.Log(left/s) / math.Log(x/t.Bounds[i-1]))
	high = math.Max(high, low)
	if high*s > 0.5 {
		return nil
	}
	return &Aim{
		Stable: x, Breach: x, Pass: x,
		Limit: high, PassLimit: low * tailDetect(g), Healthy: 1, Pilot: t.pilot(g, i),
	}
}

// displayCuts are the latencies that a relative quantile is shown with.
func (t *Tail) displayCuts() []float64 {
	if t == nil || t.Aim == nil {
		return nil
	}
	a := t.Aim
	return []float64{a.Stable / 2, a.Stable / math.Sqrt2, a.Stable / 1.19, a.Stable, a.Breach, 2 * a.Stable}
}
