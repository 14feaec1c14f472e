package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/shift"
)

// advance goes on to the next step if its gates are open, or waits for them.
func (m *machine) advance() {
	next := max(m.s.Step+1, m.s.SkipTo)
	if next >= len(m.p.Steps) {
		m.promote()
		return
	}
	why, waitsFor := m.closed(next)
	switch {
	case why == "" && m.outdated():
		m.checkAgain()
		return
	case why == "":
		if m.s.Reached < 0 || !m.barred(m.p.Steps[next].Name) {
			m.enterStep(next)
		}
		return
	}
	sentence := fmt.Sprintf("Step %s waits for %s.", m.p.Steps[next].Name, waitsFor)
	if m.s.Phase != PhaseHeld {
		m.enter(PhaseWaiting, why, sentence)
	}
}

// closed says which kind of gate of step i is closed, in words for people;
// "" when all are open. Approvals that were not asked yet are asked; those of steps
// that are skipped are needed all the same.
func (m *machine) closed(i int) (decision.Reason, string) {
	waits := ""
	for _, name := range m.p.requires(m.s.Step+1, i) {
		q, asked := m.s.Gates[name]
		if !asked || q.State == approval.Void {
			q = m.ask(i, name)
		}
		if q.State != approval.Approved && waits == "" {
			waits = fmt.Sprintf("approval %s (%d of %d, until %s)", name, m.yeses(q), q.Quorum,
				q.Expires.UTC().Format(time.RFC3339))
		}
	}
	if waits != "" {
		return decision.ReasonApproval, waits
	}
	if open, at := m.p.Windows.OpenAt(m.now()); !open {
		when := "which never opens again"
		if !at.IsZero() {
			when = "which opens at " + at.UTC().Format(time.RFC3339)
		}
		return decision.ReasonWindow, "the change window, " + when
	}
	return "", ""
}

// enterStep starts step i: its gates are open.
func (m *machine) enterStep(i int) {
	st := m.p.Steps[i]
	rule := m.stepRule(m.p.requires(m.s.Step+1, i)) + "; " + m.wayBack()
	m.s.Step = i
	m.s.Allowed = max(m.s.Allowed, st.Weight)
	m.s.Hold = nil
	m.waitAgain()
	m.closeGates(fmt.Sprintf("step %s begins without it.", st.Name))
	to := m.p.target(i, m.s.Stable)
	reason := decision.ReasonPassed
	sentence := fmt.Sprintf("Step %s: the split becomes %s.", st.Name, to)
	m.decide(decision.Decision{Kind: decision.Step, Reason: reason, Rule: rule, Sentence: sentence, Split: &to,
		Verdicts: m.s.Verdicts})
	m.shift(shift.Forward, to)
	m.enter(PhaseShifting, reason, sentence)
}

// requires are the approvals that steps from..to require, each once.
func (p *Plan) requires(from, to int) []string {
	var names []string
	for _, st := range p.Steps[from : to+1] {
		for _, name := range st.Requires {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// waitAgain forgets who ended the present step's wait, and where to.
func (m *machine) waitAgain() { m.s.Overridden, m.s.Waived, m.s.SkipTo = false, false, 0 }

// stepRule is what let the step start that requires these approvals, as the policy
// writes it.
func (m *machine) stepRule(requires []string) string {
	rule := "the checks of preflight"
	if m.s.Reached >= 0 {
		rule = fmt.Sprintf("bake: %s and every required guardrail passes", m.p.Steps[m.s.Reached].Bake)
	}
	switch {
	case m.s.Overridden:
		rule = "a person's promote"
	case m.s.Waived:
		rule = fmt.Sprintf("onUndecided: %s", m.p.OnUndecided)
	}
	if len(requires) > 0 {
		rule += fmt.Sprintf(", requires: %v", requires)
	}
	if m.p.Windows != nil {
		rule += ", within windows"
	}
	return rule
}

// promote ends the rollout well.
func (m *machine) promote() {
	sentence := fmt.Sprintf("%s (version %s) is promoted: %s.", m.p.Release.Candidate, m.p.Release.Version, m.s.Confirmed)
	m.s.Hold = nil
	m.closeGates("the rollout has ended.")
	m.enter(PhasePromoted, decision.ReasonPassed, sentence)
	m.decide(decision.Decision{Kind: decision.Promote, Reason: decision.ReasonPassed, Rule: m.stepRule(nil),
		Sentence: sentence, Verdicts: m.s.Verdicts})
}

// hold stops the ladder where it is and asks for a person.
func (m *machine) hold(h Hold, rule string) {
	if m.s.Phase == PhaseRollingBack || m.s.Phase.Terminal() {
		return
	}
	h.Since = m.now()
	m.stopShift()
	if m.s.Hold != nil && m.s.Hold.Paused && h.Self {
		return
	}
	if h.Group != "" { // whoever ended the wait before did not know of the breach
		m.waitAgain()
	}
	if o := m.s.Hold; o != nil {
		h.Also = slices.Clone(o.Also)
		if o.Group != "" && o.Group != h.Group {
			h.Also = append(h.Also, o.Group)
		}
	}
	m.decide(decision.Decision{Kind: decision.Hold, Guardrail: h.Guardrail, Reason: h.Reason, Rule: rule,
		Sentence: h.Sentence, Verdicts: m.s.Verdicts})
	if m.s.Phase == PhaseSuspect {
		m.doubt(h)
		return
	}
	m.s.Hold = &h
	m.enter(PhaseHeld, h.Reason, h.Sentence)
}

// besides stands in the sentence of a suspicion before what would hold besides.
const besides = " Besides: "

// doubt keeps a suspicion that something else would hold besides: a person still decides
// on the suspicion, and is called anew, for both.
func (m *machine) doubt(h Hold) {
	o := *m.s.Hold
	first, _, _ := strings.Cut(o.Sentence, besides)
	o.Since, o.Sentence = h.Since, strings.TrimRight(first, ".")+"."+besides+h.Sentence
	if o.Also = h.Also; h.Group != "" && !slices.Contains(o.Also, h.Group) {
		o.Also = append(o.Also, h.Group)
	}
	m.s.Hold = &o
	m.enter(PhaseSuspect, o.Reason, o.Sentence)
}

// WaitsFor is what ends the hold, in words for people.
func (h *Hold) WaitsFor() string {
	switch {
	case h != nil && h.Reason == decision.ReasonShared:
		return "stable to keep the limit again, or a person"
	case h == nil || !h.Self:
		return "a person"
	case h.Reason == decision.ReasonRouter:
		return "the endpoint to be readable"
	case h.Reason == decision.ReasonNotReady:
		return "stable and the candidate to be ready"
	case h.Reason == decision.ReasonWayBack:
		return "stable to have its instances back, or a person who promotes"
	}
	return "the readings to come back"
}

// resumeSelf ends a hold that ends by itself: everything is seen again.
func (m *machine) resumeSelf() {
	sentence := "The readings are back; what was watched before still counts."
	if why := m.s.Hold.Reason; why == decision.ReasonNotReady || why == decision.ReasonWayBack {
		sentence = "Stable and the candidate are ready, and stable can take all of the traffic."
	} else if why == decision.ReasonRouter {
		sentence = "The endpoint can be read again."
	}
	m.s.Hold = nil
	m.decide(decision.Decision{Kind: decision.Resume, Reason: decision.ReasonDataBack, Sentence: sentence})
	if m.s.Phase == PhaseHeld {
		m.resumeWork(decision.ReasonDataBack, sentence)
	}
}

// resumeWork takes up what a hold or a pause had stopped. A split that is not the
// step's is put back to it: a person ordered to go on, or the shift was cut short.
func (m *machine) resumeWork(reason decision.Reason, sentence string) {
	m.s.Foreign = nil
	if m.s.Shift != nil && m.s.Shift.Stopped() {
		m.s.Shift.GoOn()
		m.enter(PhaseShifting, reason, sentence)
		return
	}
	switch {
	case m.s.Stable == "" && !m.s.Claimed && m.now().Before(m.s.StartAt):
		m.enter(PhaseScheduled, decision.ReasonSchedule,
			fmt.Sprintf("%s Waits for the schedule: starts at %s.", sentence, m.s.StartAt.UTC().Format(time.RFC3339)))
		return
	case m.s.Stable == "" && !m.s.Claimed:
		m.enter(PhaseQueued, reason, sentence)
		return
	case m.s.Stable == "":
		m.enter(PhasePreflight, reason, sentence)
		return
	case m.s.Step < 0:
		m.enter(PhaseWaiting, reason, sentence)
		m.advance()
		return
	}
	to := m.p.target(m.s.Step, m.s.Stable)
	if open, _ := m.p.Windows.OpenAt(m.now()); !open && m.s.Reached < m.s.Step {
		// The forward step did not take effect and may not start now: it waits again.
		m.s.Step = m.s.Reached
		m.enter(PhaseWaiting, reason, sentence)
		m.advance()
		return
	}
	if m.s.Reached < m.s.Step {
		m.shift(shift.Forward, to)
		m.enter(PhaseShifting, reason, sentence)
		return
	}
	if m.s.Observed != nil && !m.s.Observed.Equal(*m.s.Confirmed) {
		m.shift(shift.Restore, *m.s.Confirmed)
		m.enter(PhaseShifting, reason, sentence)
		return
	}
	m.enter(PhaseBaking, reason, sentence)
}
