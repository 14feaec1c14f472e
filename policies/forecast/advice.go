package forecast

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/split"
)

// helpfulWeights are the weights that advice may propose.
var helpfulWeights = []int{10, 15, 20, 25, 30, 40, 50}

// advise says what cannot be detected, and what would help.
func (o *Forecast) advise(plan *rollout.Plan, base map[string]analysis.Baseline) {
	for i, s := range o.Steps {
		for _, j := range s.Guardrails {
			if j.Grade == "" || j.Grade == "OK" {
				continue
			}
			text := fmt.Sprintf("Step %s cannot be relied on to detect %s on %s (limit %s): within %s it is found in "+
				"%s of cases.",
				s.Name, cmp.Or(j.Detect, "none"), j.Guardrail, j.Limit, s.Bake, percentOf(j.Power))
			if help := o.help(plan, base, i, j); help != "" {
				text += " " + help
			}
			o.Advice = append(o.Advice, text)
		}
	}
	o.Advice = append(o.Advice, slowPasses(o.Steps, plan)...)
	if o.PerSecond == 0 {
		o.Advice = append(o.Advice, "The traffic is not known, so nothing can be said about detection: give requests "+
			"a second.")
	}
}

// percentOf is a chance for people.
func percentOf(x float64) string {
	if x < 0.01 {
		return "fewer than 1%"
	}
	return document.FormatNumber(math.Round(x*100)) + "%"
}

// help finds a longer bake or a higher weight with which it would be detected.
func (o *Forecast) help(plan *rollout.Plan, base map[string]analysis.Baseline, i int, j Guardrail) string {
	var ways []string
	if j.hold > 0 {
		ways = append(ways, "a bake of "+document.FormatDuration(roundUp(j.hold)))
	}
	for _, w := range helpfulWeights {
		if plan.Steps[i].Kind() != split.ShareLive || w <= plan.Steps[i].Weight {
			continue
		}
		k := slices.IndexFunc(ofStep(plan, base, i, w), func(f analysis.Detection) bool {
			return f.Guardrail == j.Guardrail && f.Reason == "" && f.Grade == "OK"
		})
		if k >= 0 {
			ways = append(ways, fmt.Sprintf("a weight of %d%%", w))
			break
		}
	}
	ways = append(ways, "a wider detect")
	return "What would help: " + document.OneOf(ways) + "."
}

// roundUp rounds to what people write: five minutes, or an hour.
func roundUp(d time.Duration) time.Duration {
	unit := 5 * time.Minute
	if d > 4*time.Hour {
		unit = time.Hour
	}
	return (d + unit - 1) / unit * unit
}

// slowPasses warns of steps that a good release will not have passed in time.
func slowPasses(steps []Step, plan *rollout.Plan) []string {
	var out []string
	for _, s := range steps {
		for _, j := range s.Guardrails {
			if j.Grade == "" || j.Pass >= 0 && j.Pass <= s.Bake+document.Span(plan.MaxExtend) {
				continue
			}
			when := "never"
			if j.Pass >= 0 {
				when = "only after " + document.FormatDuration(roundUp(time.Duration(j.Pass)))
			}
			out = append(out, fmt.Sprintf("Step %s: a release as good as stable passes %s %s, and bake and maxExtend "+
				"give it %s; then onUndecided applies (%s).",
				s.Name, j.Guardrail, when, s.Bake+document.Span(plan.MaxExtend), plan.OnUndecided))
		}
	}
	return out
}
