// Package forecast says what a rollout by a plan would be before anything moves: when
// each step starts, what each guardrail can detect by when, and what would help where it
// cannot. It is pure; what is not known is assumed, and the forecast says so.
package forecast

import (
	"fmt"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
)

// Inputs are what is known before a rollout. Everything is optional; what is not
// known is assumed and the forecast says so.
type Inputs struct {
	// Start is when the release would come.
	Start time.Time
	// PerSecond is the endpoint's load in requests a second; 0 when unknown.
	PerSecond float64
	// Baselines are how stable does, by metric, as read from the source.
	Baselines map[string]analysis.Baseline
	// Lags are how old the sources' readings are when they come, by metric, as far as
	// that was seen or configured.
	Lags map[string]time.Duration
	// Rollback is the command that rolls back by hand.
	Rollback string
	// Instances and Concurrency are the candidate's; 0 when unknown.
	Instances, Concurrency int
	// Known are sentences on what was read, and from where.
	Known []string
	// Checks are the preflight checks that were made ahead, without moving or
	// sending anything.
	Checks []check.Result
}

// A Forecast says what a rollout by a plan would be, before anything moves.
type Forecast struct {
	Policy    string  `json:"policy"`
	Endpoint  string  `json:"endpoint"`
	Candidate string  `json:"candidate"`
	PerSecond float64 `json:"perSecond"`
	// Preflight are the checks that are made before any traffic moves.
	Preflight []Check `json:"preflight"`
	Steps     []Step  `json:"steps"`
	// Known says what was read of the endpoint, and from where.
	Known []string `json:"known,omitempty"`
	// Assumed are the figures that nobody knew, as sentences.
	Assumed []string `json:"assumed,omitempty"`
	// Shortest is when every gate opens at once and evidence suffices; Longest
	// when each step uses its extension and each question its time.
	Shortest document.Span `json:"shortest"`
	Longest  document.Span `json:"longest"`
	// Advice says what cannot be detected and what would help.
	Advice   []string `json:"advice,omitempty"`
	Rollback string   `json:"rollback,omitempty"`
}

// New looks ahead: the steps with their times, what each guardrail can
// detect by when, and what would help where it cannot.
func New(p *policies.Policy, plan *rollout.Plan, facts Inputs) Forecast {
	o := Forecast{Policy: plan.Policy.Name, Endpoint: plan.Endpoint.Router + "/" + plan.Endpoint.Name,
		Candidate: plan.Release.Candidate, PerSecond: facts.PerSecond, Rollback: facts.Rollback, Known: facts.Known}
	base := o.assume(p, plan, facts)
	o.preflight(plan, facts.Checks)
	o.times(plan, facts.Start)
	for i := range o.Steps {
		o.guardrails(p, plan, base, i)
		o.capacity(facts, base, i)
	}
	o.broken(plan, facts)
	o.advise(plan, base)
	return o
}

// broken warns of limits that stable itself breaks, or that nothing as good can pass, by what was read of it.
func (o *Forecast) broken(plan *rollout.Plan, facts Inputs) {
	for i := range plan.Panel.Guardrails {
		g := &plan.Panel.Guardrails[i]
		k := slices.IndexFunc(plan.Panel.Metrics, func(m analysis.Metric) bool { return m.Name == g.Metric })
		b, known := facts.Baselines[g.Metric]
		if k < 0 || !known {
			continue
		}
		x := b.Sample
		if plan.Panel.Metrics[k].Kind() == analysis.KindCounts {
			x = analysis.Sample{Fresh: true, N: assumedPast, K: assumedPast * b.Share}
		}
		if why, cure := g.NeverPasses(&plan.Panel.Metrics[k], &x); why != "" {
			o.Advice = append(o.Advice, fmt.Sprintf("No release as good as stable can pass %s (%s): %s. %s", g.Name,
				g.Limit.Text, why, cure))
		}
		if how := g.Broken(&plan.Panel.Metrics[k], &x); how != "" {
			o.Advice = append(o.Advice, fmt.Sprintf("Stable itself breaks %s: %s. A release as good as stable breaks "+
				"it too; mend stable, or the limit.", g.Name, how))
		}
	}
}
