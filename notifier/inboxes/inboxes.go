// Package inboxes hears people by several inboxes at once, which are replaced while
// they are heard.
//
// The rules of the package:
//   - An inbox that fails is started again, at most once a second at first and once a
//     minute later, and is named for as long as nobody can answer by it.
//   - What is new is heard before what it replaces is not, so that no answer is lost
//     meanwhile; what both hear is the caller's to recognise.
package inboxes

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/notifier"
)

const (
	// overlap is for how long an inbox that was replaced is heard beside the new one:
	// longer than a new one takes to connect.
	overlap = 15 * time.Second
	// steadyAfter is how long an inbox runs before it is believed to hear.
	steadyAfter = 10 * time.Second
)

// Inboxes are the inboxes that are heard. Its methods are safe for concurrent use.
type Inboxes struct {
	// Answer decides what becomes of what a person said through the named inbox.
	Answer func(ctx context.Context, name string, a notifier.Answer) (notifier.Reply, error)
	// Go runs do in a goroutine that somebody waits for, or not at all.
	Go  func(do func(context.Context)) bool
	Log *slog.Logger

	mu sync.Mutex
	// ctx is the context of all inboxes while they are heard; nil otherwise.
	ctx    context.Context
	heard  map[string]subscription
	failed map[string]failure
}

// A subscription is one inbox that is heard, until stop.
type subscription struct {
	inbox notifier.Inbox
	stop  context.CancelFunc
}

// A failure is an inbox that ended by itself and has not been heard since.
type failure struct {
	since time.Time
	why   string
}

// Listen hears people until ctx ends.
func (x *Inboxes) Listen(ctx context.Context, inboxes map[string]notifier.Inbox) {
	x.mu.Lock()
	x.ctx, x.heard, x.failed = ctx, map[string]subscription{}, map[string]failure{}
	x.mu.Unlock()
	x.Replace(inboxes)
}

// Replace hears these inboxes and no others. It does nothing while nobody listens.
func (x *Inboxes) Replace(inboxes map[string]notifier.Inbox) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ctx == nil || x.ctx.Err() != nil {
		return
	}
	for name, old := range x.heard {
		if _, ok := inboxes[name]; !ok {
			old.stop()
			delete(x.heard, name)
			delete(x.failed, name)
		}
	}
	for name, inbox := range inboxes {
		old, replaced := x.heard[name]
		if replaced && same(old.inbox, inbox) {
			continue
		}
		ctx, stop := context.WithCancel(x.ctx)
		x.heard[name] = subscription{inbox, stop}
		x.Go(func(context.Context) { x.hear(ctx, name, inbox) })
		if replaced {
			x.Go(func(context.Context) {
				defer old.stop()
				sleep(ctx, overlap)
			})
		}
	}
}

// Problems names, a line each, the inboxes by which nobody can answer now, since when
// and why.
func (x *Inboxes) Problems() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(x.failed)) {
		f := x.failed[name]
		lines = append(lines, fmt.Sprintf("notifier %s: nobody can answer by it since %s: %s",
			name, f.since.UTC().Format(time.RFC3339), f.why))
	}
	return lines
}

// hear hears one inbox until ctx ends.
func (x *Inboxes) hear(ctx context.Context, name string, inbox notifier.Inbox) {
	wait := time.Second
	for {
		began := time.Now()
		steady := time.AfterFunc(steadyAfter, func() { x.note(name, inbox, "") })
		err := inbox.Run(ctx, func(ctx context.Context, a notifier.Answer) (notifier.Reply, error) {
			return x.Answer(ctx, name, a)
		})
		steady.Stop()
		if ctx.Err() != nil {
			return
		}
		x.note(name, inbox, fmt.Sprint(err))
		if time.Since(began) > time.Minute {
			wait = time.Second
		}
		x.Log.Warn("inbox ended", "notifier", name, "outcome", fmt.Sprint(err))
		if !sleep(ctx, wait) {
			return
		}
		wait = min(2*wait, time.Minute)
	}
}

// note notes why an inbox ended by itself, "" when it is heard. One that was replaced
// says nothing any more.
func (x *Inboxes) note(name string, inbox notifier.Inbox, why string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !same(x.heard[name].inbox, inbox) {
		return
	}
	if why == "" {
		delete(x.failed, name)
		return
	}
	f, known := x.failed[name]
	if !known {
		f.since = time.Now()
	}
	f.why = why
	x.failed[name] = f
}

// same reports whether two inboxes are one; nil is none.
func same(a, b notifier.Inbox) bool {
	return a != nil && b != nil && reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
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
