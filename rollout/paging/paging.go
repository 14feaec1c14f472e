// Package paging keeps what notifiers show of one page and what they are still owed: who
// is called, who is tried next, and who learns of the end. It is a value without a clock;
// a rollout's state holds one, and so does the page of a store's outage.
package paging

import (
	"slices"
	"time"

	"github.com/belayd/belay/rollout/backoff"
)

// A Ledger is what the notifiers show of one page and what they are still owed: at
// most one message each, the difference between what a notifier shows and what is
// so. Nothing queues: however often the page opened and closed while a notifier was
// away, it learns how things are. It is a plain value; its methods replace what they
// change, so that a copy made before stays as it was.
type Ledger struct {
	// Calls is the notifier that is called: the one that took the page last, or the
	// next to be tried; "" while no page is open.
	Calls string `json:"calls,omitempty"`
	// DeliveredTo is the notifier that took a page last.
	DeliveredTo string `json:"takenBy,omitempty"`
	// Views are the notifiers that show the page, may show it, or are owed something.
	Views []View `json:"views,omitempty"`
}

// A View is what one notifier shows of a page.
type View struct {
	Notifier string `json:"notifier"`
	// Shows is the text it took last, by what Settle was told; "" for no open page,
	// Unknown when it may show one.
	Shows string `json:"shows,omitempty"`
	// Owed is what it is to be told now, "" for nothing, End for the end.
	Owed string `json:"owed,omitempty"`
	// Attempt counts the tries in vain of what is owed, NotBefore is when the next may
	// start.
	Attempt   int       `json:"attempt,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Failure is what it did not take when it was last tried; nil when it took it.
	Failure *FailingNotifier `json:"failure,omitempty"`
}

// A FailingNotifier is a notifier that did not take a page, or the end of it, when it
// was last tried. It is kept until the notifier takes one, or until the page has
// ended everywhere.
type FailingNotifier struct {
	Notifier string `json:"notifier"`
	// Since is the first failure of those in a row, Last the last; Tries counts them.
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
	Tries int       `json:"tries"`
	// Why is what the notifier said, at most 200 characters.
	Why string `json:"why"`
	// End: it was the end of the page that it did not take.
	End bool `json:"end,omitempty"`
}

const (
	// End is owed to whoever shows a page that is over.
	End = "end"
	// Unknown: what the notifier shows is not known, since an answer was lost or
	// came late.
	Unknown = "?"
)

// What closes a page or a question is tried often for a quarter of an hour, and every
// ten minutes for a day.
const (
	CloseOften = 20
	CloseTries = CloseOften + 24*6
)

// A DeliveryError is what a notifier said that did not take a page.
type DeliveryError struct {
	// Permanent: no try can help. Unsure: it may have arrived all the same.
	Permanent, Unsure bool
	// RetryAfter is what the notifier asked for, 0 for nothing.
	RetryAfter time.Duration
	// Why is what it said, at most 200 characters.
	Why string
}

// Settle makes what is owed follow what is so: text identifies the page as it is to
// be shown, "" when none is open; order are the notifiers in the order in which
// they are tried. A page that nobody shows yet begins with the first of them.
func (g *Ledger) Settle(order []string, text string, now time.Time) {
	g.Views = slices.Clone(g.Views)
	if text == "" && g.Calls != "" && !slices.ContainsFunc(g.Views, func(v View) bool { return v.Shows != "" }) {
		g.Of(g.Calls).Shows = Unknown // nobody has seen the page: one learns that there was one
	}
	switch {
	case text == "" || len(order) == 0:
		g.Calls = ""
	case !slices.Contains(order, g.Calls):
		g.Calls = order[0]
	}

	if g.Calls != "" {
		g.Of(g.Calls)
	}
	for i := range g.Views {
		v := &g.Views[i]
		if owed := v.owes(g.Calls, text); owed != v.Owed {
			v.owe(owed, now)
		}
	}
	g.Views = slices.DeleteFunc(g.Views, func(v View) bool { return v.idle(g.Calls, text != "") })
	if len(g.Views) == 0 {
		g.Views = nil
	}
}

// owes is what a notifier is to be told. Only the one that is called learns of
// another text; every one that shows the page learns of its end.
func (v *View) owes(calls, text string) string {
	switch {
	case text == "" && v.Shows != "":
		return End
	case text != "" && v.Notifier == calls && v.Shows != text:
		return text
	}
	return ""
}

// owe replaces what the notifier is to be told. What was under way may have arrived.
// Another text keeps the back-off; a page never waits as an end does.
func (v *View) owe(what string, now time.Time) {
	if v.Owed != "" && !v.NotBefore.After(now) {
		v.Shows = Unknown
		if what == "" {
			what = End
		}
	}
	if was, is := v.Owed == End, what == End; was != is {
		v.Attempt, v.NotBefore = 0, now
	}
	v.Owed = what
}

// idle reports whether there is nothing to remember of the notifier: a failure is
// named for as long as the page is open. An end that was given up stays named: whoever
// was called there has not been relieved.
func (v *View) idle(calls string, open bool) bool {
	return v.Notifier != calls && v.Shows == "" && v.Owed == "" && (v.Failure == nil || !open && !v.Failure.End)
}

// Of is the notifier's view, made when there is none.
func (g *Ledger) Of(notifier string) *View {
	i := slices.IndexFunc(g.Views, func(v View) bool { return v.Notifier == notifier })
	if i < 0 {
		g.Views = append(g.Views, View{Notifier: notifier})
		i = len(g.Views) - 1
	}
	return &g.Views[i]
}

// Delivered notes that the notifier took the text, or with End the end.
func (g *Ledger) Delivered(notifier, text string) {
	g.Views = slices.Clone(g.Views)
	v := g.Of(notifier)
	*v = View{Notifier: notifier, Shows: text}
	if text == End {
		v.Shows = ""
		return
	}
	g.DeliveredTo = notifier
	if g.Calls != "" {
		g.Calls = notifier
	}
}

// Refused notes that the notifier did not take the text, or with End the end.
// Another one is called at once; an end is tried again, often at first, and given up
// after a day or when no try can help. After a transient failure the text may have
// arrived all the same.
func (g *Ledger) Refused(rollout string, order []string, notifier, text string, f DeliveryError, now time.Time) {
	g.Views = slices.Clone(g.Views)
	v := g.Of(notifier)
	v.Attempt++
	v.fail(text == End, f, now)
	wait := max(backoff.For(rollout, notifier, v.Attempt, time.Second, time.Minute), min(f.RetryAfter, 10*time.Minute))
	if text == End {
		if v.Attempt > CloseOften {
			wait = max(wait, 10*time.Minute)
		}
		v.NotBefore = now.Add(wait)
		if f.Permanent || v.Attempt > CloseTries {
			v.Shows, v.Owed, v.Attempt, v.NotBefore = "", "", 0, time.Time{}
		}
		return
	}

	wait = min(wait, pageRetryMost)
	v.NotBefore = now.Add(wait)
	if f.Unsure {
		v.Shows = Unknown
	}
	if len(order) == 0 || g.Calls != notifier {
		return
	}
	next := (slices.Index(order, notifier) + 1) % len(order)
	g.Calls = order[next]
	if n := g.Of(g.Calls); next != 0 {
		n.NotBefore = now
	} else if n.Notifier != notifier {
		n.NotBefore = now.Add(wait)
	}
}

// pageRetryMost is the longest time between two tries of a page.
const pageRetryMost = 30 * time.Second

// Unsure notes that the notifier may show the page: an answer about a text that was
// replaced meanwhile.
func (g *Ledger) Unsure(notifier string) {
	g.Views = slices.Clone(g.Views)
	v := g.Of(notifier)
	v.Shows, v.Failure = Unknown, nil
	g.DeliveredTo = notifier
}

// fail counts one more failure in a row.
func (v *View) fail(end bool, f DeliveryError, now time.Time) {
	x := FailingNotifier{Notifier: v.Notifier, Since: now, End: end}
	if v.Failure != nil && v.Failure.End == end {
		x = *v.Failure
	}
	x.Last, x.Tries, x.Why = now, x.Tries+1, f.Why
	v.Failure = &x
}

// OpenAt reports whether the notifier shows the page as open, or may.
func (g *Ledger) OpenAt(notifier string) bool {
	return slices.ContainsFunc(g.Views, func(v View) bool { return v.Notifier == notifier && v.Shows != "" })
}

// Undelivered is a page that did not reach people the way the policy wants
// it.
type Undelivered struct {
	// Since is when the page was opened; zero when it has ended.
	Since time.Time
	// DeliveredTo is the notifier that took the page as it stands, "" while none has.
	DeliveredTo string
	// Ended: the page is over, and what is missing is its end.
	Ended bool
	// Failures are the notifiers that did not take it, the first to fail first.
	Failures []FailingNotifier
}

// Undelivered says which notifiers did not take the page, or its end, and who did
// instead; text is the page's as Settle was told. ok is false when nothing is
// missing. Once the page is over only the ends that were not taken count.
func (g *Ledger) Undelivered(text string) (u Undelivered, ok bool) {
	u.Ended = text == ""
	for _, v := range g.Views {
		if v.Failure != nil && (!u.Ended || v.Failure.End) {
			u.Failures = append(u.Failures, *v.Failure)
		}
		if !u.Ended && v.Shows == text {
			u.DeliveredTo = v.Notifier
		}
	}
	if u.Ended {
		u.DeliveredTo = g.DeliveredTo
	}
	slices.SortStableFunc(u.Failures, func(a, b FailingNotifier) int { return a.Since.Compare(b.Since) })
	return u, len(u.Failures) > 0
}
