package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

// Release starts the rollout id of a release under the plan that resolve gives. The same
// request under the id is the same rollout, whatever has become of its policy since:
// resolve is not asked then. Another request is ErrDifferent.
func (e *Engine) Release(
	ctx context.Context, id string, r rollout.Release, resolve func(context.Context) (*rollout.Plan, error),
) (snapshot rollout.Snapshot, created bool, err error) {
	switch snapshot, err = e.Rollout(ctx, id); {
	case errors.Is(err, ErrNotFound):
		plan, err := resolve(ctx)
		if err != nil {
			return rollout.Snapshot{}, false, err
		}
		return e.Start(ctx, plan)
	case err == nil && !snapshot.Plan.Release.Same(r):
		err = fmt.Errorf("rollout %s of another release: %w", id, ErrDifferent)
	}
	return snapshot, false, err
}

// Start makes a rollout of a plan, durably: when it returns nil the rollout goes
// on whatever happens to this process. The plan's id names it: a second Start of
// the same release under the same policy is the same rollout (created is then
// false), one of another release or policy is ErrDifferent. A replica that does
// not run only writes.
func (e *Engine) Start(ctx context.Context, p *rollout.Plan) (snapshot rollout.Snapshot, created bool, err error) {
	if !record.ValidID(p.ID) {
		return rollout.Snapshot{}, false, fmt.Errorf("start rollout: %q cannot be an id: %w", p.ID, ErrDifferent)
	}
	// The plan is not replaced between its record and the rollout's first.
	e.starts.RLock()
	snapshot, created, err = e.begin(ctx, p, false)
	e.starts.RUnlock()
	if errors.Is(err, ErrDifferent) {
		// The plan that is there may be what a start that failed has left behind.
		e.starts.Lock()
		defer e.starts.Unlock()
		return e.begin(ctx, p, true)
	}
	return snapshot, created, err
}

// begin makes the rollout. alone: nobody else starts one, so that a plan without a
// rollout is nobody's and can be replaced.
func (e *Engine) begin(
	ctx context.Context, p *rollout.Plan, alone bool,
) (snapshot rollout.Snapshot, created bool, err error) {
	p, err = e.keepPlan(ctx, p, alone)
	if err != nil {
		return rollout.Snapshot{}, false, fmt.Errorf("start rollout %s: %w", p.ID, err)
	}
	at := e.now()
	hash, err := journal.PlanHash(p)
	if err != nil {
		return rollout.Snapshot{}, false, fmt.Errorf("start rollout %s: %w", p.ID, err)
	}
	ev, _, err := normal(rollout.Event{Kind: rollout.EventStarted, At: at, Plan: hash})
	if err != nil {
		return rollout.Snapshot{}, false, fmt.Errorf("start rollout %s: %w", p.ID, err)
	}
	before := rollout.Start(p, at)
	s := e.cfg.next(p, before, ev)
	first := journal.Entry{Seq: 1, Epoch: 1, Owner: e.cfg.Owner, Version: e.cfg.Version, At: at,
		Events: []rollout.Event{ev}, Decisions: s.Last.Decisions}
	if c, ok := journal.PhaseChanged(p, &before, &s); ok {
		c.Decisions = len(first.Decisions)
		first.Phases = []journal.PhaseChange{c}
	}
	entry, state, _, err := record.Encode(first, s)
	if err != nil {
		return rollout.Snapshot{}, false, fmt.Errorf("start rollout %s: %w", p.ID, err)
	}
	rev, err := e.append(ctx, record.RolloutKey(p.ID), entry, state, 0)
	switch {
	case errors.Is(err, store.ErrConflict):
		snapshot, err = e.Rollout(ctx, p.ID)
		if err == nil && !snapshot.State.Closed() {
			e.adopt(p.ID, p.Endpoint)
		}
		return snapshot, false, err
	case err != nil:
		return rollout.Snapshot{}, false, fmt.Errorf("start rollout %s: %w", p.ID, err)
	}
	e.log.Info("rollout started", "rollout", p.ID, "endpoint", p.Endpoint.Router+"/"+p.Endpoint.Name,
		"outcome", string(s.Phase))
	e.adopt(p.ID, p.Endpoint)
	e.news.notifyAll()
	return rollout.Snapshot{Plan: p, State: s, Revision: uint64(rev)}, true, nil
}

// keepPlan writes the plan once and returns it as it reads back, so that every
// replica and every replay folds with the same plan. It always returns a plan.
func (e *Engine) keepPlan(ctx context.Context, p *rollout.Plan, alone bool) (*rollout.Plan, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return p, fmt.Errorf("encode plan: %w", err)
	}
	mine, err := record.DecodePlan(store.Record{Key: record.PlanKey(p.ID), Entry: b})
	if err != nil {
		return p, err
	}
	_, err = e.append(ctx, record.PlanKey(p.ID), b, nil, 0)
	if !errors.Is(err, store.ErrConflict) {
		return mine, err
	}
	rec, err := e.cfg.Store.Head(ctx, record.PlanKey(p.ID))
	if err != nil {
		return p, fmt.Errorf("read plan of %s: %w", p.ID, err)
	}
	old, err := record.DecodePlan(rec)
	if err != nil {
		return p, err
	}
	why := difference(old, mine)
	if why == "" {
		return old, nil
	}
	if alone {
		_, err = e.cfg.Store.Head(ctx, record.RolloutKey(p.ID))
		if errors.Is(err, store.ErrNotFound) {
			_, err = e.append(ctx, record.PlanKey(p.ID), b, nil, rec.Revision)
			return mine, err
		}
	}
	return p, fmt.Errorf("%s: %w", why, errors.Join(ErrDifferent, err))
}

// difference says in which way two plans of one id are not the same request; ""
// when they are.
func difference(a, b *rollout.Plan) string {
	switch x, y := a.Release, b.Release; {
	case a.Policy.Hash != b.Policy.Hash:
		return fmt.Sprintf("it was started under policy %s (%.12s), not %s (%.12s)",
			a.Policy.Name, a.Policy.Hash, b.Policy.Name, b.Policy.Hash)
	case !x.Same(y):
		return fmt.Sprintf("it was started for %s %s by %s, not for %s %s by %s",
			x.Candidate, x.Version, x.Requester.ID, y.Candidate, y.Version, y.Requester.ID)
	}
	return ""
}

// plan reads the plan of a rollout.
func (e *Engine) plan(ctx context.Context, id string) (*rollout.Plan, error) {
	rec, err := e.cfg.Store.Head(ctx, record.PlanKey(id))
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("the plan is missing: %w", rollout.ErrFormat)
		}
		return nil, fmt.Errorf("read plan of %s: %w", id, err)
	}
	return record.DecodePlan(rec)
}
