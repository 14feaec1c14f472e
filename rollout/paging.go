package rollout

import (
	"slices"
	"time"
)

// Paging is what the notifiers show of one page and what they are still owed: at
// most one message each, the difference between what a notifier shows and what is
// so. Nothing queues: however often the page opened and closed while a notifier was
// away, it learns how things are. It is a plain value; its methods replace what they
// change, so that a copy made before stays as it was.
type Paging struct {
	// Calls is the notifier that is called: the one that took the page last, or the
	// next to be tried; "" while no page is open.
	Calls string `json:"calls,omitempty"`
	// TakenBy is the notifier that took a page last.
	TakenBy string `json:"takenBy,omitempty"`
	// Views are the notifiers that show the page, may show it, or are owed something.
	Views []PageView `json:"views,omitempty"`
}

// A PageView is what one notifier shows of a page.
type PageView struct {
	Notifier string `json:"notifier"`
	// Shows is the text it took last, by what Settle was told; "" for no open page,
	// pageUnknown when it may show one.
	Shows string `json:"shows,omitempty"`
	// Owed is what it is to be told now, "" for nothing, pageEnd for the end.
	Owed string `json:"owed,omitempty"`
	// Attempt counts the tries in vain of what is owed, NotBefore is when the next may
	// start.
	Attempt   int       `json:"attempt,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Failure is what it did not take when it was last tried; nil when it took it.
	Failure *PageFailure `json:"failure,omitempty"`
}

// A PageFailure is a notifier that did not take a page, or the end of it, when it
// was last tried. It is kept until the notifier takes one, or until the page has
// ended everywhere.
type PageFailure struct {
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
	// pageEnd is owed to whoever shows a page that is over.
	pageEnd = "end"
	// pageUnknown: what the notifier shows is not known, since an answer was lost or
	// came late.
	pageUnknown = "?"
)

// Settle makes what is owed follow what is so: text identifies the page as it is to
// be shown, "" when none is open; order are the notifiers in the order in which
// they are tried. A page that nobody shows yet begins with the first of them.
func (g *Paging) Settle(order []string, text string, now time.Time) {
	g.Views = slices.Clone(g.Views)
	if text == "" && g.Calls != "" && !slices.ContainsFunc(g.Views, func(v PageView) bool { return v.Shows != "" }) {
		g.view(g.Calls).Shows = pageUnknown // nobody has seen the page: one learns that there was one
	}
	switch {
	case text == "" || len(order) == 0:
		g.Calls = ""
	case !slices.Contains(order, g.Calls):
		g.Calls = order[0]
	}

	if g.Calls != "" {
		g.view(g.Calls)
	}
	for i := range g.Views {
		v := &g.Views[i]
		if owed := v.owes(g.Calls, text); owed != v.Owed {
			v.owe(owed, now)
		}
	}
	g.Views = slices.DeleteFunc(g.Views, func(v PageView) bool { return v.idle(g.Calls, text != "") })
	if len(g.Views) == 0 {
		g.Views = nil
	}
}

// owes is what a notifier is to be told. Only the one that is called learns of
// another text; every one that shows the page learns of its end.
func (v *PageView) owes(calls, text string) string {
	switch {
	case text == "" && v.Shows != "":
		return pageEnd
	case text != "" && v.Notifier == calls && v.Shows != text:
		return text
	}
	return ""
}

// owe replaces what the notifier is to be told. What was under way may have arrived.
// Another text keeps the back-off; a page never waits as an end does.
func (v *PageView) owe(what string, now time.Time) {
	if v.Owed != "" && !v.NotBefore.After(now) {
		v.Shows = pageUnknown
		if what == "" {
			what = pageEnd
		}
	}
	if was, is := v.Owed == pageEnd, what == pageEnd; was != is {
		v.Attempt, v.NotBefore = 0, now
	}
	v.Owed = what
}

// idle reports whether there is nothing to remember of the notifier: a failure is
// named for as long as the page is open. An end that was given up stays named: whoever
// was called there has not been relieved.
func (v *PageView) idle(calls string, open bool) bool {
	return v.Notifier != calls && v.Shows == "" && v.Owed == "" && (v.Failure == nil || !open && !v.Failure.End)
}

// view is the notifier's view, made when there is none.
func (g *Paging) view(notifier string) *PageView {
	i := slices.IndexFunc(g.Views, func(v PageView) bool { return v.Notifier == notifier })
	if i < 0 {
		g.Views = append(g.Views, PageView{Notifier: notifier})
		i = len(g.Views) - 1
	}
	return &g.Views[i]
}

// Took notes that the notifier took the text, or with pageEnd the end.
func (g *Paging) Took(notifier, text string) {
	g.Views = slices.Clone(g.Views)
	v := g.view(notifier)
	*v = PageView{Notifier: notifier, Shows: text}
	if text == pageEnd {
		v.Shows = ""
		return
	}
	g.TakenBy = notifier
	if g.Calls != "" {
		g.Calls = notifier
	}
}

// Refused notes that the notifier did not take the text, or with pageEnd the end.
// Another one is called at once; an end is tried again, often at first, and given up
// after a day or when no try can help. After a transient failure the text may have
// arrived all the same.
func (g *Paging) Refused(rollout string, order []string, notifier, text string, f Failure, now time.Time) {
	g.Views = slices.Clone(g.Views)
	v := g.view(notifier)
	v.Attempt++
	v.fail(text == pageEnd, f, now)
	wait := max(backoff(rollout, notifier, v.Attempt, time.Second, time.Minute), min(f.RetryAfter, 10*time.Minute))
	if text == pageEnd {
		if v.Attempt > closingOften {
			wait = max(wait, 10*time.Minute)
		}
		v.NotBefore = now.Add(wait)
		if f.Kind == FailurePermanent || v.Attempt > closingTries {
			v.Shows, v.Owed, v.Attempt, v.NotBefore = "", "", 0, time.Time{}
		}
		return
	}

	wait = min(wait, pageRetryMost)
	v.NotBefore = now.Add(wait)
	if f.Kind == FailureTransient {
		v.Shows = pageUnknown
	}
	if len(order) == 0 || g.Calls != notifier {
		return
	}
	next := (slices.Index(order, notifier) + 1) % len(order)
	g.Calls = order[next]
	if n := g.view(g.Calls); next != 0 {
		n.NotBefore = now
	} else if n.Notifier != notifier {
		n.NotBefore = now.Add(wait)
	}
}

// pageRetryMost is the longest time between two tries of a page.
const pageRetryMost = 30 * time.Second

// Unsure notes that the notifier may show the page: an answer about a text that was
// replaced meanwhile.
func (g *Paging) Unsure(notifier string) {
	g.Views = slices.Clone(g.Views)
	v := g.view(notifier)
	v.Shows, v.Failure = pageUnknown, nil
	g.TakenBy = notifier
}

// fail counts one more failure in a row.
func (v *PageView) fail(end bool, f Failure, now time.Time) {
	x := PageFailure{Notifier: v.Notifier, Since: now, End: end}
	if v.Failure != nil && v.Failure.End == end {
		x = *v.Failure
	}
	x.Last, x.Tries, x.Why = now, x.Tries+1, clip(f.Message)
	v.Failure = &x
}

// Shows reports whether the notifier shows the page as open, or may.
func (g *Paging) Shows(notifier string) bool {
	return slices.ContainsFunc(g.Views, func(v PageView) bool { return v.Notifier == notifier && v.Shows != "" })
}

// An UndeliveredPage is a page that did not reach people the way the policy wants
// it.
type UndeliveredPage struct {
	// Since is when the page was opened; zero when it has ended.
	Since time.Time
	// TakenBy is the notifier that took the page as it stands, "" while none has.
	TakenBy string
	// Ended: the page is over, and what is missing is its end.
	Ended bool
	// Failures are the notifiers that did not take it, the first to fail first.
	Failures []PageFailure
}

// Undelivered says which notifiers did not take the page, or its end, and who did
// instead; text is the page's as Settle was told. ok is false when nothing is
// missing. Once the page is over only the ends that were not taken count.
func (g *Paging) Undelivered(text string) (u UndeliveredPage, ok bool) {
	u.Ended = text == ""
	for _, v := range g.Views {
		if v.Failure != nil && (!u.Ended || v.Failure.End) {
			u.Failures = append(u.Failures, *v.Failure)
		}
		if !u.Ended && v.Shows == text {
			u.TakenBy = v.Notifier
		}
	}
	if u.Ended {
		u.TakenBy = g.TakenBy
	}
	slices.SortStableFunc(u.Failures, func(a, b PageFailure) int { return a.Since.Compare(b.Since) })
	return u, len(u.Failures) > 0
}
