package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/belayd/belay/rollout"
)

// outageAfter is how long no append may succeed before people are called.
const outageAfter = 30 * time.Second

// An outage watches whether the store takes appends. While it does not, rollouts
// are frozen but for rollbacks, and nothing that the core says can be written
// down: so the engine itself calls the humans of the rollouts that wait, once.
type outage struct {
	e *Engine

	mu sync.Mutex
	// since is when the first append failed after which none succeeded.
	since time.Time
	// who waits: a rollout that shows what is at stake.
	who   *live
	cause string
	// paged are the notifiers that took the call; calling: one is under way.
	paged   map[string]bool
	calling bool
}

// failed notes a failed append. It is called with the live's lock held.
func (o *outage) failed(l *live, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cause = err.Error()
	if o.since.IsZero() {
		o.since, o.who = time.Now(), l
		o.e.log.Error("store takes no appends", "rollout", l.id, "outcome", err.Error())
	}
}

// over notes an append that succeeded.
func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		o.e.log.Info("store takes appends again", "outcome", fmt.Sprintf("after %s", time.Since(o.since).Round(time.Millisecond)))
		o.since = time.Time{}
	}
}

// look calls people when the store has been away for long, and relieves them when
// it is back. It is called now and then, by one goroutine.
func (o *outage) look() {
	o.mu.Lock()
	defer o.mu.Unlock()
	away := !o.since.IsZero() && time.Since(o.since) >= outageAfter
	if o.calling || o.who == nil || away == (len(o.paged) > 0) || !o.since.IsZero() && !away {
		return
	}
	who, cause, since := o.who, o.cause, o.since
	o.calling = o.e.spawn(func(ctx context.Context) {
		defer func() {
			o.mu.Lock()
			o.calling = false
			o.mu.Unlock()
		}()
		if away {
			o.call(ctx, who, fmt.Sprintf("Belay's store takes no appends since %s: rollouts are frozen, rollbacks still work. %s",
				since.UTC().Format(time.RFC3339), cause))
			return
		}
		o.relieve(ctx, who)
	})
}

// call pages the first notifier of the rollout's list that takes it.
func (o *outage) call(ctx context.Context, who *live, summary string) {
	for _, name := range who.plan.Page {
		if o.send(ctx, who, name, summary, false) {
			o.mu.Lock()
			o.paged[name] = true
			o.mu.Unlock()
			return
		}
	}
}

// relieve resolves the page wherever it was opened.
func (o *outage) relieve(ctx context.Context, who *live) {
	for _, name := range who.plan.Page {
		o.mu.Lock()
		paged := o.paged[name]
		o.mu.Unlock()
		if paged && o.send(ctx, who, name, "Belay's store takes appends again.", true) {
			o.mu.Lock()
			delete(o.paged, name)
			o.mu.Unlock()
		}
	}
}

// send delivers the page, or its end, and reports whether that worked.
func (o *outage) send(ctx context.Context, who *live, name, summary string, resolve bool) bool {
	to := o.e.outlet(name)
	if to == nil || !acquire(ctx, to.slots) {
		return false
	}
	defer func() { <-to.slots }()
	who.mu.Lock()
	s := who.s
	who.mu.Unlock()
	severity := "critical"
	if resolve {
		severity = "info"
	}
	key := "store/" + o.e.cfg.Owner
	n := notice(who.plan, &s, rollout.Effect{ID: key, Notice: &rollout.Notice{
		Key: key, Topic: rollout.TopicPage, Severity: severity, Summary: summary, Resolve: resolve}}, o.e.external(), o.e.clock.now())
	ctx, cancel := context.WithTimeout(ctx, o.e.cfg.NotifyTimeout)
	defer cancel()
	_, err := to.Notify(ctx, n)
	o.e.metrics.notified(name, err)
	if err != nil {
		o.e.log.Warn("page not delivered", "notifier", name, "outcome", err.Error())
	}
	return err == nil
}
