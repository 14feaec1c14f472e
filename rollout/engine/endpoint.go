package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

// An endpoint is one endpoint of which this replica knows open rollouts. While it
// has the lease it carries them; while another replica has it, it only asks for
// the lease now and then. The engine's mu guards its fields.
type endpoint struct {
	e   *Engine
	ref rollout.EndpointRef
	// writing is held by the one traffic call under way.
	writing chan struct{}

	lease store.Lease
	// asking: a goroutine is after the lease; askAt is when to ask again.
	asking bool
	askAt  time.Time
	// open are the ids of the rollouts to carry, runners those that are loaded.
	open    map[string]bool
	runners map[string]*runner
	// loading are the ids that are being loaded.
	loading map[string]bool
}

// loseBackoff is how long a replica that lost a race keeps away from the endpoint,
// so that two replicas with leases that never end do not take turns.
const loseBackoff = 10 * time.Second

// trusted is for how long the lease may still be acted on; 0 when it may not.
func (at *endpoint) trusted() time.Duration {
	at.e.mu.Lock()
	lease := at.lease
	at.e.mu.Unlock()
	if lease == nil {
		return 0
	}
	select {
	case <-lease.Lost():
		return 0
	default:
	}
	return max(0, time.Until(lease.Trusted()))
}

// adopt makes an open rollout this engine's business: it is carried as soon as
// the endpoint's lease is here.
func (e *Engine) adopt(id string, ref rollout.EndpointRef) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := e.endpoints[ref]
	if at == nil {
		at = &endpoint{e: e, ref: ref, writing: make(chan struct{}, 1),
			open: map[string]bool{}, runners: map[string]*runner{}, loading: map[string]bool{}}
		e.endpoints[ref] = at
	}
	at.open[id], e.open[id] = true, ref
	at.tend()
}

// tend takes the next step towards carrying the endpoint's rollouts, with the
// engine's mu held.
func (at *endpoint) tend() {
	e := at.e
	if e.base == nil || e.base.Err() != nil || e.stopping {
		return
	}
	ctx := e.base
	if at.lease == nil {
		if !at.asking && len(at.open) > 0 && !time.Now().Before(at.askAt) {
			at.asking = true
			e.jobs.Go(func() { at.ask(ctx) })
		}
		return
	}
	for id := range at.open {
		if at.runners[id] == nil && !at.loading[id] {
			at.loading[id] = true
			e.jobs.Go(func() { at.load(ctx, id) })
		}
	}
}

// ask asks for the lease.
func (at *endpoint) ask(ctx context.Context) {
	e := at.e
	lease, err := at.acquire(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	at.asking = false
	if err != nil {
		at.askAt = time.Now().Add(2 * e.cfg.Poll)
		if !errors.Is(err, store.ErrConflict) && ctx.Err() == nil && e.logged.changed("lease/"+at.ref.Key(), err.Error()) {
			e.log.Warn("lease not acquired", "endpoint", at.ref.Router+"/"+at.ref.Name, "outcome", err.Error())
		}
		return
	}
	e.logged.forget("lease/" + at.ref.Key())
	at.lease = lease
	at.tend()
}

// acquire makes the call of ask.
func (at *endpoint) acquire(ctx context.Context) (store.Lease, error) {
	e := at.e
	if !acquire(ctx, e.loads) {
		return nil, context.Cause(ctx)
	}
	defer func() { <-e.loads }()
	ctx, cancel := context.WithTimeout(ctx, e.cfg.AppendTimeout)
	defer cancel()
	return e.cfg.Leaser.Acquire(ctx, at.ref.Key(), e.cfg.Owner)
}

// load reads a rollout from the store and begins to carry it.
func (at *endpoint) load(ctx context.Context, id string) {
	e := at.e
	l, err := e.read(ctx, at, id)
	e.mu.Lock()
	delete(at.loading, id)
	switch {
	case err != nil:
		e.mu.Unlock()
		if ctx.Err() == nil {
			e.unreadable(at, id, err)
		}
		return
	case l == nil:
		delete(at.open, id)
		delete(e.open, id)
		at.leave()
		e.mu.Unlock()
		return
	case at.lease == nil || e.stopping || !at.open[id]:
		e.mu.Unlock()
		return
	}
	e.logged.forget("load/" + id)
	at.runners[id], e.runners[id] = l, l
	e.loaded.Add(1)
	e.mu.Unlock()
	l.hear(ctx)
}

// read makes a runner of the rollout's head; nil when it is closed.
func (e *Engine) read(ctx context.Context, at *endpoint, id string) (*runner, error) {
	if !acquire(ctx, e.loads) {
		return nil, context.Cause(ctx)
	}
	defer func() { <-e.loads }()
	rec, err := e.cfg.Store.Head(ctx, record.RolloutKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read rollout %s: %w", id, err)
	}
	s, h, err := record.DecodeHead(rec)
	if err != nil {
		return nil, err
	}
	if s.Closed() {
		return nil, nil
	}
	p, err := e.plan(ctx, id)
	if err != nil {
		return nil, err
	}
	l := newRunner(e, at, p, s, h)
	l.fresh = true
	if h.Owner != e.cfg.Owner {
		// A claim: it moves the head, so that every later write of the owner before
		// fails by itself.
		l.drafts = append(l.drafts, &draft{since: time.Now(), after: s})
	}
	return l, nil
}

// unreadable keeps a rollout that cannot be loaded: for ever when this code does
// not know its format, and until the next try otherwise.
func (e *Engine) unreadable(at *endpoint, id string, err error) {
	if errors.Is(err, rollout.ErrFormat) {
		e.quarantine(id, err.Error())
		e.mu.Lock()
		delete(at.open, id)
		delete(e.open, id)
		e.mu.Unlock()
		return
	}
	if e.logged.changed("load/"+id, err.Error()) {
		e.log.Warn("rollout not loaded", "rollout", id, "outcome", err.Error())
	}
}

// quarantine leaves a rollout alone that this code cannot carry, and says so once.
func (e *Engine) quarantine(id, why string) {
	e.mu.Lock()
	_, known := e.quarantined[id]
	e.quarantined[id] = why
	e.mu.Unlock()
	if !known {
		e.log.Error("rollout left alone", "rollout", id, "outcome", why)
	}
}

// leave gives the lease back when nothing is left to carry, with the engine's mu
// held.
func (at *endpoint) leave() {
	if len(at.open) > 0 || len(at.runners) > 0 || at.asking {
		return
	}
	delete(at.e.endpoints, at.ref)
	lease := at.lease
	at.lease = nil
	if lease != nil && at.e.base != nil {
		ctx := at.e.base
		at.e.jobs.Go(func() { at.e.releaseLease(ctx, at.ref, lease) })
	}
}

// releaseLease releases a lease; one that cannot be released ends by itself.
func (e *Engine) releaseLease(ctx context.Context, ref rollout.EndpointRef, lease store.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := lease.Release(ctx); err != nil {
		e.log.Warn("lease not released", "endpoint", ref.Router+"/"+ref.Name, "outcome", err.Error())
	}
}

// closed forgets a rollout that has ended and has nothing left to do.
func (e *Engine) closed(l *runner) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forget(l)
	delete(e.open, l.id)
	delete(l.at.runners, l.id)
	delete(l.at.open, l.id)
	l.at.leave()
}

// forget takes a rollout from those that are carried, with the lock held.
func (e *Engine) forget(l *runner) {
	if e.runners[l.id] == l {
		delete(e.runners, l.id)
		e.loaded.Add(-1)
	}
}

// lost follows a lost race: whoever won carries the rollout. The lease goes back
// and is asked for again later.
func (e *Engine) lost(l *runner) {
	e.mu.Lock()
	at := l.at
	if e.runners[l.id] == l {
		e.forget(l)
		delete(at.runners, l.id)
	}
	e.mu.Unlock()
	e.leaveTo(at)
}

// leaveTo drops the rollouts of an endpoint that another replica moves, and gives
// up its lease.
func (e *Engine) leaveTo(at *endpoint) {
	e.mu.Lock()
	lease := at.lease
	at.lease = nil
	at.askAt = time.Now().Add(loseBackoff)
	runners := slices.Collect(maps.Values(at.runners))
	clear(at.runners)
	for _, l := range runners {
		e.forget(l)
	}
	ctx := e.base
	if lease != nil && ctx != nil {
		e.jobs.Go(func() { e.releaseLease(ctx, at.ref, lease) })
	}
	e.mu.Unlock()
	// Each runner has its own lock, which must not be taken here: the caller may
	// hold one of them.
	for _, l := range runners {
		e.spawn(func(context.Context) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.drop(errLost)
		})
	}
}
