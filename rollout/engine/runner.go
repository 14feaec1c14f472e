package engine

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/clock"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

// A runner is one open rollout that this replica carries. It has no goroutine of
// its own: whatever happens takes mu, folds, and starts what is then wanted, so
// that ten thousand idle rollouts cost memory and one timer each.
type runner struct {
	e     *Engine
	id    string
	plan  *rollout.Plan
	at    *endpoint
	log   *slog.Logger
	clock *clock.Clock

	mu sync.Mutex
	// gone: dropped; nothing may be folded, started or written any more.
	gone bool
	// s has every event folded in, saved is the last state that is durable.
	s, saved rollout.State
	head     record.Head
	// ours: this engine has appended to the journal since it loaded it, so that
	// head is known to be the head.
	ours bool
	// fresh: the endpoint was not read since the rollout was loaded.
	fresh bool

	// drafts are what is folded in and not durable, oldest first.
	drafts  []*draft
	writing bool
	// retryAt is when a failed append may be tried again; failures counts in a row.
	retryAt  time.Time
	failures int
	// pendingRollback: a rollback was decided and is not sent yet.
	pendingRollback bool
	// unsaved is since when a rollback waits for its append; zero when none does.
	unsaved time.Time
	// flush: whatever is quiet is appended at once.
	flush bool

	// jobs is what becomes of every effect that is wanted: calls, readings, messages,
	// checks and timers.
	jobs map[jobKey]*job
	// unmarked are the acts folded in whose records do not say so yet.
	unmarked map[string]bool
	// evicted counts the acts that the state has forgotten since it was loaded; heard:
	// the inbox was read since; waits: an act there could not be folded in yet.
	evicted int
	heard   bool
	waits   bool
	// refs are what notifiers returned, by notifier and key of the message.
	refs map[string]string
	// queued is the last answer to a claim that waits.
	queued *rollout.Event
	timer  *time.Timer
	logged logOnce
	// received is when the reading arrived that decided on a rollback.
	received time.Time
}

// A draft is what becomes one entry of the journal. Once sealed its bytes stay
// as they are, so that it can be recognised when it is read back.
type draft struct {
	since  time.Time
	events []rollout.Event
	// size is what the events take as JSON. While the store is away and they are too
	// much, they are not kept: dropped counts them since from, and after stands for them.
	size       int
	dropped    int
	from       time.Time
	decisions  []decision.Decision
	phases     []journal.PhaseChange
	after      rollout.State
	deferrable bool

	sealed       bool
	entry, state []byte
	head         record.Head
	waiters      []*waiter
}

// A waiter waits for its event to be durable.
type waiter struct {
	key   string
	state rollout.State
	// done is closed after err and revision are set.
	done     chan struct{}
	err      error
	revision store.Revision
}

// draftMax bounds the events of one entry. keptMax bounds the bytes of the events that
// are kept for a store that is away, decidedMax the decisions, of which the newest stay:
// however long it is away, a rollout is watched on and takes no more memory.
const (
	draftMax   = 64
	keptMax    = 16 << 10
	decidedMax = 16
)

// add adds an event, and what it led to. away: the store does not take what came
// before.
func (b *draft) add(
	ev rollout.Event, size int, before *rollout.State, after rollout.State, p *rollout.Plan, away bool,
) {
	if len(b.events)+b.dropped == 0 {
		b.from = ev.At
	}
	b.events, b.size = append(b.events, ev), b.size+size
	b.decisions = append(b.decisions, after.Last.Decisions...)
	if c, ok := journal.PhaseChanged(p, before, &after); ok {
		c.Decisions = len(b.decisions)
		b.phases = append(b.phases, c)
	}
	b.after = after
	b.deferrable = b.deferrable && after.Last.Deferrable && after.Last.Ignored == ""
	if b.dropped == 0 && (!away || b.size <= keptMax) {
		return
	}
	b.dropped += len(b.events)
	b.events, b.size = nil, 0
	b.phases = b.phases[max(len(b.phases)-decidedMax, 0):]
	if over := len(b.decisions) - decidedMax; over > 0 {
		b.decisions = slices.Clone(b.decisions[over:])
		for i := range b.phases {
			b.phases[i].Decisions = max(b.phases[i].Decisions-over, 0)
		}
	}
}

// newRunner makes a runner of what the store holds.
func newRunner(e *Engine, at *endpoint, p *rollout.Plan, s rollout.State, h record.Head) *runner {
	return &runner{
		e: e, id: p.ID, plan: p, at: at, clock: clock.New(e.cfg.wall, s.At), s: s, saved: s, head: h,
		log:  e.log.With("rollout", p.ID, "endpoint", p.Endpoint.Router+"/"+p.Endpoint.Name),
		jobs: map[jobKey]*job{}, unmarked: map[string]bool{}, refs: map[string]string{},
	}
}

// fold folds one event in, with the lock held, and reports whether it counts. An
// answer to an effect that the core ignores leaves no trace.
func (l *runner) fold(ev rollout.Event) bool {
	ev.Known = l.known(ev)
	ev, size, err := normal(ev)
	if err != nil {
		// Unreachable unless an event holds what JSON cannot: a bug of the engine.
		l.log.Error("event dropped", "outcome", err.Error())
		return false
	}
	s := l.e.cfg.next(l.plan, l.s, ev)
	if s.Last.Ignored != "" && (ev.Effect != "" || ev.Kind == rollout.EventWoken) {
		return false
	}
	var b *draft
	if n := len(l.drafts); n > 0 && !l.drafts[n-1].sealed && (len(l.drafts[n-1].events) < draftMax || l.failures > 0) {
		b = l.drafts[n-1]
	} else {
		b = &draft{since: time.Now(), deferrable: true}
		l.drafts = append(l.drafts, b)
	}
	b.add(ev, size, &l.s, s, l.plan, l.failures > 0)
	l.s = s
	if l.unsaved.IsZero() && l.rollbackUnsaved() {
		l.unsaved = time.Now()
		l.setPendingRollback(true)
	}
	return true
}

// setPendingRollback notes, with the lock held, whether a rollback waits to be sent.
func (l *runner) setPendingRollback(on bool) {
	if on != l.pendingRollback {
		l.pendingRollback = on
		l.e.pendingRollbacks.Add(map[bool]int64{true: 1, false: -1}[on])
	}
}

// normal is the event as it will read back from the journal, with its size there.
func normal(ev rollout.Event) (rollout.Event, int, error) {
	b, err := json.Marshal(ev)
	if err != nil {
		return ev, 0, fmt.Errorf("encode event: %w", err)
	}
	var out rollout.Event
	if err := json.Unmarshal(b, &out); err != nil {
		return ev, 0, fmt.Errorf("decode event: %w", err)
	}
	return out, len(b), nil
}

// rollbackUnsaved reports whether a rollback is wanted whose intent is not
// durable.
func (l *runner) rollbackUnsaved() bool {
	return slices.ContainsFunc(l.s.Outbox, func(e rollout.Effect) bool { return isRollback(e) && !l.isSaved(e) })
}

// isRollback reports whether the effect takes traffic from the candidate.
func isRollback(e rollout.Effect) bool {
	return e.Kind == rollout.EffectSetTraffic && !e.Forward
}

// isSaved reports whether the durable state wants the effect.
func (l *runner) isSaved(e rollout.Effect) bool {
	return slices.ContainsFunc(l.saved.Outbox, func(x rollout.Effect) bool {
		return x.ID == e.ID && x.Attempt == e.Attempt
	})
}

// urgent reports whether a rollback has waited for its append long enough.
func (l *runner) urgent() bool {
	if l.unsaved.IsZero() {
		return false
	}
	select {
	case <-l.e.broken:
		return true
	default:
	}
	return time.Since(l.unsaved) >= l.e.cfg.RollbackPatience
}

// step does, with the lock held, whatever is to be done now: woken timers,
// appends, effects to start and to cancel, the next alarm.
func (l *runner) step() {
	if l.gone {
		return
	}
	l.wake()
	l.save()
	l.reconcile()
	if l.s.Phase.Terminal() && len(l.s.Outbox) == 0 && len(l.drafts) == 0 && !l.writing {
		l.drop(nil)
		l.e.closed(l)
		return
	}
	l.arm()
}

// now is the time of the rollout's events.
func (l *runner) now() time.Time { return l.clock.Now() }

// until is how long it is until an instant of the rollout's time; not positive
// when it has come.
func (l *runner) until(t time.Time) time.Duration { return t.Sub(l.now()) }

// due reports whether an effect's time has come.
func (l *runner) due(e rollout.Effect) bool { return e.NotBefore.IsZero() || l.until(e.NotBefore) <= 0 }

// wake folds the answers of the timers that are due. Its rounds are bounded: a
// timer that is due again at once waits for the next step.
func (l *runner) wake() {
	for range 4 {
		woken := false
		for _, e := range slices.Clone(l.s.Outbox) {
			k := keyOf(e)
			if e.Kind != rollout.EffectWake || l.jobs[k] != nil || !l.due(e) {
				continue
			}
			l.jobs[k] = &job{key: k, effect: e, stage: jobAnswered}
			woken = l.fold(rollout.Event{Kind: rollout.EventWoken, At: l.now(), Effect: e.ID, Attempt: e.Attempt}) || woken
		}
		if !woken {
			return
		}
	}
}

// tick is the alarm.
func (l *runner) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.step()
}

// alarmMax bounds how long an alarm is set for: timers stand still while the
// machine is suspended and do not see that the wall clock was put forward.
const alarmMax = time.Minute

// arm sets the alarm for the earliest thing that only time brings about.
func (l *runner) arm() {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, e := range l.s.Outbox {
		j := l.jobs[keyOf(e)]
		if j != nil && j.stage != jobWaits {
			continue
		}
		if !l.due(e) && e.Kind != rollout.EffectMeasure {
			sooner(time.Now().Add(min(l.until(e.NotBefore), alarmMax)))
		}
		if j != nil {
			sooner(j.again)
		}
	}
	if len(l.drafts) > 0 && !l.writing {
		if l.mustPersist() {
			sooner(l.retryAt)
		} else {
			sooner(l.flushAt())
		}
	}
	if !l.unsaved.IsZero() && !l.urgent() {
		sooner(l.unsaved.Add(l.e.cfg.RollbackPatience))
	}
	if at.IsZero() {
		if l.timer != nil {
			l.timer.Stop()
		}
		return
	}
	d := max(time.Until(at), time.Millisecond)
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.tick)
	} else {
		l.timer.Reset(d)
	}
}

// drop forgets everything in memory, with the lock held: the rollout ended here,
// belongs to somebody else, or the engine stops. Waiters learn err.
func (l *runner) drop(err error) {
	if l.gone {
		return
	}
	l.gone = true
	l.setPendingRollback(false)
	l.e.outage.Over(l.id, false)
	if l.timer != nil {
		l.timer.Stop()
	}
	for _, j := range l.jobs {
		j.stop(errUnwanted)
	}
	clear(l.jobs)
	for _, b := range l.drafts {
		b.release(0, err)
	}
	l.drafts = nil
}

// release tells the draft's waiters how it went.
func (b *draft) release(rev store.Revision, err error) {
	for _, w := range b.waiters {
		w.err, w.revision = err, rev
		close(w.done)
	}
	b.waiters = nil
}

// snapshot is what callers may see, with the lock held: the newest state, unless
// it holds more than quiet changes that are not durable.
func (l *runner) snapshot() rollout.Snapshot {
	s := l.s
	if l.mustPersist() {
		s = l.saved
	}
	return rollout.Snapshot{Plan: l.plan, State: s, Revision: uint64(l.head.Revision)}
}
