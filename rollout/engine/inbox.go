package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/record"
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

// A receipt is the second record of an act: it was folded in as entry Folded of the
// journal, and what the core said to it.
type receipt struct {
	Folded  int    `json:"folded"`
	Ignored string `json:"ignored,omitempty"`
}

// An Ask says what somebody wants of a rollout as it is; was is the act that was
// taken up under the same key before, nil when there is none. Its errors are its
// caller's.
type Ask = func(s rollout.Snapshot, was *rollout.Event) (rollout.Event, error)

// Act hands a person's answer or command to a rollout, once they may: a
// *access.ForbiddenError says why not. What was taken up already is not judged by
// what became of the rollout since. For the rest it is Deliver; the caller has
// checked that the person is who they say.
func (e *Engine) Act(ctx context.Context, id, key string, who access.Actor, ask Ask) (rollout.Snapshot, error) {
	return e.deliver(ctx, id, key, func(s rollout.Snapshot, was *rollout.Event) (rollout.Event, error) {
		ev, err := ask(s, was)
		if err != nil || was != nil {
			return ev, err
		}
		if why := access.Forbids(s.Plan, &s.State, who, ev); why != "" {
			return ev, &access.ForbiddenError{Why: why}
		}
		return ev.For(&s.State), nil
	})
}

// Deliver hands an act to a rollout on behalf of whoever may everything. The act is
// created once under the key, so that the same key is the same act, and is durable
// when Deliver returns nil; the state returned is the one that the act led to, and
// its Last.Ignored says why it changed nothing when that is so. ErrNotFound, ErrEnded
// (the rollout takes no orders any more) and ErrDifferent (the key was used for
// another act) are the caller's mistakes.
func (e *Engine) Deliver(ctx context.Context, id, key string, ev rollout.Event) (rollout.Snapshot, error) {
	return e.deliver(ctx, id, key, func(rollout.Snapshot, *rollout.Event) (rollout.Event, error) { return ev, nil })
}

// deliver is the one door of all acts.
func (e *Engine) deliver(ctx context.Context, id, key string, ask Ask) (rollout.Snapshot, error) {
	fail := func(err error) (rollout.Snapshot, error) {
		return rollout.Snapshot{}, fmt.Errorf("deliver to rollout %s: %w", id, err)
	}
	if !record.ValidID(key) {
		key = actKey("", key)
	}
	before, err := e.Rollout(ctx, id)
	if err != nil {
		return fail(err)
	}
	l := e.runner(id)
	evicted, heard := l.forgotten()
	old, known, err := e.act(ctx, id, key)
	if err != nil {
		return fail(err)
	}
	var was *rollout.Event
	if known {
		was = &old.event
	}
	ev, err := ask(before, was)
	if err != nil {
		return rollout.Snapshot{}, err
	}
	if ev, err = e.asAct(ev, key); err != nil {
		return fail(err)
	}
	switch {
	case known && !sameAct(old.event, ev):
		return fail(ErrDifferent)
	case known:
		ev = old.event
	case before.State.Phase.Terminal() && (ev.Command != rollout.CommandAck || before.State.Page == nil):
		return fail(ErrEnded)
	default:
		if ev, err = e.record(ctx, id, ev); errors.Is(err, ErrDifferent) {
			return fail(err)
		} else if err != nil {
			return fail(&failure.UnrecordedError{Manual: before.State.Manual, Err: err})
		}
	}
	if old.receipt.Folded > 0 {
		before.State.Last = rollout.Last{Ignored: old.receipt.Ignored}
		return before, nil
	}
	if heard {
		if w := l.actAndWait(ev, evicted); w != nil {
			return l.waitFor(ctx, w)
		}
	}
	return e.foldedIn(ctx, id, ev)
}

// asAct is the event as it is recorded under the key: not later than now.
func (e *Engine) asAct(ev rollout.Event, key string) (rollout.Event, error) {
	if !ev.IsAct() {
		return ev, errors.New("not an answer or a command")
	}
	ev.Key, ev.Effect, ev.Attempt = key, "", 0
	if at := e.now(); ev.At.IsZero() || ev.At.After(at) {
		ev.At = at
	}
	ev, _, err := normal(ev)
	return ev, err
}

// record creates the act, once.
func (e *Engine) record(ctx context.Context, id string, ev rollout.Event) (rollout.Event, error) {
	entry, err := json.Marshal(ev)
	if err != nil {
		return ev, fmt.Errorf("encode event: %w", err)
	}
	_, err = e.append(ctx, record.InboxKey(id, ev.Key), entry, []byte(unfoldedState), 0)
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
	if !samePerson(a.By, b.By) {
		return false
	}
	a.At, b.At, a.Hold, b.Hold = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	a.By, b.By = nil, nil
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// samePerson reports whether two people have one id, or were heard under one name.
func samePerson(a, b *person.Person) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ID == b.ID || cmp.Or(a.As, a.ID) == cmp.Or(b.As, b.ID)
}

// foldedIn waits a while until an act that is recorded was taken up, here or by the
// replica that carries the rollout.
func (e *Engine) foldedIn(ctx context.Context, id string, ev rollout.Event) (rollout.Snapshot, error) {
	if l := e.runner(id); l != nil {
		e.spawn(l.hear)
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
		if old.receipt.Folded > 0 {
			snapshot.State.Last = rollout.Last{Ignored: old.receipt.Ignored}
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

// A recordedAct is an act in the store.
type recordedAct struct {
	event   rollout.Event
	receipt receipt
}

// act reads an act from the store.
func (e *Engine) act(ctx context.Context, id, key string) (a recordedAct, known bool, err error) {
	first := true
	for rec, err := range e.cfg.Store.History(ctx, record.InboxKey(id, key)) {
		if errors.Is(err, store.ErrNotFound) {
			return recordedAct{}, false, nil
		}
		if err != nil {
			return recordedAct{}, false, fmt.Errorf("read act %s: %w", key, err)
		}
		into := any(&a.receipt)
		if first {
			into = &a.event
		}
		if err := json.Unmarshal(rec.Entry, into); err != nil {
			return recordedAct{}, false, fmt.Errorf("decode act %s: %w", key, err)
		}
		first = false
	}
	return a, !first, nil
}

// unfoldedState is the state of an act that nobody has marked yet.
const unfoldedState = "{}"

// isUnfolded reports whether the head of an act's key is the act itself.
func isUnfolded(rec store.Record) bool { return string(rec.State) == unfoldedState }

// acknowledge notes, in the record of an act that is in the journal, that it was taken up:
// only then may the state forget the act's key. A receipt that cannot be written is
// tried again when the inbox is read the next time.
func (l *runner) acknowledge(ctx context.Context, key string, seq int, ignored string) {
	rec, err := l.e.cfg.Store.Head(ctx, record.InboxKey(l.id, key))
	if err == nil && isUnfolded(rec) {
		var b []byte
		if b, err = json.Marshal(receipt{Folded: seq, Ignored: ignored}); err == nil {
			_, err = l.e.append(ctx, rec.Key, b, b, rec.Revision)
		}
	}
	switch {
	case err == nil, errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound):
		l.marked(key)
	case ctx.Err() == nil:
		l.warn(ctx, "act not marked", err)
	}
	l.e.news.notifyAll()
}

// marked notes that an act's record says that it was taken up: those that wait
// because the state could not forget it yet are looked for again.
func (l *runner) marked(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.unmarked, key)
	if l.waits {
		l.waits = false
		l.e.spawn(l.hear)
	}
}

// unfolded returns the acts of a rollout that its journal does not have yet.
func (e *Engine) unfolded(ctx context.Context, id string) ([]rollout.Event, error) {
	var acts []rollout.Event
	var heads []store.Record
	for rec, err := range e.cfg.Store.Heads(ctx, record.InboxKey(id, "")) {
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
	return acts, nil
}

// hear folds in what waits in the rollout's inbox, as soon as that can be read.
func (l *runner) hear(ctx context.Context) {
	for {
		evicted, _ := l.forgotten()
		acts, err := l.e.unfolded(ctx, l.id)
		if l.take(acts, err == nil, evicted) {
			return
		}
		if err == nil {
			continue // What was read is older than what the state has forgotten.
		}
		l.warn(ctx, "inbox not read", err)
		if !sleep(ctx, l.e.cfg.Poll) {
			return
		}
	}
}

// take folds the acts of the inbox in, and marks those again that are in the journal.
// It reports whether there is nothing left to do.
func (l *runner) take(acts []rollout.Event, read bool, evicted int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.step()
	if l.gone || !read || evicted != l.evicted {
		return l.gone
	}
	l.heard = true
	var fresh []rollout.Event
	for _, ev := range acts {
		switch {
		case l.saved.Heard(ev.Key):
			l.unmarked[ev.Key] = true
			seq := l.head.Seq
			l.e.spawn(func(ctx context.Context) { l.acknowledge(ctx, ev.Key, seq, "") })
		case !l.s.Heard(ev.Key):
			fresh = append(fresh, ev)
		}
	}
	for _, ev := range fresh {
		l.act(ev)
	}
	return true
}

// forgotten counts the acts that the state has forgotten since it was loaded: what
// was read of the inbox before it forgot one may be an act that it knew. heard is
// false while it is not known which acts are unmarked.
func (l *runner) forgotten() (n int, heard bool) {
	if l == nil {
		return 0, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.evicted, l.heard
}

// act folds an act in, with the lock held, that was not here before. One that was
// heard by a clock that is ahead happens now: were the rollout's time put forward by
// it, nothing would be read until the clock here has caught up. Where the state would
// forget an act that is not marked, and might take it up twice, only a rollback is
// folded in: any other act waits in the inbox.
func (l *runner) act(ev rollout.Event) *waiter {
	if len(l.s.Acts) >= rollout.HeardMax {
		if l.unmarked[l.s.Acts[0]] && ev.Command != rollout.CommandRollback {
			l.waits = true
			return nil
		}
		l.evicted++
	}
	l.unmarked[ev.Key] = true
	if now := l.now(); ev.At.After(now) {
		ev.At = now
	}
	if !l.fold(ev) {
		return nil
	}
	w := &waiter{key: ev.Key, state: l.s, done: make(chan struct{})}
	b := l.drafts[len(l.drafts)-1]
	b.deferrable = false
	b.waiters = append(b.waiters, w)
	return w
}

// actAndWait folds an act in that was just recorded and returns whom to wait for; nil
// when it was, or is being, folded in elsewhere.
func (l *runner) actAndWait(ev rollout.Event, evicted int) *waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone || l.s.Heard(ev.Key) || l.evicted != evicted {
		return nil
	}
	w := l.act(ev)
	l.step()
	return w
}

// known is who the people on record and in the event are at present, where people gives
// them another id than their own name; with the lock held.
func (l *runner) known(ev rollout.Event) map[string]string {
	var known map[string]string
	for _, name := range l.s.Speakers(l.plan, ev) {
		id := l.e.cfg.Canonical(name)
		if id == "" || id == name {
			continue
		}
		if known == nil {
			known = map[string]string{}
		}
		known[name] = id
	}
	return known
}

// waitFor waits until the act is durable.
func (l *runner) waitFor(ctx context.Context, w *waiter) (rollout.Snapshot, error) {
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
