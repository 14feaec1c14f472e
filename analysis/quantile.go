package analysis

import (
	"math"
	"slices"

	"github.com/belayd/belay/analysis/sequential"
)

// Bounds are the bucket bounds that an absolute quantile limit is judged on:
// a breach counts what is slower than Breach, a pass what is slower than Pass.
type Bounds struct {
	Breach float64 `json:"breach"`
	Pass   float64 `json:"pass"`
}

// quantileTest is the test of the share of slow events against an absolute
// limit.
func (g *Guardrail) quantileTest() sequential.Hypotheses {
	share := 1 - g.Quantile
	if g.Limit.AtLeast {
		share = g.Quantile
	}
	doubled := math.Min(2*share, (1+share)/2)
	if !g.DetectLatency {
		if g.Detect > share {
			doubled = g.Detect
		}
		return sequential.Absolute(share, doubled)
	}
	// Promotion looks at another latency, against the quantile's own share; the
	// breach keeps its doubled tail.
	t := sequential.Absolute(share, doubled)
	pass := sequential.Absolute(share/2, share)
	t.PassLimit, t.PassGrid = pass.PassLimit, pass.PassGrid
	return t
}

// updateQuantile takes a reading of a histogram in.
func (s *GuardrailState) updateQuantile(v *observation) {
	g, r := v.guardrail, v.reading
	if g.Limit.Relative {
		s.relativeQuantile(v)
		return
	}
	s.shape(v)
	limit := g.Limit.Value
	bounds, ok := g.Effective(&r.Candidate)
	if !ok {
		s.Trouble, s.Reason = OutcomeError, "the histogram's last bucket ends at "+
			latency(r.Candidate.last())+", below the limit: it cannot be judged"
		return
	}
	s.Bounds = &bounds
	t := sequential.Tally{NC: r.Candidate.N, KC: g.beyond(&r.Candidate, bounds.Breach)}
	u := sequential.Tally{NC: r.Candidate.N, KC: g.beyond(&r.Candidate, bounds.Pass)}
	if r.Stable.Fresh {
		if b := r.Stable.bound(limit, !g.Limit.AtLeast); !math.IsInf(b, 1) {
			t.NB, t.KB = r.Stable.N, g.beyond(&r.Stable, b)
		}
	}
	slow := func(x *Sample) float64 {
		b := x.bound(limit, !g.Limit.AtLeast)
		return g.beyond(x, b)
	}
	s.count(v, t)
	test := with(g.quantileTest(), g.passing(v.weight).quantileTest())
	s.lately(v, t, func(rate float64) bool { return rate > test.Limit })
	s.updateBinomial(v, tallied{test: test, breach: t, pass: u, events: slow})
	s.disperse(&r.Stable, slow)
}

// Effective is what an absolute quantile limit comes to on the sample's buckets;
// false when the sample's last bucket ends below the limit, so that it cannot be
// judged.
func (g *Guardrail) Effective(x *Sample) (Bounds, bool) {
	pass := g.Limit.Value
	if g.DetectLatency {
		pass = g.Detect
	}
	b := Bounds{Breach: x.bound(g.Limit.Value, !g.Limit.AtLeast), Pass: x.bound(pass, g.Limit.AtLeast)}
	return b, !math.IsInf(b.Breach, 1) && !math.IsInf(b.Pass, 1)
}

// beyond is how many of the sample's events are on the wrong side of the bound.
func (g *Guardrail) beyond(x *Sample, bound float64) float64 {
	slow := x.slower(bound)
	if g.Limit.AtLeast {
		return math.Max(0, x.N-slow)
	}
	return slow
}

// learnQuantile takes a histogram of stable alone in.
func (s *GuardrailState) learnQuantile(g *Guardrail, x *Sample) {
	if g.Limit.Relative {
		s.learnTail(g, x)
		return
	}
	slow := func(x *Sample) float64 {
		return g.beyond(x, x.bound(g.Limit.Value, !g.Limit.AtLeast))
	}
	s.Pilot.Learn(slow(x), x.N)
	s.disperse(x, slow)
}

// sameBound is how close two bounds are that differ by rounding only.
const sameBound = 1e-9

// bound is the sample's bucket bound next to the latency: the first at or above
// it when up, else the last at or below it. Without any it is 0 below and above
// it +Inf, or the latency itself where nothing is slower than the last bound.
func (x *Sample) bound(latency float64, up bool) float64 {
	low := 0.0
	for _, b := range x.Buckets {
		if math.Abs(b.Upper-latency) <= sameBound*latency {
			return b.Upper
		}
		if b.Upper > latency {
			if up {
				return b.Upper
			}
			return low
		}
		low = b.Upper
	}
	if x.slower(low) == 0 {
		return latency // nothing is slower than the last bound: any cut is exact
	}
	if up {
		return math.Inf(1)
	}
	return low
}

// slower is how many of the sample's events took longer than the bound, which
// is one of its own, 0, or beyond its last.
func (x *Sample) slower(bound float64) float64 {
	fast := 0.0
	for _, b := range x.Buckets {
		if b.Upper > bound*(1+sameBound) {
			break
		}
		fast += b.Count
	}
	return math.Max(0, x.N-fast)
}

// last is the sample's last bucket bound; 0 when there is none.
func (x *Sample) last() float64 {
	if len(x.Buckets) == 0 {
		return 0
	}
	return x.Buckets[len(x.Buckets)-1].Upper
}

// Cuts are the latencies at which the judge needs the metric's buckets, in
// increasing order; nil when it needs all of them, or none because the metric
// is not a histogram.
func (p Panel) Cuts(metric string, e Evidence) []float64 {
	m := p.metric(metric)
	if m == nil || m.Kind() != KindHistogram {
		return nil
	}
	var cuts []float64
	for i := range p.Guardrails {
		g := &p.Guardrails[i]
		if g.Metric != metric {
			continue
		}
		if g.Limit.Relative {
			return nil // the cut follows stable, whose whole tail is watched
		}
		cuts = append(cuts, g.displayCuts()...)
	}
	slices.Sort(cuts)
	return slices.Compact(cuts)
}

// displayCuts are the latencies that an absolute quantile is judged and shown
// with.
func (g *Guardrail) displayCuts() []float64 {
	l := g.Limit.Value
	cuts := []float64{l / 2, l / math.Sqrt2, l, l * math.Sqrt2, 2 * l}
	if g.DetectLatency {
		cuts = append(cuts, g.Detect)
	}
	return cuts
}
