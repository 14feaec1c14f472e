// Package drill tries the ways in which people are paged: it sends a marked test
// through a notifier just as a page goes there, leaves it open for as long as a
// human needs to receive it, and ends it.
//
// The rules of the package:
//   - A test has the severity of a page. What is not told to a human by the same
//     route proves nothing.
//   - A test ends by itself after notifier.TestLasts, or when the process stops,
//     whichever comes first. After a crash whoever received it ends it: it says
//     until when it should have ended.
//
// It decides nothing about rollouts and keeps nothing on disk.
package drill

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/belayd/belay/notifier"
)

// The bounds of one call, and of all that end what is open when the process stops.
const (
	callWithin = 20 * time.Second
	stopWithin = 3 * time.Second
)

// most bounds the tests that are open at a time; older ones are ended for a new one.
const most = 100

// A Drill sends tests and ends them. Its zero value with a Log is ready for use. It
// is safe for concurrent use.
type Drill struct {
	Log *slog.Logger

	mu   sync.Mutex
	open []test
	// wake tells Run of a new test.
	wake chan struct{}
}

// A test is one that was sent.
type test struct {
	to     notifier.Notifier
	notice notifier.Notice
	ends   time.Time
}

// Send sends a test through a notifier, by a person's name, and says when it ends by
// itself. The error is the notifier's.
func (d *Drill) Send(ctx context.Context, name string, to notifier.Notifier, by string) (ends time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	at := time.Now().UTC()
	ends = at.Add(notifier.TestLasts)
	key := fmt.Sprintf("test/%s/%d", name, at.UnixNano())
	n := notifier.Notice{
		Key: key, Delivery: key + "/1", Topic: notifier.TopicTest, Severity: notifier.SeverityCritical, At: at, Since: at,
		Summary: notifier.Truncate(fmt.Sprintf("This is a test of %s, asked for by %s. Nobody needs to act. It ends by "+
			"itself at %s.",
			name, by, ends.Format("15:04 UTC")), 200),
	}
	if n.Ref, err = to.Notify(ctx, n); err != nil {
		return time.Time{}, err
	}
	d.keep(test{to: to, notice: n, ends: ends})
	return ends, nil
}

// keep remembers a test until it is ended.
func (d *Drill) keep(t test) {
	d.mu.Lock()
	d.open = append(d.open, t)
	for i := range max(len(d.open)-most, 0) {
		d.open[i].ends = time.Time{}
	}
	wake := d.woken()
	d.mu.Unlock()
	select {
	case wake <- struct{}{}:
	default: // it looks already
	}
}

// woken is the channel that wakes Run. With the lock held.
func (d *Drill) woken() chan struct{} {
	if d.wake == nil {
		d.wake = make(chan struct{}, 1)
	}
	return d.wake
}

// Run ends each test when its time has come, and all that are open when ctx ends.
// It returns nil.
func (d *Drill) Run(ctx context.Context) error {
	d.mu.Lock()
	wake := d.woken()
	d.mu.Unlock()
	for ctx.Err() == nil {
		due, next := d.due(time.Now())
		d.end(ctx, due)
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-wake:
		case <-timer:
		case <-ctx.Done():
		}
	}
	all, _ := d.due(time.Now().Add(2 * notifier.TestLasts))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	d.end(ctx, all)
	return nil
}

// due takes out the tests whose time has come at an instant, and says when the next
// one's does; zero when there is none.
func (d *Drill) due(at time.Time) (due []test, next time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.open[:0]
	for _, t := range d.open {
		switch {
		case !t.ends.After(at):
			due = append(due, t)
			continue
		case next.IsZero() || t.ends.Before(next):
			next = t.ends
		}
		left = append(left, t)
	}
	clear(d.open[len(left):])
	d.open = left
	return due, next
}

// end ends tests, all at once.
func (d *Drill) end(ctx context.Context, tests []test) {
	var wg sync.WaitGroup
	for _, t := range tests {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, callWithin)
			defer cancel()
			n := t.notice
			n.Delivery, n.At, n.Resolve = n.Key+"/2", time.Now().UTC(), true
			n.Summary = "The test is over."
			if _, err := t.to.Notify(ctx, n); err != nil {
				d.Log.Warn("test not ended", "outcome", err.Error())
			}
		})
	}
	wg.Wait()
}
