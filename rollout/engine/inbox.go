package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/store"
)

// foldPatience is how long Deliver waits for another replica to fold an act in, but
// at least foldMargin less than its caller does: who waits for the answer must
// learn that the act is recorded.
const (
	foldPatience = 2 * time.Second
	foldMargin   = 250 * time.Millisecond
)

// errPending: the act is recorded and will be folded in; the caller did not wait.
var errPending = errors.New("recorded, and not yet folded in")

// A mark is the second record of an act: it was folded in as entry Folded of the
// journal, and what the core said to it.
type mark struct {
	Folded  int    `json:"folded"`
	Ignored string `json:"ignored,omitempty"`
}

// Deliver hands a person's answer or command to a rollout. The act is created
// once under the key, so that the same key is the same act, and is durable when
// Deliver returns nil; the state returned is the one that the act led to, and its
// Last.Ignored says why it changed nothing when that is so. ErrNotFound,
// ErrEnded (the rollout takes no orders any more) and ErrDifferent (the key was
// used for another act) are the caller's mistakes. The caller has checked that
// the person is who they say and has the right to act.
func (e *Engine) Deliver(ctx context.Context, id, key string, ev rollout.Event) (rollout.Snapshot, error) {
	fail := func(err error) (rollout.Snapshot, error) {
		return rollout.Snapshot{}, fmt.Errorf("deliver %s to rollout %s: %w", ev.Kind, id, err)
	}
	if !validID(key) {
		key = actKey("", key)
	}
	before, err := e.Rollout(ctx, id)
	if err != nil {
		return fail(err)
	}
	if ev.Kind != rollout.EventAnswered && ev.Kind != rollout.EventCommanded && ev.Kind != rollout.EventSuperseded {
		return fail(errors.New("not an answer or a command"))
	}
	ev.Key, ev.Effect, ev.Attempt = key, "", 0
	if at := e.clock.now(); ev.At.IsZero() || ev.At.After(at) {
		ev.At = at
	}
	if ev, err = normal(ev); err != nil {
		return fail(err)
	}
	old, known, err := e.act(ctx, id, key)
	switch {
	case err != nil:
		return fail(err)
	case known && !sameAct(old.event, ev):
		return fail(ErrDifferent)
	case known:
		ev = old.event
	case before.State.Phase.Terminal() && (ev.Command != rollout.CommandAck || before.State.Page == nil):
		return fail(ErrEnded)
	default:
		if ev, err = e.record(ctx, id, ev); err != nil {
			return fail(err)
		}
	}
	if old.mark.Folded > 0 {
		before.State.Last = rollout.Last{Ignored: old.mark.Ignored}
		return before, nil
	}
	return e.foldIn(ctx, id, ev)
}

// Delivered returns the act that was delivered to a rollout under the key; known
// is false when there is none.
func (e *Engine) Delivered(ctx context.Context, id, key string) (ev rollout.Event, known bool, err error) {
	if !validID(key) {
		key = actKey("", key)
	}
	a, known, err := e.act(ctx, id, key)
	return a.event, known, err
}

// record creates the act, once.
func (e *Engine) record(ctx context.Context, id string, ev rollout.Event) (rollout.Event, error) {
	entry, err := json.Marshal(ev)
	if err != nil {
		return ev, fmt.Errorf("encode event: %w", err)
	}
	e.heard(id)
	_, err = e.append(ctx, inboxKey(id, ev.Key), entry, []byte(unfoldedState), 0)
	if !errors.Is(err, store.ErrConflict) {
		return ev, err
	}
	// Somebody else, or another try, was here first.
	old, known, err := e.act(ctx, id, ev.Key)
	switch {
	case err != nil:
		return ev, err
	case !known || !sameAct(old.event, ev):
		return ev, ErrDifferent
	}
	return old.event, nil
}

// sameAct reports whether two events are one act: their time may differ, the hold
// that was found, and what is known of the person besides who it is.
func sameAct(a, b rollout.Event) bool {
	a.At, b.At, a.Hold, b.Hold = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	a.By, b.By = bare(a.By), bare(b.By)
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// bare is a person by nothing but their id.
func bare(p *rollout.Person) *rollout.Person {
	if p == nil {
		return nil
	}
	return &rollout.Person{ID: p.ID}
}

// foldIn folds an act in here, or waits a while for the replica that can.
func (e *Engine) foldIn(ctx context.Context, id string, ev rollout.Event) (rollout.Snapshot, error) {
	if l := e.live(id); l != nil {
		w, folded := l.actAndWait(ev)
		if folded {
			return l.waitFor(ctx, w)
		}
	}
	deadline := time.Now().Add(foldPatience)
	if end, ok := ctx.Deadline(); ok && end.Add(-foldMargin).Before(deadline) {
		deadline = end.Add(-foldMargin)
	}
	pending := func(err error) (rollout.Snapshot, error) {
		return rollout.Snapshot{}, fmt.Errorf("deliver %s to rollout %s: %w: %w", ev.Kind, id, errPending, err)
	}
	for {
		changed := e.news.next()
		old, _, err := e.act(ctx, id, ev.Key)
		if err != nil {
			return pending(err)
		}
		snapshot, err := e.Rollout(ctx, id)
		if err != nil {
			return pending(err)
		}
		if old.mark.Folded > 0 {
			snapshot.State.Last = rollout.Last{Ignored: old.mark.Ignored}
			return snapshot, nil
		}
		left := time.Until(deadline)
		if left <= 0 || ctx.Err() != nil {
			snapshot.State.Last = rollout.Last{}
			return snapshot, nil
		}
		timer := time.NewTimer(min(left, e.cfg.Poll/4+time.Millisecond))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// A heardAct is an act in the store.
type heardAct struct {
	event rollout.Event
	mark  mark
}

// act reads an act from the store.
func (e *Engine) act(ctx context.Context, id, key string) (a heardAct, known bool, err error) {
	first := true
	for rec, err := range e.cfg.Store.History(ctx, inboxKey(id, key)) {
		if errors.Is(err, store.ErrNotFound) {
			return heardAct{}, false, nil
		}
		if err != nil {
			return heardAct{}, false, fmt.Errorf("read act %s: %w", key, err)
		}
		into := any(&a.mark)
		if first {
			into = &a.event
		}
		if err := json.Unmarshal(rec.Entry, into); err != nil {
			return heardAct{}, false, fmt.Errorf("decode act %s: %w", key, err)
		}
		first = false
	}
	return a, !first, nil
}

// unfoldedState is the state of an act that nobody has marked yet.
const unfoldedState = "{}"

// isUnfolded reports whether the head of an act's key is the act itself.
func isUnfolded(rec store.Record) bool { return string(rec.State) == unfoldedState }

// heard notes that something may wait in a rollout's inbox.
func (e *Engine) heard(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.acts[id] = true
}

// mark notes that an act is in the journal. When that fails the journal itself
// still says so.
func (e *Engine) mark(ctx context.Context, id, key string, seq int, ignored string) {
	rec, err := e.cfg.Store.Head(ctx, inboxKey(id, key))
	if err != nil || !isUnfolded(rec) {
		return
	}
	b, err := json.Marshal(mark{Folded: seq, Ignored: ignored})
	if err != nil {
		return // Unreachable: two plain fields.
	}
	if _, err := e.append(ctx, inboxKey(id, key), b, b, rec.Revision); err != nil && ctx.Err() == nil {
		e.log.Warn("act not marked", "rollout", id, "outcome", err.Error())
	}
	e.news.tell()
}

// unfolded returns the acts of a rollout that its journal does not have yet.
func (e *Engine) unfolded(ctx context.Context, id string) ([]rollout.Event, error) {
	var acts []rollout.Event
	var heads []store.Record
	for rec, err := range e.cfg.Store.Heads(ctx, inboxKey(id, "")) {
		if err != nil {
			return nil, fmt.Errorf("read inbox of %s: %w", id, err)
		}
		if isUnfolded(rec) {
			heads = append(heads, rec)
		}
	}
	// Keys are hashes: the order in which people spoke is the revisions'.
	slices.SortFunc(heads, func(a, b store.Record) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, rec := range heads {
		var ev rollout.Event
		if err := json.Unmarshal(rec.Entry, &ev); err != nil {
			e.log.Error("act not readable", "rollout", id, "outcome", err.Error())
			continue
		}
		acts = append(acts, ev)
	}
	if len(acts) == 0 || e.cfg.mutant.has(mutantTwice) {
		return acts, nil
	}
	// A crash between the journal's append and the mark: the journal knows.
	had := map[string]int{}
	for entry, err := range e.Journal(ctx, id) {
		if err != nil {
			return nil, err
		}
		for _, ev := range entry.Events {
			if ev.Key != "" && ev.Effect == "" {
				had[ev.Key] = entry.Seq
			}
		}
	}
	left := acts[:0]
	for _, ev := range acts {
		if seq, ok := had[ev.Key]; ok {
			e.mark(ctx, id, ev.Key, seq, "")
			continue
		}
		left = append(left, ev)
	}
	return left, nil
}

// act folds an act in, with the lock held, unless it was here before. One that was
// heard by a clock that is ahead happens now: were the rollout's time put forward by
// it, nothing would be read until the clock here has caught up.
func (l *live) act(ev rollout.Event) *waiter {
	if l.gone || l.acts[ev.Key] {
		return nil
	}
	l.acts[ev.Key] = true
	if now := l.now(); ev.At.After(now) {
		ev.At = now
	}
	if !l.fold(ev) {
		return nil
	}
	w := &waiter{key: ev.Key, state: l.s, done: make(chan struct{})}
	b := l.batches[len(l.batches)-1]
	b.quiet = false
	b.waiters = append(b.waiters, w)
	return w
}

// actAndWait folds an act in and returns whom to wait for; false when it was, or
// is being, folded in elsewhere.
func (l *live) actAndWait(ev rollout.Event) (*waiter, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.act(ev)
	l.step()
	return w, w != nil
}

// waitFor waits until the act is durable.
func (l *live) waitFor(ctx context.Context, w *waiter) (rollout.Snapshot, error) {
	select {
	case <-w.done:
	case <-ctx.Done():
		return rollout.Snapshot{}, fmt.Errorf("deliver to rollout %s: %w: %w", l.id, errPending, context.Cause(ctx))
	}
	if w.err != nil {
		// The act is recorded; whoever carries the rollout now folds it in.
		s, err := l.e.Rollout(ctx, l.id)
		if err != nil {
			return rollout.Snapshot{}, fmt.Errorf("deliver to rollout %s: %w: %w", l.id, errPending, err)
		}
		s.State.Last = rollout.Last{}
		return s, nil
	}
	return rollout.Snapshot{Plan: l.plan, State: w.state, Revision: uint64(w.revision)}, nil
}

// splitInboxKey returns the rollout and the act of an inbox key.
func splitInboxKey(key string) (id, act string, ok bool) {
	return strings.Cut(strings.TrimPrefix(key, inboxPrefix), "/")
}
