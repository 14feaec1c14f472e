package rollout

import (
	"slices"
	"strings"
)

// This is the map of the machine, to be read first: what is done about each event in
// each phase, and which phases may follow. Next dispatches from it, and the simulator
// holds every step against it. Besides what an event does, time may do something at
// every event: see inTime.

// A transition is what is done about an event in some phases, and where that may lead; a
// rollout may always stay where it is. Where nothing is done, ignored says why.
type transition struct {
	on      []trigger
	in      []Phase
	do      func(*machine)
	to      []Phase
	ignored string
}

// A trigger is an event as the map knows it: its kind, and of a command which one.
type trigger struct {
	kind    EventKind
	command Command
}

func on(kinds ...EventKind) []trigger {
	ts := make([]trigger, len(kinds))
	for i, k := range kinds {
		ts[i] = trigger{kind: k}
	}
	return ts
}

func ordered(c Command) []trigger { return []trigger{{EventCommanded, c}} }

// trigger is what the event is on the map.
func (ev Event) trigger() trigger {
	if ev.Kind == EventCommanded {
		return trigger{ev.Kind, ev.Command}
	}
	return trigger{kind: ev.Kind}
}

// The phases by what is under way, and what often follows.
var (
	unborn    = []Phase{""}
	unmoved   = []Phase{PhaseScheduled, PhaseQueued, PhasePreflight}
	climbing  = []Phase{PhaseShifting, PhaseBaking, PhaseWaiting}
	halted    = []Phase{PhaseHeld, PhasePaused, PhaseSuspect}
	returning = []Phase{PhaseRollingBack}
	ended     = []Phase{PhasePromoted, PhaseRolledBack, PhaseStopped, PhaseRefused}

	onward   = []Phase{PhaseShifting, PhaseWaiting, PhaseHeld} // the next step begins, waits, or may not begin
	backward = []Phase{PhaseRollingBack, PhaseStopped}         // at its end at once where no traffic had been moved
)

// transitions is the map: each event in each phase stands in one line of it. EventCarried
// is not on it: it brings the state that other events have led to.
var transitions = []transition{
	// Before any traffic moves.
	{on: on(EventStarted), in: unborn, do: (*machine).started, to: []Phase{PhaseScheduled, PhaseQueued, PhaseRefused}},
	{on: on(EventStarted), in: slices.Concat(unmoved, climbing, halted, returning), ignored: "it has begun"},
	{on: on(EventClaimed), in: []Phase{PhaseQueued}, do: (*machine).claimed, to: []Phase{PhasePreflight}},
	{on: on(EventQueued), in: []Phase{PhaseQueued}, do: (*machine).queued},
	{on: on(EventQueued), in: []Phase{PhaseScheduled}, do: (*machine).nothing}, // it is on record for its schedule
	{on: on(EventRefused), in: []Phase{PhaseQueued, PhaseScheduled}, do: (*machine).refused, to: []Phase{PhaseRefused}},
	{on: on(EventClaimed), in: slices.Concat([]Phase{PhaseScheduled, PhasePreflight}, climbing, halted, returning),
		ignored: "the rollout does not wait for its endpoint"},
	{on: on(EventQueued, EventRefused), in: slices.Concat([]Phase{PhasePreflight}, climbing, halted, returning),
		ignored: "the rollout does not wait for its endpoint"},
	{on: on(EventPreflighted), in: []Phase{PhasePreflight}, do: (*machine).preflighted,
		to: []Phase{PhaseRefused, PhaseWaiting, PhaseShifting}},
	{on: on(EventPreflighted), in: slices.Concat([]Phase{PhaseScheduled, PhaseQueued}, climbing, halted, returning),
		ignored: "no checks are under way"},

	// Up the ladder, and back.
	{on: on(EventTraffic), in: climbing, do: (*machine).traffic,
		to: []Phase{PhaseBaking, PhaseShifting, PhaseHeld, PhaseRollingBack}},
	// put back once amid a hold
	{on: on(EventTraffic), in: []Phase{PhaseHeld}, do: (*machine).traffic, to: []Phase{PhaseShifting, PhaseRollingBack}},
	{on: on(EventTraffic), in: []Phase{PhasePaused}, do: (*machine).traffic, to: []Phase{PhaseHeld, PhaseRollingBack}},
	{on: on(EventTraffic), in: []Phase{PhaseSuspect}, do: (*machine).traffic},
	{on: on(EventTraffic), in: returning, do: (*machine).traffic, to: []Phase{PhaseRolledBack, PhaseStopped}},
	{on: on(EventTraffic), in: unmoved, ignored: "no traffic is moved or watched"},
	{on: on(EventMeasured), in: []Phase{PhaseBaking, PhaseWaiting}, do: (*machine).measured,
		to: slices.Concat([]Phase{PhaseBaking}, onward, []Phase{PhasePromoted, PhaseRollingBack})},
	{on: on(EventMeasured), in: []Phase{PhaseHeld}, do: (*machine).measured,
		to: slices.Concat([]Phase{PhaseBaking}, onward, []Phase{PhasePromoted, PhaseRollingBack})},
	{on: on(EventMeasured), in: []Phase{PhaseShifting, PhasePaused}, do: (*machine).measured,
		to: []Phase{PhaseHeld, PhaseRollingBack}},
	{on: on(EventMeasured), in: []Phase{PhaseSuspect}, do: (*machine).measured, to: []Phase{PhaseRollingBack}},
	{on: on(EventMeasured), in: slices.Concat(unmoved, returning), ignored: "nothing is judged now"},
	{on: on(EventWoken), in: slices.Concat(unmoved, climbing, halted, returning, ended), do: (*machine).nothing},

	// What people want.
	{on: on(EventAnswered), in: []Phase{PhaseWaiting}, do: (*machine).answered,
		to: slices.Concat([]Phase{PhaseBaking, PhasePreflight}, onward, backward)},
	{on: on(EventAnswered), in: slices.Concat(unmoved, []Phase{PhaseShifting, PhaseBaking}, halted, returning),
		do: (*machine).answered, to: backward},
	{on: ordered(CommandPause), in: slices.Concat(climbing, []Phase{PhaseHeld}), do: (*machine).pause,
		to: []Phase{PhasePaused}},
	{on: ordered(CommandPause), in: slices.Concat(unmoved, []Phase{PhasePaused, PhaseSuspect}, returning),
		ignored: "a rollout that is {phase} cannot be paused"},
	{on: ordered(CommandResume), in: halted, do: (*machine).resume,
		to: slices.Concat(unmoved, []Phase{PhaseBaking}, onward)},
	{on: ordered(CommandResume), in: slices.Concat(unmoved, climbing, returning),
		ignored: "a rollout that is {phase} cannot be resumed"},
	{on: ordered(CommandPromote), in: []Phase{PhaseBaking, PhaseWaiting, PhaseHeld, PhasePaused}, do: (*machine).override,
		to: slices.Concat([]Phase{PhaseBaking, PhasePreflight}, onward, []Phase{PhasePromoted})},
	{on: ordered(CommandSkip), in: []Phase{PhaseBaking, PhaseWaiting, PhaseHeld, PhasePaused}, do: (*machine).skip,
		to: slices.Concat([]Phase{PhaseBaking, PhasePreflight}, onward)},
	{on: ordered(CommandSkip), in: slices.Concat(unmoved, []Phase{PhaseShifting, PhaseSuspect}, returning),
		ignored: "a rollout that is {phase} skips nothing"},
	{on: ordered(CommandPromote), in: slices.Concat(unmoved, []Phase{PhaseShifting, PhaseSuspect}, returning),
		ignored: "a rollout that is {phase} cannot be promoted"},
	{on: ordered(CommandExtend), in: slices.Concat(climbing, halted), do: (*machine).extend, to: []Phase{PhaseBaking}},
	{on: ordered(CommandExtend), in: slices.Concat(unmoved, returning), ignored: "no step bakes now"},
	{on: ordered(CommandRollback), in: slices.Concat(unmoved, climbing, halted), do: (*machine).orderRollback,
		to: backward},
	{on: ordered(CommandRollback), in: returning, do: (*machine).repeatRollback},
	{on: ordered(CommandAck), in: slices.Concat(unmoved, climbing, halted, returning, ended), do: (*machine).acknowledge},

	// What others want.
	{on: on(EventSuperseded), in: slices.Concat(unmoved, climbing, halted), do: (*machine).superseded, to: backward},
	{on: on(EventSuperseded), in: returning, ignored: "the rollout is rolling back already"},
	{on: on(EventSuspected), in: slices.Concat(unmoved, climbing, halted), do: (*machine).suspected,
		to: []Phase{PhaseSuspect}},
	{on: on(EventSuspected), in: returning, ignored: "a rollback goes on whatever the store lost"},

	// What is told, and what is given back.
	{on: on(EventDelivered), in: slices.Concat(unmoved, climbing, halted, returning, ended), do: (*machine).delivered},
	{on: on(EventUndelivered), in: slices.Concat(unmoved, climbing, halted, returning, ended), do: (*machine).undelivered},
	{on: on(EventReleased), in: ended, do: (*machine).released},
	{on: on(EventReleased), in: slices.Concat(unmoved, climbing, halted, returning),
		ignored: "the endpoint was not given back"},

	// Too early, and too late.
	{on: on(EventClaimed, EventQueued, EventRefused, EventReleased, EventPreflighted, EventTraffic, EventMeasured,
		EventDelivered, EventUndelivered,
		EventAnswered, EventSuperseded, EventSuspected, EventWoken), in: unborn, ignored: "the rollout has not begun"},
	{on: everyOrder, in: unborn, ignored: "the rollout has not begun"},
	{on: on(EventStarted, EventClaimed, EventQueued, EventRefused, EventPreflighted, EventTraffic, EventMeasured,
		EventAnswered, EventSuperseded, EventSuspected), in: ended, ignored: "the rollout has ended"},
	{on: everyOrder[:len(everyOrder)-1], in: ended, ignored: "the rollout has ended"},
}

// everyOrder are all the commands; an ended rollout takes the last one.
var everyOrder = []trigger{
	{EventCommanded, CommandPause}, {EventCommanded, CommandResume}, {EventCommanded, CommandPromote}, {EventCommanded,
		CommandSkip},
	{EventCommanded, CommandExtend},
	{EventCommanded, CommandRollback}, {EventCommanded, CommandAck},
}

// inTime are the phases to which time alone leads, at whichever event it is looked at: a
// schedule comes, a question expires, a window opens, something is not seen for too long
// or is seen again, stable is not ready.
var inTime = map[Phase][]Phase{
	"":               nil,
	PhaseScheduled:   {PhaseQueued},
	PhaseQueued:      nil,
	PhasePreflight:   {PhaseHeld, PhaseRolledBack}, // approvals that were given outlive checks that are made again
	PhaseShifting:    {PhaseHeld, PhaseRollingBack},
	PhaseBaking:      {PhaseHeld, PhaseRollingBack},
	PhaseWaiting:     {PhaseBaking, PhaseShifting, PhasePreflight, PhaseHeld, PhaseRollingBack, PhaseRolledBack},
	PhaseHeld:        {PhaseBaking, PhaseShifting, PhaseWaiting, PhaseRollingBack, PhaseRolledBack},
	PhasePaused:      {PhaseHeld, PhaseRollingBack, PhaseRolledBack},
	PhaseSuspect:     {PhaseRollingBack, PhaseRolledBack},
	PhaseRollingBack: nil,
	PhasePromoted:    nil,
	PhaseRolledBack:  nil,
	PhaseStopped:     nil,
	PhaseRefused:     nil,
}

// nothing is done where only time matters.
func (m *machine) nothing() {}

// charted is the map by phase and trigger.
var charted = chart()

func chart() map[Phase]map[trigger]transition {
	c := map[Phase]map[trigger]transition{}
	for _, t := range transitions {
		for _, p := range t.in {
			if c[p] == nil {
				c[p] = map[trigger]transition{}
			}
			for _, tr := range t.on {
				c[p][tr] = t
			}
		}
	}
	return c
}

// transition is what is done about the event now.
func (m *machine) transition() transition {
	t, known := charted[m.s.Phase][m.ev.trigger()]
	switch {
	case !known && m.ev.Kind == EventCommanded:
		t.ignored = "unknown command \"" + string(m.ev.Command) + "\""
	case !known:
		t.ignored = "unknown kind of event \"" + string(m.ev.Kind) + "\""
	}
	t.ignored = strings.ReplaceAll(t.ignored, "{phase}", string(m.s.Phase))
	return t
}

// MayLead reports whether the event may lead from one phase to another, by itself or with
// what time does at the same event. EventCarried may lead anywhere, and a machine that
// would break an invariant of its own makes the rollout suspect.
func (ev Event) MayLead(from, to Phase) bool {
	if ev.Kind == EventCarried || from == to {
		return true
	}
	follow := charted[from][ev.trigger()].to
	reached := slices.Concat(follow, inTime[from])
	for _, p := range follow { // what time does comes after what the event did; a hold that just began does not end
		if p != PhaseHeld {
			reached = append(reached, inTime[p]...)
		}
	}
	return slices.Contains(reached, to)
}
