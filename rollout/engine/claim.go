package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
)

// askAgain makes a claim that was answered "queued" ask again.
func (l *runner) askAgain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.s.Outbox {
		if e.Kind == rollout.EffectClaim {
			if k := keyOf(e); l.jobs[k] != nil && l.jobs[k].stage == jobAnswered {
				delete(l.jobs, k)
			}
		}
	}
	l.step()
}

// claim asks for the endpoint.
func (l *runner) claim(ctx context.Context, e rollout.Effect) (rollout.Event, bool) {
	rec, err := l.e.admission.Admit(ctx, l.plan.Endpoint, l.claimEvent(e))
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
	return rec.Result(l.plan, e), true
}

// claimEvent is what the rollout asks of the endpoint's record.
func (l *runner) claimEvent(e rollout.Effect) claim.Event {
	ev := claim.ForClaim(l.plan, e, l.e.now())
	ev.Most = l.e.cfg.Queue
	return ev
}

// supersede tells the rollout that has the endpoint to give way: once, durably,
// whichever replica carries it.
func (e *Engine) supersede(ctx context.Context, active, by string) error {
	ev := rollout.Event{Kind: rollout.EventSuperseded, SupersededBy: by}
	_, err := e.Deliver(ctx, active, "superseded-by-"+by, ev)
	if errors.Is(err, ErrEnded) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// release gives the endpoint, or the place in its queue, back.
func (l *runner) release(ctx context.Context, s rollout.State, e rollout.Effect) (rollout.Event, bool) {
	if _, err := l.e.admission.Admit(ctx, l.plan.Endpoint, claim.ForRelease(l.plan, s, e, l.e.now())); err != nil {
		l.warn(ctx, "release waits", err)
		return rollout.Event{}, false
	}
	return rollout.Event{Kind: rollout.EventReleased}, true
}

// Endpoint returns the record of who may move an endpoint. An endpoint that no
// rollout ever claimed has a record that names nobody.
func (e *Engine) Endpoint(ctx context.Context, ref rollout.EndpointRef) (claim.Record, error) {
	return e.admission.Read(ctx, ref)
}

// Observe puts on record what an endpoint shows that no rollout moves.
func (e *Engine) Observe(ctx context.Context, ref rollout.EndpointRef, split split.Split) error {
	ev := claim.Event{Kind: claim.KindObserved, At: e.now(), Confirmed: &split}
	if _, err := e.admission.Admit(ctx, ref, ev); err != nil {
		return fmt.Errorf("observe endpoint %s/%s: %w", ref.Router, ref.Name, err)
	}
	return nil
}

// ClearCooldown ends the cooldown of a version at an endpoint, or all of them
// when version is empty, and records who did it and why. ErrNotFound says that there is
// none.
func (e *Engine) ClearCooldown(
	ctx context.Context, ref rollout.EndpointRef, version string, by person.Person, reason string,
) error {
	rec, err := e.admission.Read(ctx, ref)
	if err != nil {
		return err
	}
	if _, ok := rec.Cooldowns[version]; !ok && version != "" || len(rec.Cooldowns) == 0 {
		return fmt.Errorf("clear cooldown of %s/%s: %w", ref.Router, ref.Name, ErrNotFound)
	}
	ev := claim.Event{Kind: claim.KindClear, At: e.now(), Version: version, By: &by, Reason: reason}
	_, err = e.admission.Admit(ctx, ref, ev)
	if err != nil {
		return fmt.Errorf("clear cooldown of %s/%s: %w", ref.Router, ref.Name, err)
	}
	e.log.Info("cooldown cleared", "endpoint", ref.Router+"/"+ref.Name, "by", by.ID, "outcome", version, "reason", reason)
	return nil
}
