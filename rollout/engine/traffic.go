package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/traffic"
)

// A router is a traffic.Router with its share of concurrent calls, and of preflights,
// which take their time. Rollbacks need neither.
type router struct {
	traffic.Router
	name   string
	slots  chan struct{}
	checks chan struct{}
}

// takeOver is how long a rollback waits for a cancelled forward call to return.
const takeOver = time.Second

// minTrust is the least time that a lease must still be trusted for before a
// forward call is sent.
const minTrust = 2 * time.Second

// acquire takes a slot, or returns false when ctx ended first.
func acquire(ctx context.Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// setTraffic calls Router.Shift once and reads the split back once.
func (l *runner) setTraffic(ctx context.Context, e rollout.Effect) (rollout.Event, bool) {
	r := l.e.routers[l.plan.Endpoint.Router]
	if r == nil {
		return noRouter(l.plan.Endpoint), true
	}
	if e.From == nil || e.To == nil {
		return notSent(failure.Permanent, "the effect names no split"), true
	}
	if e.Forward {
		return l.raise(ctx, r, e)
	}
	// The forward call that this one supersedes was cancelled; what it may still
	// do is not waited for longer than this.
	wait, cancel := context.WithTimeout(ctx, takeOver)
	if acquire(wait, l.at.writing) {
		defer func() { <-l.at.writing }()
	}
	cancel()
	if ctx.Err() != nil {
		return rollout.Event{}, false
	}
	l.mu.Lock()
	received := l.received
	l.received = time.Time{}
	l.setPendingRollback(false)
	l.mu.Unlock()
	if !received.IsZero() {
		l.e.metrics.decision.Observe(time.Since(received).Seconds())
	}
	return l.shift(ctx, r, e, l.e.cfg.RouterTimeout)
}

// raise sends a forward call: only while the endpoint's record names the rollout
// and the lease is trusted for longer than the call may last.
func (l *runner) raise(ctx context.Context, r *router, e rollout.Effect) (rollout.Event, bool) {
	if !acquire(ctx, r.slots) {
		return rollout.Event{}, false
	}
	defer func() { <-r.slots }()
	if !acquire(ctx, l.at.writing) {
		return rollout.Event{}, false
	}
	defer func() { <-l.at.writing }()
	if !l.proven() || !l.stillOurs(ctx) {
		return rollout.Event{}, false
	}
	if l.e.cfg.Hindered != nil {
		if err := l.e.cfg.Hindered(); err != nil {
			l.warn(ctx, "forward call waits", err)
			return rollout.Event{}, false
		}
	}
	if l.stopping() {
		return notSent(failure.Transient, "not sent: the rollout was paused or held meanwhile"), true
	}
	rec, err := l.e.admission.Read(ctx, l.plan.Endpoint)
	if err != nil {
		return rollout.Event{}, false
	}
	if rec.Active != l.id {
		return notSent(failure.Permanent, "the endpoint's record names %q, not this rollout", rec.Active), true
	}
	trusted := l.at.trusted()
	if trusted < minTrust {
		return rollout.Event{}, false
	}
	return l.shift(ctx, r, e, min(l.e.cfg.RouterTimeout, trusted))
}

// proven reports whether this engine has appended to the journal since it loaded
// it: only then is what it knows certainly the head. It appends when it has not. It
// also tells the core when nobody watched for a while, which may then want the call
// no longer.
func (l *runner) proven() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return false
	}
	silent := l.now().Sub(l.s.At) > l.plan.UnwatchedAfter()
	if silent {
		l.fold(rollout.Event{Kind: rollout.EventWoken, At: l.now()})
	}
	if l.ours {
		return !silent
	}
	if len(l.drafts) == 0 {
		l.drafts = append(l.drafts, &draft{since: time.Now(), after: l.s})
	}
	l.flush = true
	l.save()
	l.flush = false
	return false
}

// stopping reports whether the rollout was paused or held since its forward call was
// first wanted. A call that is under way then is waited for; none begins.
func (l *runner) stopping() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s.Shift != nil && l.s.Shift.Stopped()
}

// stillOurs looks at the journal's head right before a forward call: nobody else
// has claimed the rollout meanwhile, as far as can be seen. It makes the time in
// which a replica that was overtaken may still write as short as one read.
func (l *runner) stillOurs(ctx context.Context) bool {
	rec, err := l.e.cfg.Store.Head(ctx, record.RolloutKey(l.id))
	if err != nil {
		return false
	}
	entry, err := record.DecodeEntry(rec)
	l.mu.Lock()
	defer l.mu.Unlock()
	return err == nil && !l.gone && entry.Owner == l.e.cfg.Owner && entry.Epoch == l.head.Epoch
}

// shift makes the call and the read-back.
func (l *runner) shift(ctx context.Context, r *router, e rollout.Effect, timeout time.Duration) (rollout.Event, bool) {
	call, cancel := context.WithTimeout(ctx, timeout)
	err := r.Shift(call, l.plan.Endpoint.Name, e.From.Clone(), e.To.Clone())
	cancel()
	ev := rollout.Event{Kind: rollout.EventTraffic}
	if err != nil {
		ev.Failure = failureOf(err)
	}
	l.e.metrics.routerCall(r.name, err)
	if err != nil {
		l.warn(ctx, "traffic call failed", err, "weight", e.To.Weights[l.plan.Release.Candidate])
	}
	if ctx.Err() != nil {
		// Cancelled: whoever wants something else now reads for itself.
		return rollout.Event{}, false
	}
	split, err := l.split(ctx, r)
	if err == nil {
		ev.Split = &split
	}
	return ev, true
}

// split reads the endpoint's split once.
func (l *runner) split(ctx context.Context, r *router) (traffic.Split, error) {
	ctx, cancel := context.WithTimeout(ctx, l.e.cfg.RouterTimeout)
	defer cancel()
	split, err := r.Split(ctx, l.plan.Endpoint.Name)
	l.e.metrics.routerCall(r.name, err)
	return split, err
}

// readTraffic reads the split once. The reads of a rollback take no slot.
func (l *runner) readTraffic(ctx context.Context, s rollout.State, describe bool) (rollout.Event, bool) {
	r := l.e.routers[l.plan.Endpoint.Router]
	if r == nil {
		return noRouter(l.plan.Endpoint), true
	}
	call, cancel := context.WithTimeout(ctx, l.e.cfg.RouterTimeout)
	defer cancel()
	if s.Phase != rollout.PhaseRollingBack {
		switch {
		case acquire(call, r.slots):
			defer func() { <-r.slots }()
		case ctx.Err() != nil:
			return rollout.Event{}, false
		default:
			return notSent(failure.Transient, "router %s was busy for %s", r.name, l.e.cfg.RouterTimeout), true
		}
	}
	split, err := l.split(call, r)
	if ctx.Err() != nil {
		return rollout.Event{}, false
	}
	ev := rollout.Event{Kind: rollout.EventTraffic}
	if err != nil {
		ev.Failure = failureOf(err)
		return ev, true
	}
	ev.Split = &split
	if describe {
		soon, done := context.WithTimeout(ctx, describeWithin)
		defer done()
		if d, err := l.describe(soon, r); err == nil {
			ev.Deployments = factsOf(d)
		}
	}
	return ev, ctx.Err() == nil
}

// describeWithin is how long what was read of the split waits for a description.
const describeWithin = 5 * time.Second

// compare looks, with the lock held and once after loading, whether the endpoint
// shows a later step than the journal knows of: then the store lost records, and
// the core is told that instead of what was read.
func (l *runner) compare(shown split.Split) (lost bool) {
	if !l.fresh {
		return false
	}
	l.fresh = false
	s := &l.s
	if !s.Claimed || s.Stable == "" || s.Phase.Terminal() ||
		s.Phase == rollout.PhaseRollingBack || s.Phase == rollout.PhaseSuspect {
		return false
	}
	candidate := l.plan.Release.Candidate
	// What a rollback leaves behind that the journal does not know of must not be put
	// back as somebody else's change would be.
	back := shown.Equal(split.Split{Weights: map[string]int{s.Stable: 100}}) &&
		s.Confirmed != nil && s.Confirmed.Weights[candidate] > 0
	if back && l.plan.OnForeignChange == rollout.ForeignRestore {
		l.fold(rollout.Event{Kind: rollout.EventSuspected, At: l.now(), Split: &shown, Reason: fmt.Sprintf(
			"The endpoint shows %s, as after a rollback, and the journal knows of none: "+
				"records were lost, or somebody rolled it back by hand.", shown)})
		return true
	}
	if shown.Weights[candidate] <= s.Allowed {
		return false
	}
	for i := s.Step + 1; i < len(l.plan.Steps); i++ {
		step := l.plan.Steps[i]
		if step.Kind() != split.ShareLive || !shown.Equal(step.Split(s.Stable, candidate)) {
			continue
		}
		l.fold(rollout.Event{Kind: rollout.EventSuspected, At: l.now(), Split: &shown, Reason: fmt.Sprintf(
			"The endpoint shows step %s (%s), which the journal has not reached: records were lost.", step.Name, shown)})
		return true
	}
	return false
}

// noRouter answers for a router that the configuration does not name.
func noRouter(ref rollout.EndpointRef) rollout.Event {
	return notSent(failure.Permanent, "router %q is not configured", ref.Router)
}

// notSent answers for a call of the router that was not made.
func notSent(kind failure.Kind, format string, args ...any) rollout.Event {
	return rollout.Event{Kind: rollout.EventTraffic,
		Failure: &failure.Failure{Kind: kind, Message: fmt.Sprintf(format, args...)}}
}

// failureOf says what can be done about a router's error.
func failureOf(err error) *failure.Failure {
	var busy *traffic.BusyError
	switch {
	case errors.As(err, &busy):
		return &failure.Failure{Kind: failure.Busy, Message: err.Error(), RetryAfter: busy.RetryAfter}
	case errors.Is(err, traffic.ErrForeignChange):
		return &failure.Failure{Kind: failure.Foreign, Message: err.Error()}
	case errors.Is(err, traffic.ErrPermanent), errors.Is(err, traffic.ErrNotFound):
		return &failure.Failure{Kind: failure.Permanent, Message: err.Error()}
	}
	return &failure.Failure{Kind: failure.Transient, Message: err.Error()}
}
