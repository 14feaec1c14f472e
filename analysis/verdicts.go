package analysis

import (
	"cmp"
	"math"
	"slices"

	"github.com/belayd/belay/analysis/sequential"
)

// actions are the groups, the gravest first.
var actions = [...]Action{ActionRollback, ActionHold, ActionPage}

// verdicts says how every guardrail stands after what this moment brought.
func (e *Evidence) verdicts(p *Panel, at Moment, b *brought) Verdicts {
	v := Verdicts{Each: make([]Verdict, len(p.Guardrails)), Spent: e.spent(), Watched: true, MayEnd: true}
	for i := range p.Guardrails {
		v.Each[i] = e.verdict(p, at, i, b.read[i])
	}
	for _, group := range actions {
		e.group(p, at, group, &v)
	}
	if b := p.Budget; b != nil && v.Spent > b.AtMost {
		v.Breaches = append(v.Breaches, Breach{
			Action: ActionRollback, Group: ActionRollback, Cause: CauseCandidate, Budget: true,
			Sentence: budgetSentence(b, v.Spent),
		})
	}
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

// verdict judges one guardrail by itself; group adds what it means among the
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
		v.LogE, v.LogEThreshold = s.Breach.LogE(), math.Log(1/p.share())
		v.LogEPass, v.LogEPassNeeds = s.Pass.LogE(), math.Log(1/p.beta())
	}
	v.Effective = s.effective(g, m)
	switch {
	case !slices.Contains(g.Steps, at.Step) || g.rests(at):
		v.Outcome = OutcomeResting
	case s.Trouble != "":
		v.Outcome = s.Trouble
	case how == methodThreshold && s.Marks.passed(g), how != methodThreshold && s.Passed && !s.contradicted(g, m):
		v.Outcome = OutcomePass
	default:
		v.Needed = s.needed(p, g, m)
	}
	return v
}

// group decides whether the guardrails of one onBreach broke their limits
// together, and who is to blame.
func (e *Evidence) group(p *Panel, at Moment, group Action, v *Verdicts) {
	var members []int
	sum, n := math.Inf(-1), 0
	for i := range p.Guardrails {
		g := &p.Guardrails[i]
		if g.OnBreach != group {
			continue
		}
		if p.sequential(g) {
			n++
			sum = sequential.LogSum(sum, e.Standings[i].Breach.LogE())
		}
		members = append(members, i)
	}
	// The average over the group reaches 1/α_group when the sum reaches 1/share.
	crossed := n > 0 && sum >= math.Log(1/p.share())
	var b Breach
	blame, weight := -1, math.Inf(-1)
	for _, i := range members {
		g, s, each := &p.Guardrails[i], &e.Standings[i], &v.Each[i]
		judged := slices.Contains(g.Steps, at.Step) && !g.rests(at)
		broke, loss := false, each.LogE
		if p.sequential(g) {
			broke = each.LogE >= each.LogEThreshold
		} else if broke, _ = s.Marks.breached(g); broke && judged {
			loss = math.Log(1 / p.share())
		} else {
			broke, loss = false, math.Inf(-1)
		}
		if broke {
			each.Cause, each.Instance = s.cause(p, g)
		}
		if broke && judged {
			each.Outcome, each.Needed = OutcomeBreach, ""
		}
		// Whoever broke the limit alone goes before whoever only weighs most, and a
		// fault of the candidate's own before one that stable shares.
		if broke {
			loss += 1e9
			if each.Cause == CauseCandidate {
				loss += 1e9
			}
		}
		if loss > weight {
			blame, weight = i, loss
		}
	}
	if blame < 0 || !crossed && weight < 1e8 {
		return
	}
	each := &v.Each[blame]
	if each.Cause == "" {
		each.Cause, each.Instance = e.Standings[blame].cause(p, &p.Guardrails[blame])
	}
	if each.Outcome != OutcomeResting {
		each.Outcome, each.Needed = OutcomeBreach, ""
	}
	b = Breach{Action: group, Group: group, Guardrail: each.Guardrail, Cause: each.Cause}
	if group == ActionRollback && each.Cause != CauseCandidate && p.OnSharedBreach != ActionRollback {
		b.Action = ActionHold
	}
	v.Breaches = append(v.Breaches, b)
}

// cause says whose fault a breach looks like, and which instance's.
func (s *Standing) cause(p *Panel, g *Guardrail) (Cause, string) {
	m := p.metric(g.Metric)
	if g.method(m) == methodThreshold {
		if _, stable := s.Marks.breached(g); stable {
			return CauseShared, ""
		}
		return CauseCandidate, ""
	}
	threshold := math.Log(1 / (p.share() * float64(p.sequentialIn(g.OnBreach))))
	if !g.Limit.Relative && s.stableBeyond(g, m, threshold) {
		return CauseShared, ""
	}
	if g.method(m) != methodMean {
		if name := s.single(g, m, threshold); name != "" {
			return CauseSingleInstance, name
		}
	}
	return CauseCandidate, ""
}

// stableBeyond reports whether stable itself breaks the absolute limit at the
// same time: its figure of this step, or of its last minute or two, is beyond
// it, and that is no chance, by a test of this one look or by evidence as strong
// as the candidate's. An incident of an earlier step excuses nothing.
func (s *Standing) stableBeyond(g *Guardrail, m *Metric, threshold float64) bool {
	phi := s.Dispersion.Phi()
	if g.method(m) == methodMean {
		if s.Moments == nil {
			return false
		}
		b := s.Moments.StepStable.estimate(phi)
		if !b.Known || !g.violates(b.Value, g.Limit.Value) {
			return false
		}
		off := b.Value - g.Limit.Value
		return s.Shared.LogE() >= threshold || off*off*b.N >= 2*oneLook*phi*s.Moments.StepStable.variance()
	}
	test, _ := s.test(g, m)
	for _, t := range []sequential.Tally{s.Step, s.Earlier.Add(s.Recent)} {
		if t.NB <= 0 || t.KB <= test.Limit*t.NB {
			continue
		}
		likelihood := t.NB * sequential.Divergence(t.KB/t.NB, test.Limit) / phi
		if s.Shared.LogE() >= threshold || likelihood >= oneLook {
			return true
		}
	}
	return false
}

// oneLook is the logarithm of the likelihood ratio that a single look, which
// the moment of a breach is, needs to be 95% sure: half of 1.645 squared.
const oneLook = 1.353
