package analysis

import (
	"math"

	"github.com/belayd/belay/analysis/sequential"
)

// A TailThreshold is a pair of cuts with what is expected of a good release there.
type TailThreshold struct {
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

// aim chooses the cuts from stable's past; nil while it knows too little or the
// buckets allow none.
func (t *TailTest) aim(g *Guardrail) *TailThreshold {
	tail := 1 - g.Quantile
	if g.Limit.AtLeast {
		tail = g.Quantile
	}
	if !t.known(g) {
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
	if best < 0 || cost > math.Log(farthest) || t.N*t.share(g, best) < tailSlow {
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

// known reports whether stable's past is long enough to choose a cut.
func (t *TailTest) known(g *Guardrail) bool {
	return t.N >= tailEvents && t.N*math.Min(g.Quantile, 1-g.Quantile) >= tailSlow
}

// share is the past share of stable's events beyond the i-th bound.
func (t *TailTest) share(g *Guardrail, i int) float64 {
	if g.Limit.AtLeast {
		return math.Max(0, t.N-t.Slower[i]) / t.N
	}
	return t.Slower[i] / t.N
}

// pilot is the past of stable's tail at the i-th bound.
func (t *TailTest) pilot(g *Guardrail, i int) sequential.Pilot {
	return sequential.Pilot{K: t.share(g, i) * t.N, N: t.N}
}

// twoCuts compares stable beyond one bound with the candidate beyond another,
// whose ratio is the limit's or, at most slack times, wider.
func (t *TailTest) twoCuts(g *Guardrail, i int, slack float64) *TailThreshold {
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
	return &TailThreshold{
		Stable: x, Breach: t.Bounds[breach], Pass: t.Bounds[pass],
		Limit: 1, PassLimit: tailDetect(g), Healthy: healthy, Pilot: t.pilot(g, i),
	}
}

// sameCut compares both arms beyond the same bound: a tail whose latencies are
// longer by the limit's factor is heavier by a multiplier there, which the
// slopes of stable's own tail bracket where its logarithm is concave in the
// logarithm of the latency.
func (t *TailTest) sameCut(g *Guardrail, i int) *TailThreshold {
	if g.Limit.AtLeast || i == 0 || i+1 >= len(t.Bounds) {
		return nil
	}
	s, left, right := t.share(g, i), t.share(g, i-1), t.share(g, i+1)
	if s > 0.5 || right <= 0 || left <= s {
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
	return &TailThreshold{
		Stable: x, Breach: x, Pass: x,
		Limit: high, PassLimit: low * tailDetect(g), Healthy: 1, Pilot: t.pilot(g, i),
	}
}

// displayCuts are the latencies that a relative quantile is shown with.
func (t *TailTest) displayCuts() []float64 {
	if t == nil || t.Aim == nil {
		return nil
	}
	a := t.Aim
	return []float64{a.Stable / 2, a.Stable / math.Sqrt2, a.Stable / 1.19, a.Stable, a.Breach, 2 * a.Stable}
}
