package rollout

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/mailbox"
)

// mail is what waits to be told.
func (m *machine) mail() *mailbox.Mailbox { return &m.s.Mailbox }

// tell puts what this event decided before those whom the policy notifies.
func (m *machine) tell() {
	if len(m.s.Last.Decisions) == 0 {
		return
	}
	for _, n := range m.p.Notify {
		m.mail().Tell(m.mint(), n, mailbox.Notice{
			Key: m.p.ID + "/status", Topic: mailbox.TopicStatus, Severity: m.severity(), Summary: m.headline(),
		})
		for i, d := range m.s.Last.Decisions {
			if threaded(d.Kind) && !m.retold(i) {
				m.mail().Tell(m.mint(), n, mailbox.Notice{
					Key: fmt.Sprintf("%s/thread/%d.%d", m.p.ID, m.s.Seq, i), Topic: mailbox.TopicThread,
					Severity: m.severity(), Summary: mailbox.Clip(d.Sentence),
				})
			}
		}
		m.mail().Fold(n, m.p.ID)
	}
}

// threaded reports whether a decision is an entry of the thread.
func threaded(k decision.Kind) bool {
	switch k {
	case decision.Start, decision.Confirm, decision.Ask, decision.Page, decision.Unwritten:
		return false
	case decision.Queue, decision.Refuse, decision.Step, decision.Answer, decision.Void,
		decision.Hold, decision.Resume, decision.Extend,
		decision.Breach, decision.Rollback, decision.Promote, decision.ForeignChange, decision.NoData,
		decision.SourceError, decision.Budget, decision.Ack, decision.End:
	}
	return true
}

// retold reports whether a later decision of this event says the same sentence.
func (m *machine) retold(i int) bool {
	ds := m.s.Last.Decisions
	return slices.ContainsFunc(ds[i+1:],
		func(d decision.Decision) bool { return threaded(d.Kind) && d.Sentence == ds[i].Sentence })
}

// headline is the rollout in one line.
func (m *machine) headline() string {
	return mailbox.Clip(fmt.Sprintf("%s: %s %s is %s. %s", m.p.Endpoint.Name, m.p.Release.Candidate, m.p.Release.Version,
		m.s.Phase, m.s.Sentence))
}

// severity is how bad the present phase is.
func (m *machine) severity() mailbox.Severity {
	switch m.s.Phase {
	case PhaseRollingBack:
		return mailbox.SeverityCritical
	case PhaseHeld, PhaseSuspect, PhaseRolledBack:
		return mailbox.SeverityError
	case PhasePaused, PhaseStopped, PhaseRefused:
		return mailbox.SeverityWarning
	case PhaseQueued, PhaseScheduled, PhasePreflight, PhaseShifting, PhaseBaking, PhaseWaiting, PhasePromoted:
	}
	return mailbox.SeverityInfo
}

// sayAsk shows a question where it is asked, and how it stands.
func (m *machine) sayAsk(ap approval.Approval, q approval.Question) {
	if ap.Notifier == "" {
		return
	}
	n := mailbox.Notice{Key: m.p.askKey(q), Topic: mailbox.TopicAsk, Severity: mailbox.SeverityInfo, Question: &q,
		Summary: mailbox.Clip(fmt.Sprintf("%s: approval %s for step %s of %s %s: %s",
			m.p.Endpoint.Name, q.Gate, q.Step, m.p.Release.Candidate, m.p.Release.Version, q.State))}
	m.mail().Ask(m.mint(), ap.Notifier, n, m.now())
}

// wantMessages are the messages that may be sent now: the pages that may go, every
// question, and per notifier the first one told.
func (m *machine) wantMessages() []Effect {
	es := m.wantPages()
	for _, w := range m.mail().Wanted() {
		es = append(es, Effect{ID: w.ID, Kind: EffectKind(w.Kind), Attempt: w.Attempt, NotBefore: w.NotBefore, Key: w.Key,
			Notifiers: w.Notifiers, Notice: w.Notice})
	}
	for i, e := range es {
		n := *e.Notice
		n.Ref, n.ThreadRef = m.mail().Ref(e.Notifiers[0], n.Key), m.mail().Ref(e.Notifiers[0], m.p.ID+"/status")
		es[i].Notice = &n
	}
	return es
}

// delivered takes a message off the queue and keeps its reference.
func (m *machine) delivered() {
	if e := m.effect(); e.Kind == EffectPage {
		m.onDelivered(e)
		return
	}
	if told, ok := m.mail().Delivered(m.ev.Effect, m.ev.Ref); ok && told.Notice.Question != nil {
		m.unasked(*told.Notice.Question, "")
	}
}

// unasked notes why a question could not be put before people, or that it was.
func (m *machine) unasked(q approval.Question, why string) {
	if now, ok := m.s.Gates[q.Gate]; ok && now.Nonce == q.Nonce && now.Unasked != why {
		now.Unasked = mailbox.Clip(why)
		m.setGate(now)
	}
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
	m.mail().KeepRef(m.ev.Notifier, m.ev.Key, m.ev.Ref)
	if page {
		m.s.Paging.Unsure(m.ev.Notifier)
	}
}

// onDelivered notes that a notifier took the page, or its end.
func (m *machine) onDelivered(e Effect) {
	to := e.Notifiers[0]
	m.mail().KeepRef(to, e.Notice.Key, m.ev.Ref)
	text := e.shownBy(to)
	m.s.Paging.Delivered(to, text)
	if page := m.s.Page; page != nil && text == m.s.pageText() && page.DeliveredAt.IsZero() {
		now := *page
		now.DeliveredAt = m.now()
		m.s.Page = &now
	}
}

// undelivered tries again later; a page tries the next notifier at once.
func (m *machine) undelivered() {
	f := cmp.Or(m.ev.Failure, &failure.Failure{Kind: failure.Transient})
	if e := m.effect(); e.Kind == EffectPage {
		m.s.Paging.Refused(m.p.ID, m.p.Page, e.Notifiers[0], e.shownBy(e.Notifiers[0]), f.Refusal(), m.now())
		return
	}
	if q, why := m.mail().Undelivered(m.p.ID, m.ev.Effect, f.Refusal(), m.now()); q != nil {
		m.unasked(*q, why)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
