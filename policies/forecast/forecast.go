// Package forecast says what a rollout by a plan would be before anything moves: when
// each step starts, what each guardrail can detect by when, and what would help where it
// cannot. It is pure; what is not known is assumed, and the forecast says so.
package forecast

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
)

// Facts are what is known before a rollout. Everything is optional; what is not
// known is assumed and the outlook says so.
type Facts struct {
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
	Checks []rollout.CheckResult
}

// An Outlook says what a rollout by a plan would be, before anything moves.
type Outlook struct {
	Policy    string  `json:"policy"`
	Endpoint  string  `json:"endpoint"`
	Candidate string  `json:"candidate"`
	PerSecond float64 `json:"perSecond"`
	// Preflight are the checks that are made before any traffic moves.
	Preflight []CheckAhead  `json:"preflight"`
	Steps     []StepOutlook `json:"steps"`
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

// StepOutlook is one step of an outlook.
type StepOutlook struct {
	Name string `json:"name"`
	rollout.Share
	Bake     document.Span `json:"bake"`
	Requires []string      `json:"requires,omitempty"`
	// Earliest and Latest are when the step starts; Window is how long it waits
	// for a window in the earliest case.
	Earliest time.Time     `json:"earliest"`
	Latest   time.Time     `json:"latest"`
	Window   document.Span `json:"window,omitempty"`
	// Capacity says whether the candidate can carry the step; empty when unknown.
	Capacity string       `json:"capacity,omitempty"`
	Judges   []JudgeAhead `json:"judges"`
}

// JudgeAhead is what one guardrail can detect in one step.
type JudgeAhead struct {
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

// Foresee looks ahead: the steps with their times, what each guardrail can
// detect by when, and what would help where it cannot.
func Foresee(p *policies.Policy, plan *rollout.Plan, facts Facts) Outlook {
	o := Outlook{Policy: plan.Policy.Name, Endpoint: plan.Endpoint.Router + "/" + plan.Endpoint.Name,
		Candidate: plan.Release.Candidate, PerSecond: facts.PerSecond, Rollback: facts.Rollback, Known: facts.Known}
	base := o.assume(p, plan, facts)
	o.preflight(plan, facts.Checks)
	o.times(plan, facts.Start)
	for i := range o.Steps {
		o.judge(p, plan, base, i)
		o.capacity(facts, base, i)
	}
	o.broken(plan, facts)
	o.advise(plan, base)
	return o
}

// broken warns of limits that stable itself breaks, by what was read of it.
func (o *Outlook) broken(plan *rollout.Plan, facts Facts) {
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
		if how := g.Broken(&plan.Panel.Metrics[k], &x); how != "" {
			o.Advice = append(o.Advice, fmt.Sprintf("Stable itself breaks %s: %s. A release as good as stable breaks it too; mend stable, or the limit.", g.Name, how))
		}
	}
}

// times walks the ladder twice: as fast and as slow as the plan allows.
func (o *Outlook) times(plan *rollout.Plan, start time.Time) {
	fast, slow := start, start
	if plan.Schedule != nil {
		fast = plan.Schedule.Next(start.Add(-time.Second))
		slow = fast
	}
	for _, s := range plan.Steps {
		var waited time.Duration
		fast, waited = afterWindow(plan.Windows, fast)
		for _, name := range s.Requires {
			i := slices.IndexFunc(plan.Approvals, func(a rollout.Approval) bool { return a.Name == name })
			slow = slow.Add(plan.Approvals[i].Expires)
		}
		slow, _ = afterWindow(plan.Windows, slow)
		o.Steps = append(o.Steps, StepOutlook{Name: s.Name, Share: s.Share, Bake: document.Span(s.Bake),
			Requires: s.Requires, Earliest: fast, Latest: slow, Window: document.Span(waited)})
		fast, slow = fast.Add(s.Bake), slow.Add(s.Bake+plan.MaxExtend)
	}
	o.Shortest, o.Longest = document.Span(fast.Sub(start)), document.Span(slow.Sub(start))
}

// afterWindow is when a step may start that could start at t.
func afterWindow(w *rollout.Windows, t time.Time) (time.Time, time.Duration) {
	open, next := w.OpenAt(t)
	if open || next.IsZero() {
		return t, 0
	}
	return next, next.Sub(t)
}

// capacity compares what the step sends with what the candidate can take.
func (o *Outlook) capacity(facts Facts, base map[string]analysis.Baseline, i int) {
	if facts.Instances == 0 || facts.Concurrency == 0 || facts.PerSecond == 0 {
		return // nobody told what the candidate can take
	}
	latency := 0.0
	for _, b := range base {
		if b.Sample.N > 0 && len(b.Sample.Buckets) > 0 {
			latency = max(latency, meanLatency(b.Sample))
		}
	}
	if latency == 0 {
		return
	}
	s := &o.Steps[i]
	need := facts.PerSecond * float64(s.Percent()) / 100 * latency
	have := float64(facts.Instances * facts.Concurrency)
	s.Capacity = fmt.Sprintf("needs %s of %s concurrent requests", document.FormatNumber(math.Ceil(need*10)/10), document.FormatNumber(have))
	if need > have {
		s.Capacity += ": too few instances"
		o.Advice = append(o.Advice, fmt.Sprintf("Step %s %s; the candidate would turn requests away.", s.Name, s.Capacity))
	}
}

// meanLatency estimates the mean from a histogram.
func meanLatency(s analysis.Sample) float64 {
	sum, lower := 0.0, 0.0
	for _, b := range s.Buckets {
		sum += b.Count * (lower + b.Upper) / 2
		lower = b.Upper
	}
	return sum / s.N
}

// helpfulWeights are the weights that advice may propose.
var helpfulWeights = []int{10, 15, 20, 25, 30, 40, 50}

// advise says what cannot be detected, and what would help.
func (o *Outlook) advise(plan *rollout.Plan, base map[string]analysis.Baseline) {
	for i, s := range o.Steps {
		for _, j := range s.Judges {
			if j.Grade == "" || j.Grade == "OK" {
				continue
			}
			text := fmt.Sprintf("Step %s cannot be relied on to detect %s on %s (limit %s): within %s it is found in %s of cases.",
				s.Name, cmp.Or(j.Detect, "none"), j.Guardrail, j.Limit, s.Bake, percentOf(j.Power))
			if help := o.help(plan, base, i, j); help != "" {
				text += " " + help
			}
			o.Advice = append(o.Advice, text)
		}
	}
	o.Advice = append(o.Advice, slowPasses(o.Steps, plan)...)
	if o.PerSecond == 0 {
		o.Advice = append(o.Advice, "The traffic is not known, so nothing can be said about detection: give requests a second.")
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
func (o *Outlook) help(plan *rollout.Plan, base map[string]analysis.Baseline, i int, j JudgeAhead) string {
	var ways []string
	if j.hold > 0 {
		ways = append(ways, "a bake of "+document.FormatDuration(roundUp(j.hold)))
	}
	for _, w := range helpfulWeights {
		if plan.Steps[i].Kind() != rollout.ShareLive || w <= plan.Steps[i].Weight {
			continue
		}
		k := slices.IndexFunc(forecast(plan, base, i, w), func(f analysis.Forecast) bool {
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
func slowPasses(steps []StepOutlook, plan *rollout.Plan) []string {
	var out []string
	for _, s := range steps {
		for _, j := range s.Judges {
			if j.Grade == "" || j.Pass >= 0 && j.Pass <= s.Bake+document.Span(plan.MaxExtend) {
				continue
			}
			when := "never"
			if j.Pass >= 0 {
				when = "only after " + document.FormatDuration(roundUp(time.Duration(j.Pass)))
			}
			out = append(out, fmt.Sprintf("Step %s: a release as good as stable passes %s %s, and bake and maxExtend give it %s; then onUndecided applies (%s).",
				s.Name, j.Guardrail, when, s.Bake+document.Span(plan.MaxExtend), plan.OnUndecided))
		}
	}
	return out
}
