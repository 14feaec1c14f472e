package rollout

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/decision"
)

// Start is the state of a rollout before its first event.
func Start(p *Plan, at time.Time) State {
	return State{SchemaVersion: StateVersion, ID: p.ID, Step: -1, Reached: -1, Created: at, At: at}
}

// Next folds one event into a state and returns its successor. It is total: it
// never panics and never errors, whatever the plan, state and event; an event
// that does not fit changes nothing and says why in Last.Ignored. s is not
// changed. An event whose At lies before the last one's counts as that.
func Next(p *Plan, s State, ev Event) State {
	if ev.Kind == EventCarried {
		return carried(p, s, ev)
	}
	before := s
	m := &machine{p: p, s: s.clone(), ev: ev}
	if m.ev.At.Before(s.At) {
		m.ev.At = s.At
	}
	m.s.At = m.ev.At
	m.s.Seq++
	m.s.Last = Last{}
	m.noteSent()
	m.unwatched(m.ev.At.Sub(s.At))
	m.recount()
	m.fold()
	m.timers()
	m.settlePage()
	m.tell()
	m.settleOutbox()
	if err := m.s.check(p, &before); err != nil {
		return suspect(p, before, m.ev, err)
	}
	m.s.Last.Deferrable = deferrable(&before, &m.s)
	return m.s
}

// A machine folds one event.
type machine struct {
	p  *Plan
	s  State
	ev Event
	// minted counts the effects of this event.
	minted int
	// blame is the guardrail whose breach is being acted on.
	blame string
}

// fold does what the map says about the event: see transitions.
func (m *machine) fold() {
	t := m.transition()
	switch over := m.s.Phase == "" || m.s.Phase.Terminal(); {
	case t.do == nil && over:
		m.ignore(t.ignored)
	case !m.expected():
		if m.ev.Kind == EventDelivered && m.ev.Key != "" {
			m.lateDelivered()
			return
		}
		m.ignore("answers an effect that is not wanted")
	case m.repeated():
		m.ignore("it was taken up before")
	case t.do == nil:
		m.ignore(t.ignored)
	default:
		t.do(m)
	}
}

// expected reports whether the event answers an effect that is still wanted, or
// answers none. The answered effect leaves the Outbox; what is still needed is
// put back when the outbox is settled.
func (m *machine) expected() bool {
	switch m.ev.Kind {
	case EventStarted, EventAnswered, EventCommanded, EventSuperseded, EventSuspected:
		return true
	case EventWoken:
		if m.ev.Effect == "" {
			return true
		}
	case EventClaimed, EventQueued, EventRefused, EventReleased, EventPreflighted, EventTraffic, EventMeasured,
		EventDelivered, EventUndelivered, EventCarried:
	}
	for _, e := range m.s.Outbox {
		if e.ID == m.ev.Effect {
			return e.Attempt == m.ev.Attempt && answers(m.ev.Kind, e.Kind)
		}
	}
	return false
}

// answers reports whether an event of kind k answers an effect of kind e.
func answers(k EventKind, e EffectKind) bool {
	switch e {
	case EffectClaim:
		return k == EventClaimed || k == EventQueued || k == EventRefused
	case EffectRelease:
		return k == EventReleased
	case EffectPreflight:
		return k == EventPreflighted
	case EffectSetTraffic, EffectReadTraffic:
		return k == EventTraffic
	case EffectMeasure:
		return k == EventMeasured
	case EffectAsk, EffectTell, EffectPage:
		return k == EventDelivered || k == EventUndelivered
	case EffectWake:
		return k == EventWoken
	}
	return false
}

// effect is the wanted effect that the event answers.
func (m *machine) effect() Effect {
	for _, e := range m.s.Outbox {
		if e.ID == m.ev.Effect {
			return e
		}
	}
	return Effect{}
}

// now is the event's time.
func (m *machine) now() time.Time { return m.ev.At }

// ignore says why the event changes nothing.
func (m *machine) ignore(why string) { m.s.Last.Ignored = why }

// enter makes phase the rollout's phase.
func (m *machine) enter(phase Phase, reason decision.Reason, sentence string) {
	if m.s.Phase != phase {
		m.s.PhaseSince = m.now()
	}
	m.s.Phase, m.s.Reason, m.s.Sentence = phase, reason, sentence
	if phase != PhasePreflight {
		m.s.Await = nil
	}
}

// decide records a decision, with the step's name.
func (m *machine) decide(d decision.Decision) {
	if d.Step == "" {
		d.Step = m.stepName()
	}
	if d.Guardrail == "" {
		d.Guardrail = m.blame
	}
	if m.ev.By != nil && d.By == "" {
		d.By = m.ev.By.ID
	}
	m.s.Last.Decisions = append(m.s.Last.Decisions, d)
}

// stepName is the current step's name, "" before the first.
func (m *machine) stepName() string {
	if m.s.Step < 0 || m.s.Step >= len(m.p.Steps) {
		return ""
	}
	return m.p.Steps[m.s.Step].Name
}

// clone returns a copy of which Next may change everything it changes.
func (s State) clone() State {
	s.Messages, s.Outbox, s.Sights = slices.Clone(s.Messages), slices.Clone(s.Outbox), slices.Clone(s.Sights)
	s.Gates, s.Refs = maps.Clone(s.Gates), maps.Clone(s.Refs)
	s.Shift, s.Hold, s.Page = clonePtr(s.Shift), clonePtr(s.Hold), clonePtr(s.Page)
	s.Await = clonePtr(s.Await)
	return s
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// deferrable reports whether the step from a to b may wait for the next append: it
// changed nothing that the outside world or a person would notice.
func deferrable(a, b *State) bool {
	return len(b.Last.Decisions) == 0 && maps.Equal(a.Refs, b.Refs) && a.Phase == b.Phase && a.Step == b.Step &&
		a.Reached == b.Reached &&
		a.Claimed == b.Claimed && a.MayEnd == b.MayEnd && a.Bake.Needs == b.Bake.Needs &&
		a.Bake.Extended == b.Bake.Extended &&
		equalPtr(a.Shift, b.Shift) && equalPtr(a.Hold, b.Hold) && equalPtr(a.Page, b.Page) &&
		sameOutcomes(a.Verdicts, b.Verdicts) && slices.Equal(lastingIDs(a.Outbox), lastingIDs(b.Outbox))
}

// lastingIDs lists the effects that may not be minted again under another ID,
// with their attempts.
func lastingIDs(es []Effect) []string {
	var ids []string
	for _, e := range es {
		switch e.Kind {
		case EffectMeasure, EffectReadTraffic, EffectWake:
		case EffectClaim, EffectRelease, EffectPreflight, EffectSetTraffic, EffectAsk, EffectTell, EffectPage:
			ids = append(ids, fmt.Sprintf("%s#%d", e.ID, e.Attempt))
		}
	}
	return ids
}

func sameOutcomes(a, b []analysis.Verdict) bool {
	return slices.EqualFunc(a, b,
		func(x, y analysis.Verdict) bool { return x.Guardrail == y.Guardrail && x.Outcome == y.Outcome })
}

func equalPtr[T any](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return fmt.Sprint(*a) == fmt.Sprint(*b)
}

// later is the later of two instants.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Carry stands for what was folded in between two instants while nothing could be
// written down, of which the events were not kept: so many of them, the decisions that
// they led to, and the state after them. What is folded next goes on from there.
func Carry(s State, from, to time.Time, events int, ds []decision.Decision) Event {
	s = s.clone()
	s.Last = Last{}
	first := decision.Decision{Kind: decision.Unwritten, Sentence: fmt.Sprintf(
		"The store took no records from %s to %s: the rollout was watched and judged all the while, and this entry stands "+
			"for what %d events led to.",
		from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339), events)}
	return Event{Kind: EventCarried, At: s.At, State: &s, Decisions: append([]decision.Decision{first}, ds...)}
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
