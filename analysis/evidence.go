package analysis

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis/sequential"
)

// Evidence is what the judge remembers between readings. It is small,
// serialisable and additive; its JSON round-trips exactly. The zero value is
// the evidence of a rollout that has read nothing. Judge never changes the
// evidence it is given; it returns its successor.
type Evidence struct {
	// Cursors hold, by metric, the end of the last interval that was consumed.
	// An interval that ends at or before its cursor is never counted again.
	Cursors map[string]time.Time `json:"cursors,omitempty"`
	// Begun is false until the first step began; Step is the step it is in.
	Begun bool `json:"begun,omitempty"`
	Step  int  `json:"step,omitempty"`
	// Standings hold what is known of each guardrail, in the panel's order.
	Standings []GuardrailState `json:"standings,omitempty"`
	// Single is, by group, since when one instance alone has carried a breach.
	Single map[Action]time.Time `json:"single,omitempty"`
	// Spending is what the budget's metric has cost; nil without a budget.
	Spending *Spending `json:"spending,omitempty"`
}

// A GuardrailState is the evidence on one guardrail, in parts that each method has or has
// not. Where a limit is "at least", an absolute one's events are those that miss it.
type GuardrailState struct {
	Trial
	Counted
	Latency
	// Moments are the sums of a mean.
	Moments *MeanStats `json:"moments,omitempty"`
	// Marks are a threshold's last readings.
	Marks *Marks `json:"marks,omitempty"`

	// Trouble is no-data or error when the last reading could not be used, and
	// Reason says why.
	Trouble Outcome `json:"trouble,omitempty"`
	Reason  string  `json:"reason,omitempty"`
}

// A Trial is what every method that draws on α has: the evidence for and against.
type Trial struct {
	// Breach is the evidence against the limit, over the whole rollout.
	Breach sequential.Process `json:"breach,omitzero"`
	// Worse is, where the limit is absolute, the evidence that the candidate does worse
	// than stable does at the same time, and where a relative limit has a floor, that it is
	// above that. Shared is the evidence that stable itself breaks an absolute limit. They
	// have the segments of Breach.
	Worse  sequential.Process `json:"worse,omitzero"`
	Shared sequential.Process `json:"shared,omitzero"`
	// Alone: the last interval had no stable to compare with.
	Alone bool `json:"alone,omitempty"`
	// Common: the limit was broken together with stable since the evidence began.
	Common bool `json:"common,omitempty"`
	// Apart is the evidence without one of the candidate's instances each.
	Apart *Apart `json:"apart,omitempty"`
	// Spent is the weight of the segments of evidence that was begun anew since.
	Spent float64 `json:"spent,omitempty"`
	// Base is how many of the guardrail's steps were over when the evidence began
	// anew; Restarts how many segments the present step has started.
	Base     int `json:"base,omitempty"`
	Restarts int `json:"restarts,omitempty"`
	// Pass is this step's evidence that detect is absent, Passed whether it once
	// sufficed.
	Pass   sequential.Promotion `json:"pass,omitzero"`
	Passed bool                 `json:"passed,omitempty"`
	// Floor is the evidence for a pass by the absolute part of a relative limit.
	Floor sequential.Promotion `json:"floor,omitzero"`
	// Due is what a release as good as stable was to be expected to show in Pass; 0 where
	// that cannot be said.
	Due float64 `json:"due,omitempty"`
	// Credit is what the step's end adds to Pass.
	Credit float64 `json:"credit,omitempty"`
	// PassN and PassSeconds are how many of the candidate's events, in how long,
	// made up Pass.
	PassN       float64 `json:"passN,omitempty"`
	PassSeconds float64 `json:"passSeconds,omitempty"`

	Dispersion sequential.Dispersion `json:"dispersion,omitzero"`
	// Lately is how the endpoint did in the last minutes.
	Lately Lately `json:"lately,omitzero"`
}

// Counted is what is remembered of counted events.
type Counted struct {
	Pilot sequential.Pilot `json:"pilot,omitzero"`
	// Pending are small intervals that wait to be merged.
	Pending *Pending `json:"pending,omitempty"`
	// Step counts the present step, for estimates.
	Step sequential.Tally `json:"step,omitzero"`
}

// Latency is what is remembered of a histogram besides.
type Latency struct {
	// Shape is the present step's histogram, for estimates.
	Shape *StepHistogram `json:"shape,omitempty"`
	// Tail is where a relative quantile is cut.
	Tail *TailTest `json:"tail,omitempty"`
	// Bounds are the bucket bounds that a quantile's limit was last judged on.
	Bounds *Bounds `json:"bounds,omitempty"`
}

// Cursor is the end of the last interval of the metric that was consumed; the
// zero time when none was.
func (e Evidence) Cursor(metric string) time.Time { return e.Cursors[metric] }

// Skip moves the metric's cursor forward to t without consuming anything: what
// lies before is never read again. An earlier t changes nothing.
func (e Evidence) Skip(metric string, t time.Time) Evidence {
	if !t.After(e.Cursors[metric]) {
		return e
	}
	e.Cursors = maps.Clone(e.Cursors)
	if e.Cursors == nil {
		e.Cursors = map[string]time.Time{}
	}
	e.Cursors[metric] = t
	return e
}

// BeginStep is the evidence at the start of the moment's step: what a pass
// needs starts afresh, and the evidence for breaches gains a segment. Judge
// does it by itself when the step changes; beginning the same step twice
// changes nothing.
func (e Evidence) BeginStep(p Panel, at StepContext) Evidence {
	if e.Begun && e.Step == at.Step {
		return e
	}
	e = e.clone(len(p.Guardrails))
	e.begin(&p, at)
	return e
}

// Restart is the evidence after what the group's guardrails saw counts no more: they
// start anew at 1, as in a rollout whose remaining steps are the whole ladder. What was
// learnt of the metrics (pilot, dispersion) stays.
func (e Evidence) Restart(p Panel, group Action, at StepContext) Evidence {
	e = e.BeginStep(p, at).clone(len(p.Guardrails))
	for i := range p.Guardrails {
		if g := &p.Guardrails[i]; g.OnBreach == group {
			e.Standings[i].restartAll(g, at.Step)
		}
	}
	return e
}

// Override is the evidence after a person overrode the breach of a group, of which the
// guardrail was to blame; "" where that is not known. It starts anew, and so does, from the
// greatest on, as much of the group's as would be a breach without it. Whatever else was
// seen goes on to count: a new start costs that guardrail's part of α once more.
func (e Evidence) Override(p Panel, group Action, guardrail string, at StepContext) Evidence {
	e = e.BeginStep(p, at).clone(len(p.Guardrails))
	need := math.Log(1 / p.share())
	blamed := slices.IndexFunc(p.Guardrails, func(g Guardrail) bool {
		return g.Name == guardrail && g.OnBreach == group
	})
	for first := true; ; first = false {
		sum, most, worst := math.Inf(-1), math.Inf(-1), -1
		for i := range p.Guardrails {
			if p.Guardrails[i].OnBreach != group {
				continue
			}
			x := e.Standings[i].evidence(&p, &p.Guardrails[i], at).broken
			if sum = sequential.LogSum(sum, x); worst < 0 || x > most {
				most, worst = x, i
			}
		}
		if first && blamed >= 0 {
			worst = blamed
		}
		if worst < 0 || !first && sum < need {
			return e
		}
		e.Standings[worst].restartAll(&p.Guardrails[worst], at.Step)
	}
}

// restartAll starts the guardrail's evidence anew, for the steps from this one on.
func (s *GuardrailState) restartAll(g *Guardrail, step int) {
	done := slices.IndexFunc(g.Steps, func(n int) bool { return n >= step })
	if done < 0 {
		done = len(g.Steps)
	}
	fresh := GuardrailState{
		Trial: Trial{Base: done, Spent: s.Spent + s.Breach.Started, Dispersion: s.Dispersion, Alone: s.Alone,
			Lately: s.Lately},
		Counted: Counted{Pilot: s.Pilot, Step: s.Step},
		Latency: s.Latency,
		Trouble: s.Trouble, Reason: s.Reason,
	}
	if s.Moments != nil {
		fresh.Moments = s.Moments.afresh()
	}
	*s = fresh
	s.begin(g, step)
}

// Spent is how much of α was spent so far: at most so large is the chance that a release
// within all limits was found in breach by now. Without evidence that was begun anew it
// never comes to more than α; each new start adds to that.
func (e Evidence) Spent(p Panel) float64 {
	weight := 0.0
	if e.Spending != nil && p.Budget != nil {
		weight = 1
	}
	for i := range min(len(p.Guardrails), len(e.Standings)) {
		if p.sequential(&p.Guardrails[i]) {
			weight += e.Standings[i].Spent + e.Standings[i].Breach.Started
		}
	}
	return p.share() * weight
}

// begin starts the moment's step in every standing; e must be a clone.
func (e *Evidence) begin(p *Panel, at StepContext) {
	e.Begun, e.Step = true, at.Step
	for i := range p.Guardrails {
		g, s := &p.Guardrails[i], &e.Standings[i]
		s.commit(p, g, p.metric(g.Metric), 0)
		s.Floor = sequential.Promotion{}
		s.Restarts, s.Pass, s.Passed, s.PassN, s.PassSeconds = 0, sequential.Promotion{}, false, 0, 0
		s.Due, s.Credit = 0, 0
		s.Step, s.Shape = sequential.Tally{}, nil
		s.Trouble, s.Reason = "", ""
		s.Apart.beginStep()
		if s.Marks != nil {
			s.Marks.Read = false
		}
		if s.Moments != nil {
			s.Moments.beginStep()
		}
		s.begin(g, at.Step)
	}
}

// begin starts the step's first segment, if the guardrail is judged in it.
func (s *GuardrailState) begin(g *Guardrail, step int) {
	i := slices.Index(g.Steps, step)
	if i < s.Base {
		return
	}
	s.start(g, i-s.Base, 0)
}

// start starts the n-th segment of the guardrail's i-th step. Evidence that began
// before there was any of another kind gives that its own weight.
func (s *GuardrailState) start(g *Guardrail, i, n int) {
	weight := sequential.RestartWeight(sequential.StepWeight(len(g.Steps)-s.Base, i), n)
	if !g.Limit.Relative || g.Limit.Floor > 0 {
		for _, also := range []*sequential.Process{&s.Worse, &s.Shared} {
			if also.Started == 0 {
				also.Start(s.Breach.Started)
			}
			also.Start(weight)
		}
	}
	s.Apart.start(s.Breach, weight)
	s.Breach.Start(weight)
	s.Restarts = n
}

// restartEvery is how often a step starts another segment, but not more often
// than every interval. A regression that begins in the middle of a bake meets
// evidence that good hours have pushed far down; the newest segment is never
// older than this. Restarts share a fixed weight, so that more of them cost the
// guarantee nothing, and a late one needs a little more evidence.
const restartEvery = 15 * time.Second

// mostRestarts is how many segments a reading may start that comes after a long gap:
// those that nothing was read in need no start of their own.
const mostRestarts = 96

// restart starts the segments that are due before an interval that begins at
// from.
func (s *GuardrailState) restart(g *Guardrail, at StepContext, from time.Time, interval time.Duration) {
	i := slices.Index(g.Steps, at.Step) - s.Base
	if i < 0 || at.StepStart.IsZero() {
		return
	}
	due := int(from.Sub(at.StepStart) / max(restartEvery, interval))
	for n, last := s.Restarts+1, min(due, s.Restarts+mostRestarts); n <= last; n++ {
		s.start(g, i, n)
	}
}

// clone returns a copy that shares nothing with e, with n standings.
func (e Evidence) clone(n int) Evidence {
	e.Cursors = maps.Clone(e.Cursors)
	if e.Cursors == nil {
		e.Cursors = map[string]time.Time{}
	}
	standings := make([]GuardrailState, n)
	copy(standings, e.Standings)
	for i := range standings {
		s := &standings[i]
		s.Pending = cloned(s.Pending)
		s.Shape = s.Shape.clone()
		s.Moments = cloned(s.Moments)
		s.Tail = s.Tail.clone()
		s.Apart = s.Apart.clone()
		s.Marks = cloned(s.Marks)
		s.Bounds = cloned(s.Bounds)
	}
	e.Standings = standings
	e.Single = maps.Clone(e.Single)
	e.Spending = cloned(e.Spending)
	return e
}

// cloned is a pointer to a copy; nil stays nil.
func cloned[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
