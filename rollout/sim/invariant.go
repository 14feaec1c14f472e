package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/split"
)

// The names of the invariants, after what breaks them.
const (
	ClosedGate      = "closed gate"       // traffic above a gate that enough people did not open
	BadSum          = "bad sum"           // a write that does not sum to 100
	OwnSplit        = "own split"         // a step reached, or a raise, at another split than a step's
	StoppedWrite    = "stopped write"     // a forward write of a rollout that is held, paused or suspect
	StaleChecks     = "stale checks"      // a first step on checks that are old
	UnseenWrite     = "unseen write"      // going on after an outage before the guardrails were read again
	BlindStep       = "blind step"        // a step begun on missing data
	UnwatchedStep   = "unwatched step"    // a step ended before its bake was watched
	UnreadStep      = "unread step"       // a step ended and what it requires was never read
	BlindBake       = "blind bake"        // a bake that grew while something required was missing
	Unwatched       = "unwatched"         // traffic on the candidate and no reading wanted
	Blind           = "blind"             // something unseen for longer than its rule allows, and nobody called
	BlindPaused     = "blind and paused"  // the same while a person has paused
	EarlyRelief     = "early relief"      // people not called any more while it is still unseen
	SelfHold        = "self hold"         // a hold for missing readings that are back
	Deaf            = "deaf"              // readings that are far beyond a limit and led to nothing
	IgnoredBreach   = "ignored breach"    // a breach that led to nothing
	DryRunActs      = "dry run acts"      // a rollback, a hold, a page or a void gate by a guardrail that only notes
	LateRollback    = "late rollback"     // a rollback whose write is not the first thing wanted
	LostRollback    = "lost rollback"     // a rollback that was decided and forgotten
	RefusedRollback = "refused rollback"  // a person's rollback that did nothing
	AfterEnd        = "after the end"     // traffic given to the candidate by a rollout that has put stable back
	WrongEnd        = "wrong end"         // an end that the endpoint does not show, or that did not last
	SilentOverwrite = "silent overwrite"  // somebody else's change overwritten without a word
	TwoHolders      = "two holders"       // two rollouts that hold the endpoint
	NoPage          = "no page"           // a cause, and nobody is called
	IdlePage        = "idle page"         // people called without a cause
	IdlePagePaused  = "idle page, paused" // the same while a person has paused
	PageText        = "page text"         // a page that names another cause than the gravest
	PageQueue       = "page queue"        // more than one message of a page owed to one notifier
	StaleQuestion   = "stale question"    // something asked that is over
	ToldTwice       = "told twice"        // one message under two keys
	Unbounded       = "unbounded"         // a state or a queue of messages beyond its bound
	StableDown      = "stable down"       // a stable that cannot serve, and the rollout goes on
	NoWayBack       = "no way back"       // a step begun while a deployment cannot serve, or stable could not take all
	OtherVersion    = "other version"     // one version promoted on what another one showed
	LoneBudget      = "lone budget"       // failures in excess of a stable that has no traffic
	Runaway         = "runaway"           // ever more events
	OffTheMap       = "off the map"       // a phase to which the event does not lead
	Internal        = "internal"          // an invariant that the machine broke itself
	Endless         = "endless"           // neither an end nor anybody called
)

// A Violation is an invariant that was broken; the first of its kind of a rollout.
type Violation struct {
	Name, Rollout, Text string
	At                  time.Time
}

// String is the violation for people.
func (v Violation) String() string {
	return fmt.Sprintf("%s at %s, %s: %s", v.Name, v.At.UTC().Format("15:04:05.000"), v.Rollout, v.Text)
}

// Invariants watch a world and collect what must never happen. They believe
// nothing that a rollout says of itself: they keep their own account of what
// people answered, what was read and what the endpoint saw.
type Invariants struct {
	// Violations are what was broken, one of a kind and rollout.
	Violations []Violation

	// Longest is the longest that something which is judged went unseen until people were
	// called, Beyond what of it was beyond the rule's `after`, as a share of what is
	// allowed: one interval and the call's timeout.
	Longest time.Duration
	Beyond  float64

	runs map[*Run]*account
	// notices is how many of the delivered messages were looked at.
	notices int
	// writes is how many of the endpoint's writes were looked at.
	writes int
}

// slack is how much the account may differ: a reading that failed ends when it
// was answered, not when it was due.
const slack = time.Second

// An account is what the invariants know of one rollout.
type account struct {
	// yes holds who approved, by the question's nonce; asked the gate's present one.
	yes   map[string]map[string]bool
	asked map[string]string
	// passed are the gates that enough people opened.
	passed map[string]bool
	// watched is the time of the present step that was read in full.
	watched time.Duration
	// foreign are the instants at which a foreign change was reported.
	foreign time.Time
	// began is when the endpoint was first read for the rollout.
	began time.Time
	// clock is the latest instant that an event named; checked is when the checks
	// were last made and passed, and moved is whether a step has begun since.
	clock   time.Time
	checked time.Time
	moved   bool
	// looks is how many readings of the time after back, by whichever clock is behind, are
	// still to come: there was no event for a while until then.
	looks int
	back  time.Time
	// before is what clock was before this event.
	before time.Time
	// now and last are the instants of this event and of the one before by the world's
	// clock.
	now, last time.Time
	// reached: a step has been reached.
	reached bool
	// rollback is since when stable is to be put back.
	rollback time.Time
	ended    rollout.Phase
	// sent are the effect IDs by the notice key that they delivered.
	sent map[string]string

	sight sight
	told  told
	pager pager
	// stopped is since when the rollout is held, paused or suspect; zero while it is not.
	stopped time.Time
	// raises are the forward writes that were wanted after the event before.
	raises []string
	// step is the step that was reached, had the splits that were confirmed.
	step int
	had  []split.Split
}

// Watch makes the invariants look at every event of the world.
func (i *Invariants) Watch(w *World) {
	i.runs = map[*Run]*account{}
	next := w.Watch
	w.Watch = func(w *World, r *Run, l Line) {
		i.check(w, r, l)
		if next != nil {
			next(w, r, l)
		}
	}
	fold := w.next
	w.next = func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := fold(p, s, ev)
		if r := w.run(s.ID); r != nil && !ev.MayLead(s.Phase, n.Phase) {
			i.fail(w, r, OffTheMap, "%s %s leads from %q to %q", ev.Kind, ev.Command, s.Phase, n.Phase)
		}
		return n
	}
}

func (i *Invariants) of(r *Run) *account {
	a := i.runs[r]
	if a == nil {
		a = &account{yes: map[string]map[string]bool{}, asked: map[string]string{}, passed: map[string]bool{},
			sent: map[string]string{}, step: -1,
			pager: pager{shown: map[string]string{}, asked: map[string]approval.QuestionState{}, breached: map[string]bool{}}}
		i.runs[r] = a
	}
	return a
}

func (i *Invariants) fail(w *World, r *Run, name, format string, args ...any) {
	for _, v := range i.Violations {
		if v.Name == name && v.Rollout == r.Plan.ID {
			return
		}
	}
	i.Violations = append(i.Violations,
		Violation{Name: name, Rollout: r.Plan.ID, At: w.Now, Text: fmt.Sprintf(format, args...)})
}

// check looks at one event, before anything that it asks for has begun.
func (i *Invariants) check(w *World, r *Run, l Line) {
	a := i.of(r)
	if a.began.IsZero() && r.State.Confirmed != nil {
		a.began = w.Now
	}
	if l.Event.Kind == rollout.EventSuspected && l.Ignored == "" { // it says what the endpoint shows
		a.foreign = w.Now
	}
	i.answers(w, r, a, l)
	i.watch(r, a, l)
	a.looksAgain(w, r, l)
	a.checks(l)
	i.see(w, r, a, l)
	i.describe(w, r, a, l)
	i.checkStep(w, r, a, l)
	for _, d := range l.Decisions {
		i.decision(w, r, a, l, d)
	}
	broke := func(d decision.Decision) bool { return strings.HasPrefix(d.Sentence, "Internal: ") }
	if strings.HasPrefix(l.Ignored, "internal: ") || slices.ContainsFunc(l.Decisions, broke) {
		i.fail(w, r, Internal, "the machine broke an invariant of its own: %s%s", l.Ignored, r.State.Sentence)
	}
	i.checkWrites(w)
	i.checkRollback(w, r, a)
	i.checkEnd(w, r, a)
	i.checkOwner(w, r)
	i.page(w, r, a, l)
}

// answers keeps account of who said yes to which question.
func (i *Invariants) answers(w *World, r *Run, a *account, l Line) {
	for name, q := range r.State.Gates {
		if q.State == approval.Open && a.asked[name] != q.Nonce {
			a.asked[name] = q.Nonce
			a.passed[name] = false
		}
	}
	ev := l.Event
	if ev.Kind != rollout.EventAnswered || l.Ignored != "" || !ev.Approve || ev.By == nil {
		return
	}
	if a.yes[ev.Nonce] == nil {
		a.yes[ev.Nonce] = map[string]bool{}
	}
	a.yes[ev.Nonce][ev.By.ID] = true
	for _, ap := range r.Plan.Approvals {
		if ap.Name == ev.Gate && a.asked[ev.Gate] == ev.Nonce && w.people(r, a.yes[ev.Nonce]) >= ap.Quorum {
			a.passed[ev.Gate] = true
		}
	}
}

// people counts who is behind the names now, without whoever asked for the release.
func (w *World) people(r *Run, names map[string]bool) int {
	who := map[string]bool{}
	for name := range names {
		who[cmp.Or(w.People[name], name)] = true
	}
	requester := r.Plan.Release.Requester.ID
	delete(who, cmp.Or(w.People[requester], requester))
	return len(who)
}

// watch keeps account of the time that was read in full.
func (i *Invariants) watch(r *Run, a *account, l Line) {
	if l.Event.Kind != rollout.EventMeasured || l.Ignored != "" {
		return
	}
	span := r.Plan.Interval
	for _, rd := range l.Event.Readings {
		if !required(r, rd.Metric) {
			continue
		}
		if rd.Status != analysis.StatusOK {
			return
		}
		span = min(span, rd.To.Sub(rd.From))
	}
	a.watched += max(span, 0)
}

// required reports whether a guardrail that the step requires reads the metric; a
// relative one rests where stable has no traffic.
func required(r *Run, metric string) bool {
	rests := r.State.Confirmed != nil && r.State.Confirmed.Weights[r.State.Stable] == 0
	for _, g := range r.Plan.Panel.Guardrails {
		if g.Metric == metric && g.Evidence == analysis.EvidenceRequired && slices.Contains(g.Steps, r.State.Reached) &&
			(!rests || !g.Limit.Relative) && g.OnBreach != analysis.ActionNote {
			return true
		}
	}
	return false
}

// decision looks at one thing that was decided.
func (i *Invariants) decision(w *World, r *Run, a *account, l Line, d decision.Decision) {
	if d.Kind != decision.Breach && onBreach(r, d.Guardrail) == analysis.ActionNote {
		i.fail(w, r, DryRunActs, "%s by %s: %s", d.Kind, d.Guardrail, d.Sentence)
	}
	switch d.Kind {
	case decision.Step, decision.Promote:
		i.checkForward(w, r, a, l, d)
		a.watched = 0
	case decision.Confirm:
		if r.State.Phase == rollout.PhaseBaking && r.State.Bake.Watched == 0 {
			a.watched = 0
		}
	case decision.ForeignChange:
		a.foreign = w.Now
	case decision.Budget:
		i.checkBudget(w, r)
	case decision.Void:
		a.passed[d.Gate] = false
	case decision.Rollback:
		if a.rollback.IsZero() {
			a.rollback = w.Now
		}
		i.checkSent(w, r)
	case decision.Start, decision.Queue, decision.Refuse, decision.Ask, decision.Answer,
		decision.Hold, decision.Resume, decision.Extend, decision.Breach, decision.Page,
		decision.NoData, decision.SourceError, decision.Unwritten, decision.Ack, decision.End:
	}
}

// checkForward: every gate of the step was opened by enough people, no step begins on
// missing data, and bakes are watched in full.
func (i *Invariants) checkForward(w *World, r *Run, a *account, l Line, d decision.Decision) {
	if d.Kind == decision.Step {
		i.checkFresh(w, r, a, d)
		for _, gate := range r.Plan.Steps[r.State.Step].Requires {
			j := slices.IndexFunc(r.Plan.Approvals, func(ap approval.Approval) bool { return ap.Name == gate })
			if n := w.people(r, a.yes[a.asked[gate]]); !a.passed[gate] || n < r.Plan.Approvals[j].Quorum {
				i.fail(w, r, ClosedGate, "step %s begins and gate %s was not opened: %d people said yes", d.Step, gate, n)
			}
		}
	}
	if done := r.State.Step > 0 || d.Kind == decision.Promote; done && a.looks > 0 {
		i.fail(w, r, UnseenWrite, "%s %s before the guardrails were read again", d.Kind, d.Step)
	}
	done := r.State.Step - 1
	if d.Kind == decision.Promote {
		done = r.State.Step
	}
	byHand := overriddenBefore(l) || done >= 0 && w.overridden(r, done)
	if d.Kind == decision.Step {
		i.checkWayBack(w, r, a, d, byHand)
	}
	for _, v := range d.Verdicts {
		if (v.Outcome == analysis.OutcomeNoData || v.Outcome == analysis.OutcomeError) && !byHand && !v.Note {
			i.fail(w, r, BlindStep, "%s %s while %s is %s", d.Kind, d.Step, v.Guardrail, v.Outcome)
		}
	}
	if done >= 0 && !byHand {
		i.checkSeenStep(w, r, a, r.Plan.Steps[done].Name)
	}
	if done >= 0 && !byHand && a.watched < r.Plan.Steps[done].Bake-slack {
		i.fail(w, r, UnwatchedStep, "step %s ends after %s of watched time, want %s", r.Plan.Steps[done].Name, a.watched,
			r.Plan.Steps[done].Bake)
	}
}

// overriddenBefore reports whether this very event ended a wait by hand.
func overriddenBefore(l Line) bool {
	for _, d := range l.Decisions {
		if d.Reason == decision.ReasonOverride {
			return true
		}
	}
	return false
}

// overridden reports whether a person ended the wait of the step.
func (w *World) overridden(r *Run, step int) bool {
	name := r.Plan.Steps[step].Name
	for _, l := range w.Journal {
		for _, d := range l.Decisions {
			if l.Run == r && d.Reason == decision.ReasonOverride && d.Step == name {
				return true
			}
		}
	}
	return false
}

// Finish looks at the world as a whole: what landed last, no message that was sent
// under two keys, nobody called and nothing asked for what is over.
func (i *Invariants) Finish(w *World) {
	i.checkWrites(w)
	if w.runaway() {
		i.fail(w, w.Runs[0], Runaway, "%d events by %s", len(w.Journal), w.Now.UTC().Format("15:04:05"))
	}
	for _, d := range w.Notices {
		n := d.Effect.Notice
		if n.Topic != mailbox.TopicThread {
			continue
		}
		a := i.of(d.Run)
		at := d.Notifier + "|" + n.Key
		if id, sent := a.sent[at]; sent && id != d.Effect.ID {
			i.fail(w, d.Run, ToldTwice, "the entry %s was sent under two ids, %s and %s", n.Key, id, d.Effect.ID)
		}
		a.sent[at] = d.Effect.ID
	}
	for _, r := range w.Runs {
		i.checkRelieved(w, r)
	}
}
