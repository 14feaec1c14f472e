package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/shift"
	"github.com/belayd/belay/rollout/split"
)

// checkSent: the write of a rollback is wanted at once, first of all,
// unless it is withheld or nothing was moved.
func (i *Invariants) checkSent(w *World, r *Run) {
	s := r.State
	if s.Phase != rollout.PhaseRollingBack || s.Shift == nil || s.Shift.Stage == shift.Withheld {
		return
	}
	if len(s.Outbox) == 0 || s.Outbox[0].Kind != rollout.EffectSetTraffic || s.Outbox[0].NotBefore.After(s.At) {
		i.fail(w, r, LateRollback, "a rollback was decided and its write is not the first thing wanted now: %+v",
			kinds(s.Outbox))
	}
}

func kinds(es []rollout.Effect) []string {
	var out []string
	for _, e := range es {
		out = append(out, fmt.Sprintf("%s@%s", e.Kind, e.NotBefore.Format("15:04:05")))
	}
	return out
}

// checkWrites: every write sums to 100, is never above the last
// opened gate, and never covers somebody else's change in silence.
func (i *Invariants) checkWrites(w *World) {
	for ; i.writes < len(w.Endpoint.Writes); i.writes++ {
		wr := w.Endpoint.Writes[i.writes]
		a := i.of(wr.Run)
		if a.began.IsZero() {
			a.began = wr.At
		}
		cand := wr.To.Weights[wr.Run.Plan.Release.Candidate]
		sum := 0
		for _, x := range wr.To.Weights {
			sum += x
		}
		if sum != 100 {
			i.fail(w, wr.Run, BadSum, "a write of %s", wr.To)
		}
		if top := i.allowed(wr.Run, a); cand > top {
			i.fail(w, wr.Run, ClosedGate, "a write of %s while the gates allow %d%%", wr.To, top)
		}
		i.checkSeen(w, a, wr)
		i.checkRaise(w, a, wr)
		back := slices.ContainsFunc(a.had[max(0, len(a.had)-2):], wr.Over.Split.Equal) // they put back what was confirmed
		if wr.Over.Foreign && !back && !wr.Over.Since.After(wr.Sent) && a.foreign.Before(wr.Over.Since) &&
			a.began.Before(wr.Over.Since) {
			i.fail(w, wr.Run, SilentOverwrite, "a write of %s over somebody else's %s, which was never reported", wr.To,
				wr.Over.Split)
		}
	}
}

// allowed is the largest weight up to which no gate is closed.
func (i *Invariants) allowed(r *Run, a *account) int {
	top := 0
	for n, st := range r.Plan.Steps {
		for _, g := range st.Requires {
			if !a.passed[g] && n > r.State.Step {
				return top
			}
		}
		top = max(top, st.Weight)
	}
	return top
}

// checkRollback: until stable is confirmed a rollback by a rule has a page
// open.
func (i *Invariants) checkRollback(w *World, r *Run, a *account) {
	s := r.State
	if a.rollback.IsZero() {
		return
	}
	switch s.Phase {
	case rollout.PhaseRollingBack:
		if s.Ending == rollout.PhaseRolledBack && s.Page == nil {
			i.fail(w, r, NoPage, "rolling back without an open page")
		}
	case rollout.PhaseRolledBack, rollout.PhaseStopped:
	case rollout.PhaseQueued, rollout.PhaseScheduled, rollout.PhasePreflight, rollout.PhaseShifting, rollout.PhaseBaking,
		rollout.PhaseWaiting, rollout.PhaseHeld, rollout.PhasePaused, rollout.PhaseSuspect,
		rollout.PhasePromoted, rollout.PhaseRefused:
		i.fail(w, r, LostRollback, "a rollback was decided and the phase is %s", s.Phase)
	}
}

// checkEnd: an ended rollout stays ended, and what it says of the endpoint is
// what the endpoint showed.
func (i *Invariants) checkEnd(w *World, r *Run, a *account) {
	s := r.State
	if a.ended != "" && a.ended != s.Phase {
		i.fail(w, r, WrongEnd, "%s became %s", a.ended, s.Phase)
	}
	if !s.Phase.Terminal() || a.ended != "" {
		return
	}
	a.ended = s.Phase
	if s.Asked == nil {
		return
	}
	cand := r.Plan.Release.Candidate
	if s.Phase != rollout.PhasePromoted && !w.showed(func(x split.Split) bool {
		return x.Weights[s.Stable] == 100 && x.Share(cand).None()
	}) {
		i.fail(w, r, WrongEnd, "%s while the endpoint shows %s", s.Phase, w.Endpoint.Split)
	}
	if s.Phase == rollout.PhasePromoted && (s.Confirmed == nil || s.Step != len(r.Plan.Steps)-1) {
		i.fail(w, r, WrongEnd, "promoted at step %d with %v confirmed", s.Step, s.Confirmed)
	}
}

// showed reports whether the endpoint showed such a split within the last second.
func (w *World) showed(ok func(split.Split) bool) bool {
	for _, h := range slices.Backward(w.Endpoint.History) {
		if ok(h.Split) {
			return true
		}
		if h.Since.Before(w.Now.Add(-time.Second)) {
			return false
		}
	}
	return false
}

// checkOwner: at most one rollout moves the endpoint.
func (i *Invariants) checkOwner(w *World, r *Run) {
	for _, o := range w.Runs {
		// One that has ended wants nothing but to release it.
		if o != r && o.State.Claimed && r.State.Claimed && !o.State.Phase.Terminal() && !r.State.Phase.Terminal() {
			i.fail(w, r, TwoHolders, "%s and %s both hold the endpoint", o.Plan.ID, r.Plan.ID)
		}
	}
}
