package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

// claimTries bounds how often claims are tried against other replicas' at once.
const claimTries = 8

// A desk is the one writer of an endpoint's record in this process: whoever wants to
// change it leaves a slip, and who gets to the desk first does the work of all.
type desk struct {
	turn chan struct{}

	mu    sync.Mutex
	slips []*slip
	// rec is the record at rev as it was last read or written; known: there is one.
	rec   rollout.EndpointRecord
	rev   store.Revision
	known bool
}

// A slip is a change that somebody wants, and what came of it.
type slip struct {
	ev   rollout.EndpointEvent
	done chan struct{}
	rec  rollout.EndpointRecord
	err  error
}

// desk returns the desk of an endpoint.
func (e *Engine) desk(ref rollout.EndpointRef) *desk {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.desks[ref]
	if d == nil {
		d = &desk{turn: make(chan struct{}, 1)}
		e.desks[ref] = d
	}
	return d
}

// admit folds an event into an endpoint's record until it is in the store, and
// returns the record: as it was right after the event where that refused a claim, and
// otherwise as it is in the store.
func (e *Engine) admit(ctx context.Context, ref rollout.EndpointRef, ev rollout.EndpointEvent) (rollout.EndpointRecord, error) {
	d, s := e.desk(ref), &slip{ev: ev, done: make(chan struct{})}
	d.mu.Lock()
	d.slips = append(d.slips, s)
	d.mu.Unlock()
	select {
	case d.turn <- struct{}{}:
		// Even if this caller goes away meanwhile: others wait for the same write.
		e.settle(context.WithoutCancel(ctx), ref, d)
		<-d.turn
	case <-s.done:
	case <-ctx.Done():
	}
	select {
	case <-s.done:
		return s.rec, s.err
	case <-ctx.Done():
		return rollout.EndpointRecord{}, context.Cause(ctx)
	}
}

// settle does what all slips ask for, in one write, and tells those rollouts to whom
// the record now says something else.
func (e *Engine) settle(ctx context.Context, ref rollout.EndpointRef, d *desk) {
	d.mu.Lock()
	slips := d.slips
	d.slips = nil
	d.mu.Unlock()
	if len(slips) == 0 {
		return
	}
	var err error
	for range claimTries {
		if err = e.write(ctx, ref, d, slips); !errors.Is(err, store.ErrConflict) {
			break
		}
		// Somebody else wrote the record: decide again on what is true now.
	}
	if errors.Is(err, store.ErrConflict) {
		err = fmt.Errorf("change endpoint %s: too many writers at once: %w", ref.Key(), err)
	}
	for _, s := range slips {
		s.err = err
		close(s.done)
	}
}

// write folds the slips into the record and writes it where it then differs.
func (e *Engine) write(ctx context.Context, ref rollout.EndpointRef, d *desk, slips []*slip) error {
	before, rev, err := e.readDesk(ctx, ref, d)
	if err != nil {
		return err
	}
	after := before
	evs := make([]rollout.EndpointEvent, len(slips))
	for i, s := range slips {
		after = rollout.Admit(after, s.ev)
		after.Endpoint = ref
		s.rec, evs[i] = after, s.ev
	}
	if !before.SameRights(after) {
		entry, err := json.Marshal(evs)
		if err != nil {
			return fmt.Errorf("encode endpoint events: %w", err)
		}
		state, err := json.Marshal(after)
		if err != nil {
			return fmt.Errorf("encode endpoint %s: %w", ref.Key(), err)
		}
		if rev, err = e.append(ctx, ref.Key(), entry, state, rev); err != nil {
			d.forget()
			return err
		}
	}
	after.Refused, after.Sentence = "", ""
	e.learn(d, after, rev)
	for _, s := range slips {
		if s.rec.Refused == "" {
			s.rec = after
		}
	}
	return nil
}

// readDesk is the record as it is known, or as it stands in the store.
func (e *Engine) readDesk(ctx context.Context, ref rollout.EndpointRef, d *desk) (rollout.EndpointRecord, store.Revision, error) {
	d.mu.Lock()
	rec, rev, known := d.rec, d.rev, d.known
	d.mu.Unlock()
	if known {
		return rec, rev, nil
	}
	rec, rev, err := e.endpointRecord(ctx, ref)
	if err != nil {
		return rec, rev, err
	}
	e.learn(d, rec, rev)
	return rec, rev, nil
}

// forget makes the record be read again.
func (d *desk) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = false
}

// learn notes what the record is, and lets those ask again to whom it says something
// else than before.
func (e *Engine) learn(d *desk, rec rollout.EndpointRecord, rev store.Revision) {
	d.mu.Lock()
	if d.known && rev < d.rev {
		d.mu.Unlock()
		return
	}
	before := d.rec
	d.rec, d.rev, d.known = rec, rev, true
	d.mu.Unlock()
	for _, id := range before.Changed(rec) {
		if l := e.live(id); l != nil {
			e.spawn(func(context.Context) { l.askAgain() })
		}
	}
}

// recordChanged notes what was committed of an endpoint's record, by this replica or
// another.
func (e *Engine) recordChanged(ref rollout.EndpointRef, rec store.Record) {
	d := e.desk(ref)
	d.mu.Lock()
	old := d.known && rec.Revision <= d.rev
	d.mu.Unlock()
	if old {
		return
	}
	if r, err := record.DecodeEndpoint(ref, rec); err == nil {
		e.learn(d, r, rec.Revision)
	} else {
		d.forget()
	}
}

// askAgain makes a claim that was answered "queued" ask again.
func (l *live) askAgain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.s.Outbox {
		if e.Kind == rollout.EffectClaim {
			delete(l.done, keyOf(e))
		}
	}
	l.step()
}

// claim asks for the endpoint.
func (l *live) claim(ctx context.Context, e rollout.Effect) (rollout.Event, bool) {
	rec, err := l.e.admit(ctx, l.plan.Endpoint, l.claimEvent(e))
	if err != nil {
		l.warn(ctx, "claim waits", err)
		return rollout.Event{}, false
	}
	if rec.Superseding == l.id && rec.Active != "" && rec.Active != l.id {
		if err := l.e.supersede(ctx, rec.Active, l.id); err != nil {
			l.warn(ctx, "claim waits", err)
			return rollout.Event{}, false
		}
	}
	return rec.Standing(l.plan, e), true
}

// claimEvent is what the rollout asks of the endpoint's record.
func (l *live) claimEvent(e rollout.Effect) rollout.EndpointEvent {
	ev := rollout.ClaimEvent(l.plan, e, l.e.now())
	ev.Most = l.e.reach.Load().queue
	return ev
}

// supersede tells the rollout that has the endpoint to give way: once, durably,
// whichever replica carries it.
func (e *Engine) supersede(ctx context.Context, active, by string) error {
	ev := rollout.Event{Kind: rollout.EventSuperseded, Ahead: by}
	_, err := e.Deliver(ctx, active, "superseded-by-"+by, ev)
	if errors.Is(err, ErrEnded) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// release gives the endpoint, or the place in its queue, back.
func (l *live) release(ctx context.Context, s rollout.State, e rollout.Effect) (rollout.Event, bool) {
	if _, err := l.e.admit(ctx, l.plan.Endpoint, rollout.ReleaseEvent(l.plan, s, e, l.e.now())); err != nil {
		l.warn(ctx, "release waits", err)
		return rollout.Event{}, false
	}
	return rollout.Event{Kind: rollout.EventReleased}, true
}

// Endpoint returns the record of who may move an endpoint. An endpoint that no
// rollout ever claimed has a record that names nobody.
func (e *Engine) Endpoint(ctx context.Context, ref rollout.EndpointRef) (rollout.EndpointRecord, error) {
	rec, _, err := e.endpointRecord(ctx, ref)
	return rec, err
}

// Observe puts on record what an endpoint shows that no rollout moves.
func (e *Engine) Observe(ctx context.Context, ref rollout.EndpointRef, split rollout.Split) error {
	if _, err := e.admit(ctx, ref, rollout.EndpointEvent{Kind: rollout.EndpointObserved, At: e.now(), Confirmed: &split}); err != nil {
		return fmt.Errorf("observe endpoint %s/%s: %w", ref.Router, ref.Name, err)
	}
	return nil
}

// ClearCooldown ends the cooldown of a version at an endpoint, or all of them
// when version is empty, and records who did it. ErrNotFound says that there is
// none.
func (e *Engine) ClearCooldown(ctx context.Context, ref rollout.EndpointRef, version string, by rollout.Person) error {
	rec, _, err := e.endpointRecord(ctx, ref)
	if err != nil {
		return err
	}
	if _, ok := rec.Cooldowns[version]; !ok && version != "" || len(rec.Cooldowns) == 0 {
		return fmt.Errorf("clear cooldown of %s/%s: %w", ref.Router, ref.Name, ErrNotFound)
	}
	_, err = e.admit(ctx, ref, rollout.EndpointEvent{Kind: rollout.EndpointClear, At: e.now(), Version: version, By: &by})
	if err != nil {
		return fmt.Errorf("clear cooldown of %s/%s: %w", ref.Router, ref.Name, err)
	}
	e.log.Info("cooldown cleared", "endpoint", ref.Router+"/"+ref.Name, "by", by.ID, "outcome", version)
	return nil
}
