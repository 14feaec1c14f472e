package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/outage"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/rollout/retention"
	"github.com/belayd/belay/store"
)

// Run carries the open rollouts until ctx ends, and then stops gracefully: calls
// under way get most of StopTimeout to finish, what is folded in is appended, and
// leases are given back. It returns nil after such a stop, and an error that wraps
// store.ErrBroken when the store can no longer be trusted: the process must then
// end and start anew.
func (e *Engine) Run(ctx context.Context) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(errStopping)
	e.mu.Lock()
	if e.base != nil {
		e.mu.Unlock()
		return errors.New("run engine: it runs already")
	}
	e.base, e.cancel, e.stopping = base, cancel, false
	e.mu.Unlock()
	e.metrics.follow(e)

	aux, stopAux := context.WithCancel(ctx)
	defer stopAux()
	cursor, err := e.recoverSoon(aux)
	if err == nil {
		e.mu.Lock()
		e.recovered = true
		e.mu.Unlock()
		hint := make(chan struct{}, 1)
		e.spawn(func(context.Context) { e.watch(aux, hint) })
		err = e.attend(aux, cursor, hint)
	}
	stopAux()
	e.stop()
	e.mu.Lock()
	broken := e.brokenErr
	e.base, e.cancel = nil, nil
	e.mu.Unlock()
	switch {
	case broken != nil:
		return fmt.Errorf("run engine: %w", broken)
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("run engine: %w", err)
	}
	return nil
}

// recoverSoon recovers as soon as the store can be read.
func (e *Engine) recoverSoon(ctx context.Context) (store.Revision, error) {
	for {
		cursor, err := e.recover(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, store.ErrBroken) || errors.Is(err, store.ErrClosed) {
			return cursor, err
		}
		if e.logged.changed("recover", err.Error()) {
			e.log.Error("store cannot be read", "outcome", err.Error())
		}
		if !sleep(ctx, e.cfg.Poll) {
			return 0, err
		}
	}
}

// recover finds the open rollouts: each Outbox is the list of what is to be done.
// Those that roll back come first. It returns the revision after which the store's news begin.
func (e *Engine) recover(ctx context.Context) (store.Revision, error) {
	next, stop := iter.Pull2(e.cfg.Store.Heads(ctx, record.PlanPrefix))
	defer stop()
	plans := planCursor{next: next}
	var last store.Revision
	var before outage.Trace
	var open, urgent []*rollout.Plan
	for rec, err := range e.cfg.Store.Heads(ctx, record.RolloutPrefix) {
		if err != nil {
			return 0, fmt.Errorf("recover rollouts: %w", err)
		}
		last = max(last, rec.Revision)
		id := strings.TrimPrefix(rec.Key, record.RolloutPrefix)
		s, h, err := record.DecodeHead(rec)
		if err != nil {
			e.quarantine(id, err.Error())
			continue
		}
		mine := h.Owner == e.cfg.Owner
		if s.Closed() {
			if mine {
				before.Add(&s, h, nil)
			}
			continue
		}
		p, err := plans.plan(id)
		if errors.Is(err, rollout.ErrFormat) {
			e.quarantine(id, err.Error())
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("recover rollouts: %w", err)
		}
		if s.Phase == rollout.PhaseRollingBack {
			urgent = append(urgent, p)
		} else {
			open = append(open, p)
		}
		if mine {
			before.Add(&s, h, p.Page)
		}
	}
	if err := e.outage.Recall(ctx, before); err != nil {
		return 0, fmt.Errorf("recover rollouts: %w", err)
	}
	open = append(urgent, open...)
	for _, p := range open {
		e.adopt(p.ID, p.Endpoint)
	}
	if len(open) > 0 {
		e.log.Info("rollouts recovered", "outcome", fmt.Sprintf("%d open", len(open)))
	}
	return last, nil
}

// A planCursor walks the plans beside the rollouts: both come in the order of
// their ids.
type planCursor struct {
	next func() (store.Record, error, bool)
	rec  store.Record
	done bool
}

// plan returns the plan of a rollout. Ids must be asked in order.
func (c *planCursor) plan(id string) (*rollout.Plan, error) {
	key := record.PlanKey(id)
	for !c.done && c.rec.Key < key {
		rec, err, ok := c.next()
		if err != nil {
			return nil, fmt.Errorf("read plans: %w", err)
		}
		c.rec, c.done = rec, !ok
	}
	if c.done || c.rec.Key != key {
		return nil, fmt.Errorf("read plan of %s: the plan is missing: %w", id, rollout.ErrFormat)
	}
	return record.DecodePlan(c.rec)
}

// attend looks at the store's news, at leases and at old rollouts until ctx ends
// or the store is broken.
func (e *Engine) attend(ctx context.Context, cursor store.Revision, hint <-chan struct{}) error {
	ticker := time.NewTicker(e.cfg.Poll)
	defer ticker.Stop()
	sweep := time.Now().Add(time.Minute)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.broken:
			return nil
		case <-hint:
		case <-ticker.C:
			e.tendAll()
			e.outage.Look()
			if e.cfg.Retention > 0 && !time.Now().Before(sweep) {
				sweep = time.Now().Add(time.Hour)
				e.spawn(e.sweep)
			}
		}
		cursor = e.tail(ctx, cursor)
	}
}

// tendAll drops the rollouts whose lease is lost and asks for leases again.
func (e *Engine) tendAll() {
	e.mu.Lock()
	var lost []*endpoint
	for _, at := range e.endpoints {
		if at.lease != nil {
			select {
			case <-at.lease.Lost():
				lost = append(lost, at)
				continue
			default:
			}
		}
		at.tend()
	}
	e.mu.Unlock()
	for _, at := range lost {
		e.log.Warn("lease lost", "endpoint", at.ref.Router+"/"+at.ref.Name, "outcome", "rollouts dropped")
		e.leaveTo(at)
	}
}

// watch turns the store's hints into early looks at its news.
func (e *Engine) watch(ctx context.Context, hint chan<- struct{}) {
	for ctx.Err() == nil {
		for rec := range e.cfg.Store.Watch(ctx, "") {
			if strings.HasPrefix(rec.Key, record.PlanPrefix) {
				continue
			}
			select {
			case hint <- struct{}{}:
			default:
			}
		}
		// The watch ended by itself: the poll goes on meanwhile.
		sleep(ctx, e.cfg.Poll)
	}
}

// tail reads what was committed after a revision, by this replica and others, and
// returns how far it got.
func (e *Engine) tail(ctx context.Context, cursor store.Revision) store.Revision {
	heard := map[string]bool{}
	changed := map[rollout.EndpointRef]store.Record{}
	from := cursor
	for rec, err := range e.cfg.Store.Since(ctx, "", cursor) {
		if err != nil {
			if ctx.Err() == nil && e.logged.changed("news", err.Error()) {
				e.log.Warn("news not read", "outcome", err.Error())
			}
			break
		}
		cursor = rec.Revision
		switch {
		case strings.HasPrefix(rec.Key, record.RolloutPrefix):
			e.noticeRollout(ctx, strings.TrimPrefix(rec.Key, record.RolloutPrefix))
		case strings.HasPrefix(rec.Key, record.InboxPrefix):
			if id, _, ok := record.InboxParts(rec.Key); ok {
				heard[id] = true
			}
		case strings.HasPrefix(rec.Key, record.EndpointPrefix):
			router, name, _ := strings.Cut(strings.TrimPrefix(rec.Key, record.EndpointPrefix), "/")
			changed[rollout.EndpointRef{Router: router, Name: name}] = rec
		}
	}
	for id := range heard {
		if l := e.runner(id); l != nil {
			e.spawn(l.hear)
		}
	}
	for ref, rec := range changed {
		e.admission.Committed(ref, rec)
	}
	if cursor != from {
		e.outage.Advance(cursor)
		e.news.notifyAll()
	}
	return cursor
}

// noticeRollout adopts a rollout that another replica started.
func (e *Engine) noticeRollout(ctx context.Context, id string) {
	e.mu.Lock()
	_, quarantined := e.quarantined[id]
	_, open := e.open[id]
	e.mu.Unlock()
	if quarantined || open {
		return
	}
	rec, err := e.cfg.Store.Head(ctx, record.RolloutKey(id))
	if err != nil {
		return // Deleted meanwhile, or found again by the next start.
	}
	s, _, err := record.DecodeHead(rec)
	if err != nil {
		e.quarantine(id, err.Error())
		return
	}
	if s.Closed() {
		return
	}
	p, err := e.plan(ctx, id)
	if err != nil {
		e.log.Warn("rollout not adopted", "rollout", id, "outcome", err.Error())
		return
	}
	e.adopt(id, p.Endpoint)
}

// sleep waits for d and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sweep deletes the finished rollouts that are older than the retention.
func (e *Engine) sweep(ctx context.Context) {
	deleted, err := retention.Sweep(ctx, e.cfg.Store, e.now().Add(-e.cfg.Retention), e.news.erased)
	if err != nil && ctx.Err() == nil {
		e.log.Warn("old rollouts not deleted", "outcome", err.Error())
	}
	if deleted > 0 {
		e.log.Info("old rollouts deleted", "outcome", deleted)
	}
}
