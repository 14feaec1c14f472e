package rollout

import (
	"fmt"
	"slices"
	"strings"
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
// and who did instead; ok is false when nothing is missing. Once the page is over
// only the ends that were not taken count. It is derived from the state alone, so
// that it is the same after a restart.
func (s *State) UndeliveredPage() (u UndeliveredPage, ok bool) {
	u.Ended, u.TakenBy = s.Page == nil, s.PagedTo
	if s.Page != nil {
		u.Since, u.TakenBy = s.Page.Since, s.Page.Notifier
	}
	for _, e := range s.Messages {
		if e.Kind == EffectPage && !e.Notice.Resolve {
			u.TakenBy, u.Ended = "", false
		}
	}
	for _, f := range s.PageFailures {
		if !u.Ended || f.End {
			u.Failures = append(u.Failures, f)
		}
	}
	return u, len(u.Failures) > 0
}

// PageKey is the deduplication key of the rollout's one page.
func (p *Plan) PageKey() string { return "rollout/" + p.Endpoint.Name + "/" + p.ID }

// openPage calls a human, once: an open page is updated only when its reason
// changes.
func (m *machine) openPage(reason Reason, summary string) {
	if m.s.Phase.Terminal() || m.s.Page != nil && m.s.Page.Reason == reason {
		return
	}
	m.pageNow(reason, summary)
}

// pageNow opens the page, or updates the one that is open.
func (m *machine) pageNow(reason Reason, summary string) {
	opened := m.s.Page == nil
	if opened {
		m.s.Page = &OpenPage{Since: m.now(), Began: reason}
		m.hurryEnds()
	}
	m.s.Page.Reason, m.s.Page.Summary = reason, clip(summary)
	m.decide(Decision{Kind: DecisionPage, Reason: reason, Sentence: summary})
	m.putPage(Notice{Key: m.p.PageKey(), Topic: TopicPage, Severity: "critical", Summary: clip(summary)})
}

// untaken marks the end of a page that nobody had taken yet: it goes where the page
// goes.
const untaken = "/untaken"

// resolvePage relieves the humans who were called, wherever the page or one of its
// texts was taken.
func (m *machine) resolvePage(summary string) {
	page := m.s.Page
	if page == nil {
		return
	}
	m.s.PagedTo, m.s.Page = page.Notifier, nil
	if len(m.p.Page) == 0 {
		return
	}
	end := Notice{Key: m.p.PageKey(), Topic: TopicPage, Severity: "info", Summary: clip(summary), Resolve: true}
	if page.Notifier == "" {
		m.queuePage(end, m.p.Page[0], untaken)
	} else {
		m.queueEnd(end, page.Notifier)
	}
	for _, to := range page.Taken {
		m.queueEnd(end, to)
	}
}

// mute is after how many tries a question that cannot be asked is paged.
const mute = 3

// relieveAsked ends a page that was about nothing but a question that could not be
// asked, once it was asked or needs no answer any more.
func (m *machine) relieveAsked() {
	p := m.s.Page
	if p == nil || p.Began != ReasonApproval || p.Reason != ReasonApproval || len(p.Told) > 0 {
		return
	}
	if !slices.ContainsFunc(m.s.Messages, func(e Effect) bool {
		return e.Kind == EffectAsk && e.Attempt >= mute && e.Notice.Question.State == QuestionOpen
	}) {
		m.resolvePage("Resolved: no question waits to be asked any more.")
	}
}

// putPage queues a page. A later text replaces an earlier one that nobody has
// taken.
func (m *machine) putPage(n Notice) {
	if len(m.p.Page) == 0 {
		return
	}
	to := m.p.Page[0]
	if m.s.Page.Notifier != "" {
		to = m.s.Page.Notifier
	}
	for i, o := range slices.Backward(m.s.Messages) {
		if o.Kind != EffectPage {
			continue
		}
		if o.Notice.Resolve {
			break
		}
		o.ID, o.Key, o.Notice = m.mint(), fmt.Sprintf("page/%d", m.s.Seq), &n
		m.s.Messages[i] = o
		return
	}
	m.queuePage(n, to, "")
}

func (m *machine) queuePage(n Notice, to, suffix string) {
	m.s.Messages = append(m.s.Messages, Effect{ID: m.mint(), Kind: EffectPage, Key: fmt.Sprintf("page/%d", m.s.Seq) + suffix, Notifiers: []string{to}, Notice: &n})
}

// queueEnd queues the end of the page for a notifier, unless it waits for it
// already.
func (m *machine) queueEnd(end Notice, to string) {
	for _, o := range slices.Backward(m.s.Messages) {
		switch {
		case o.Kind != EffectPage || o.Notifiers[0] != to && o.Notice.Resolve:
		case o.Notice.Resolve:
			return
		default:
			m.queuePage(end, to, "/"+to)
			return
		}
	}
	m.queuePage(end, to, "/"+to)
}

// tookPage notes that a notifier took the page, or a text of it. When the page is
// over by then, its end goes there too.
func (m *machine) tookPage(by string) {
	m.s.PagedTo = by
	if m.s.Page != nil {
		m.s.Page.Notifier = by
	}
	for i, o := range m.s.Messages {
		if o.Kind == EffectPage && strings.HasSuffix(o.Key, untaken) {
			m.s.Messages[i].Key, m.s.Messages[i].Notifiers = strings.TrimSuffix(o.Key, untaken)+"/"+by, []string{by}
		}
	}
	m.shows(by)
}

// shows notes that a notifier shows the page as open, so that it learns of its end.
func (m *machine) shows(notifier string) {
	if m.s.Page != nil {
		if !slices.Contains(m.s.Page.Taken, notifier) {
			m.s.Page.Taken = append(slices.Clip(m.s.Page.Taken), notifier)
		}
		return
	}
	m.queueEnd(Notice{Key: m.p.PageKey(), Topic: TopicPage, Severity: "info", Summary: m.headline(), Resolve: true}, notifier)
}

// hurryEnds tries the ends of an earlier page that wait for their next try once
// more, at once, before the new page goes: where that works, the new page calls
// people anew. Those that do not wait are being tried.
func (m *machine) hurryEnds() {
	for i, o := range m.s.Messages {
		if o.Kind == EffectPage && o.Notice.Resolve && o.NotBefore.After(m.now()) {
			m.s.Messages[i].Attempt, m.s.Messages[i].NotBefore = o.Attempt+1, m.now()
		}
	}
}

// overtaken reports whether a new page waits behind a message.
func (m *machine) overtaken(i int) bool {
	return slices.ContainsFunc(m.s.Messages[i+1:], func(e Effect) bool { return e.Kind == EffectPage && !e.Notice.Resolve })
}

// wantPages are the pages and the ends of pages that may be sent now: a page after
// every end before it was tried, an end after the page was taken, and one end a
// notifier.
func (m *machine) wantPages() []Effect {
	var es []Effect
	ended := map[string]bool{}
	for _, e := range m.s.Messages {
		switch {
		case e.Kind != EffectPage:
		case !e.Notice.Resolve:
			if len(ended) == 0 {
				es = append(es, e)
			}
			return es
		case !ended[e.Notifiers[0]]:
			ended[e.Notifiers[0]] = true
			es = append(es, e)
		}
	}
	return es
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
