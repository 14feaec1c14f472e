package engine

import (
	"math"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
)

// plot is what a chart shows of a verdict; nil when nothing is known of the
// candidate or a figure is not finite.
func plot(p *rollout.Plan, v analysis.Verdict) *notifier.Plot {
	if !v.Candidate.Known || !plottable(v.Candidate) {
		return nil
	}
	out := &notifier.Plot{Candidate: estimate(v.Candidate)}
	if v.Stable.Known && plottable(v.Stable) {
		s := estimate(v.Stable)
		out.Stable = &s
	}
	for _, g := range p.Panel.Guardrails {
		if g.Name != v.Guardrail {
			continue
		}
		out.More = g.Limit.AtLeast
		limit := g.Limit.Value
		if g.Limit.Relative {
			if out.Stable == nil {
				return out
			}
			limit *= out.Stable.Value
		}
		if !math.IsNaN(limit) && !math.IsInf(limit, 0) {
			out.Limit = &limit
		}
	}
	return out
}

func estimate(e analysis.Estimate) notifier.Estimate {
	return notifier.Estimate{Value: e.Value, Low: e.Low, High: e.High}
}

func plottable(e analysis.Estimate) bool {
	for _, x := range []float64{e.Value, e.Low, e.High} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}
