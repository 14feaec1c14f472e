package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/belayd/belay/rollout"
)

// errUnwanted cancels a call whose effect is no longer wanted; errStopping one
// that a stop cut off. What such a call returns is not an answer.
var (
	errUnwanted = errors.New("no longer wanted")
	errStopping = errors.New("the engine stops")
)

// jobKey is one try of one effect.
type jobKey struct {
	id        string
	attempt   int
	notBefore int64
}

func keyOf(e rollout.Effect) jobKey {
	k := jobKey{id: e.ID, attempt: e.Attempt}
	if !e.NotBefore.IsZero() {
		k.notBefore = e.NotBefore.UnixNano()
	}
	return k
}

// A job is one try of an effect: under way, answered, or to be made again.
type job struct {
	key    jobKey
	effect rollout.Effect
	stage  jobStage
	// ctx and cancel are those of the call, once one was made.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// again is when a job that waits may be tried again.
	again time.Time
}

// jobStage is how far a job has come.
type jobStage int

const (
	// jobRuns: its call is under way.
	jobRuns jobStage = iota
	// jobAnswered: its answer was folded in. It stays until the core wants it no more.
	jobAnswered
	// jobWaits: it is tried again later.
	jobWaits
)

// stop cancels the call of a job that is under way.
func (j *job) stop(cause error) {
	if j.stage == jobRuns {
		j.cancel(cause)
	}
}

// retry asks to try a job again later, without an answer: a condition that only
// the engine knows (a lease, the store) does not hold yet.
const retry = 500 * time.Millisecond

// reconcile makes what is under way match what is wanted, with the lock held:
// unwanted work is cancelled, missing work is started, rollbacks first.
func (l *runner) reconcile() {
	want := make(map[jobKey]bool, len(l.s.Outbox))
	for _, e := range l.s.Outbox {
		want[keyOf(e)] = true
	}
	for k, j := range l.jobs {
		// A message under way is not cut off: the reference it returns is needed to
		// update it instead of sending another.
		if want[k] || j.stage == jobRuns && isMessage(j.effect.Kind) {
			continue
		}
		j.stop(errUnwanted)
		delete(l.jobs, k)
	}
	for _, e := range l.s.Outbox {
		if isRollback(e) {
			l.consider(e)
		}
	}
	for _, e := range l.s.Outbox {
		if !isRollback(e) {
			l.consider(e)
		}
	}
}

// consider starts an effect that is missing and may start now.
func (l *runner) consider(e rollout.Effect) {
	k := keyOf(e)
	if e.Kind == rollout.EffectWake {
		return
	}
	if j := l.jobs[k]; j != nil {
		if j.stage != jobWaits || j.again.After(time.Now()) {
			return
		}
		delete(l.jobs, k)
	}
	if !l.due(e) && e.Kind != rollout.EffectMeasure {
		return
	}
	if !l.may(e) {
		return
	}
	l.start(k, e)
}

// may reports whether the effect may start: its intent is durable, or it needs
// none.
func (l *runner) may(e rollout.Effect) bool {
	saved := l.isSaved(e)
	if l.e.isStopping() && !isRollback(e) && (e.Kind != rollout.EffectPage || !l.urgent()) {
		return false
	}
	switch e.Kind {
	case rollout.EffectWake, rollout.EffectReadTraffic, rollout.EffectMeasure:
		return true
	case rollout.EffectSetTraffic:
		if isRollback(e) {
			return saved || l.urgent()
		}
		return saved
	case rollout.EffectPage:
		return (saved || l.urgent()) && !l.delivering(&e)
	case rollout.EffectTell, rollout.EffectAsk:
		return saved && !l.delivering(&e)
	case rollout.EffectClaim, rollout.EffectRelease, rollout.EffectPreflight:
		return saved
	}
	return false
}

// start begins one try of an effect.
func (l *runner) start(k jobKey, e rollout.Effect) {
	base := l.e.baseContext()
	if base == nil {
		return
	}
	ctx, cancel := context.WithCancelCause(base)
	j := &job{key: k, effect: e, ctx: ctx, cancel: cancel}
	l.jobs[k] = j
	s := l.s
	if e.Kind == rollout.EffectMeasure {
		l.measure(j, s)
		return
	}
	if !l.e.spawn(func(context.Context) {
		defer cancel(nil)
		ev, ok := l.run(ctx, j.effect, s)
		l.finish(j, ev, ok)
	}) {
		cancel(errStopping)
		delete(l.jobs, k)
	}
}

// run makes the outside call of a job and returns its answer. ok is false when
// there is none: the job is tried again later, unless it was cancelled.
func (l *runner) run(ctx context.Context, e rollout.Effect, s rollout.State) (ev rollout.Event, ok bool) {
	switch e.Kind {
	case rollout.EffectClaim:
		return l.claim(ctx, e)
	case rollout.EffectRelease:
		return l.release(ctx, s, e)
	case rollout.EffectPreflight:
		return l.preflight(ctx)
	case rollout.EffectSetTraffic:
		return l.setTraffic(ctx, e)
	case rollout.EffectReadTraffic:
		return l.readTraffic(ctx, s, e.Describe)
	case rollout.EffectAsk, rollout.EffectTell, rollout.EffectPage:
		return l.deliver(ctx, s, l.referred(e))
	case rollout.EffectMeasure, rollout.EffectWake:
		// Unreachable: readings are gathered, timers are folded.
	}
	return rollout.Event{}, false
}

// finish folds a job's answer.
func (l *runner) finish(j *job, ev rollout.Event, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone || l.jobs[j.key] != j {
		return
	}
	if j.ctx.Err() != nil && !ok {
		delete(l.jobs, j.key)
		return
	}
	if !ok {
		l.later(j)
		return
	}
	j.stage = jobAnswered
	if ev.Kind == rollout.EventDelivered && ev.Ref != "" {
		l.refs[ev.Notifier+"|"+ev.Key] = ev.Ref
	}
	ev.At, ev.Effect, ev.Attempt = l.now(), j.effect.ID, j.effect.Attempt
	if ev.Kind == rollout.EventTraffic && ev.Split != nil && l.compare(*ev.Split) {
		// The read stays unanswered: it is made again.
		l.later(j)
		return
	}
	if ev.Kind == rollout.EventQueued {
		// Asked again with the same answer: nothing happened.
		if same := l.queued != nil && l.queued.Effect == ev.Effect && l.queued.BlockedBy == ev.BlockedBy; same {
			l.step()
			return
		}
		l.queued = &ev
	}
	l.fold(ev)
	l.step()
}

// running reports whether a call is under way.
func (l *runner) running() bool {
	for _, j := range l.jobs {
		if j.stage == jobRuns {
			return true
		}
	}
	return false
}

// later makes a job be tried again in a while.
func (l *runner) later(j *job) {
	j.stage, j.again = jobWaits, time.Now().Add(retry)
	l.step()
}

// delivering reports whether an earlier message of the same key is under way to the
// same notifier.
func (l *runner) delivering(e *rollout.Effect) bool {
	for _, j := range l.jobs {
		if j.stage != jobRuns || !isMessage(j.effect.Kind) || j.effect.Notice == nil || e.Notice == nil {
			continue
		}
		if slices.Equal(j.effect.Notifiers, e.Notifiers) && j.effect.Notice.Key == e.Notice.Key {
			return true
		}
	}
	return false
}

func isMessage(k rollout.EffectKind) bool {
	return k == rollout.EffectAsk || k == rollout.EffectTell || k == rollout.EffectPage
}
