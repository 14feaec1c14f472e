package analysis

import (
	"cmp"
	"math"
	"slices"
)

// Outcome is the result of judging one guardrail.
type Outcome string

// The outcomes of a guardrail.
const (
	// OutcomePass: within the limit, on evidence; it latches within its step.
	OutcomePass Outcome = "pass"
	// OutcomeBreach: beyond the limit, on evidence.
	OutcomeBreach Outcome = "breach"
	// OutcomeUndecided: not enough evidence yet.
	OutcomeUndecided Outcome = "undecided"
	// OutcomeNoData: the source answered and the candidate was missing.
	OutcomeNoData Outcome = "no-data"
	// OutcomeError: the source did not answer, or only partly.
	OutcomeError Outcome = "error"
	// OutcomeResting: stable has no traffic to compare with, or the guardrail is
	// not judged in this step.
	OutcomeResting Outcome = "resting"
)

// Cause says whose fault a breach looks like.
type Cause string

// The causes of a breach.
const (
	CauseCandidate      Cause = "candidate"
	CauseShared         Cause = "shared"
	CauseSingleInstance Cause = "single-instance"
)

// An Estimate is a figure with its anytime-valid 95% interval, in the
// guardrail's own unit: a share, seconds, or a mean.
type Estimate struct {
	N     float64 `json:"n"`
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// Known is false when there is nothing to estimate from.
	Known bool `json:"known,omitempty"`
}

// A Verdict is the judgement of one guardrail at one moment.
type Verdict struct {
	Guardrail string  `json:"guardrail"`
	Outcome   Outcome `json:"outcome"`
	// Candidate and Stable are measured over the current step.
	Candidate Estimate `json:"candidate"`
	Stable    Estimate `json:"stable"`
	// Unit is "share", "rate", "s", "mean" or "value": how to print the estimates.
	Unit string `json:"unit"`
	// Limit is the policy's text; Effective says what is really judged where the
	// buckets or the method differ from it, else it is empty.
	Limit     string `json:"limit"`
	Effective string `json:"effective,omitempty"`
	// LogE is the natural logarithm of the evidence for a breach, LogEPass of
	// that for a pass; with the thresholds at which they decide.
	LogE          float64 `json:"logE"`
	LogEThreshold float64 `json:"logEThreshold"`
	LogEPass      float64 `json:"logEPass"`
	LogEPassNeeds float64 `json:"logEPassNeeds"`
	// Needed says what is still missing, for people; empty when decided.
	Needed string `json:"needed,omitempty"`
	// Sentence says the verdict and why, for people.
	Sentence string `json:"sentence"`
	// Note: the guardrail is a dry run, and nothing rests on its verdict.
	Note  bool  `json:"note,omitempty"`
	Cause Cause `json:"cause,omitempty"`
	// Instance names the bad instance of a single-instance breach.
	Instance string `json:"instance,omitempty"`
	// Read: this moment brought a usable reading for the guardrail.
	Read bool `json:"read,omitempty"`
}

// leap is by how much one reading raises the logarithm of the evidence when it is
// suspicious whatever was seen before. Evidence that good hours have pushed down stands
// on the share of segments that are still to start; one capped reading lifts it from there
// by about this much, and readings of a release within its limit hardly ever.
const leap = 0.5

// Open reports whether the guardrail is judged and neither broken nor without data.
func (v Verdict) Open() bool { return v.Outcome == OutcomeUndecided || v.Outcome == OutcomePass }

// Suspicious reports whether the reading after the verdict before has raised the evidence
// for a breach to where another look is worth its cost as soon as there is more to see: by
// a leap, or to a quarter of the way to the threshold.
func (v Verdict) Suspicious(before Verdict) bool {
	if !v.Open() || !v.Read || v.LogEThreshold <= 0 || v.LogE <= before.LogE {
		return false
	}
	return v.LogE-before.LogE >= leap || v.LogE >= v.LogEThreshold/4
}

// aheadEvents is how many events must have been counted beyond a reading before they are
// taken for more than chance.
const aheadEvents = 5

// Alarming reports whether what the candidate had after the end of the reading would be a
// gross failure of the panel's i-th guardrail, which is judged by counts: the reading has
// not come so far, and another look is worth its cost as soon as it has.
func (e Evidence) Alarming(p Panel, i int, r *Reading) bool {
	g, s := &p.Guardrails[i], &e.Standings[i]
	m := p.metric(g.Metric)
	if m == nil || g.method(m) != methodCounts || !r.Ahead.Fresh || r.Ahead.N <= 0 {
		return false
	}
	test, pilot := s.test(g, m)
	limit := test.Limit
	if test.Relative {
		rate, ok := pilot.Rate()
		if !ok || g.Limit.AtLeast {
			return false
		}
		limit *= rate
	}
	k := g.events(&r.Ahead)
	return k >= aheadEvents && k/r.Ahead.N >= min(gross*limit, (1+limit)/2)
}

// A Breach is a group of guardrails with equal onBreach whose evidence crossed
// the threshold, or the budget spent.
type Breach struct {
	// Action is what the policy wants, after the rules for shared and
	// single-instance breaches: rollback, hold or page.
	Action Action `json:"action"`
	// Group is the onBreach of the guardrails that share the average; evidence
	// is restarted by group.
	Group Action `json:"group"`
	// Guardrail is to blame: the largest share of the average. It is empty when
	// the budget is spent.
	Guardrail string `json:"guardrail,omitempty"`
	Cause     Cause  `json:"cause"`
	Budget    bool   `json:"budget,omitempty"`
	Sentence  string `json:"sentence"`
}

// Verdicts are the judgement of a whole rollout at one moment.
type Verdicts struct {
	// Each has one verdict per guardrail, in the panel's order.
	Each []Verdict `json:"each"`
	// Breaches are the groups that broke their limit now; at most one per action
	// group and one for the budget, the gravest action first.
	Breaches []Breach `json:"breaches,omitempty"`
	// Over are the groups of which nothing is broken by the release, and whose limits
	// the endpoint has kept for some minutes: a common incident is over.
	Over []Action `json:"over,omitempty"`
	// Watched: everything required that is judged in the step was read, and something
	// was if nothing is required.
	Watched bool `json:"watched"`
	// MayEnd: every required guardrail of the step passes, the budget is seen, and no
	// optional guardrail is no-data or error.
	MayEnd bool `json:"mayEnd"`
	// Sights say, for each thing that is judged in the step, what this moment brought.
	Sights []Sighting `json:"sights,omitempty"`
	// Spent is the number of bad events in excess of stable's rate so far, as many as are
	// beyond chance.
	Spent float64 `json:"spent,omitempty"`
}

// A Sighting is what one moment brought for one thing that is judged in the step: a
// guardrail that does not rest, or the budget.
type Sighting struct {
	// Name is the guardrail's, or BudgetName.
	Name string `json:"name"`
	// Optional: the step may end without it.
	Optional bool `json:"optional,omitempty"`
	// Read: a usable reading came. Idle: the source answered that the endpoint served
	// nothing, so that there was nothing to read.
	Read bool `json:"read,omitempty"`
	Idle bool `json:"idle,omitempty"`
	// Trouble is why the last reading was of no use: OutcomeNoData or OutcomeError; ""
	// when it was, or when there was none.
	Trouble Outcome `json:"trouble,omitempty"`
}

// BudgetName is the budget's among the things that are judged; no guardrail can be
// called so.
const BudgetName = "the budget"

// actions are the groups, the gravest first.
var actions = [...]Action{ActionRollback, ActionHold, ActionPage, ActionNote}

// verdicts says how every guardrail stands after what this moment brought.
func (e *Evidence) verdicts(p *Panel, at StepContext, b *brought) Verdicts {
	v := Verdicts{Each: make([]Verdict, len(p.Guardrails)), Watched: true, MayEnd: true}
	for i := range p.Guardrails {
		v.Each[i] = e.verdict(p, at, i, b.read[i])
	}
	for _, group := range actions {
		e.attribute(p, at, group, &v)
		if e.over(p, at, group) {
			v.Over = append(v.Over, group)
		}
	}
	e.breachBudget(p, &v)
	slices.SortStableFunc(v.Breaches, func(a, b Breach) int {
		return cmp.Compare(slices.Index(actions[:], a.Action), slices.Index(actions[:], b.Action))
	})
	for i := range p.Guardrails {
		g, each, s := &p.Guardrails[i], &v.Each[i], &e.Standings[i]
		each.Sentence = sentence(p, g, s, at, each)
		if each.Note {
			each.Sentence = "Dry run: " + each.Sentence
		}
	}
	v.require(p, e, at, b)
	for i := range v.Breaches {
		if b := &v.Breaches[i]; b.Guardrail != "" {
			at := slices.IndexFunc(v.Each, func(w Verdict) bool { return w.Guardrail == b.Guardrail })
			b.Sentence = v.Each[at].Sentence
		}
	}
	return v
}

// Judged lists the things that are judged in a step at the moment and on which something
// rests, with what is known of them before any reading.
func (p *Panel) Judged(at StepContext) []Sighting {
	var things []Sighting
	for i := range p.Guardrails {
		if g := &p.Guardrails[i]; slices.Contains(g.Steps, at.Step) && !g.rests(at) && g.OnBreach != ActionNote {
			things = append(things, Sighting{Name: g.Name, Optional: g.Evidence == EvidenceOptional})
		}
	}
	if p.Budget != nil && at.StableWeight > 0 {
		things = append(things, Sighting{Name: BudgetName})
	}
	return things
}

// require says what this moment brought for everything that is judged, and folds it
// into what the step needs. The order is that of Judged.
func (v *Verdicts) require(p *Panel, e *Evidence, at StepContext, b *brought) {
	v.Sights = p.Judged(at)
	anyRead := len(v.Sights) == 0
	for i := range v.Sights {
		sight := &v.Sights[i]
		outcome := OutcomePass
		if sight.Name == BudgetName {
			sight.Read, sight.Idle = b.budgetRead, b.budgetIdle
			if e.Spending != nil {
				sight.Trouble = e.Spending.Trouble
			}
		} else {
			n := slices.IndexFunc(v.Each, func(w Verdict) bool { return w.Guardrail == sight.Name })
			sight.Read, sight.Idle, sight.Trouble = b.read[n], b.idle[n], e.Standings[n].Trouble
			if outcome = v.Each[n].Outcome; outcome == OutcomeError {
				sight.Trouble = OutcomeError
			}
		}
		anyRead = anyRead || sight.Read
		if sight.Optional {
			v.MayEnd = v.MayEnd && sight.Trouble == "" && outcome != OutcomeBreach
			continue
		}
		v.Watched = v.Watched && sight.Read
		v.MayEnd = v.MayEnd && sight.Trouble == "" && outcome == OutcomePass
	}
	v.Watched = v.Watched && anyRead
}

// verdict judges one guardrail by itself; attribute adds what it means among the
// others.
func (e *Evidence) verdict(p *Panel, at StepContext, i int, read bool) Verdict {
	g, s := &p.Guardrails[i], &e.Standings[i]
	m := p.metric(g.Metric)
	v := Verdict{
		Guardrail: g.Name, Limit: g.Limit.Text, Read: read, Outcome: OutcomeUndecided, Note: g.OnBreach == ActionNote,
	}
	if m == nil {
		v.Outcome = OutcomeError
		return v
	}
	how := g.method(m)
	v.Unit, v.Candidate, v.Stable = s.estimates(g, m)
	if how != methodThreshold {
		v.LogE, v.LogEThreshold = s.evidence(p, g, at).shown(), math.Log(1/p.share())
		v.LogEPass, v.LogEPassNeeds = s.passes(g)+s.Credit, math.Log(1/p.beta(g, at.Step))
	}
	v.Effective = s.effective(g, m)
	switch {
	case !slices.Contains(g.Steps, at.Step) || g.rests(at):
		v.Outcome = OutcomeResting
	case s.Trouble != "":
		v.Outcome = s.Trouble
	case how == methodThreshold && s.Marks.passed(g), how != methodThreshold && s.Passed && !s.contradicted(g):
		v.Outcome = OutcomePass
	default:
		v.Needed = s.needed(p, g, m, at)
	}
	return v
}

// contradicted reports whether what was read since speaks against a pass that was earned
// earlier in the step: the evidence for it has fallen below where it began, or that for a
// breach is two to one. It only delays a step's end.
func (s *GuardrailState) contradicted(g *Guardrail) bool {
	return s.passes(g) < 0 || s.Breach.LogE() >= math.Ln2
}
