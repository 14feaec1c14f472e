package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/paging"
)

// measured folds readings: evidence first, then breaches, then what is missing,
// then whether the step may end.
func (m *machine) measured() {
	if m.s.Reached < 0 {
		m.ignore("nothing is judged now")
		return
	}
	at := m.moment()
	before, verdicts := m.s.Evidence, m.s.Verdicts
	evidence, vs := analysis.Judge(m.p.Panel, before, at, m.ev.Readings)
	m.s.Evidence, m.s.Verdicts, m.s.MayEnd = evidence, vs.Each, vs.MayEnd
	m.suspect(verdicts)
	m.see(vs)
	early := m.effect().Early
	if m.s.ReadingsRequired > 0 && !early && !m.effect().NotBefore.Before(m.s.ResumedAt) && looked(vs) {
		m.s.ReadingsRequired--
	}
	m.forgetBreaches()
	if !early { // a look out of turn sees a part of what the bake needs
		m.countBake(before, vs)
	}
	for _, b := range vs.Breaches {
		m.blame = b.Guardrail
		m.breach(b)
		m.blame = ""
		if m.s.Phase == PhaseRollingBack {
			return
		}
	}
	m.lookMissing()
	if m.s.Phase == PhaseRollingBack {
		return
	}
	m.sharedOver(vs)
	if !early {
		m.voidGates()
		m.stepEnd()
	}
}

// suspect asks for another look, as soon as the sources know more, at the metrics of
// guardrails whose evidence of a breach these readings have raised to where it is
// suspicious, or will when they have come as far as the candidate's own series. The instant
// is a whole second, so that rollouts share the question, and at
// least one second off.
func (m *machine) suspect(before []analysis.Verdict) {
	m.s.Suspicion = Suspicion{}
	for n, v := range m.s.Verdicts {
		metric := m.p.Panel.MetricOf(v.Guardrail)
		i := slices.IndexFunc(m.ev.Readings, func(r analysis.Reading) bool { return r.Metric == metric })
		old := slices.IndexFunc(before, func(b analysis.Verdict) bool { return b.Guardrail == v.Guardrail })
		if v.Note || i < 0 || old < 0 || !v.Suspicious(before[old]) &&
			(!v.Open() || !m.s.Evidence.Alarming(m.p.Panel, n, &m.ev.Readings[i])) {
			continue
		}
		if m.ev.Readings[i].Next.IsZero() || m.p.Panel.Steadied(metric, m.s.Reached) {
			continue
		}
		next := aligned(later(m.ev.Readings[i].Next.Add(-time.Nanosecond), m.now()), time.Second)
		if s := &m.s.Suspicion; !slices.Contains(s.Metrics, metric) {
			s.Metrics = append(s.Metrics, metric)
		}
		if at := m.s.Suspicion.At; at.IsZero() || next.Before(at) {
			m.s.Suspicion.At = next
		}
	}
}

// sharedOver ends a hold for what stable broke as well, once that is over: the evidence
// of its groups, which was made of the incident, begins anew.
func (m *machine) sharedOver(vs analysis.Verdicts) {
	h := m.s.Hold
	if h == nil || m.s.Phase != PhaseHeld || h.Reason != decision.ReasonShared || m.now().Sub(h.Since) < analysis.CalmFor {
		return
	}
	groups := append([]analysis.Action{h.Group}, h.Also...)
	for _, g := range groups {
		if !slices.Contains(vs.Over, g) {
			return
		}
	}
	for _, g := range groups {
		m.s.Evidence = m.s.Evidence.Restart(m.p.Panel, g, m.moment())
	}
	sentence := fmt.Sprintf("What stable broke as well is over: both deployments have kept the limit of %s for %s. The "+
		"evidence of its group starts again.",
		h.Guardrail, analysis.CalmFor)
	m.s.Hold = nil
	m.decide(decision.Decision{Kind: decision.Resume, Guardrail: h.Guardrail, Reason: decision.ReasonShared,
		Sentence: sentence, Verdicts: m.s.Verdicts})
	m.resumeWork(decision.ReasonShared, sentence)
}

// looked reports whether a reading brought something, or had nothing to bring.
func looked(vs analysis.Verdicts) bool {
	return len(vs.Sights) == 0 ||
		slices.ContainsFunc(vs.Sights, func(s analysis.Sighting) bool { return s.Read || s.Idle })
}

// moment is when and under what circumstances the readings are judged.
func (m *machine) moment() analysis.StepContext {
	stable, candidate := m.s.Confirmed.Share(m.s.Stable), m.s.Confirmed.Share(m.p.Release.Candidate)
	return analysis.StepContext{
		At: m.now(), Step: m.s.Reached, StepStart: m.s.StepSince,
		Until:        m.stepUntil(),
		Settling:     m.now().Sub(m.s.StepSince) < m.p.Settle,
		StableWeight: stable.Weight, CandidateWeight: candidate.Weight, Mirror: candidate.Mirror,
		Serving: m.serving(stable.Weight),
	}
}

// stepUntil is when the step ends at the latest, extended as far as it may be, if every
// interval from now on is watched.
func (m *machine) stepUntil() time.Time {
	b := &m.s.Bake
	left := max(0, b.Needs-b.Watched) + m.p.MaxExtend
	if !b.FullSince.IsZero() {
		left -= b.Counted.Sub(b.FullSince)
	}
	return b.Counted.Add(max(0, left))
}

// serving reports whether the endpoint served requests, as far as the readings
// tell: an endpoint whose stable is read and idle serves nothing. Only a metric that
// counts can say that, and only while stable is to have requests, whoever made the split.
func (m *machine) serving(stableWeight int) bool {
	elsewhere := m.s.Observed != nil && m.s.Observed.Weights[m.s.Stable] == 0
	if stableWeight == 0 || elsewhere {
		return true
	}
	idle := false
	for _, r := range m.ev.Readings {
		if r.Status != analysis.StatusOK || !r.To.After(r.From) || !m.p.Panel.Counts(r.Metric) {
			continue
		}
		if r.Stable.N > 0 || r.Candidate.N > 0 {
			return true
		}
		idle = idle || r.Stable.Fresh
	}
	return !idle
}

// countBake adds watched time: the part that all readings cover, at most one
// interval, and only while the step bakes. What a look out of turn has read since the last
// time is covered too: before is the evidence with its cursors.
func (m *machine) countBake(before analysis.Evidence, vs analysis.Verdicts) {
	counts := m.s.Phase == PhaseBaking || m.s.Phase == PhaseWaiting
	from, to := m.s.Bake.Counted, m.now()
	for _, r := range m.ev.Readings {
		if r.Status != analysis.StatusOK || !m.p.Panel.Acts(r.Metric) {
			continue
		}
		if cursor := before.Cursor(r.Metric); r.From.After(from) && (cursor.IsZero() || r.From.After(cursor)) {
			from = r.From
		}
		if r.To.Before(to) {
			to = r.To
		}
	}
	if !to.After(m.s.Bake.Counted) {
		return
	}
	var watched time.Duration
	if counts && vs.Watched && to.After(from) && len(m.ev.Readings) > 0 && m.s.Reached == m.s.Step {
		watched = min(to.Sub(from), m.p.Interval)
		m.s.Bake.Watched += watched
	}
	if !m.s.Bake.FullSince.IsZero() { // nor is the extension used up while nobody watches
		m.s.Bake.FullSince = m.s.Bake.FullSince.Add(to.Sub(m.s.Bake.Counted) - watched)
	}
	m.s.Bake.Counted = to
}

// breach does what a broken guardrail asks for.
func (m *machine) breach(b analysis.Breach) {
	reason := decision.ReasonBreach
	switch {
	case b.Budget:
		reason = decision.ReasonBudget
	case b.Cause == analysis.CauseShared:
		reason = decision.ReasonShared
	case b.Cause == analysis.CauseSingleInstance:
		reason = decision.ReasonSingleInstance
	}
	rule := m.breachRule(b)
	kind := decision.Breach
	if b.Budget {
		kind = decision.Budget
	}
	d := decision.Decision{Kind: kind, Guardrail: b.Guardrail, Reason: reason, Rule: rule, Sentence: b.Sentence,
		Verdicts: m.s.Verdicts}
	switch b.Action {
	case analysis.ActionRollback:
		m.decide(d)
		m.rollback(reason, b.Sentence, rule, PhaseRolledBack)
	case analysis.ActionHold:
		if h := m.s.Hold; h != nil && (h.Group == b.Group || slices.Contains(h.Also, b.Group)) {
			return
		}
		m.decide(d)
		m.hold(Hold{Reason: reason, Sentence: b.Sentence, Group: b.Group, Guardrail: b.Guardrail}, rule)
	case analysis.ActionPage, analysis.ActionNote:
		if slices.ContainsFunc(m.s.Breached, func(o paging.PagedBreach) bool { return o.Guardrail == b.Guardrail }) {
			return
		}
		m.decide(d)
		m.s.Breached = append(slices.Clone(m.s.Breached),
			paging.PagedBreach{Guardrail: b.Guardrail, Reason: reason, Sentence: mailbox.Clip(b.Sentence),
				Acknowledged: b.Action == analysis.ActionNote}) // of a dry run nobody has to be told
	}
}

// breachRule is the rule that a breach applied, as the policy writes it.
func (m *machine) breachRule(b analysis.Breach) string {
	if b.Budget && m.p.Panel.Budget != nil {
		return fmt.Sprintf("budget: {metric: %s, atMost: %g}", m.p.Panel.Budget.Metric, m.p.Panel.Budget.AtMost)
	}
	for _, g := range m.p.Panel.Guardrails {
		if g.Name == b.Guardrail {
			rule := fmt.Sprintf("%s: %s, onBreach: %s", g.Name, g.Limit.Text, g.OnBreach)
			if b.Cause == analysis.CauseShared {
				rule += fmt.Sprintf(", onSharedBreach: %s", m.p.Panel.OnSharedBreach)
			}
			return rule
		}
	}
	return fmt.Sprintf("onBreach: %s", b.Group)
}

// stepEnd asks whether the current step may end, and what then.
func (m *machine) stepEnd() {
	if m.s.Phase != PhaseBaking && m.s.Phase != PhaseWaiting || m.s.Shift != nil || m.s.Reached != m.s.Step {
		return
	}
	b := &m.s.Bake
	if m.s.ReadingsRequired > 0 {
		return
	}
	switch {
	case m.s.Overridden, m.s.Waived && m.readable() && !m.found(analysis.OutcomeBreach):
		m.advance()
		return
	case m.s.Waived && !m.readable():
		return // the rules for what is missing apply; it goes on when everything is seen
	}
	if b.Watched < b.Needs {
		return
	}
	if b.FullSince.IsZero() {
		b.FullSince = b.Counted
	}
	if m.s.MayEnd && !m.unsighted() || m.p.unguarded() {
		b.FullSince, b.Extended = time.Time{}, false
		m.advance()
		return
	}
	if m.s.Phase == PhaseWaiting {
		// The evidence that let the step end is gone: it bakes on.
		m.enter(PhaseBaking, decision.ReasonEvidenceChanged,
			fmt.Sprintf("Step %s waits for evidence again: %s", m.stepName(), m.lacking()))
	}
	if !b.Extended {
		b.Extended = true
		m.decide(decision.Decision{Kind: decision.Extend, Reason: decision.ReasonUndecided,
			Rule: fmt.Sprintf("maxExtend: %s", m.p.MaxExtend),
			Sentence: fmt.Sprintf("The bake of %s is over and the evidence is not enough: %s", b.Needs,
				m.lacking()), Verdicts: m.s.Verdicts})
		m.s.Sentence = fmt.Sprintf("Step %s is extended by up to %s: %s", m.stepName(), m.p.MaxExtend, m.lacking())
	}
	if b.Counted.Sub(b.FullSince) >= m.p.MaxExtend {
		m.undecided()
	}
}

// forgetBreaches forgets a breach that a person has seen once its guardrail is within
// its limit again: the next one is told anew.
func (m *machine) forgetBreaches() {
	m.s.Breached = slices.DeleteFunc(slices.Clone(m.s.Breached), func(b paging.PagedBreach) bool {
		return b.Acknowledged && slices.ContainsFunc(m.s.Verdicts, func(v analysis.Verdict) bool {
			return v.Guardrail == b.Guardrail && v.Outcome == analysis.OutcomePass
		})
	})
	if len(m.s.Breached) == 0 {
		m.s.Breached = nil
	}
}

// undecided applies onUndecided: the extension is used up.
func (m *machine) undecided() {
	rule := fmt.Sprintf("onUndecided: %s", m.p.OnUndecided)
	sentence := fmt.Sprintf("The evidence is still not enough after %s more: %s", m.p.MaxExtend, m.lacking())
	switch m.p.OnUndecided {
	case UndecidedRollback:
		m.rollback(decision.ReasonUndecided, sentence, rule, PhaseRolledBack)
		return
	case UndecidedPromote:
		if !m.readable() || m.found(analysis.OutcomeBreach) {
			m.hold(Hold{Reason: decision.ReasonNoData, Sentence: sentence}, rule+" (never without data)")
			return
		}
		m.s.Waived = true
		m.decide(decision.Decision{Kind: decision.Extend, Reason: decision.ReasonUndecided, Rule: rule, Sentence: sentence,
			Verdicts: m.s.Verdicts})
		m.advance()
		return
	case UndecidedHold:
	}
	m.hold(Hold{Reason: decision.ReasonUndecided, Sentence: sentence}, rule)
}

// readable reports whether everything that the step needs is read: nothing less is
// promoted by a rule.
func (m *machine) readable() bool {
	return !m.unsighted() && !m.found(analysis.OutcomeNoData, analysis.OutcomeError)
}

// found reports whether a verdict on which something rests is one of these.
func (m *machine) found(outcomes ...analysis.Outcome) bool {
	return slices.ContainsFunc(m.s.Verdicts, func(v analysis.Verdict) bool {
		return !v.Note && slices.Contains(outcomes, v.Outcome)
	})
}

// lacking says which guardrails do not pass, and what they need.
func (m *machine) lacking() string {
	text := ""
	for _, v := range m.s.Verdicts {
		if v.Note || v.Outcome == analysis.OutcomePass || v.Outcome == analysis.OutcomeResting {
			continue
		}
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("%s is %s", v.Guardrail, v.Outcome)
		if v.Needed != "" {
			text += ", needs " + v.Needed
		}
	}
	if text == "" {
		return "no guardrail was read."
	}
	return text + "."
}
