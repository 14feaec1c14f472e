package view

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
)

// A Guardrail is a guardrail with its verdict. Figures are in Unit: share, rate, s,
// mean or value; null when unknown.
type Guardrail struct {
	Name      string           `json:"name"`
	Verdict   analysis.Outcome `json:"verdict"`
	Unit      string           `json:"unit"`
	Candidate *float64         `json:"candidate"`
	Stable    *float64         `json:"stable"`
	// Interval is the anytime-valid 95% interval around Candidate.
	Interval *[2]float64 `json:"interval"`
	Limit    string      `json:"limit"`
	N        float64     `json:"n"`
	// StableN is the number of events of the stable deployment.
	StableN  float64        `json:"stableN"`
	Sentence string         `json:"sentence"`
	Needed   string         `json:"needed,omitempty"`
	Cause    analysis.Cause `json:"cause,omitempty"`
	// Note: it is a dry run, and nothing rests on it.
	Note bool `json:"note,omitempty"`
	// Evidence is how much of what decides is there; null where nothing is tested.
	Evidence *Evidence `json:"evidence,omitempty"`
	// AsOf is the instant up to which the metric was read; zero before its first reading.
	AsOf time.Time `json:"asOf,omitzero"`
	// Plot is what a chart shows; nil where there is nothing to draw.
	Plot *Plot `json:"-"`
}

// Evidence says how much of the evidence that decides is there: shares, from 0 for
// none to 1 for all of it.
type Evidence struct {
	Breach float64 `json:"breach"`
	Pass   float64 `json:"pass"`
}

// A Plot is what a chart of a guardrail shows, all of it on one axis in the
// guardrail's unit. Every figure is finite.
type Plot struct {
	Candidate Estimate `json:"candidate"`
	// Stable is nil where nothing is known of it, Limit where the guardrail has no
	// limit on this axis.
	Stable *Estimate `json:"stable,omitempty"`
	Limit  *float64  `json:"limit,omitempty"`
	// More: more is better, and the limit is the least that is allowed.
	More bool `json:"more,omitempty"`
	// Unit is the verdict's: how to print the figures.
	Unit string `json:"unit,omitempty"`
}

// An Estimate is a figure and the interval around it.
type Estimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Judged is the picture of one verdict, as it was reached.
func Judged(v analysis.Verdict) Guardrail {
	g := Guardrail{
		Name: v.Guardrail, Verdict: v.Outcome, Unit: v.Unit, Limit: v.Limit, N: v.Candidate.N, StableN: v.Stable.N,
		Sentence: v.Sentence, Needed: v.Needed, Cause: v.Cause, Note: v.Note,
	}
	if v.Candidate.Known {
		g.Candidate, g.Interval = new(v.Candidate.Value), &[2]float64{v.Candidate.Low, v.Candidate.High}
	}
	if v.Stable.Known {
		g.Stable = new(v.Stable.Value)
	}
	if v.LogEThreshold > 0 {
		g.Evidence = &Evidence{Breach: shareOf(v.LogE, v.LogEThreshold), Pass: shareOf(v.LogEPass, v.LogEPassNeeds)}
		if v.Outcome == analysis.OutcomePass {
			g.Evidence.Pass = 1 // it latches: what came since does not take it back
		}
	}
	return g
}

// shareOf is how much of the evidence that is needed is there, both as logarithms, to
// a tenth of a percent; less than all of it is never shown as all.
func shareOf(has, needs float64) float64 {
	if !(needs > 0) || !(has > 0) {
		return 0
	}
	return min(math.Floor(has/needs*1000)/1000, 1)
}

// guardrailsOf are the verdicts in force. What was reached in the step before says
// nothing about the present one: until its first reading nothing is known of it.
func guardrailsOf(p *rollout.Plan, s rollout.State) []Guardrail {
	out := make([]Guardrail, len(s.Verdicts))
	for i, v := range s.Verdicts {
		g := Judged(v)
		named := func(x analysis.Guardrail) bool { return x.Name == v.Guardrail }
		if j := slices.IndexFunc(p.Panel.Guardrails, named); j >= 0 {
			spec := &p.Panel.Guardrails[j]
			g.AsOf = s.Evidence.Cursors[spec.Metric].UTC()
			g.Plot = plotOf(p, spec, v)
			if s.Reached >= 0 && s.Reached == s.Step && !g.AsOf.After(s.StepSince) && lapses(v.Outcome) {
				g = unread(g, p.Steps[s.Step].Name)
			}
		}
		out[i] = g
	}
	return out
}

// unread is a guardrail of which nothing is known in its step.
func unread(g Guardrail, step string) Guardrail {
	return Guardrail{
		Name: g.Name, Verdict: analysis.OutcomeUndecided, Unit: g.Unit, Limit: g.Limit, AsOf: g.AsOf, Note: g.Note,
		Sentence: fmt.Sprintf("%s was not read in step %s yet.", g.Name, step),
	}
}

// lapses reports whether a verdict ends with the step that it was reached in. That
// something is missing is shown until it is seen.
func lapses(o analysis.Outcome) bool {
	switch o {
	case analysis.OutcomePass, analysis.OutcomeBreach, analysis.OutcomeUndecided:
		return true
	case analysis.OutcomeNoData, analysis.OutcomeError, analysis.OutcomeResting:
	}
	return false
}

// plotOf is what a chart shows of a verdict; nil when nothing is known of the
// candidate or a figure is not finite.
func plotOf(p *rollout.Plan, g *analysis.Guardrail, v analysis.Verdict) *Plot {
	candidate := estimateOf(v.Candidate)
	if candidate == nil {
		return nil
	}
	out := &Plot{Candidate: *candidate, Stable: estimateOf(v.Stable), More: g.Limit.AtLeast, Unit: v.Unit}
	limit := p.Panel.Shown(g)
	if g.Limit.Relative {
		if out.Stable == nil {
			return out
		}
		limit *= out.Stable.Value
	}
	if finite(limit) {
		out.Limit = &limit
	}
	return out
}

// estimateOf is a known and finite estimate; nil else.
func estimateOf(e analysis.Estimate) *Estimate {
	if !e.Known || !finite(e.Value, e.Low, e.High) {
		return nil
	}
	return &Estimate{Value: e.Value, Low: e.Low, High: e.High}
}

func finite(xs ...float64) bool {
	return !slices.ContainsFunc(xs, func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) })
}

// Finite reports whether every figure of the plot is.
func (p *Plot) Finite() bool {
	xs := []float64{p.Candidate.Value, p.Candidate.Low, p.Candidate.High}
	if p.Stable != nil {
		xs = append(xs, p.Stable.Value, p.Stable.Low, p.Stable.High)
	}
	if p.Limit != nil {
		xs = append(xs, *p.Limit)
	}
	return finite(xs...)
}

// ReadTo is the instant up to which all of a rollout's guardrails were read; zero when
// there is none.
func ReadTo(gs []Guardrail) time.Time {
	var oldest time.Time
	for _, g := range gs {
		if g.Verdict != analysis.OutcomeResting && !g.AsOf.IsZero() && (oldest.IsZero() || g.AsOf.Before(oldest)) {
			oldest = g.AsOf
		}
	}
	return oldest
}
