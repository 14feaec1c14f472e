package rollout

import (
	"slices"
	"time"
)

// A PageFailure is a notifier that did not take a rollout's page, or the end of
// it, when it was last tried. It is kept until the notifier takes one, or until
// the page has ended everywhere.
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

// UndeliveredPage says which notifiers did not take the rollout's page, or its end,
// and who did instead; ok is false when nothing is missing. It is derived from the
// state alone, so that it is the same after a restart.
func (s *State) UndeliveredPage() (u UndeliveredPage, ok bool) {
	if len(s.PageFailures) == 0 {
		return UndeliveredPage{}, false
	}
	u.Failures = s.PageFailures
	u.Ended = s.Page == nil
	u.TakenBy = s.PagedTo
	if s.Page != nil {
		u.Since, u.TakenBy = s.Page.Since, s.Page.Notifier
	}
	for _, e := range s.Messages {
		if e.Kind == EffectPage && !e.Notice.Resolve {
			u.TakenBy, u.Ended = "", false
		}
	}
	return u, true
}

// notPaged notes that the notifier did not take a page, or its end.
func (m *machine) notPaged(e Effect, f Failure) {
	x := PageFailure{Notifier: e.Notifiers[0], Since: m.now(), End: e.Notice.Resolve}
	i := slices.IndexFunc(m.s.PageFailures, func(o PageFailure) bool { return o.Notifier == x.Notifier })
	if i >= 0 && m.s.PageFailures[i].End == x.End {
		x = m.s.PageFailures[i]
	}
	x.Last, x.Tries, x.Why = m.now(), x.Tries+1, clip(f.Message)
	if i < 0 {
		m.s.PageFailures = append(m.s.PageFailures, x)
		return
	}
	m.s.PageFailures[i] = x
}

// paged notes that the notifier took a page, or its end.
func (m *machine) paged(notifier string) {
	m.dropPageFailures(func(f PageFailure) bool { return f.Notifier == notifier })
	m.forgetPage()
}

// forgetPage drops what is told of a page once it is over. Ends that were not taken
// stay: whoever was called there has not been relieved.
func (m *machine) forgetPage() {
	if m.s.Page != nil || slices.ContainsFunc(m.s.Messages, func(e Effect) bool { return e.Kind == EffectPage }) {
		return
	}
	m.dropPageFailures(func(f PageFailure) bool { return !f.End })
}

func (m *machine) dropPageFailures(of func(PageFailure) bool) {
	m.s.PageFailures = slices.DeleteFunc(m.s.PageFailures, of)
	if len(m.s.PageFailures) == 0 {
		m.s.PageFailures = nil
	}
}
