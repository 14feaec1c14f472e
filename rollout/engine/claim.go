package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/store"
)

// claimTries bounds how often one claim is tried against other writers at once.
const claimTries = 8

// admit folds an event into an endpoint's record until it is in the store, and
// returns the record.
func (e *Engine) admit(ctx context.Context, ref rollout.EndpointRef, ev rollout.EndpointEvent) (rollout.EndpointRecord, error) {
	entry, err := json.Marshal(ev)
	if err != nil {
		return rollout.EndpointRecord{}, fmt.Errorf("encode endpoint event: %w", err)
	}
	for range claimTries {
		rec, rev, err := e.endpointRecord(ctx, ref)
		if err != nil {
			return rec, err
		}
		next := rollout.Admit(rec, ev)
		next.Endpoint = ref
		if sameRight(rec, next) {
			return next, nil
		}
		state, err := json.Marshal(next)
		if err != nil {
			return rec, fmt.Errorf("encode endpoint %s: %w", ref.Key(), err)
		}
		_, err = e.append(ctx, ref.Key(), entry, state, rev)
		switch {
		case err == nil:
			e.recordChanged(ref)
			return next, nil
		case errors.Is(err, store.ErrConflict):
			// Somebody else wrote the record: decide again on what is true now.
		default:
			return rec, err
		}
	}
	return rollout.EndpointRecord{}, fmt.Errorf("change endpoint %s: too many writers at once: %w", ref.Key(), store.ErrConflict)
}

// sameRight reports whether nobody's right to the endpoint differs: such a record
// need not be written.
func sameRight(a, b rollout.EndpointRecord) bool {
	for _, r := range []*rollout.EndpointRecord{&a, &b} {
		r.At, r.Refused, r.Sentence = time.Time{}, "", ""
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// recordChanged lets those ask again who wait for the endpoint.
func (e *Engine) recordChanged(ref rollout.EndpointRef) {
	e.mu.Lock()
	var waiting []*live
	if at := e.endpoints[ref]; at != nil {
		for _, l := range at.lives {
			waiting = append(waiting, l)
		}
	}
	e.mu.Unlock()
	for _, l := range waiting {
		e.spawn(func(context.Context) { l.askAgain() })
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
	rec, err := l.e.admit(ctx, l.plan.Endpoint, rollout.ClaimEvent(l.plan, e, l.e.now()))
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
