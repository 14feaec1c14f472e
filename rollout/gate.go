package rollout

import (
	"fmt"
	"slices"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
)

// ask puts the approval for step i before people, with the present evidence.
func (m *machine) ask(i int, name string) approval.Question {
	ap := m.p.Approval(name)
	m.mail().Forget(ap.Notifier, m.p.askKey(m.s.Gates[name]))
	q := approval.Question{
		Gate: name, Step: m.p.Steps[i].Name, AskedAt: m.now(), Expires: m.now().Add(ap.Expires), Quorum: max(ap.Quorum,
			1), State: approval.Open,
		To: m.p.target(i, m.s.Stable), Evidence: approval.Digest(m.s.Verdicts), Passed: approval.Passing(m.s.Verdicts),
	}
	if m.s.Confirmed != nil {
		q.From = m.s.Confirmed.Clone()
	}
	q.Nonce = q.NewNonce(m.p.ID, m.s.Seq)
	m.setGate(q)
	m.decide(decision.Decision{Kind: decision.Ask, Gate: name, Reason: decision.ReasonApproval, Verdicts: m.s.Verdicts,
		Rule: fmt.Sprintf("requires: [%s], quorum: %d", name,
			q.Quorum), Sentence: fmt.Sprintf("Approval %s is asked for step %s (%s).", name, q.Step, q.To)})
	m.sayAsk(ap, q)
	return q
}

// askKey is the key of the message that asks a question.
func (p *Plan) askKey(q approval.Question) string {
	return fmt.Sprintf("%s/ask/%s/%s", p.ID, q.Gate, q.Nonce)
}

// Approval is the plan's approval with the name.
func (p *Plan) Approval(name string) approval.Approval {
	for _, a := range p.Approvals {
		if a.Name == name {
			return a
		}
	}
	return approval.Approval{Name: name, Quorum: 1}
}

func (m *machine) setGate(q approval.Question) {
	if m.s.Gates == nil {
		m.s.Gates = map[string]approval.Question{}
	}
	m.s.Gates[q.Gate] = q
}

// answered folds a person's yes or no.
func (m *machine) answered() {
	q, asked := m.s.Gates[m.ev.Gate]
	if why := m.inadmissible(q, asked); why != "" {
		m.ignore(why)
		return
	}
	by := *m.ev.By
	q.Answers = append(slices.Clone(q.Answers),
		approval.Vote{By: by, At: m.now(), Approve: m.ev.Approve, Reason: m.ev.Reason})
	verb := "approves"
	if !m.ev.Approve {
		verb = "rejects"
		q.State = approval.Rejected
	} else if m.yeses(q) >= q.Quorum {
		q.State = approval.Approved
	}
	sentence := fmt.Sprintf("%s %s step %s (%d of %d)%s.", by, verb, q.Step, m.yeses(q), q.Quorum, because(m.ev.Reason))
	m.setGate(q)
	m.decide(decision.Decision{Kind: decision.Answer, Gate: q.Gate, Reason: decision.ReasonApproval, Sentence: sentence})
	m.sayAsk(m.p.Approval(q.Gate), q)
	switch {
	case q.State == approval.Rejected:
		m.rollback(decision.ReasonRejected, sentence, "reject rolls back", PhaseStopped)
	case m.s.Phase == PhaseWaiting:
		m.unwait()
	}
}

// recount closes a gate again whose step has not begun and whose voices are too few by
// who people are now: two of them are one person's, or one is the requester's. It is
// asked on, and the answers that count stay. A step that has begun has passed its gates.
func (m *machine) recount() {
	for _, name := range sortedKeys(m.s.Gates) {
		q := m.s.Gates[name]
		if q.State != approval.Approved || m.yeses(q) >= q.Quorum {
			continue
		}
		q.State = approval.Open
		m.setGate(q)
		m.decide(decision.Decision{Kind: decision.Void, Gate: name, Reason: decision.ReasonApproval,
			Rule: fmt.Sprintf("quorum: %d", q.Quorum),
			Sentence: fmt.Sprintf("Approval %s is open again: by who people are now, %d of %d who may have approved step %s.",
				name, m.yeses(q), q.Quorum, q.Step)})
		m.sayAsk(m.p.Approval(name), q)
	}
}

// unwait looks again whether the next step may start.
func (m *machine) unwait() {
	if m.s.Step < 0 {
		m.advance()
		return
	}
	m.stepEnd()
}

// inadmissible says why an answer does not count; "" when it does.
func (m *machine) inadmissible(q approval.Question, asked bool) string {
	by := m.ev.By
	ap := m.p.Approval(m.ev.Gate)
	switch {
	case !asked:
		return fmt.Sprintf("nothing is asked for gate %q now", m.ev.Gate)
	case by == nil || by.ID == "":
		return "the answer names no person"
	case m.ev.Nonce != q.Nonce:
		return "the question was asked again since: look at the present evidence"
	case !m.ev.Approve:
		return "" // a no rolls back, and nothing gates a rollback
	case q.State != approval.Open:
		return fmt.Sprintf("the question is already %s", q.State)
	case !m.now().Before(q.Expires):
		return "the question has expired"
	case ap.NotByRequester && m.isRequester(*by):
		return "the requester may not approve"
	case m.hasAnswered(q, *by):
		return by.String() + " has already answered"
	}
	return ""
}

// voidGates voids what was asked or approved on evidence that has turned: a
// guardrail that read pass is now broken, or has no data for longer than the
// policy allows. Moving estimates void nothing.
func (m *machine) voidGates() {
	if len(m.s.Gates) == 0 {
		return
	}
	turned := map[string]analysis.Outcome{}
	for _, v := range m.s.Verdicts {
		seen := m.s.Sights.Of(v.Guardrail)
		blind := seen != nil && !seen.NotifiedAt.IsZero()
		if v.Outcome == analysis.OutcomeBreach || v.Outcome == analysis.OutcomeNoData && blind {
			turned[v.Guardrail] = v.Outcome
		}
	}
	for _, name := range sortedKeys(m.s.Gates) {
		q := m.s.Gates[name]
		if q.State != approval.Open && q.State != approval.Approved {
			continue
		}
		for _, g := range q.Passed {
			if turned[g] != "" {
				m.voidGate(q, fmt.Sprintf("Guardrail %s passed when approval %s was asked and is now %s; it will be asked again.",
					g, q.Gate, turned[g]))
				break
			}
		}
	}
}

// closeGates voids what is asked: the rollout takes another course, and nobody's answer
// counts any more. Wherever a question is shown it says so.
func (m *machine) closeGates(why string) {
	for _, name := range sortedKeys(m.s.Gates) {
		if q := m.s.Gates[name]; q.State == approval.Open {
			m.voidGate(q, fmt.Sprintf("Approval %s is void: %s", name, why))
		}
	}
	m.s.Gates = nil
}

func (m *machine) voidGate(q approval.Question, sentence string) {
	q.State = approval.Void
	m.setGate(q)
	m.decide(decision.Decision{Kind: decision.Void, Gate: q.Gate, Reason: decision.ReasonEvidenceChanged,
		Sentence: sentence, Verdicts: m.s.Verdicts})
	m.sayAsk(m.p.Approval(q.Gate), q)
}

// expireGates applies onExpiry to questions that nobody answered in time.
func (m *machine) expireGates() {
	for _, name := range sortedKeys(m.s.Gates) {
		q := m.s.Gates[name]
		if q.State != approval.Open || m.now().Before(q.Expires) {
			continue
		}
		q.State = approval.Expired
		m.setGate(q)
		ap := m.p.Approval(name)
		m.sayAsk(ap, q)
		rule := fmt.Sprintf("expires: %s, onExpiry: %s", ap.Expires, ap.OnExpiry)
		sentence := fmt.Sprintf("Approval %s for step %s was not given within %s.", name, q.Step, ap.Expires)
		if ap.OnExpiry == approval.ExpiryRollback {
			m.rollback(decision.ReasonExpired, sentence, rule, PhaseRolledBack)
			return
		}
		m.hold(Hold{Reason: decision.ReasonExpired, Sentence: sentence}, rule)
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
