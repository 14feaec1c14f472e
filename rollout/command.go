package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/shift"
)

// by is whose command is folded, with their reason; "" when it names no person, and is
// ignored. The shell has checked that the person may give it.
func (m *machine) by() string {
	if m.ev.By == nil || m.ev.By.ID == "" {
		m.ignore("the command names no person")
		return ""
	}
	return m.ev.By.String() + because(m.ev.Reason)
}

// pause stops the ladder where it is; guardrails are judged on.
func (m *machine) pause() {
	by := m.by()
	if by == "" {
		return
	}
	if m.s.Phase == PhaseHeld && !m.s.Hold.Self { // others go on by a person's word alone
		m.ignore(fmt.Sprintf("a rollout that is %s cannot be paused", m.s.Phase))
		return
	}
	sentence := fmt.Sprintf("Paused by %s.", by)
	m.stopShift()
	m.s.Hold = &Hold{Reason: decision.ReasonCommand, Sentence: sentence, Since: m.now(), Paused: true}
	m.decide(decision.Decision{Kind: decision.Hold, Reason: decision.ReasonCommand, Sentence: sentence})
	m.enter(PhasePaused, decision.ReasonCommand, sentence)
}

// resume leaves paused, held and suspect. After a breach that held it restarts
// the evidence of what broke: an override.
func (m *machine) resume() {
	by := m.by()
	if by == "" {
		return
	}
	if h := m.s.Hold; h != nil && !m.ev.Hold.IsZero() && !m.ev.Hold.Equal(h.Since) {
		m.ignore(fmt.Sprintf("it is %s for another reason since: %s Resume it again to go on after that", m.s.Phase,
			h.Sentence))
		return
	}
	sentence := fmt.Sprintf("Resumed by %s.", by)
	m.unhold(by)
	m.sawBreaches()
	m.decide(decision.Decision{Kind: decision.Resume, Reason: decision.ReasonCommand, Sentence: sentence})
	m.resumeWork(decision.ReasonCommand, sentence)
}

// unhold ends a hold by a person's word, with what follows from its reason.
func (m *machine) unhold(by string) {
	h := m.s.Hold
	m.s.Hold = nil
	if h == nil {
		return
	}
	if h.Group != "" {
		m.s.Evidence = m.s.Evidence.Override(m.p.Panel, h.Group, h.Guardrail, m.moment())
		m.decide(decision.Decision{Kind: decision.Resume, Reason: decision.ReasonOverride, Guardrail: h.Guardrail,
			Verdicts: m.s.Verdicts,
			Sentence: fmt.Sprintf("The breach of %s is overridden by %s; its evidence starts again. %s", h.Guardrail, by,
				m.spent())})
	}
	for _, g := range h.Also {
		m.s.Evidence = m.s.Evidence.Override(m.p.Panel, g, "", m.moment())
		m.decide(decision.Decision{Kind: decision.Resume, Reason: decision.ReasonOverride, Verdicts: m.s.Verdicts,
			Sentence: fmt.Sprintf("The breach of group %s is overridden by %s; its evidence starts again. %s", g, by,
				m.spent())})
	}
	if h.Reason == decision.ReasonUndecided {
		m.s.Bake.FullSince, m.s.Bake.Extended = time.Time{}, false
	}
	if !h.Paused { // A pause says nothing about readings: what is missing goes on to be missing.
		m.s.Excused = m.now()
	}
	for _, name := range sortedKeys(m.s.Gates) {
		if q := m.s.Gates[name]; q.State == approval.Expired {
			delete(m.s.Gates, name)
		}
	}
}

// spent says how much of the plan's α was spent, where a person made it more.
func (m *machine) spent() string {
	return fmt.Sprintf("So far %.2g%% of falseRollback (%.2g%%) was spent.", 100*m.s.Evidence.Spent(m.p.Panel),
		100*m.p.Panel.Alpha)
}

// orderRollback rolls back by a person's word.
func (m *machine) orderRollback() {
	if by := m.by(); by != "" {
		m.rollback(decision.ReasonCommand, fmt.Sprintf("Rollback ordered by %s.", by), "a person's rollback", PhaseStopped)
	}
}

// repeatRollback overwrites even a split that leaves the candidate nothing: a person
// repeats the order.
func (m *machine) repeatRollback() {
	by := m.by()
	if by == "" {
		return
	}
	sh := m.s.Shift
	if sh == nil || sh.Stage != shift.Withheld {
		m.ignore("the rollback is under way")
		return
	}
	sh.Ordered, sh.Stage = true, shift.Writing
	sh.Attempt++
	sh.NotBefore = m.now()
	if m.s.Observed != nil {
		sh.From = *m.s.Observed
	}
	m.s.Sentence = fmt.Sprintf("Rollback ordered by %s. The present split is overwritten.", by)
	m.decide(decision.Decision{Kind: decision.Rollback, Reason: decision.ReasonCommand, Sentence: m.s.Sentence})
}

// override ends this step's wait: its bake, its want of evidence, its hold. It
// opens no gate and no window.
func (m *machine) override() { m.endWait("") }

// skip ends the present step's wait and leaves out the steps before another one. It
// opens nothing: the approvals of what is left out are needed all the same.
func (m *machine) skip() {
	to := slices.IndexFunc(m.p.Steps, func(st Step) bool { return st.Name == m.ev.To })
	if to <= m.s.Step {
		var later []string
		for _, st := range m.p.Steps[m.s.Step+1:] {
			later = append(later, st.Name)
		}
		m.ignore(fmt.Sprintf("%q is no later step; there are: %s", m.ev.To, strings.Join(later, ", ")))
		return
	}
	var left []string
	for _, st := range m.p.Steps[m.s.Step+1 : to] {
		left = append(left, st.Name)
	}
	said := fmt.Sprintf(" The next step is %s.", m.ev.To)
	if len(left) > 0 {
		said = fmt.Sprintf(" The next step is %s; left out: %s.", m.ev.To, strings.Join(left, ", "))
	}
	before := m.s.SkipTo
	m.s.SkipTo = to
	if !m.endWait(said) {
		m.s.SkipTo = before
	}
}

// endWait ends the present step's wait by a person's word, and reports whether it did.
// said is what the record says besides.
func (m *machine) endWait(said string) bool {
	by := m.by()
	if by == "" {
		return false
	}
	if m.ev.Reason == "" {
		m.ignore(string(m.ev.Command) + " needs a reason")
		return false
	}
	if m.s.Reached != m.s.Step || m.s.Shift != nil {
		m.ignore("the step's weight is not confirmed; resume or roll back first")
		return false
	}
	if m.s.Observed != nil && m.s.Confirmed != nil && !m.s.Observed.Equal(*m.s.Confirmed) {
		m.ignore("the endpoint does not show the step's split; resume or roll back first")
		return false
	}
	atGate := m.s.Phase == PhaseWaiting
	m.unhold(by)
	m.s.Overridden, m.s.Excused = true, m.now()
	m.sawBreaches()
	sentence := fmt.Sprintf("The wait of step %s is ended by %s.%s", m.stepName(), by, said)
	if atGate {
		sentence += " That opens no approval and no window: what the next step waits for stays."
	}
	if m.s.ReadingsRequired > 0 {
		sentence += " Nobody watched for a while: the rollout goes on when its guardrails were read again."
	}
	m.decide(decision.Decision{Kind: decision.Resume, Reason: decision.ReasonOverride, Sentence: sentence,
		Verdicts: m.s.Verdicts})
	m.enter(PhaseBaking, decision.ReasonOverride, sentence)
	m.stepEnd()
	return true
}

// extend lengthens the current step's bake; one that is over goes on from now. It
// ends no hold.
func (m *machine) extend() {
	by := m.by()
	if by == "" {
		return
	}
	if m.s.Reached < 0 || m.s.Reached != m.s.Step {
		m.ignore("no step bakes now")
		return
	}
	d := m.ev.Extend
	if d <= 0 {
		d = m.p.Steps[m.s.Step].Bake
	}
	d = min(d, 30*24*time.Hour)
	m.s.Bake.Needs = max(m.s.Bake.Needs, m.s.Bake.Watched) + d
	m.s.Bake.FullSince, m.s.Bake.Extended = time.Time{}, false
	m.waitAgain()
	sentence := fmt.Sprintf("The bake of step %s is %s longer, by %s.", m.stepName(), d, by)
	switch {
	case m.s.Phase == PhaseHeld && m.s.Hold != nil && m.s.Hold.Self:
		sentence += fmt.Sprintf(" The rollout stays held and waits for %s.", m.s.Hold.WaitsFor())
	case m.s.Phase == PhaseHeld, m.s.Phase == PhasePaused, m.s.Phase == PhaseSuspect:
		sentence += fmt.Sprintf(" The rollout stays %s until somebody resumes it.", m.s.Phase)
	}
	m.decide(decision.Decision{Kind: decision.Extend, Reason: decision.ReasonCommand, Sentence: sentence})
	if m.s.Phase == PhaseWaiting {
		m.enter(PhaseBaking, decision.ReasonCommand, "The bake was extended.")
	}
}

// superseded gives way to a newer release.
func (m *machine) superseded() {
	m.rollback(decision.ReasonSuperseded, fmt.Sprintf("Superseded by %s.", cmp.Or(m.ev.SupersededBy, m.ev.BlockedBy)),
		"concurrency: supersede", PhaseStopped)
}

// suspected stops everything: the store lost records.
func (m *machine) suspected() {
	sentence := "The store and the endpoint disagree: " + m.ev.Reason
	m.stopShift()
	if m.ev.Split != nil {
		seen := m.ev.Split.Clone()
		m.s.Observed = &seen
		if m.s.Confirmed == nil || !seen.Equal(*m.s.Confirmed) {
			m.s.Foreign = &seen
		}
	}
	m.s.Hold = &Hold{Reason: decision.ReasonStoreLost, Sentence: sentence, Since: m.now()}
	m.decide(decision.Decision{Kind: decision.Hold, Reason: decision.ReasonStoreLost, Sentence: sentence})
	m.enter(PhaseSuspect, decision.ReasonStoreLost, sentence)
}
