package rollout

import (
	"fmt"
	"time"
)

// unreadAfter is how long the endpoint may be unreadable before the rollout is
// held.
const unreadAfter = 2 * time.Minute

// timers applies the rules that need nothing but the passing of time. They are
// looked at after every event; Wake makes sure that there is one.
func (m *machine) timers() {
	if m.s.Phase.Terminal() || m.s.Phase == "" {
		return
	}
	if m.s.Phase == PhaseScheduled && !m.now().Before(m.s.StartAt) {
		m.enter(PhaseQueued, ReasonSchedule, "The schedule has come; asks for the endpoint.")
	}
	m.expireGates()
	if m.s.Phase == PhaseWaiting {
		m.unwait()
	}
	if sh := m.s.Shift; m.s.Phase == PhaseRollingBack && sh != nil && !sh.Late && m.now().Sub(sh.Since) >= m.p.Rollback.VerifyWithin {
		sh.Late = true
		m.pageNow(ReasonRouter, fmt.Sprintf("The rollback of %s is not confirmed after %s. Belay keeps trying.%s",
			m.p.Endpoint.Name, m.p.Rollback.VerifyWithin, m.byHand()))
	}
	if m.monitored() && !m.s.Unread.IsZero() && m.now().Sub(m.s.Unread) >= unreadAfter && m.s.Hold == nil {
		m.hold(Hold{Reason: ReasonRouter, Self: true,
			Sentence: fmt.Sprintf("The endpoint could not be read for %s.", unreadAfter)}, "the split is read at every interval")
	}
}

// monitored reports whether readings are taken: the candidate has, or may have,
// traffic by our doing and stable is not being put back.
func (m *machine) monitored() bool {
	return m.s.Reached >= 0 && m.s.Phase != PhaseRollingBack && !m.s.Phase.Terminal()
}

// deadline is the next instant at which time alone changes something; zero when
// there is none.
func (m *machine) deadline() time.Time {
	var next time.Time
	at := func(t time.Time) {
		if t.After(m.now()) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	switch {
	case m.s.Phase.Terminal():
		return time.Time{}
	case m.s.Phase == PhaseScheduled:
		at(m.s.StartAt)
	case m.s.Phase == PhaseRollingBack && m.s.Shift != nil:
		at(m.s.Shift.Since.Add(m.p.Rollback.VerifyWithin))
	case m.s.Phase == PhaseWaiting:
		if _, opens := m.p.Windows.OpenAt(m.now()); !opens.IsZero() {
			at(opens)
		}
	}
	for _, q := range m.s.Gates {
		if q.State == QuestionOpen {
			at(q.Expires)
		}
	}
	if m.monitored() && !m.s.Unread.IsZero() {
		at(m.s.Unread.Add(unreadAfter))
	}
	return next
}
