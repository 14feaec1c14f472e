package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/backoff"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/paging"
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
		m.put(n, mailbox.Notice{Key: m.p.ID + "/status", Topic: mailbox.TopicStatus, Severity: m.severity(), Summary: m.headline()})
		for i, d := range m.s.Last.Decisions {
			if threaded(d.Kind) && !m.retold(i) {
				m.put(n, mailbox.Notice{Key: fmt.Sprintf("%s/thread/%d.%d", m.p.ID, m.s.Seq, i), Topic: mailbox.TopicThread, Severity: m.severity(), Summary: clip(d.Sentence)})
			}
		}
		m.foldThread(n)
	}
}

// told reports whether a decision is an entry of the thread.
func threaded(k DecisionKind) bool {
	switch k {
	case DecisionStart, DecisionConfirm, DecisionAsk, DecisionPage, DecisionUnwritten:
		return false
	case DecisionQueue, DecisionRefuse, DecisionStep, DecisionAnswer, DecisionVoid, DecisionHold, DecisionResume, DecisionExtend,
		DecisionBreach, DecisionRollback, DecisionPromote, DecisionForeignChange, DecisionNoData, DecisionSourceError, DecisionBudget, DecisionAck, DecisionEnd:
		return true
	}
	return true
}

// retold reports whether a later decision of this event says the same sentence.
func (m *machine) retold(i int) bool {
	ds := m.s.Last.Decisions
	return slices.ContainsFunc(ds[i+1:], func(d Decision) bool { return threaded(d.Kind) && d.Sentence == ds[i].Sentence })
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
func (m *machine) put(notifier string, n mailbox.Notice) {
	e := Effect{ID: m.mint(), Kind: EffectTell, Key: "tell/" + notifier + "/" + n.Key, Notifiers: []string{notifier}, Notice: &n}
	if n.Topic == mailbox.TopicStatus {
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
		if e.Kind == EffectTell && e.Notice.Topic == mailbox.TopicThread && e.Notifiers[0] == notifier {
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
func (m *machine) sayAsk(ap approval.Approval, q approval.Question) {
	if ap.Notifier == "" {
		return
	}
	n := mailbox.Notice{Key: m.p.askKey(q), Topic: mailbox.TopicAsk, Severity: "info",
		Summary:  clip(fmt.Sprintf("%s: approval %s for step %s of %s %s: %s", m.p.Endpoint.Name, q.Gate, q.Step, m.p.Release.Candidate, m.p.Release.Version, q.State)),
		Question: &q}
	e := Effect{ID: m.mint(), Kind: EffectAsk, Key: "ask/" + n.Key, Notifiers: []string{ap.Notifier}, Notice: &n}
	for i, o := range m.s.Messages {
		if o.Kind == EffectAsk && o.Key == e.Key {
			if q.State == approval.Void && m.s.Refs[ap.Notifier+"|"+n.Key] == "" && o.NotBefore.After(m.now()) {
				// Nobody was asked, and nobody needs to know.
				m.s.Messages = slices.Delete(m.s.Messages, i, i+1)
				return
			}
			e.NotBefore, e.Attempt = o.NotBefore, o.Attempt
			if e.closing() {
				e.Attempt = min(e.Attempt, paging.CloseOften) // how it ended has a day of its own
			}
			m.s.Messages[i] = e
			return
		}
	}
	m.s.Messages = append(m.s.Messages, e)
}

// wantMessages are the messages that may be sent now: per notifier the first one
// told, every question, and the pages that may go.
func (m *machine) wantMessages() []Effect {
	var es []Effect
	busy := map[string]bool{}
	for _, kind := range []EffectKind{EffectAsk, EffectTell} {
		for _, e := range m.s.Messages {
			lane := string(kind) + "/" + e.Notifiers[0]
			if kind == EffectAsk {
				lane = e.Key
			}
			if e.Kind != kind || busy[lane] {
				continue
			}
			busy[lane] = true
			es = append(es, e)
		}
	}
	es = append(m.wantPages(), es...)
	for i, e := range es {
		n := *e.Notice
		n.Ref, n.ThreadRef = m.s.Refs[e.Notifiers[0]+"|"+n.Key], m.s.Refs[e.Notifiers[0]+"|"+m.p.ID+"/status"]
		es[i].Notice = &n
	}
	return es
}

// message is the index of the message that the event answers, -1 when there is none.
func (m *machine) message() int {
	return slices.IndexFunc(m.s.Messages, func(e Effect) bool { return e.ID == m.ev.Effect })
}

// delivered takes a message off the queue and keeps its reference.
func (m *machine) delivered() {
	if e := m.effect(); e.Kind == EffectPage {
		m.onDelivered(e)
		return
	}
	i := m.message()
	if i < 0 {
		return
	}
	e := m.s.Messages[i]
	if e.Notice.Topic != mailbox.TopicThread {
		m.keepRef(e.Notifiers[0], e.Notice.Key)
	}
	m.s.Messages = slices.Delete(m.s.Messages, i, i+1)
	if q := e.Notice.Question; q != nil {
		m.unasked(*q, "")
	}
}

// unasked notes why a question could not be put before people, or that it was.
func (m *machine) unasked(q approval.Question, why string) {
	if now, ok := m.s.Gates[q.Gate]; ok && now.Nonce == q.Nonce && now.Unasked != why {
		now.Unasked = clip(why)
		m.setGate(now)
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
		m.s.Paging.Unsure(m.ev.Notifier)
	}
}

// tookPage notes that a notifier took the page, or its end.
func (m *machine) onDelivered(e Effect) {
	to := e.Notifiers[0]
	m.keepRef(to, e.Notice.Key)
	text := e.shownBy(to)
	m.s.Paging.Delivered(to, text)
	if page := m.s.Page; page != nil && text == m.s.pageText() && page.DeliveredAt.IsZero() {
		now := *page
		now.DeliveredAt = m.now()
		m.s.Page = &now
	}
}

// closing reports whether the message says how a question ended.
func (e Effect) closing() bool {
	return e.Kind == EffectAsk && e.Notice.Question.State != approval.Open
}

// mute is after how many tries a question that cannot be asked calls people.
const mute = 3

// undelivered tries again later; a page tries the next notifier at once.
func (m *machine) undelivered() {
	f := Failure{Kind: FailureTransient}
	if m.ev.Failure != nil {
		f = *m.ev.Failure
	}
	if e := m.effect(); e.Kind == EffectPage {
		m.s.Paging.Refused(m.p.ID, m.p.Page, e.Notifiers[0], e.shownBy(e.Notifiers[0]), f.Refusal(), m.now())
		return
	}
	i := m.message()
	if i < 0 {
		return
	}
	e := m.s.Messages[i]
	e.Attempt++
	wait := max(backoff.For(m.p.ID, e.Key, e.Attempt, time.Second, time.Minute), min(f.RetryAfter, 10*time.Minute))
	if e.closing() && e.Attempt > paging.CloseOften {
		wait = max(wait, 10*time.Minute)
	}
	switch {
	case e.Kind == EffectTell && f.Kind == FailurePermanent:
		m.s.Messages = slices.Delete(m.s.Messages, i, i+1)
		return
	case e.closing() && (f.Kind == FailurePermanent || e.Attempt > paging.CloseTries):
		m.s.Messages = slices.Delete(m.s.Messages, i, i+1)
		return
	case e.Kind == EffectAsk && e.Attempt >= mute && e.Notice.Question.State == approval.Open:
		m.unasked(*e.Notice.Question, fmt.Sprintf("%s: %s", e.Notifiers[0], f.Message))
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

// brief is a name as a summary has room for it: what happened comes after it.
func brief(name string) string {
	r := []rune(name)
	if len(r) <= 80 {
		return name
	}
	return string(r[:79]) + "…"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
