package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/notice"
	"github.com/belayd/belay/rollout/paging"
)

// OpenPages lists, as notices of now, the pages that the named notifier took, be it
// with an earlier text, and that are still open, for notifiers whose pages end
// unless they are repeated. The engine's own about its store is among them.
func (e *Engine) OpenPages(ctx context.Context, name string) ([]notifier.Notice, error) {
	var open []notifier.Notice
	for snap, err := range e.Rollouts(ctx) {
		if errors.Is(err, rollout.ErrFormat) {
			continue // It is counted, and whoever wrote it repeats its page.
		}
		if err != nil {
			return nil, err
		}
		if snap.State.Page == nil || !snap.State.Paging.OpenAt(name) {
			continue
		}
		key := snap.Plan.PageKey()
		effect := rollout.Effect{ID: key, Kind: rollout.EffectPage, Notice: &mailbox.Notice{
			Key: key, Topic: mailbox.TopicPage, Severity: "critical", Summary: snap.State.PageLine()}}
		open = append(open, notice.Of(snap.Plan, &snap.State, effect, e.cfg.ExternalURL, e.now()))
	}
	if n, ok := e.outage.Open(ctx, name); ok {
		open = append(open, n)
	}
	return open, nil
}

// problemsMost bounds the pages that are named at once.
const problemsMost = 20

// An undeliveredPage is a page that did not reach people as it should: that of a rollout,
// or the engine's own about its store.
type undeliveredPage struct {
	// about says whose page it is, for people.
	about string
	paging.Undelivered
}

// PageProblems names, a line each, the pages of the rollouts carried here that a
// notifier did not take, or of which it did not take the end: which notifier,
// since when and why, and who took the page instead. A failure is no longer named
// once the notifier took the page, or another one or a test later, or when the
// page has ended. What waits for longest comes first; at most twenty pages are
// named. It asks nobody: the state of each rollout says it.
func (e *Engine) PageProblems() []string {
	var lines []string
	all := e.undeliveredPages()
	for i, u := range all {
		if i == problemsMost {
			lines = append(lines, fmt.Sprintf("… and %d more pages", len(all)-i))
			break
		}
		lines = append(lines, u.String())
	}
	return lines
}

// PageTaken notes that the named notifier took a page, or a test of one, just now:
// what it did not take before and another one did is no longer held against it.
func (e *Engine) PageTaken(name string) {
	if o := e.notifiers[name]; o != nil {
		o.took.Store(e.now().UnixNano())
	}
}

// Notified counts a message of nobody's rollout that was handed to a notifier, with
// how that went.
func (e *Engine) Notified(name string, err error) { e.metrics.notified(name, err) }

// undeliveredPages gathers them, those that nobody took first, then by age.
func (e *Engine) undeliveredPages() []undeliveredPage {
	e.mu.Lock()
	runners := make([]*runner, 0, len(e.runners))
	for _, l := range e.runners {
		runners = append(runners, l)
	}
	e.mu.Unlock()
	var all []undeliveredPage
	for _, l := range runners {
		l.mu.Lock()
		s, gone := l.s, l.gone
		l.mu.Unlock()
		if gone {
			continue
		}
		if u, ok := s.UndeliveredPage(); ok {
			all = append(all,
				undeliveredPage{fmt.Sprintf("rollout %s (%s/%s)", l.id, l.plan.Endpoint.Router, l.plan.Endpoint.Name), u})
		}
	}
	if u, ok := e.outage.Undelivered(); ok {
		all = append(all, undeliveredPage{"the store's outage", u})
	}
	left := all[:0]
	for _, u := range all {
		if u.Failures = e.openFailures(u.Undelivered); len(u.Failures) > 0 {
			left = append(left, u)
		}
	}
	slices.SortFunc(left, func(a, b undeliveredPage) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), a.Failures[0].Since.Compare(b.Failures[0].Since),
			strings.Compare(a.about, b.about))
	})
	return left
}

// openFailures are the failures of a page that nothing has disproved: of a page that
// another notifier took, those after which the notifier took nothing.
func (e *Engine) openFailures(u paging.Undelivered) []paging.FailingNotifier {
	if u.DeliveredTo == "" || u.Ended {
		return u.Failures
	}
	var fs []paging.FailingNotifier
	for _, f := range u.Failures {
		if o := e.notifiers[f.Notifier]; o == nil || o.took.Load() <= f.Last.UnixNano() {
			fs = append(fs, f)
		}
	}
	return fs
}

// untaken reports whether people have not been told: a page, or its newest text,
// that no notifier took.
func (u undeliveredPage) untaken() bool { return u.DeliveredTo == "" && !u.Ended }

// rank sorts by what is most urgent.
func (u undeliveredPage) rank() int {
	switch {
	case u.untaken():
		return 0
	case !u.Ended:
		return 1
	}
	return 2
}

// String is the page's line for a person at night.
func (u undeliveredPage) String() string {
	var failed []string
	for _, f := range u.Failures {
		failed = append(failed, fmt.Sprintf("%s fails since %s (tried %s): %s",
			f.Notifier, f.Since.UTC().Format(time.RFC3339), times(f.Tries), strings.TrimRight(f.Why, ". ")))
	}
	what := strings.Join(failed, "; ")
	switch {
	case u.Ended:
		return fmt.Sprintf("the end of the page of %s was not taken: %s. "+
			"Who was called there still believes that it is open: close it there", u.about, what)
	case u.untaken():
		return fmt.Sprintf("the page of %s reached nobody: %s. It is tried again", u.about, what)
	}
	return fmt.Sprintf("the page of %s went to %s instead: %s. `belay doctor --notify` tries every notifier",
		u.about, u.DeliveredTo, what)
}

// times is a number of tries in words.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// collectPages writes the figures of the pages: one for every notifier there is, so
// that an alert ends, and one for every other that failed.
func (e *Engine) collectPages(gauge func(name string, pages int), untaken func(pages int)) {
	failed := map[string]int{}
	for name := range e.notifiers {
		failed[name] = 0
	}
	nobody := 0
	for _, u := range e.undeliveredPages() {
		for _, f := range u.Failures {
			failed[f.Notifier]++
		}
		if u.untaken() {
			nobody++
		}
	}
	for name, n := range failed {
		gauge(name, n)
	}
	untaken(nobody)
}
