package rollout

import (
	"fmt"
	"time"
)

// Carry stands for what was folded in between two instants while nothing could be
// written down, of which the events were not kept: so many of them, the decisions that
// they led to, and the state after them. What is folded next goes on from there.
func Carry(s State, from, to time.Time, events int, ds []Decision) Event {
	s = s.clone()
	s.Last = Last{}
	first := Decision{Kind: DecisionUnwritten, Sentence: fmt.Sprintf(
		"The store took no records from %s to %s: the rollout was watched and judged all the while, and this entry stands for what %d events led to.",
		from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339), events)}
	return Event{Kind: EventCarried, At: s.At, State: &s, Decisions: append([]Decision{first}, ds...)}
}

// carried is the state that an event of that kind brings, with its decisions. One that
// brings none, or another rollout's, changes nothing.
func carried(p *Plan, s State, ev Event) State {
	if ev.State == nil || ev.State.ID != s.ID || ev.State.check(p, ev.State) != nil {
		s = s.clone()
		s.Seq++
		s.Last = Last{Ignored: "carries no state of this rollout"}
		return s
	}
	s = ev.State.clone()
	s.Last = Last{Decisions: ev.Decisions}
	return s
}
