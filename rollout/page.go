package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/paging"
	"github.com/belayd/belay/rollout/shift"
)

// Acknowledged is who has taken charge of the page that is open; nil when there is
// none, or when nobody has since its cause arose.
func (s *State) Acknowledged() *paging.Acknowledgement {
	if s.Page == nil || s.Acked == nil || s.Acked.Cause != s.Page.Cause || s.Acked.At.Before(s.Page.Since) {
		return nil
	}
	return s.Acked
}

// pageStays is how long the page of a rollback stays open after it was confirmed and
// taken, unless somebody acknowledges it: pagers that group or delay what they send
// never tell of one that is over at once.
const pageStays = 15 * time.Minute

// pageWaits is for how long a page of a confirmed rollback is offered to notifiers
// none of which takes it.
const pageWaits = 24 * time.Hour

// PageKey is the deduplication key of the rollout's one page.
func (p *Plan) PageKey() string { return "rollout/" + p.Endpoint.Name + "/" + p.ID }

// Causes are the reasons for which people are called now, the gravest first: a
// rollback that is not confirmed (or not yet seen by anybody), a broken guardrail
// with onBreach: page, blindness, somebody else's split, a hold, a stable that went
// down while a person had paused, a question that cannot be asked, a record that
// contradicts the endpoint. They are read off the state alone. The page is open as long as
// there is one, and shows the first.
func (s *State) Causes(p *Plan) []paging.PageCause {
	if c, ok := s.rollbackCause(p); ok {
		return []paging.PageCause{c}
	}
	if s.Phase.Terminal() || s.Phase == PhaseRollingBack || s.Phase == "" {
		return nil
	}
	var cs []paging.PageCause
	where := s.where(p)
	add := func(id string, reason decision.Reason, sentence string) {
		c := paging.PageCause{ID: id, Reason: reason,
			Sentence: fmt.Sprintf("%s is %s: %s", mailbox.Brief(p.Endpoint.Name), where, sentence)}
		if s.stopped() {
			c.Stage = where
		}
		cs = append(cs, c)
	}
	for _, b := range s.Breached {
		if !b.Acknowledged {
			add("breach/"+b.Guardrail, b.Reason, b.Sentence)
		}
	}
	if bs := s.unseen(p, time.Time{}); len(bs) > 0 {
		add("blind", decision.Reason(bs[0].Cause), bs[0].Sentence())
	}
	if s.Foreign != nil && s.Confirmed != nil && s.Phase != PhaseSuspect {
		add("foreign/"+s.Foreign.String(), decision.ReasonForeignChange, s.foreignSentence()+s.byHand())
	}
	if h := s.Hold; h != nil && !h.Paused && s.Phase != PhaseSuspect {
		add("hold/"+stamp(h.Since), h.Reason, h.Sentence)
	}
	if why := s.stableDown(); why != "" && (s.Hold == nil || s.Hold.Reason != decision.ReasonNotReady) {
		add("stable", decision.ReasonNotReady, why)
	}
	for _, gate := range sortedKeys(s.Gates) {
		if q := s.Gates[gate]; q.State == approval.Open && q.Unasked != "" {
			add("question/"+q.Nonce, decision.ReasonApproval,
				fmt.Sprintf("Approval %s could not be asked: %s. Answer with `belay approve %s --gate %s`.",
					gate, strings.TrimRight(q.Unasked, ". "), p.ID, gate))
		}
	}
	if s.Phase == PhaseSuspect && s.Hold != nil {
		shown := ""
		if s.Foreign != nil {
			shown = fmt.Sprintf(" The endpoint shows %s.", s.Foreign)
		}
		add("suspect/"+stamp(s.Hold.Since), decision.ReasonStoreLost, s.Hold.Sentence+shown+s.byHand())
		cs[len(cs)-1].Stage += shown
	}
	return cs
}

// rollbackCause is that of a rollback: by a rule from its beginning, by a person
// when it does not succeed; over when it is confirmed and somebody has seen the page.
func (s *State) rollbackCause(p *Plan) (paging.PageCause, bool) {
	c := paging.PageCause{ID: "rollback", Reason: s.Reason}
	name := mailbox.Brief(p.Endpoint.Name)
	if sh := s.Shift; s.Phase == PhaseRollingBack && sh != nil {
		why := ""
		if sh.Failure != "" {
			why = ": " + strings.TrimRight(sh.Failure, ". ")
		}
		switch {
		case sh.Stage == shift.Withheld:
			c.Stage, c.Reason, c.Sentence = "withheld", decision.ReasonForeignChange, name+": "+s.Sentence+s.byHand()
		case s.Unconfirmed(p):
			c.Stage, c.Reason = "late", decision.ReasonRouter
			c.Sentence = fmt.Sprintf("The rollback of %s is not confirmed after %s%s. Belay keeps trying.%s", name,
				p.Rollback.VerifyWithin, why, s.byHand())
		case sh.Failure != "":
			c.Stage, c.Reason = "failing", decision.ReasonRouter
			c.Sentence = fmt.Sprintf("The rollback of %s is not confirmed%s. Belay keeps trying.%s", name, why, s.byHand())
		case s.Ending == PhaseRolledBack:
			c.Stage, c.Sentence = "begun", fmt.Sprintf("%s is rolled back: %s", name, s.Sentence)
		default:
			return c, false
		}
		return c, true
	}
	if s.Phase != PhaseRolledBack || s.Asked == nil || len(p.Page) == 0 || !s.At.Before(s.pageUntil()) {
		return c, false
	}
	c.Stage, c.Sentence = stageConfirmed, fmt.Sprintf("%s is rolled back and confirmed. %s", name, s.Sentence)
	return c, true
}

// pageUntil is until when a confirmed rollback keeps its page open; zero when it
// does not any more.
func (s *State) pageUntil() time.Time {
	switch {
	case s.Page == nil || s.Acknowledged() != nil:
		return time.Time{}
	case s.Page.DeliveredAt.IsZero():
		return s.PhaseSince.Add(pageWaits)
	}
	return later(s.PhaseSince, s.Page.DeliveredAt).Add(pageStays)
}

// stopped reports whether the ladder stands until somebody, or something, lets it go on.
func (s *State) stopped() bool {
	return s.Hold != nil || s.Phase == PhaseSuspect
}

// where says for a page how far the candidate has got.
func (s *State) where(p *Plan) string {
	switch {
	case s.Phase == PhaseSuspect || s.Phase == PhasePaused:
		return string(s.Phase)
	case s.Hold != nil:
		return string(PhaseHeld) // also while somebody else's split is put back amid the hold
	case s.Confirmed != nil && s.Confirmed.Weights[p.Release.Candidate] > 0:
		return fmt.Sprintf("at %d%%", s.Confirmed.Weights[p.Release.Candidate])
	}
	return string(s.Phase)
}

// foreignSentence says what somebody else changed, and what is done about it.
func (s *State) foreignSentence() string {
	if h := s.Hold; h != nil && h.Reason == decision.ReasonForeignChange {
		return h.Sentence
	}
	sentence := fmt.Sprintf("Somebody else changed the split from %s to %s.", s.Confirmed, s.Foreign)
	if s.Shift != nil && s.Restored {
		sentence += " The step's split is put back once."
	}
	return sentence
}

// byHand is the sentence that says how to roll back without Belay.
func (s *State) byHand() string {
	if s.Manual == "" {
		return ""
	}
	return " By hand: " + s.Manual
}

// settlePage makes the page what the state's causes say, and what each notifier is
// owed with it. It is the only place where a page opens, changes or ends.
func (m *machine) settlePage() {
	causes := m.s.Causes(m.p)
	if len(causes) == 0 {
		m.s.Page = nil
	} else {
		m.showPage(causes[0])
	}
	m.s.Paging.Settle(m.p.Page, m.s.pageText(), m.now())
}

// showPage opens the page, or updates the one that is open.
func (m *machine) showPage(c paging.PageCause) {
	page := paging.OpenPage{Since: m.now()}
	if m.s.Page != nil {
		page = *m.s.Page
	}
	if page.Cause == c.ID && page.Stage == c.Stage {
		return
	}
	if page.Stage != c.Stage && c.Stage == stageConfirmed {
		page.DeliveredAt = time.Time{} // that it is confirmed is news of its own
	}
	page.Cause, page.Stage, page.Reason, page.Summary = c.ID, c.Stage, c.Reason, mailbox.Clip(c.Sentence)
	m.s.Page = &page
	if c.Stage != stageConfirmed {
		m.decide(decision.Decision{Kind: decision.Page, Reason: c.Reason, Guardrail: m.toBlame(), Sentence: c.Sentence})
	}
}

// toBlame is the guardrail that this event's decisions rest on; "" for none.
func (m *machine) toBlame() string {
	for _, d := range slices.Backward(m.s.Last.Decisions) {
		if d.Guardrail != "" {
			return d.Guardrail
		}
	}
	return ""
}

// stageConfirmed is the stage of a rollback that was read back: good news, of which
// only the page's text tells.
const stageConfirmed = "confirmed"

// pageText identifies the page as it is to be shown; "" for none.
func (s *State) pageText() string {
	if s.Page == nil {
		return ""
	}
	t := stamp(s.Page.Since) + "/" + s.Page.Cause
	if s.Page.Stage != "" {
		t += "/" + s.Page.Stage
	}
	if a := s.Acknowledged(); a != nil {
		t += "+" + stamp(a.At)
	}
	return t
}

// wantPages are the pages, and the ends of pages, that notifiers are owed.
func (m *machine) wantPages() []Effect {
	var es []Effect
	for _, v := range m.s.Paging.Views {
		if v.Owed == "" {
			continue
		}
		n := mailbox.Notice{
			Key: m.p.PageKey(), Topic: mailbox.TopicPage, Severity: mailbox.SeverityCritical, Resolve: v.Owed == paging.End,
		}
		if n.Resolve {
			n.Severity, n.Summary = mailbox.SeverityInfo, mailbox.Clip("Resolved: "+m.s.Sentence)
		} else {
			n.Summary = m.s.PageLine()
		}
		es = append(es,
			Effect{Kind: EffectPage, Key: "page/" + v.Notifier + "/" + v.Owed, Attempt: v.Attempt, NotBefore: v.NotBefore,
				Notifiers: []string{v.Notifier}, Notice: &n})
	}
	return es
}

// PageLine is the open page in one line, with who has acknowledged it; "" for none.
func (s *State) PageLine() string {
	if s.Page == nil {
		return ""
	}
	if a := s.Acknowledged(); a != nil {
		return mailbox.Clip(fmt.Sprintf("Acknowledged by %s. %s", a.By, s.Page.Summary))
	}
	return s.Page.Summary
}

// shownBy is what a page effect was to show.
func (e Effect) shownBy(notifier string) string {
	return strings.TrimPrefix(e.Key, "page/"+notifier+"/")
}

// acknowledge takes charge of the open page. It moves nothing and ends no hold.
func (m *machine) acknowledge() {
	by := m.by()
	if by == "" {
		return
	}
	if m.s.Page == nil {
		m.ignore("nobody is called: the rollout has no open page")
		return
	}
	m.s.Acked = &paging.Acknowledgement{By: *m.ev.By, At: m.now(), Reason: m.ev.Reason, Cause: m.s.Page.Cause}
	m.decide(decision.Decision{Kind: decision.Ack, Reason: decision.ReasonCommand,
		Sentence: fmt.Sprintf("The page is acknowledged by %s.", by)})
	m.sawBreaches()
}

// sawBreaches notes that a person knows of the breaches that are only paged: those
// are over with that, while everything else stays a cause for as long as it is so.
func (m *machine) sawBreaches() {
	m.s.Breached = slices.Clone(m.s.Breached)
	for i := range m.s.Breached {
		m.s.Breached[i].Acknowledged = true
	}
}

// UndeliveredPage says which notifiers did not take the rollout's page, or its end,
// and who did instead; ok is false when nothing is missing. It is derived from the
// state alone, so that it is the same after a restart.
func (s *State) UndeliveredPage() (u paging.Undelivered, ok bool) {
	u, ok = s.Paging.Undelivered(s.pageText())
	if s.Page != nil {
		u.Since = s.Page.Since
	}
	return u, ok
}
