// Package sim is a world for rollout.Next: an endpoint that serves, metrics that
// count, people who answer, routers and sources that fail, and a clock that
// jumps from one event to the next. It drives the same Next, Admit and Judge as
// the daemon, so that a policy can be tested, planned and proved without one.
//
// The rules of the package:
//   - It is pure and has no goroutines: what happens at one instant happens in
//     the order in which it was wanted, so a seed replays to the letter.
//   - The world is honest about time: calls take time, a call that is no longer
//     wanted may still land, and a write may be lost, late or foreign.
//   - A crash loses what was not appended, and nothing else.
//
// It does not know the store, the network or any adapter.
package sim

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/split"
)

// A Source answers what the rollouts measure. Asked again for the same interval
// it must give the same answer.
type Source interface {
	Read(w *World, r *Run, q analysis.Query) analysis.Reading
}

// Config is a world before it begins.
type Config struct {
	Start time.Time
	// Split is the endpoint's split at the start.
	Split  split.Split
	Source Source
	// Faults decide what goes wrong; nil is nothing.
	Faults Faults
	// Next folds events; nil is rollout.Next. Tests put a mutant here.
	Next func(*rollout.Plan, rollout.State, rollout.Event) rollout.State
	// Latency of router, source and notifier calls; 0 is the default of 50 ms.
	Latency time.Duration
	// Alarm is the longest time until the daemon looks at its clock again, so that it
	// notices one that jumped; 0 is for ever.
	Alarm time.Duration
	// Most is how many events the world may fold before it ends as one that runs away;
	// 0 is no bound.
	Most int
}

// A World is one endpoint, the rollouts on it, and everything around them. It is
// not safe for concurrent use.
type World struct {
	Now      time.Time
	Endpoint Endpoint
	Record   claim.Record
	Runs     []*Run
	// Journal is every event that was folded, in order.
	Journal []Line
	// Notices are the messages that were delivered.
	Notices []Delivered
	// People are the ids that people gives to names at present, where it gives another.
	People map[string]string
	// Watch, when set, is called after every event that was folded.
	Watch func(*World, *Run, Line)

	source  Source
	faults  Faults
	next    func(*rollout.Plan, rollout.State, rollout.Event) rollout.State
	latency time.Duration
	alarm   time.Duration
	most    int
	queue   agenda
	seq     int
	// scripted counts what At still has to do, landing the writes that are on their way.
	scripted, landing int
	// down: the daemon is away; life counts its starts.
	down bool
	life int
}

// A Run is one rollout in the world.
type Run struct {
	Plan  *rollout.Plan
	State rollout.State
	// durable is what was appended; after a crash it is what is left.
	durable rollout.State
	began   bool
	// started are the effects under way, by ID and attempt.
	started map[string]int
	// appends counts the appends, for faults.
	appends int
	// behind is since when the store is away and the state is not durable; zero when it
	// is.
	behind time.Time
	// clock is what the rollout's time was at the world's instant seen.
	clock, seen time.Time
}

// A Line is one event of one rollout with what it led to.
type Line struct {
	Run       *Run
	Event     rollout.Event
	Phase     rollout.Phase
	Decisions []decision.Decision
	Ignored   string
}

// Delivered is a message that reached a notifier.
type Delivered struct {
	At       time.Time
	Run      *Run
	Notifier string
	Effect   rollout.Effect
}

// New makes a world in which nothing has happened yet.
func New(c Config) *World {
	if c.Latency == 0 {
		c.Latency = 50 * time.Millisecond
	}
	if c.Faults == nil {
		c.Faults = Fine{}
	}
	if c.Next == nil {
		c.Next = rollout.Next
	}
	w := &World{Now: c.Start, source: c.Source, faults: c.Faults, latency: c.Latency, alarm: c.Alarm, most: c.Most,
		next: c.Next}
	w.Endpoint = newEndpoint(c.Split, c.Start)
	return w
}

// At does something at an instant of the world.
func (w *World) At(t time.Time, do func(*World)) {
	w.scripted++
	w.schedule(t, func(w *World) {
		w.scripted--
		do(w)
	})
}

// Begin starts a rollout now. Its plan's ID must be unlike that of every other.
func (w *World) Begin(p *rollout.Plan) *Run {
	r := &Run{Plan: p, started: map[string]int{}}
	r.State = rollout.Start(p, w.time(r))
	r.durable = r.State
	w.Runs = append(w.Runs, r)
	w.Record.Endpoint = p.Endpoint
	w.Fold(r, rollout.Event{Kind: rollout.EventStarted})
	return r
}

// Fold gives an event to a rollout now, appends, and starts what is wanted.
func (w *World) Fold(r *Run, ev rollout.Event) {
	if w.down {
		return
	}
	if ev.At.IsZero() {
		ev.At = w.time(r)
	}
	ev.Known = w.known(r, ev)
	next := w.next(r.Plan, r.State, ev)
	switch w.append(r, next) {
	case CrashBefore:
		w.crash(CrashBefore)
		return
	case CrashAfter:
		r.State = next
		w.note(r, ev, next)
		w.crash(CrashAfter)
		return
	case StoreAway:
		w.fallBehind(r)
	case NoCrash:
	}
	r.State = next
	w.note(r, ev, next)
	w.start(r)
}

// known is who the people on record are at present, as the engine tells it.
func (w *World) known(r *Run, ev rollout.Event) map[string]string {
	var known map[string]string
	for _, name := range r.State.Speakers(r.Plan, ev) {
		if id := w.People[name]; id != "" {
			if known == nil {
				known = map[string]string{}
			}
			known[name] = id
		}
	}
	return known
}

// note keeps the event and what came of it.
func (w *World) note(r *Run, ev rollout.Event, s rollout.State) {
	l := Line{Run: r, Event: ev, Phase: s.Phase, Decisions: s.Last.Decisions, Ignored: s.Last.Ignored}
	w.Journal = append(w.Journal, l)
	if w.Watch != nil {
		w.Watch(w, r, l)
	}
}

// append makes the state durable. A quiet one waits for the next, at most a
// minute, as the engine does it.
func (w *World) append(r *Run, next rollout.State) Crash {
	if next.Last.Deferrable && next.At.Sub(r.durable.At) < time.Minute && r.began {
		return NoCrash
	}
	r.appends++
	c := w.faults.Append(w, r, r.appends)
	if c == NoCrash || c == CrashAfter {
		r.durable, r.began, r.behind = next, true, time.Time{}
	}
	return c
}

// storeRetry is how often a store that is away is tried, rollbackPatience how long a
// rollback waits for it.
const (
	storeRetry       = time.Second
	rollbackPatience = 2 * time.Second
)

// fallBehind keeps what was folded in memory and tries the store again until it is
// back.
func (w *World) fallBehind(r *Run) {
	if !r.behind.IsZero() {
		return
	}
	r.behind = w.Now
	life := w.life
	var again func(*World)
	again = func(w *World) {
		if w.life != life || r.behind.IsZero() {
			return
		}
		r.appends++
		if w.faults.Append(w, r, r.appends) == NoCrash {
			r.durable, r.began, r.behind = r.State, true, time.Time{}
		} else {
			w.schedule(w.Now.Add(storeRetry), again)
		}
		w.start(r)
	}
	w.schedule(w.Now.Add(storeRetry), again)
}

// time is the time of the rollout's events: what the daemon's clock shows, but never
// earlier than what it showed before and has passed since.
func (w *World) time(r *Run) time.Time {
	now := w.faults.Clock(w)
	if on := r.clock.Add(w.Now.Sub(r.seen)); !r.seen.IsZero() && on.After(now) {
		now = on
	}
	r.clock, r.seen = now, w.Now
	return now
}

// crash takes the daemon away for a while and loses what was not appended.
func (w *World) crash(Crash) {
	w.Away(w.faults.Restart(w))
}

// Away takes the daemon away for d: every call under way is cut off, and what
// was not appended is forgotten.
func (w *World) Away(d time.Duration) {
	w.down = true
	w.life++
	for _, r := range w.Runs {
		r.State, r.behind = r.durable, time.Time{}
		r.started = map[string]int{}
	}
	w.schedule(w.Now.Add(d), func(w *World) {
		w.down = false
		for _, r := range w.Runs {
			r.clock, r.seen = r.State.At, w.Now // a new process knows no clock but the record's
			if !r.began {
				r.State = rollout.Start(r.Plan, w.time(r))
				w.Fold(r, rollout.Event{Kind: rollout.EventStarted})
				continue
			}
			if raises(r.State.Outbox) { // as the engine: the core hears how long it was away
				w.Fold(r, rollout.Event{Kind: rollout.EventWoken})
				continue
			}
			w.start(r)
		}
	})
}

// raises reports whether a forward write is wanted.
func raises(es []rollout.Effect) bool {
	return slices.ContainsFunc(es, func(e rollout.Effect) bool { return e.Kind == rollout.EffectSetTraffic && e.Forward })
}

// run is the rollout with the id, nil when there is none.
func (w *World) run(id string) *Run {
	i := slices.IndexFunc(w.Runs, func(r *Run) bool { return r.Plan.ID == id })
	if i < 0 {
		return nil
	}
	return w.Runs[i]
}

// Down reports whether the daemon is away.
func (w *World) Down() bool { return w.down }

// Run lets the world go on until nothing is left to do or the instant is
// reached, and reports whether every rollout is closed.
func (w *World) Run(until time.Time) bool {
	for w.queue.Len() > 0 && !w.closed() && !w.runaway() {
		if w.queue[0].at.After(until) {
			break
		}
		item := heap.Pop(&w.queue).(entry)
		if item.at.After(w.Now) {
			w.Now = item.at
		}
		item.do(w)
	}
	if !w.closed() && until.After(w.Now) {
		w.Now = until
	}
	return w.closed()
}

// runaway reports whether the world has folded more events than it may.
func (w *World) runaway() bool { return w.most > 0 && len(w.Journal) >= w.most }

// closed reports whether every rollout has ended and said so, and nothing that was sent
// may still land.
func (w *World) closed() bool {
	for _, r := range w.Runs {
		if !r.State.Closed() {
			return false
		}
	}
	return len(w.Runs) > 0 && w.scripted == 0 && w.landing == 0
}

// An entry is something that will happen.
type entry struct {
	at  time.Time
	seq int
	do  func(*World)
}

type agenda []entry

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	if a[i].at.Equal(a[j].at) {
		return a[i].seq < a[j].seq
	}
	return a[i].at.Before(a[j].at)
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(entry)) }
func (a *agenda) Pop() any {
	old := *a
	x := old[len(old)-1]
	*a = old[:len(old)-1]
	return x
}

func (w *World) schedule(at time.Time, do func(*World)) {
	if at.Before(w.Now) {
		at = w.Now
	}
	w.seq++
	heap.Push(&w.queue, entry{at: at, seq: w.seq, do: do})
}

// key is an effect's ID and attempt.
func key(e rollout.Effect) string { return fmt.Sprintf("%s#%d", e.ID, e.Attempt) }
