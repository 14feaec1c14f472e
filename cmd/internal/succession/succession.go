// Package succession runs engines one after the other in one process: a new config is a
// new engine, which recovers the rollouts from the store as after a restart.
//
// The rules of the package:
//   - One engine runs at a time. The one before has ended, or has left its calls
//     behind as at a restart, before the next one begins.
//   - Whoever starts a rollout waits while one engine follows another, so that what a
//     rollout needs is not taken away between its plan and its first record.
//   - An act is recorded whichever engine is asked, and taken up by the next one where
//     the one before did not get to it: an order to roll back is not lost.
//   - What is read comes from the store and waits for nobody; streams go on.
package succession

import (
	"context"
	"fmt"
	"iter"
	"math"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
)

// whole is all of the right to start rollouts, more than anybody will share.
const whole = math.MaxInt64

// Engines are the engines of one process. Its methods are safe for concurrent use.
type Engines struct {
	// starts is held by those who start a rollout, a part of it each, and by whoever
	// replaces the engine, whole.
	starts *semaphore.Weighted

	mu  sync.Mutex
	now *term
}

// A term is the time of one engine.
type term struct {
	*engine.Engine
	// leaves is closed when the engine is to end for the next one, over once that is
	// in force, or there will be none.
	leaves, over chan struct{}
	// next follows, after between; both are set before leaves is closed.
	next    *term
	between func()
}

func newTerm(e *engine.Engine) *term {
	return &term{Engine: e, leaves: make(chan struct{}), over: make(chan struct{})}
}

// New returns engines of which the first does not run yet.
func New(first *engine.Engine) *Engines {
	return &Engines{starts: semaphore.NewWeighted(whole), now: newTerm(first)}
}

// Now is the engine in force. What it says now may be asked of it; it is not kept.
func (x *Engines) Now() *engine.Engine { return x.term().Engine }

func (x *Engines) term() *term {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.now
}

// Run runs the first engine and whatever follows, until ctx ends or an engine fails; it
// returns what the last one's Run did.
func (x *Engines) Run(ctx context.Context) error {
	for {
		t := x.term()
		err := t.run(ctx)
		leaves := closed(t.leaves)
		if err != nil || ctx.Err() != nil || !leaves {
			close(t.over) // Nobody follows: whoever waits gives up.
			return err
		}
		t.between()
		x.mu.Lock()
		x.now = t.next
		x.mu.Unlock()
		close(t.over)
	}
}

// run runs the engine until ctx ends or it is to leave.
func (t *term) run(ctx context.Context) error {
	ctx, stop := t.within(ctx)
	defer stop()
	return t.Run(ctx)
}

// within is a context that ends with ctx or when the engine is to leave.
func (t *term) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		select {
		case <-t.leaves:
			stop()
		case <-ctx.Done():
		}
	}()
	return ctx, stop
}

// Replace lets another engine follow the one in force, and returns once it is in force
// itself; between is called when the one before has ended. Where open rollouts need an
// adapter that leaves, nothing happens and the error is the *engine.InUseError. Only one
// caller may replace at a time, and only while Run runs.
func (x *Engines) Replace(
	ctx context.Context, next *engine.Engine, leaving []engine.AdapterName, between func(),
) error {
	if err := x.starts.Acquire(ctx, whole); err != nil {
		return fmt.Errorf("replace engine: %w", err)
	}
	defer x.starts.Release(whole)
	t := x.term()
	if err := t.InUse(ctx, leaving); err != nil {
		return err
	}
	t.next, t.between = newTerm(next), between
	close(t.leaves)
	if !x.followed(context.WithoutCancel(ctx), t) {
		return fmt.Errorf("replace engine: %w", rollout.ErrStopped)
	}
	return nil
}

// followed reports whether another engine follows that of the term, and waits until it
// is in force.
func (x *Engines) followed(ctx context.Context, t *term) bool {
	if !closed(t.leaves) {
		return false
	}
	select {
	case <-t.over:
		return x.term() != t
	case <-ctx.Done():
		return false
	}
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Release starts a rollout; see engine.Engine.
func (x *Engines) Release(
	ctx context.Context, id string, r rollout.Release, resolve func(context.Context) (*rollout.Plan, error),
) (snapshot rollout.Snapshot, created bool, err error) {
	if err := x.starts.Acquire(ctx, 1); err != nil {
		return rollout.Snapshot{}, false, fmt.Errorf("start rollout %s: %w", id, err)
	}
	defer x.starts.Release(1)
	return x.Now().Release(ctx, id, r, resolve)
}

// Act hands a person's act to a rollout; see engine.Engine. It is recorded at once: what
// the engine that leaves does not take up any more, the next one does.
func (x *Engines) Act(ctx context.Context, id, key string, who access.Actor, ask engine.Ask) (rollout.Snapshot, error) {
	return x.Now().Act(ctx, id, key, who, ask)
}

// Answer decides what becomes of what a person said through a notifier, as Act does; see
// engine.Engine.
func (x *Engines) Answer(ctx context.Context, via string, a notifier.Answer) (notifier.Reply, error) {
	return x.Now().Answer(ctx, via, a)
}

// ClearCooldown ends the cooldown of a version; see engine.Engine.
func (x *Engines) ClearCooldown(
	ctx context.Context, ref rollout.EndpointRef, version string, by person.Person, reason string,
) error {
	return x.Now().ClearCooldown(ctx, ref, version, by, reason)
}

// Rollout returns a rollout as it is now; see engine.Engine.
func (x *Engines) Rollout(ctx context.Context, id string) (rollout.Snapshot, error) {
	return x.Now().Rollout(ctx, id)
}

// Rollouts yields all rollouts; see engine.Engine.
func (x *Engines) Rollouts(ctx context.Context) iter.Seq2[rollout.Snapshot, error] {
	return x.Now().Rollouts(ctx)
}

// Journal yields a rollout's journal; see engine.Engine.
func (x *Engines) Journal(ctx context.Context, id string) iter.Seq2[journal.Entry, error] {
	return x.Now().Journal(ctx, id)
}

// Endpoint returns the record of an endpoint; see engine.Engine.
func (x *Engines) Endpoint(ctx context.Context, ref rollout.EndpointRef) (claim.Record, error) {
	return x.Now().Endpoint(ctx, ref)
}

// Changes yields what is committed after a revision, by whichever engine; see
// engine.Engine.
func (x *Engines) Changes(ctx context.Context, after uint64) iter.Seq2[journal.Change, error] {
	return func(yield func(journal.Change, error) bool) {
		for t := x.term(); ; t = x.term() {
			within, end := t.within(ctx)
			for c, err := range t.Changes(within, after) {
				if !yield(c, err) || err != nil {
					end()
					return
				}
				after = c.Revision
			}
			end()
			if !x.followed(ctx, t) {
				return
			}
		}
	}
}

// Erased yields the rollouts that are deleted from the call on, by whichever engine; see
// engine.Engine.
func (x *Engines) Erased(ctx context.Context) iter.Seq[string] {
	t := x.term()
	within, end := t.within(ctx)
	ids := t.Erased(within)
	return func(yield func(string) bool) {
		for {
			for id := range ids {
				if !yield(id) {
					end()
					return
				}
			}
			end()
			if !x.followed(ctx, t) {
				return
			}
			t = x.term()
			within, end = t.within(ctx)
			ids = t.Erased(within)
		}
	}
}

var _ api.Engine = (*Engines)(nil)
