package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/store"
)

// isStopping reports whether the engine stops.
func (e *Engine) isStopping() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stopping
}

// stop ends everything within StopTimeout.
func (e *Engine) stop() {
	began := time.Now()
	e.mu.Lock()
	e.stopping = true
	runners := slices.Collect(maps.Values(e.runners))
	e.mu.Unlock()
	for _, l := range runners {
		l.windUp()
	}
	settled := func() bool {
		return !slices.ContainsFunc(runners, func(l *runner) bool { return l.busy() })
	}
	for !settled() && time.Since(began) < e.cfg.StopTimeout*4/5 {
		time.Sleep(min(10*time.Millisecond, e.cfg.StopTimeout/10))
	}
	if len(runners) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), (e.cfg.StopTimeout-time.Since(began))/2)
		e.outage.Stop(ctx)
		cancel()
	}
	for _, l := range runners {
		l.mu.Lock()
		l.drop(ErrStopped)
		l.mu.Unlock()
	}
	e.mu.Lock()
	e.cancel(errStopping)
	leases := map[rollout.EndpointRef]store.Lease{}
	for ref, at := range e.endpoints {
		if at.lease != nil {
			leases[ref] = at.lease
		}
	}
	clear(e.endpoints)
	clear(e.runners)
	clear(e.open)
	e.recovered = false
	e.mu.Unlock()
	// What failed to return in time is left behind: the process is about to end.
	done := make(chan struct{})
	go func() {
		e.jobs.Wait()
		for ref, lease := range leases {
			e.releaseLease(context.Background(), ref, lease)
		}
		close(done)
	}()
	timer := time.NewTimer(max(e.cfg.StopTimeout-time.Since(began), time.Millisecond))
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		e.log.Error("calls left behind", "outcome", fmt.Sprintf("not ended after %s", e.cfg.StopTimeout))
	}
}

// windUp cuts off what may be asked again after a restart and appends what is
// folded in.
func (l *runner) windUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, j := range l.jobs {
		if j.stage != jobRuns {
			continue
		}
		switch j.effect.Kind {
		case rollout.EffectMeasure, rollout.EffectReadTraffic, rollout.EffectPreflight, rollout.EffectWake:
			j.cancel(errStopping)
			delete(l.jobs, k)
		case rollout.EffectClaim, rollout.EffectRelease, rollout.EffectSetTraffic,
			rollout.EffectAsk, rollout.EffectTell, rollout.EffectPage:
		}
	}
	l.flush = true
	l.step()
}

// busy reports whether something is under way or to be appended.
func (l *runner) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.gone && (l.running() || l.writing || len(l.drafts) > 0)
}
