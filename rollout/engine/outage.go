package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
)

// outageAfter is how long no append may succeed before people are called.
const outageAfter = 30 * time.Second

// An outage watches which rollouts the store takes no appends of: all of them, or one
// whose record cannot be written, whatever becomes of the others. What waits is frozen
// but for rollbacks, and nothing that the core says can be written down: so the engine
// itself calls the humans of the rollouts that wait, once.
type outage struct {
	e *Engine

	mu sync.Mutex
	// waiting are the rollouts that cannot be written, with when the first append failed
	// after which none succeeded. away: one of them waits since long ago.
	waiting map[*live]time.Time
	away    bool
	// who waits, or did last: a rollout that shows what is at stake.
	who   *live
	cause string
	// paged are the notifiers that took a call and not its end, of this outage or an
	// earlier one; called: one took that of the last outage; calling: one is told.
	paged   map[string]bool
	called  bool
	calling bool
	// failures are the notifiers that did not take the call, or its end; after so
	// many rounds in vain the next one comes at again.
	failures []rollout.PageFailure
	rounds   int
	again    time.Time
	// began is when the last outage began; refs are what notifiers returned.
	began time.Time
	refs  map[string]string
}

// callEvery is the longest time between two rounds of calls.
const callEvery = 30 * time.Second

// failed notes a failed append. It is called with the live's lock held.
func (o *outage) failed(l *live, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cause = err.Error()
	if _, known := o.waiting[l]; known {
		return
	}
	if len(o.waiting) == 0 {
		o.e.log.Error("store takes no appends", "rollout", l.id, "outcome", err.Error())
	}
	o.waiting[l] = time.Now()
}

// over notes an append of the rollout that succeeded, or that nothing of it is to be
// appended any more. It is called with the live's lock held.
func (o *outage) over(l *live, written bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	since, waits := o.waiting[l]
	if delete(o.waiting, l); waits && written && len(o.waiting) == 0 {
		o.e.log.Info("store takes appends again", "outcome", fmt.Sprintf("after %s", time.Since(since).Round(time.Millisecond)))
	}
}

// judge looks, with the lock held, whether a rollout waits since long ago, and picks
// the one whose humans are called: the one that waits for longest of those that have
// any.
func (o *outage) judge() {
	var first, longest time.Time
	for l, since := range o.waiting {
		if first.IsZero() || since.Before(first) {
			first = since
		}
		if len(l.plan.Page) > 0 && (longest.IsZero() || since.Before(longest)) && !o.called {
			longest, o.who = since, l
		}
	}
	away := !first.IsZero() && time.Since(first) >= outageAfter
	if away == o.away {
		return
	}
	o.away, o.rounds, o.again = away, 0, time.Time{}
	if away {
		o.began, o.called = first, false
		return
	}
	o.failures = slices.DeleteFunc(o.failures, func(f rollout.PageFailure) bool { return !f.End })
}

// undelivered says which notifiers did not take the call, or its end.
func (o *outage) undelivered() (u rollout.UndeliveredPage, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name := range o.paged {
		if o.called {
			u.TakenBy = name
		}
	}
	u.Since, u.Ended, u.Failures = o.began, !o.away, slices.Clone(o.failures)
	return u, len(u.Failures) > 0
}

// look calls people when the store has been away for long, and relieves them when
// it is back. It is called now and then, by one goroutine.
func (o *outage) look() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.judge()
	call := o.away && !o.called
	end := !o.away && len(o.paged) > 0
	if o.calling || o.who == nil || !call && !end || time.Now().Before(o.again) {
		return
	}
	o.rounds++
	o.again = time.Now().Add(min(time.Second<<min(o.rounds-1, 10), callEvery))
	who, summary, since := o.who, o.words(), o.began
	o.calling = o.e.spawn(func(ctx context.Context) {
		defer func() {
			o.mu.Lock()
			o.calling = false
			o.mu.Unlock()
		}()
		if call {
			o.call(ctx, who, since, summary)
			return
		}
		o.relieve(ctx, who)
	})
}

// words are what people are told of the outage, with the lock held.
func (o *outage) words() string {
	since := o.began.UTC().Format(time.RFC3339)
	if len(o.waiting) == 1 {
		for l := range o.waiting {
			return fmt.Sprintf("Belay's store takes no appends of rollout %s since %s: it is frozen, a rollback still works. %s", l.id, since, o.cause)
		}
	}
	return fmt.Sprintf("Belay's store takes no appends since %s: rollouts are frozen, rollbacks still work. %s", since, o.cause)
}

// open is the call as it is open at the named notifier, for one that ends pages
// unless they are repeated; ok is false when there is none.
func (o *outage) open(name string) (n notifier.Notice, ok bool) {
	o.mu.Lock()
	who, summary := o.who, ""
	if ok = o.away && o.called && o.paged[name]; ok {
		summary = o.words()
	}
	o.mu.Unlock()
	if !ok {
		return n, false
	}
	who.mu.Lock()
	s := who.s
	who.mu.Unlock()
	return notice(who.plan, &s, o.effect(name, summary, false), o.e.external(), o.e.now()), true
}

// call pages the first notifier of the rollout's list that takes it, about the
// outage since then.
func (o *outage) call(ctx context.Context, who *live, since time.Time, summary string) {
	for _, name := range who.plan.Page {
		if o.send(ctx, who, name, summary, false) {
			o.mu.Lock()
			o.paged[name] = true
			o.called = o.called || o.began.Equal(since)
			o.mu.Unlock()
			return
		}
	}
}

// relieve resolves the page wherever it was opened.
func (o *outage) relieve(ctx context.Context, who *live) {
	o.mu.Lock()
	paged := slices.Sorted(maps.Keys(o.paged))
	o.mu.Unlock()
	for _, name := range paged {
		// One that is not configured any more cannot be told.
		if o.e.outlet(name) == nil || o.send(ctx, who, name, "Belay's store takes appends again.", true) {
			o.mu.Lock()
			delete(o.paged, name)
			if len(o.paged) == 0 {
				o.failures = nil
			}
			o.mu.Unlock()
		}
	}
}

// send delivers the page, or its end, and reports whether that worked.
func (o *outage) send(ctx context.Context, who *live, name, summary string, end bool) bool {
	to := o.e.outlet(name)
	if to == nil {
		o.sent(name, "", fmt.Errorf("notifier %q is not configured", name), end)
		return false
	}
	if !acquire(ctx, to.pages) {
		return false
	}
	defer func() { <-to.pages }()
	who.mu.Lock()
	s := who.s
	who.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, o.e.cfg.NotifyTimeout)
	defer cancel()
	ref, err := to.Notify(ctx, notice(who.plan, &s, o.effect(name, summary, end), o.e.external(), o.e.now()))
	o.e.metrics.notified(name, err)
	o.sent(name, ref, err, end)
	if err == nil {
		o.e.PageTaken(name)
	}
	return err == nil
}

// effect is the page, or its end, as a message. Every outage is another delivery
// of the same key, and so is its end.
func (o *outage) effect(name, summary string, end bool) rollout.Effect {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := &rollout.Notice{Key: "store/" + o.e.cfg.Owner, Topic: rollout.TopicPage, Severity: "critical", Summary: summary, Resolve: end, Ref: o.refs[name]}
	id := fmt.Sprintf("%s/%d", n.Key, o.began.UnixNano())
	if end {
		n.Severity = "info"
		id += "/end"
	}
	return rollout.Effect{ID: id, Kind: rollout.EffectPage, Notice: n}
}

// sent notes how a delivery went.
func (o *outage) sent(name, ref string, err error, end bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.failures, func(f rollout.PageFailure) bool { return f.Notifier == name })
	if err == nil {
		if i >= 0 {
			o.failures = slices.Delete(o.failures, i, i+1)
		}
		if o.refs == nil {
			o.refs = map[string]string{}
		}
		o.refs[name] = ref
		return
	}
	if i < 0 {
		o.e.log.Warn("page not delivered", "notifier", name, "outcome", err.Error())
		o.failures = append(o.failures, rollout.PageFailure{Notifier: name})
		i = len(o.failures) - 1
	}
	f := &o.failures[i]
	f.Last = o.e.now()
	if f.Tries == 0 || f.End != end {
		f.Since, f.Tries, f.End = f.Last, 0, end
	}
	f.Tries, f.Why = f.Tries+1, clip(err.Error(), 200)
}
