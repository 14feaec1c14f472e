package forecast

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/split"
)

// Guardrail is what one guardrail can detect in one step.
type Guardrail struct {
	Guardrail string `json:"guardrail"`
	Limit     string `json:"limit"`
	Detect    string `json:"detect,omitempty"`
	// Grade is OK, WEAK (detected in fewer than 9 of 10 cases) or BLIND (fewer
	// than half); empty when Reason says why there are no figures.
	Grade  string `json:"grade,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Median and T90 are when the regression is detected with chance ½ and 0.9,
	// Pass when a release as good as stable passes with chance 0.9; all count from
	// the step's start, settling included, and negative is never.
	Median document.Span `json:"median,omitempty"`
	T90    document.Span `json:"t90,omitempty"`
	Pass   document.Span `json:"pass,omitempty"`
	Power  float64       `json:"power,omitempty"`
	// Excess is the number of bad events that the median detection costs.
	Excess float64 `json:"excess,omitempty"`
	// hold is the bake that would do.
	hold time.Duration
}

// load is the traffic of a step with a weight of its own choosing; a weight of 0
// is the step's.
func load(s rollout.Step, i, weight int, bake time.Duration) analysis.Load {
	l := analysis.Load{Step: i, Bake: bake}
	switch s.Kind() {
	case split.ShareMirror:
		l.Stable, l.Candidate = 1, float64(s.Mirror)/100
	case split.ShareLive:
		if weight == 0 {
			weight = s.Weight
		}
		l.Stable, l.Candidate = 1-float64(weight)/100, float64(weight)/100
	}
	return l
}

func (o *Forecast) guardrails(p *policies.Policy, plan *rollout.Plan, base map[string]analysis.Baseline, i int) {
	for _, f := range ofStep(plan, base, i, 0) {
		g := plan.Panel.Guardrails[slices.IndexFunc(plan.Panel.Guardrails,
			func(g analysis.Guardrail) bool { return g.Name == f.Guardrail })]
		j := Guardrail{Guardrail: f.Guardrail, Limit: g.Limit.Text, Detect: detectText(p, g.Name), Reason: f.Reason,
			Median: document.Span(f.Median), T90: document.Span(f.T90), Pass: document.Span(f.PassT90),
			Power: math.Round(f.Power*1e4) / 1e4, Excess: math.Round(f.Excess), hold: f.Hold}
		if f.Reason == "" {
			j.Grade = string(f.Grade)
		}
		o.Steps[i].Guardrails = append(o.Steps[i].Guardrails, j)
	}
}

// ofStep asks the judge about one step. Times count from the step's start:
// nothing passes while the new weight settles, and only counts can breach.
func ofStep(plan *rollout.Plan, base map[string]analysis.Baseline, i, weight int) []analysis.Detection {
	s := plan.Steps[i]
	whole := plan.Panel.Forecast([]analysis.Load{load(s, i, weight, s.Bake)}, base)
	rest := plan.Panel.Forecast([]analysis.Load{load(s, i, weight, max(s.Bake-plan.Settle, 0))}, base)
	for k := range whole {
		g := slices.IndexFunc(plan.Panel.Guardrails,
			func(g analysis.Guardrail) bool { return g.Name == whole[k].Guardrail })
		m := slices.IndexFunc(plan.Panel.Metrics,
			func(m analysis.Metric) bool { return m.Name == plan.Panel.Guardrails[g].Metric })
		counts := m < 0 || plan.Panel.Metrics[m].Kind() == analysis.KindCounts
		if !counts {
			whole[k] = rest[k]
		}
		whole[k] = settled(whole[k], plan.Settle, base[plan.Panel.Guardrails[g].Metric].Lag, counts)
	}
	return whole
}

// settled is a forecast that counts from the end of settling, told from the
// step's start; counts are judged for a breach meanwhile.
func settled(f analysis.Detection, settle, lag time.Duration, counts bool) analysis.Detection {
	if f.Reason != "" {
		return f
	}
	if !counts {
		if f.Median > 0 {
			f.Excess *= float64(f.Median+settle) / float64(f.Median) // it is served from the start
		}
		f.Median, f.T90, f.Mean = later(f.Median, settle), later(f.T90, settle), later(f.Mean, settle)
	}
	if f.PassT90 = later(f.PassT90, settle); f.T90 >= 0 && f.PassT90 >= 0 {
		f.Hold = max(f.T90, f.PassT90) - lag // of watched time, which late readings count all the same
	}
	return f
}

// later is a time that comes so much later; negative, which is never, stays.
func later(t, by time.Duration) time.Duration {
	if t < 0 {
		return t
	}
	return t + by
}

// detectText is what a guardrail must detect, for people; "" for nothing.
func detectText(p *policies.Policy, guardrail string) string {
	for _, g := range p.Document.Spec.Guardrails {
		if g.Name == guardrail {
			if g.Quantile > 0 && g.Detect.Unit == policies.UnitShare {
				return g.Detect.Text + " of requests above " + g.Limit.Quantity.Text
			}
			return g.Detect.Text
		}
	}
	return ""
}

// sentence says what a guardrail can do in a step.
func (j Guardrail) sentence() string {
	if j.Reason != "" {
		return fmt.Sprintf("%-5s  %s: %s", "-", j.Limit, j.Reason)
	}
	text := fmt.Sprintf("%-5s  %s: ", j.Grade, j.Limit)
	if j.Median < 0 {
		return text + j.Detect + " is never detected"
	}
	text += fmt.Sprintf("%s is detected in %s", j.Detect, human(j.Median))
	if j.T90 >= 0 {
		text += fmt.Sprintf(" (9 of 10 in %s)", human(j.T90))
	}
	if j.Excess >= 1 {
		text += fmt.Sprintf(", at the cost of %s bad events", document.FormatNumber(float64(int(j.Excess+0.5))))
	}
	if j.Pass < 0 {
		return text + "; a good release never passes"
	}
	return text + fmt.Sprintf("; a good release passes in %s", human(j.Pass))
}
