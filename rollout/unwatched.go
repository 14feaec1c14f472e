package rollout

import (
	"fmt"
	"time"
)

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
	if sh := m.s.Shift; sh != nil && sh.Why != ShiftRollback {
		sh.Since = sh.Since.Add(gap)
		if sh.Stopped() {
			m.stopShift()
		}
		if m.s.Phase == PhaseShifting {
			m.s.Sentence = fmt.Sprintf("Nobody watched for %s: the change to %s is sent when the guardrails were read again.", gap.Round(time.Second), sh.To)
		}
	}
}
