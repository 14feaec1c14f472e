package rollout

import "time"

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
	m.lookReady()
	m.lookMissing()
}

// exposed reports whether the candidate may have traffic by our doing while stable is
// not being put back.
func (m *machine) exposed() bool {
	return m.s.Asked != nil && m.s.Phase != PhaseRollingBack && !m.s.Phase.Terminal()
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
		if m.s.Page != nil {
			at(m.s.pageUntil())
		}
		return next
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
	m.sightTimes(at)
	return next
}
