package analysis

import (
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis/sequential"
)

// Whose fault a broken limit is, is decided here and nowhere else. While stable has
// traffic, an absolute limit can be broken by something that hits both deployments; and
// any limit by one bad instance. So a rollback takes, of the same guardrail,
//
//   - the evidence that the limit is broken (Breach),
//   - where the limit is absolute, as much that the candidate does worse than stable
//     at the same time (Worse),
//   - and with three instances or more, a quarter of it without each of them, and some
//     without any two (Apart).
//
// The least of several pieces of evidence is evidence for all of them at once, so that
// the bound on false rollbacks is kept for every release that is as good as stable,
// whatever hits both. What is broken without being the release's own doing is held for
// people: where stable breaks the limit too on evidence as strong, and where one
// instance alone carries it for longer than a bad minute or two.

// A claim is the evidence of one guardrail, as natural logarithms.
type claim struct {
	// broken is that the limit is broken at all, own that it is by the release, apart
	// the same wherever it may come from within the candidate, and common that stable
	// breaks it as well.
	broken, own, apart, common float64
	// instance is the one that carries apart where own is less.
	instance string
}

// shown is the evidence that people see while nothing is decided.
func (x claim) shown() float64 {
	if math.IsInf(x.apart, -1) {
		return x.broken
	}
	return x.apart
}

// nothing is the evidence of what has no part in anything.
var nothing = claim{broken: math.Inf(-1), own: math.Inf(-1), apart: math.Inf(-1), common: math.Inf(-1)}

// evidence is what the standing says about the guardrail's limit.
func (s *GuardrailState) evidence(p *Panel, g *Guardrail, at StepContext) claim {
	m := p.metric(g.Metric)
	if m == nil {
		return nothing
	}
	if g.method(m) == methodThreshold {
		return s.Marks.evidence(p, g, at)
	}
	x := claim{broken: s.Breach.LogE()}
	x.own, x.common = x.broken, math.Min(x.broken, s.Shared.LogE())
	if g.Limit.Relative {
		x.common = math.Inf(-1)
	}
	if g.Limit.Floor > 0 {
		x.broken = math.Min(x.broken, s.Worse.LogE())
		x.own = x.broken
	}
	switch {
	case at.StableWeight <= 0 && s.Passed && !s.Lately.gross(s.limit(g, m)):
		// What passed under all of the traffic and breaks only then has nothing to be
		// compared with.
		x.own, x.common = math.Inf(-1), x.broken
	case !g.Limit.Relative && at.StableWeight > 0 && !s.Alone:
		x.own = math.Min(x.broken, s.Worse.LogE())
	}
	x.apart = x.own
	if worst, spread, ok := s.Apart.spread(s.Breach); ok {
		if x.own = math.Min(x.own, spread); x.own < x.apart {
			x.instance = worst
		}
	}
	return x
}

// limit is the rate that the guardrail's counted events must keep; for a mean, which
// has no rate, it is one that none is gross beside.
func (s *GuardrailState) limit(g *Guardrail, m *Metric) float64 {
	if g.method(m) == methodMean {
		return math.Inf(1)
	}
	test, _ := s.test(g, m)
	return test.Limit
}

// evidence of a threshold is all or nothing: what fires is as good as its threshold.
func (k *Marks) evidence(p *Panel, g *Guardrail, at StepContext) claim {
	x := nothing
	if k == nil || !slices.Contains(g.Steps, at.Step) || g.rests(at) {
		return x
	}
	fires := math.Log(1 / p.share())
	if k.count(g, k.Candidate) {
		x.broken, x.common = fires, fires
	}
	if k.count(g, k.Candidate&^k.Stable) {
		x.own, x.apart = fires, fires
	}
	return x
}

// singleFor is for how long one instance alone has to carry a breach before people are
// told: bad minutes pass.
const singleFor = 10 * time.Minute

// attribute decides whether the guardrails of one onBreach broke their limits together,
// and whose fault it is. Their average reaches 1/α when their sum reaches 1/share.
func (e *Evidence) attribute(p *Panel, at StepContext, group Action, v *Verdicts) {
	all := make([]claim, len(p.Guardrails))
	broken, own, apart, common := math.Inf(-1), math.Inf(-1), math.Inf(-1), math.Inf(-1)
	for i := range p.Guardrails {
		all[i] = nothing
		if g := &p.Guardrails[i]; g.OnBreach == group {
			all[i] = e.Standings[i].evidence(p, g, at)
			broken = sequential.LogSum(broken, all[i].broken)
			own = sequential.LogSum(own, all[i].own)
			apart = sequential.LogSum(apart, all[i].apart)
			common = sequential.LogSum(common, all[i].common)
		}
	}
	need := math.Log(1 / p.share())
	alone := apart >= need && own < need
	lasting := e.lasts(group, at, alone)
	switch {
	case own >= need:
		v.breach(p, group, CauseCandidate, all, func(x claim) float64 { return x.own })
	case lasting:
		v.breach(p, group, CauseSingleInstance, all, func(x claim) float64 { return x.apart })
	case common >= need:
		v.breach(p, group, CauseShared, all, func(x claim) float64 { return x.common })
		for i := range v.Each {
			e.Standings[i].Common = e.Standings[i].Common || v.Each[i].Cause == CauseShared && p.Guardrails[i].OnBreach == group
		}
	case broken >= need:
		v.doubt(p, group, all, need)
	}
}

// lasts reports whether one instance alone has carried the group's breach for so long
// that it is no bad minute, and keeps since when.
func (e *Evidence) lasts(group Action, at StepContext, alone bool) bool {
	since, known := e.Single[group]
	switch {
	case !alone:
		delete(e.Single, group)
	case !known:
		if e.Single == nil {
			e.Single = map[Action]time.Time{}
		}
		e.Single[group] = at.At
	default:
		return at.At.Sub(since) >= singleFor
	}
	return false
}

// breach says that the group is broken, for the reason of which each guardrail has its
// part; whoever has the largest is to blame.
func (v *Verdicts) breach(p *Panel, group Action, cause Cause, all []claim, part func(claim) float64) {
	need, blame := math.Log(1/p.share()), -1
	for i := range all {
		if part(all[i]) >= need && p.Guardrails[i].OnBreach == group && v.Each[i].Outcome != OutcomeResting {
			v.Each[i].blame(cause, all[i])
		}
		if blame < 0 || part(all[i]) > part(all[blame]) {
			blame = i
		}
	}
	each := &v.Each[blame]
	if each.Outcome == OutcomeResting {
		each.Cause = cause
	} else {
		each.blame(cause, all[blame])
	}
	b := Breach{Action: group, Group: group, Guardrail: each.Guardrail, Cause: cause}
	if group == ActionRollback && cause != CauseCandidate && p.OnSharedBreach != ActionRollback {
		b.Action = ActionHold
	}
	v.Breaches = append(v.Breaches, b)
}

// blame makes the verdict a breach for the cause.
func (w *Verdict) blame(cause Cause, x claim) {
	w.Outcome, w.Needed, w.Cause = OutcomeBreach, "", cause
	if w.LogE = math.Max(x.broken, x.own); math.IsInf(w.LogE, 0) || w.LogEThreshold == 0 {
		w.LogE = 0
	}
	if cause == CauseSingleInstance {
		w.Instance = x.instance
	}
}

// doubt says of limits that are broken, but not yet by whom, what is missing.
func (v *Verdicts) doubt(p *Panel, group Action, all []claim, need float64) {
	for i := range all {
		w := &v.Each[i]
		if p.Guardrails[i].OnBreach != group || all[i].broken < need ||
			w.Outcome != OutcomeUndecided && w.Outcome != OutcomePass {
			continue
		}
		w.Outcome, w.Needed = OutcomeUndecided, "more requests of both deployments, to tell whether the release is the cause"
		if all[i].instance != "" {
			w.Needed = "a few minutes more, to tell whether it is the release or instance " + all[i].instance + " alone"
		}
	}
}

// over reports whether nothing of the group's is broken any more by the release, and the
// endpoint has kept its limits for long enough again.
func (e *Evidence) over(p *Panel, at StepContext, group Action) bool {
	own := math.Inf(-1)
	for i := range p.Guardrails {
		g, s := &p.Guardrails[i], &e.Standings[i]
		if g.OnBreach != group {
			continue
		}
		x := s.evidence(p, g, at)
		if own = sequential.LogSum(own, x.apart); s.Common && !s.Lately.over() {
			return false
		}
	}
	return own < math.Log(1/p.share())
}
