package engine

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
)

// hearOn is for how long an inbox that was replaced is heard beside the new one:
// longer than a new one takes to connect.
const hearOn = 15 * time.Second

// A hearing is what the engine hears people with.
type hearing struct {
	mu sync.Mutex
	// ctx is the context of all inboxes while Run runs; nil otherwise.
	ctx  context.Context
	ears map[string]ear
	// deaf are the inboxes that ended by themselves and have not been heard since.
	deaf map[string]silence
}

// A silence is an inbox by which nobody is heard.
type silence struct {
	since time.Time
	why   string
}

// hearsAfter is how long an inbox runs before it is believed to hear.
const hearsAfter = 10 * time.Second

// InboxProblems names, a line each, the inboxes by which nobody can answer now,
// since when and why.
func (e *Engine) InboxProblems() []string {
	h := &e.hearing
	h.mu.Lock()
	defer h.mu.Unlock()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(h.deaf)) {
		s := h.deaf[name]
		lines = append(lines, fmt.Sprintf("notifier %s: nobody can answer by it since %s: %s", name, s.since.UTC().Format(time.RFC3339), s.why))
	}
	return lines
}

// fell notes that an inbox ended by itself. One that was replaced says nothing any
// more.
func (h *hearing) fell(name string, inbox notifier.Inbox, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !same(h.ears[name].inbox, inbox) {
		return
	}
	s, ok := h.deaf[name]
	if !ok {
		s.since = time.Now()
	}
	s.why = why
	h.deaf[name] = s
}

// hears notes that an inbox hears.
func (h *hearing) hears(name string, inbox notifier.Inbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if same(h.ears[name].inbox, inbox) {
		delete(h.deaf, name)
	}
}

// An ear is one inbox that is heard, until stop.
type ear struct {
	inbox notifier.Inbox
	stop  context.CancelFunc
}

// listen hears people's answers until ctx ends.
func (e *Engine) listen(ctx context.Context) {
	e.hearing.mu.Lock()
	e.hearing.ctx, e.hearing.ears, e.hearing.deaf = ctx, map[string]ear{}, map[string]silence{}
	e.hearing.mu.Unlock()
	e.tune(e.reach.Load().inboxes)
}

// tune hears these inboxes and no others: what is new is heard before what it
// replaces is not, and what has gone is not heard any more. It does nothing while
// Run does not run.
func (e *Engine) tune(inboxes map[string]notifier.Inbox) {
	h := &e.hearing
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx == nil || h.ctx.Err() != nil {
		return
	}
	for name, old := range h.ears {
		if _, ok := inboxes[name]; !ok {
			old.stop()
			delete(h.ears, name)
			delete(h.deaf, name)
		}
	}
	for name, inbox := range inboxes {
		old, replaced := h.ears[name]
		if replaced && same(old.inbox, inbox) {
			continue
		}
		ctx, stop := context.WithCancel(h.ctx)
		h.ears[name] = ear{inbox, stop}
		e.spawn(func(context.Context) { e.hearFrom(ctx, name, inbox) })
		if replaced {
			e.spawn(func(context.Context) {
				defer old.stop()
				sleep(ctx, hearOn)
			})
		}
	}
}

// same reports whether two inboxes are one; nil is none.
func same(a, b notifier.Inbox) bool {
	return a != nil && b != nil && reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// hearFrom hears one inbox until ctx ends. An inbox that fails is started again,
// about every second at first and every minute later.
func (e *Engine) hearFrom(ctx context.Context, name string, inbox notifier.Inbox) {
	for tries := 1; ; tries++ {
		began := time.Now()
		steady := time.AfterFunc(hearsAfter, func() { e.hearing.hears(name, inbox) })
		err := inbox.Run(ctx, func(ctx context.Context, a notifier.Answer) (notifier.Reply, error) { return e.answer(ctx, name, a) })
		steady.Stop()
		if ctx.Err() != nil {
			return
		}
		e.hearing.fell(name, inbox, fmt.Sprint(err))
		if time.Since(began) > time.Minute {
			tries = 1
		}
		e.log.Warn("inbox ended", "notifier", name, "outcome", fmt.Sprint(err))
		if !sleep(ctx, rollout.Backoff(tries, time.Second, time.Minute, rand.Float64())) { //nolint:gosec // no secret
			return
		}
	}
}
