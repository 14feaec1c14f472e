package rollout

import (
	"fmt"
	"time"

	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/shift"
)

// timers applies the rules that need nothing but the passing of time. They are
// looked at after every event; Wake makes sure that there is one.
func (m *machine) timers() {
	if m.s.Phase.Terminal() || m.s.Phase == "" {
		return
	}
	if m.s.Phase == PhaseScheduled && !m.now().Before(m.s.StartAt) {
		m.enter(PhaseQueued, decision.ReasonSchedule, "The schedule has come; asks for the endpoint.")
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
		if q.State == approval.Open {
			at(q.Expires)
		}
	}
	m.sightTimes(at)
	return next
}

// UnwatchedAfter is the longest time without any event that does not count as one in
// which nobody watched: two intervals, and at least half a minute.
func (p *Plan) UnwatchedAfter() time.Duration { return max(2*p.Interval, 30*time.Second) }

// readingsAfterGap is how many readings follow a time in which nobody watched before a
// step ends: one reading, however long and bad, is capped, and what was good
// before the time has to be outweighed.
const readingsAfterGap = 3

// unwatched makes the step bake on for a few readings after a time in which
// nothing was folded in: what was seen before ends no step and raises no weight,
// and one long reading is one look, however bad it is. The time counts neither
// against a change of the traffic under way nor as one in which the endpoint could
// not be read.
func (m *machine) unwatched(gap time.Duration) {
	if m.s.Reached < 0 || gap <= m.p.UnwatchedAfter() {
		return
	}
	m.s.ReadingsRequired, m.s.ResumedAt = readingsAfterGap, m.now()
	m.s.Bake.Needs = max(m.s.Bake.Needs, m.s.Bake.Watched+max(m.p.Settle, readingsAfterGap*m.p.Interval))
	for i := range m.s.Sights {
		m.s.Sights[i].Seen = m.s.Sights[i].Seen.Add(gap)
	}
	if sh := m.s.Shift; sh != nil && sh.Why != shift.Rollback {
		sh.Since = sh.Since.Add(gap)
		if sh.Stopped() {
			m.stopShift()
		}
		if m.s.Phase == PhaseShifting {
			m.s.Sentence = fmt.Sprintf("Nobody watched for %s: the change to %s is sent when the guardrails were read again.",
				gap.Round(time.Second), sh.To)
		}
	}
}
