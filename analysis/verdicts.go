package analysis

import (
	"cmp"
	"math"
	"slices"
)

// actions are the groups, the gravest first.
var actions = [...]Action{ActionRollback, ActionHold, ActionPage}

// verdicts says how every guardrail stands after what this moment brought.
func (e *Evidence) verdicts(p *Panel, at Moment, b *brought) Verdicts {
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

// Judged lists the things that are judged in a step at the moment, with what is
// known of them before any reading.
func (p *Panel) Judged(at Moment) []Sight {
	var things []Sight
	for i := range p.Guardrails {
		if g := &p.Guardrails[i]; slices.Contains(g.Steps, at.Step) && !g.rests(at) {
			things = append(things, Sight{Name: g.Name, Optional: g.Evidence == EvidenceOptional})
		}
	}
	if p.Budget != nil && at.StableWeight > 0 {
		things = append(things, Sight{Name: BudgetName})
	}
	return things
}

// require says what this moment brought for everything that is judged, and folds it
// into what the step needs. The order is that of Judged.
func (v *Verdicts) require(p *Panel, e *Evidence, at Moment, b *brought) {
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
func (e *Evidence) verdict(p *Panel, at Moment, i int, read bool) Verdict {
	g, s := &p.Guardrails[i], &e.Standings[i]
	m := p.metric(g.Metric)
	v := Verdict{Guardrail: g.Name, Limit: g.Limit.Text, Read: read, Outcome: OutcomeUndecided}
	if m == nil {
		v.Outcome = OutcomeError
		return v
	}
	how := g.method(m)
	v.Unit, v.Candidate, v.Stable = s.estimates(g, m)
	if how != methodThreshold {
		v.LogE, v.LogEThreshold = s.evidence(p, g, at).shown(), math.Log(1/p.share())
		v.LogEPass, v.LogEPassNeeds = s.passes(g), math.Log(1/p.beta(g, at.Step))
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
func (s *Standing) contradicted(g *Guardrail) bool {
	return s.passes(g) < 0 || s.Breach.LogE() >= math.Ln2
}
