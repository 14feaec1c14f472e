package sim

import (
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/decision"
)

// checksHold is for how long what the checks found may be acted on.
const checksHold = 5 * time.Minute

// looksAgain keeps account of how often the guardrails were read since nothing
// was heard for a while.
func (a *account) looksAgain(w *World, r *Run, l Line) {
	a.before, a.last, a.now = a.clock, a.now, w.Now
	if gap := l.Event.At.Sub(a.clock); a.reached && gap > r.Plan.UnwatchedAfter() {
		a.looks, a.back = 3, w.Now
		if l.Event.At.Before(a.back) { // readings end by the clock that is behind
			a.back = l.Event.At
		}
	}
	a.reached = r.State.Reached >= 0
	old := slices.ContainsFunc(l.Event.Readings,
		func(rd analysis.Reading) bool { return rd.To.Before(a.back) && rd.To.After(rd.From) })
	if l.Event.Kind == rollout.EventMeasured && l.Ignored == "" && !old {
		a.looks--
	}
}

// checks keeps account of when the checks passed.
func (a *account) checks(l Line) {
	if l.Event.At.After(a.clock) {
		a.clock = l.Event.At
	}
	failed := slices.ContainsFunc(l.Event.Checks, func(c check.Result) bool { return !c.OK })
	if l.Event.Kind == rollout.EventPreflighted && l.Ignored == "" && l.Event.Split != nil && !failed {
		a.checked = a.clock
	}
}

// checkFresh: the first traffic moves on checks that passed a short while ago,
// however long the first step waited.
func (i *Invariants) checkFresh(w *World, r *Run, a *account, d decision.Decision) {
	if age := a.clock.Sub(a.checked); !a.moved && (a.checked.IsZero() || age > checksHold) {
		i.fail(w, r, StaleChecks, "step %s begins and the checks are %s old", d.Step, age)
	}
	a.moved = true
}

// checkSeen: nothing is written that gives the candidate more before the
// guardrails were read again.
func (i *Invariants) checkSeen(w *World, a *account, wr Write) {
	cand := wr.Run.Plan.Release.Candidate
	after := wr.Sent.Sub(a.last) > wr.Run.Plan.UnwatchedAfter()
	if a.looks > 0 && after && wr.To.Weights[cand] > wr.Over.Split.Weights[cand] {
		i.fail(w, wr.Run, UnseenWrite, "a write of %s before the guardrails were read again", wr.To)
	}
}
