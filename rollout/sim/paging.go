package sim

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
)

// A pager keeps account of what people see: what each notifier shows of the rollout's
// page and of its questions.
type pager struct {
	// shown is the text of the page by the notifier that shows it as open.
	shown map[string]string
	// asked are the questions by notifier and key, as they were last shown.
	asked map[string]approval.QuestionState
	// breached are the guardrails with onBreach: page that broke their limit since a
	// person last went on.
	breached map[string]bool
	// foreign: somebody else's change was reported, and no split was confirmed since.
	foreign bool
	// idle counts how often in a row a page was open without a cause.
	idle int
	// events counts events, so that what is costly is looked at now and then.
	events int
}

// The bounds of what a rollout may have to say: its state in bytes, and the messages
// that wait to be delivered.
const (
	stateMost    = 64 << 10
	messagesMost = 60
)

// page takes an event in, and what was delivered by then.
func (i *Invariants) page(w *World, r *Run, a *account, l Line) {
	for ; i.notices < len(w.Notices); i.notices++ {
		i.delivered(w.Notices[i.notices])
	}
	g := &a.pager
	for _, d := range l.Decisions {
		switch d.Kind {
		case decision.Breach:
			if onBreach(r, d.Guardrail) == analysis.ActionPage {
				g.breached[d.Guardrail] = true
			}
		case decision.ForeignChange:
			g.foreign = true
		case decision.Confirm:
			g.foreign = false
		case decision.Step, decision.Void, decision.Rollback, decision.Promote, decision.Budget,
			decision.Start, decision.Queue, decision.Refuse, decision.Ask, decision.Answer,
			decision.Hold, decision.Resume, decision.Extend, decision.Page,
			decision.NoData, decision.SourceError, decision.Unwritten, decision.Ack, decision.End:
		}
	}
	// it says what the endpoint shows
	if ev := l.Event; ev.Kind == rollout.EventSuspected && l.Ignored == "" && r.State.Foreign != nil {
		g.foreign = true
	}
	if went(l) || l.Event.Command == rollout.CommandAck && l.Ignored == "" {
		clear(g.breached)
	}
	i.checkBounds(w, r, a)
	i.checkPages(w, r, a)
	i.checkQuestions(w, r)
}

// delivered notes what a notifier shows now.
func (i *Invariants) delivered(d Delivered) {
	g, n := &i.of(d.Run).pager, d.Effect.Notice
	switch {
	case d.Effect.Kind == rollout.EffectPage && n.Resolve:
		delete(g.shown, d.Notifier)
	case d.Effect.Kind == rollout.EffectPage:
		g.shown[d.Notifier] = n.Summary
	case d.Effect.Kind == rollout.EffectAsk:
		g.asked[d.Notifier+"|"+n.Key] = n.Question.State
	}
}

// onBreach is what the policy wants when the guardrail breaks.
func onBreach(r *Run, guardrail string) analysis.Action {
	for _, g := range r.Plan.Panel.Guardrails {
		if g.Name == guardrail {
			return g.OnBreach
		}
	}
	return ""
}

// checkBounds: what waits to be told is bounded, however long nobody takes it.
func (i *Invariants) checkBounds(w *World, r *Run, a *account) {
	if n := len(r.State.Messages); n > messagesMost {
		i.fail(w, r, Unbounded, "%d messages wait", n)
	}
	pages := map[string]int{}
	for _, e := range r.State.Outbox {
		if e.Kind == rollout.EffectPage {
			pages[e.Notifiers[0]]++
		}
	}
	for to, n := range pages {
		if n > 1 {
			i.fail(w, r, PageQueue, "%s is owed %d messages of one page", to, n)
		}
	}
	if a.pager.events++; a.pager.events%64 != 0 {
		return
	}
	if b, err := json.Marshal(r.State); err != nil || len(b) > stateMost {
		i.fail(w, r, Unbounded, "the state has %d bytes (%v)", len(b), err)
	}
}

// checkPages: what people see follows from how things stand: once nothing is owed to a
// notifier, a page is open while there is a cause and only then, and it names it.
func (i *Invariants) checkPages(w *World, r *Run, a *account) {
	g := &a.pager
	if len(r.Plan.Page) == 0 || wants(r.State, rollout.EffectPage) {
		g.idle = 0
		return
	}
	must, may := i.causes(w, r, a)
	if must == "" && !may && len(g.shown) > 0 {
		// What ended may take an event or two to be seen as ended.
		if g.idle++; g.idle > 3 {
			name := IdlePage
			if r.State.Phase == rollout.PhasePaused {
				name = IdlePagePaused
			}
			i.fail(w, r, name, "%s, and people are called: %v", r.State.Phase, g.shown)
		}
		return
	}
	g.idle = 0
	if must != "" && len(g.shown) == 0 {
		i.fail(w, r, NoPage, "nobody is called: %s", must)
	}
	if len(g.shown) > 0 {
		i.checkText(w, r, a)
	}
}

// ackedAfter is for how long the page of a rollback may stay open after it was
// confirmed.
const ackedAfter = 24*time.Hour + 20*time.Minute

// causes are why people must be called now, and whether they may be, by the account
// and by where the rollout says it is.
func (i *Invariants) causes(w *World, r *Run, a *account) (must string, may bool) {
	s, g := r.State, &a.pager
	switch {
	case s.Phase == rollout.PhaseRollingBack:
		if s.Ending == rollout.PhaseRolledBack {
			must = "rolling back by a rule"
		}
		return must, true
	case s.Phase == rollout.PhaseRolledBack:
		return "", a.clock.Sub(s.PhaseSince) < ackedAfter
	case s.Phase.Terminal() || s.Phase == "":
		return "", false
	case s.Phase == rollout.PhaseHeld, s.Phase == rollout.PhaseSuspect:
		return string(s.Phase), true
	case s.Hold != nil && !s.Hold.Paused: // somebody else's split is put back amid a hold
		return "", true
	}
	if exposed(s) && a.told.unfit(s.Stable) {
		return s.Stable + " cannot serve", true
	}
	for name := range g.breached {
		return name + " is broken, and onBreach is page", true
	}
	if monitored(s) {
		since, what := a.blindSince()
		after, more := w.allowance(r, a)
		if a.clock.Sub(later(since, a.sight.excused)) > after+more {
			return what + " is not seen", true
		}
		may = !a.seesAll(r) || a.sight.unread
	}
	may = may || exposed(s) && a.told.unread
	mute := slices.ContainsFunc(s.Outbox, func(e rollout.Effect) bool {
		return e.Kind == rollout.EffectAsk && e.Attempt >= 3
	})
	return "", may || mute || g.foreign
}

// checkText: the page names the gravest cause.
func (i *Invariants) checkText(w *World, r *Run, a *account) {
	s, g := r.State, &a.pager
	says := func(part string) bool {
		for _, text := range g.shown {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	back := s.Phase == rollout.PhaseRollingBack && s.Ending == rollout.PhaseRolledBack
	if back && !says("roll") && !says("Somebody else") {
		i.fail(w, r, PageText, "rolling back, and the page says %v", g.shown)
	}
	if s.Phase != rollout.PhaseHeld || len(g.breached) > 0 || g.foreign && s.Hold.Reason != decision.ReasonForeignChange {
		return
	}
	missing := unseen(s.Hold.Reason) || s.Hold.Reason == decision.ReasonRouter || !a.seesAll(r) || a.sight.unread
	if part := s.Hold.Sentence[:min(len(s.Hold.Sentence), 50)]; !missing && !says(part) {
		i.fail(w, r, PageText, "held: %s; the page says %v", part, g.shown)
	}
}

// checkQuestions: nothing is asked that is over.
func (i *Invariants) checkQuestions(w *World, r *Run) {
	s := r.State
	for _, e := range s.Outbox {
		if e.Kind != rollout.EffectAsk || e.Notice.Question.State != approval.Open {
			continue
		}
		over := s.Phase.Terminal() || s.Phase == rollout.PhaseRollingBack
		if q := s.Gates[e.Notice.Question.Gate]; over || q.State != approval.Open || q.Nonce != e.Notice.Question.Nonce {
			i.fail(w, r, StaleQuestion, "%s is asked while %s", e.Notice.Question.Gate, s.Phase)
		}
	}
}

// checkRelieved: when a rollout is closed nobody is called for it, and no question of
// it can be answered.
func (i *Invariants) checkRelieved(w *World, r *Run) {
	g := &i.of(r).pager
	if !r.State.Closed() {
		return
	}
	if len(g.shown) > 0 {
		i.fail(w, r, IdlePage, "closed, and people are called: %v", g.shown)
	}
	for key, state := range g.asked {
		if state == approval.Open {
			i.fail(w, r, StaleQuestion, "closed, and %s can be answered", key)
		}
	}
}
