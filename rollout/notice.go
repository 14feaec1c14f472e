package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// threadMost bounds the undelivered thread entries of one notifier; more of them
// fold into one.
const threadMost = 20

// tell puts what this event decided before those whom the policy notifies.
func (m *machine) tell() {
	if len(m.s.Last.Decisions) == 0 {
		return
	}
	for _, n := range m.p.Notify {
		m.put(n, Notice{Key: m.p.ID + "/status", Topic: TopicStatus, Severity: m.severity(), Summary: m.headline()})
		for i, d := range m.s.Last.Decisions {
			if told(d.Kind) && !m.retold(i) {
				m.put(n, Notice{Key: fmt.Sprintf("%s/thread/%d.%d", m.p.ID, m.s.Seq, i), Topic: TopicThread, Severity: m.severity(), Summary: clip(d.Sentence)})
			}
		}
		m.foldThread(n)
	}
}

// told reports whether a decision is an entry of the thread.
func told(k DecisionKind) bool {
	switch k {
	case DecisionStart, DecisionConfirm, DecisionAsk, DecisionPage:
		return false
	case DecisionQueue, DecisionRefuse, DecisionStep, DecisionAnswer, DecisionVoid, DecisionHold, DecisionResume, DecisionExtend,
		DecisionBreach, DecisionRollback, DecisionPromote, DecisionForeignChange, DecisionNoData, DecisionSourceError, DecisionBudget, DecisionEnd:
		return true
	}
	return true
}

// retold reports whether a later decision of this event says the same sentence.
func (m *machine) retold(i int) bool {
	ds := m.s.Last.Decisions
	return slices.ContainsFunc(ds[i+1:], func(d Decision) bool { return told(d.Kind) && d.Sentence == ds[i].Sentence })
}

// headline is the rollout in one line.
func (m *machine) headline() string {
	return clip(fmt.Sprintf("%s: %s %s is %s. %s", m.p.Endpoint.Name, m.p.Release.Candidate, m.p.Release.Version, m.s.Phase, m.s.Sentence))
}

// severity is how bad the present phase is.
func (m *machine) severity() string {
	switch m.s.Phase {
	case PhaseRollingBack:
		return "critical"
	case PhaseHeld, PhaseSuspect, PhaseRolledBack:
		return "error"
	case PhasePaused, PhaseStopped, PhaseRefused:
		return "warning"
	case PhaseQueued, PhaseScheduled, PhasePreflight, PhaseShifting, PhaseBaking, PhaseWaiting, PhasePromoted:
		return "info"
	}
	return "info"
}

// put queues a notice for a notifier. A status replaces one that waits already
// and inherits its back-off; everything else queues behind.
func (m *machine) put(notifier string, n Notice) {
	e := Effect{ID: m.mint(), Kind: EffectTell, Key: "tell/" + notifier + "/" + n.Key, Notifiers: []string{notifier}, Notice: &n}
	if n.Topic == TopicStatus {
		for i, o := range m.s.Messages {
			if o.Kind == EffectTell && o.Key == e.Key {
				e.NotBefore = o.NotBefore
				e.Attempt = o.Attempt
				m.s.Messages[i] = e
				return
			}
		}
	}
	m.s.Messages = append(m.s.Messages, e)
}

// foldThread folds the oldest thread entries of a notifier into one when there are
// too many.
func (m *machine) foldThread(notifier string) {
	var at []int
	for i, e := range m.s.Messages {
		if e.Kind == EffectTell && e.Notice.Topic == TopicThread && e.Notifiers[0] == notifier {
			at = append(at, i)
		}
	}
	over := len(at) - threadMost
	if over <= 0 {
		return
	}
	gone := at[:over+1]
	n := *m.s.Messages[gone[len(gone)-1]].Notice
	n.Summary = clip(fmt.Sprintf("%d earlier entries were not delivered; see `belay history %s`. Then: %s", over, m.p.ID, n.Summary))
	m.s.Messages[gone[len(gone)-1]].Notice = &n
	for _, i := range slices.Backward(gone[:len(gone)-1]) {
		m.s.Messages = slices.Delete(m.s.Messages, i, i+1)
	}
}

// sayAsk shows a question where it is asked, and how it stands.
func (m *machine) sayAsk(ap Approval, q Question) {
	if ap.Notifier == "" {
		return
	}
	n := Notice{Key: fmt.Sprintf("%s/ask/%s/%s", m.p.ID, q.Gate, q.Nonce), Topic: TopicAsk, Severity: "info",
		Summary:  clip(fmt.Sprintf("%s: approval %s for step %s of %s %s: %s", m.p.Endpoint.Name, q.Gate, q.Step, m.p.Release.Candidate, m.p.Release.Version, q.State)),
		Question: &q}
	e := Effect{ID: m.mint(), Kind: EffectAsk, Key: "ask/" + n.Key, Notifiers: []string{ap.Notifier}, Notice: &n}
	for i, o := range m.s.Messages {
		if o.Kind == EffectAsk && o.Key == e.Key {
			e.NotBefore, e.Attempt = o.NotBefore, o.Attempt
			m.s.Messages[i] = e
			return
		}
	}
	m.s.Messages = append(m.s.Messages, e)
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
		m.s.Page = &OpenPage{Since: m.now()}
	}
	m.s.Page.Reason, m.s.Page.Summary = reason, clip(summary)
	m.decide(Decision{Kind: DecisionPage, Reason: reason, Sentence: summary})
	m.putPage(Notice{Key: m.p.PageKey(), Topic: TopicPage, Severity: "critical", Summary: clip(summary)})
}

// resolvePage relieves the human who was called.
func (m *machine) resolvePage(summary string) {
	if m.s.Page == nil {
		return
	}
	m.s.PagedTo, m.s.Page = m.s.Page.Notifier, nil
	m.putPage(Notice{Key: m.p.PageKey(), Topic: TopicPage, Severity: "info", Summary: clip(summary), Resolve: true})
}

// putPage queues a page. One that nobody has taken yet is told before its end;
// otherwise a later text replaces an earlier one.
func (m *machine) putPage(n Notice) {
	if len(m.p.Page) == 0 {
		return
	}
	to := m.p.Page[0]
	if m.s.Page != nil && m.s.Page.Notifier != "" {
		to = m.s.Page.Notifier
	} else if n.Resolve && m.s.PagedTo != "" {
		to = m.s.PagedTo
	}
	e := Effect{ID: m.mint(), Kind: EffectPage, Key: fmt.Sprintf("page/%d", m.s.Seq), Notifiers: []string{to}, Notice: &n}
	for i, o := range slices.Backward(m.s.Messages) {
		if o.Kind != EffectPage {
			continue
		}
		if o.Notice.Resolve == n.Resolve {
			e.NotBefore, e.Attempt, e.Notifiers = o.NotBefore, o.Attempt, o.Notifiers
			m.s.Messages[i] = e
			return
		}
		break
	}
	m.s.Messages = append(m.s.Messages, e)
}

// wantMessages are the messages that may be sent now: per notifier the first one
// told, every question, and the first page.
func (m *machine) wantMessages() []Effect {
	var es []Effect
	busy := map[string]bool{}
	for _, kind := range []EffectKind{EffectPage, EffectAsk, EffectTell} {
		for _, e := range m.s.Messages {
			lane := string(kind) + "/" + e.Notifiers[0]
			if kind == EffectAsk {
				lane = e.Key
			}
			if kind == EffectPage {
				lane = "page"
			}
			if e.Kind != kind || busy[lane] {
				continue
			}
			busy[lane] = true
			n := *e.Notice
			n.Ref, n.ThreadRef = m.s.Refs[e.Notifiers[0]+"|"+n.Key], m.s.Refs[e.Notifiers[0]+"|"+m.p.ID+"/status"]
			e.Notice = &n
			es = append(es, e)
		}
	}
	return es
}

// message is the index of the message that the event answers, -1 when there is none.
func (m *machine) message() int {
	return slices.IndexFunc(m.s.Messages, func(e Effect) bool { return e.ID == m.ev.Effect })
}

// delivered takes a message off the queue and keeps its reference.
func (m *machine) delivered() {
	i := m.message()
	if i < 0 {
		return
	}
	e := m.s.Messages[i]
	if e.Notice.Topic != TopicThread {
		m.keepRef(e.Notifiers[0], e.Notice.Key)
	}
	if e.Kind == EffectPage && !e.Notice.Resolve {
		m.s.PagedTo = e.Notifiers[0]
		if m.s.Page != nil {
			m.s.Page.Notifier = e.Notifiers[0]
		}
		// The end of the page goes where the page went.
		for j, o := range m.s.Messages {
			if o.Kind == EffectPage && o.Notice.Resolve {
				m.s.Messages[j].Notifiers = e.Notifiers
			}
		}
	}
	m.s.Messages = slices.Delete(m.s.Messages, i, i+1)
	if e.Kind == EffectPage {
		m.paged(e.Notifiers[0])
	}
}

// keepRef remembers what a notifier returned for a message.
func (m *machine) keepRef(notifier, key string) {
	if m.ev.Ref == "" {
		return
	}
	if m.s.Refs == nil {
		m.s.Refs = map[string]string{}
	}
	m.s.Refs[notifier+"|"+key] = m.ev.Ref
}

// lateDelivered is about a message that a later text replaced while it was on
// its way: its reference must not be lost, or the next text would be a second
// message.
func (m *machine) lateDelivered() {
	page := m.ev.Key == m.p.PageKey()
	if !page && m.ev.Key != m.p.ID+"/status" && !strings.HasPrefix(m.ev.Key, m.p.ID+"/ask/") {
		m.ignore("answers an effect that is not wanted")
		return
	}
	m.keepRef(m.ev.Notifier, m.ev.Key)
	if page {
		m.paged(m.ev.Notifier)
		m.s.PagedTo = m.ev.Notifier
		if m.s.Page != nil {
			m.s.Page.Notifier = m.ev.Notifier
		}
	}
}

// undelivered tries again later; a page tries the next notifier at once.
func (m *machine) undelivered() {
	i := m.message()
	if i < 0 {
		return
	}
	e := m.s.Messages[i]
	e.Attempt++
	f := Failure{Kind: FailureTransient}
	if m.ev.Failure != nil {
		f = *m.ev.Failure
	}
	if e.Kind == EffectPage {
		m.notPaged(e, f)
	}
	wait := max(backoff(e.Attempt, time.Second, time.Minute), min(f.RetryAfter, 10*time.Minute))
	switch {
	case e.Kind == EffectTell && f.Kind == FailurePermanent:
		m.s.Messages = slices.Delete(m.s.Messages, i, i+1)
		return
	case e.Kind == EffectPage && e.Notice.Resolve && (f.Kind == FailurePermanent || e.Attempt > 20):
		m.s.Messages = slices.Delete(m.s.Messages, i, i+1)
		m.forgetPage()
		return
	case e.Kind == EffectAsk && e.Notice.Question.State != QuestionOpen && (f.Kind == FailurePermanent || e.Attempt > 20):
		m.s.Messages = slices.Delete(m.s.Messages, i, i+1)
		return
	case e.Kind == EffectPage && !e.Notice.Resolve:
		next := (slices.Index(m.p.Page, e.Notifiers[0]) + 1) % max(len(m.p.Page), 1)
		e.Notifiers = []string{m.p.Page[next]}
		wait = min(wait, 30*time.Second)
		if next != 0 {
			wait = 0
		}
	case e.Kind == EffectAsk && e.Attempt == 3 && e.Notice.Question.State == QuestionOpen:
		m.openPage(ReasonApproval, fmt.Sprintf("Approval %s of %s could not be asked at %s: %s. Answer with `belay approve %s --gate %s`.",
			e.Notice.Question.Gate, m.p.ID, e.Notifiers[0], f.Message, m.p.ID, e.Notice.Question.Gate))
		i = m.message()
	}
	e.NotBefore = m.now().Add(wait)
	m.s.Messages[i] = e
}

// clip bounds a line at 200 characters.
func clip(s string) string {
	r := []rune(s)
	if len(r) <= 200 {
		return s
	}
	return string(r[:199]) + "…"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
