package sim

import (
	"fmt"
	"time"

	"github.com/belayd/belay/rollout"
)

// Invariants watch a world and collect what must never happen. The numbers are
// those of the project's reliability notes.
type Invariants struct {
	// Violations are what was broken, with the instant.
	Violations []string
	// Fenced is false in a world whose API lets cut-off writes land late: there a
	// stale write may show for a moment before it is corrected.
	Fenced bool
	// breached is since when a rollout must be rolled back.
	breached map[string]time.Time
	// last terminal phases, to see that none is left again.
	ended map[string]rollout.Phase
}

// Watch makes the invariants look at every event of the world.
func (i *Invariants) Watch(w *World) {
	i.breached, i.ended = map[string]time.Time{}, map[string]rollout.Phase{}
	next := w.Watch
	w.Watch = func(w *World, r *Run, l Line) {
		i.check(w, r, l)
		if next != nil {
			next(w, r, l)
		}
	}
}

func (i *Invariants) fail(w *World, r *Run, name, format string, args ...any) {
	if len(i.Violations) < 20 {
		i.Violations = append(i.Violations, fmt.Sprintf("%s at %s, %s: %s", name, w.Now.UTC().Format(time.RFC3339Nano), r.Plan.ID, fmt.Sprintf(format, args...)))
	}
}

// check looks at one event.
func (i *Invariants) check(w *World, r *Run, l Line) {
	s := r.State
	cand := r.Plan.Release.Candidate
	// I1: the endpoint never saw more of the candidate by our writes than an
	// opened gate allows.
	for _, wr := range w.Endpoint.Writes {
		if wr.Run == r && wr.To.Weights[cand] > s.Allowed {
			i.fail(w, r, "I1", "a write of %s while %d%% is allowed", wr.To, s.Allowed)
		}
		// I2: weights sum to 100.
		sum := 0
		for _, x := range wr.To.Weights {
			sum += x
		}
		if sum != 100 {
			i.fail(w, r, "I2", "a write of %s", wr.To)
		}
	}
	i.checkBreach(w, r, l)
	i.checkEnd(w, r)
	i.checkPromote(w, r, l)
	i.checkOwner(w, r)
}

// checkBreach: I3, after a rollback was decided stable has everything again, or
// the rollout is rolling back with a page open.
func (i *Invariants) checkBreach(w *World, r *Run, l Line) {
	for _, d := range l.Decisions {
		if d.Kind == rollout.DecisionRollback {
			i.breached[r.Plan.ID] = w.Now
		}
	}
	since, on := i.breached[r.Plan.ID]
	if !on || w.Now.Sub(since) < 5*time.Second {
		return
	}
	s := r.State
	if s.Phase == rollout.PhaseRollingBack {
		if s.Ending == rollout.PhaseRolledBack && s.Page == nil {
			i.fail(w, r, "I3", "rolling back without an open page")
		}
		return
	}
	if s.Phase != rollout.PhaseRolledBack && s.Phase != rollout.PhaseStopped {
		i.fail(w, r, "I3", "a rollback was decided and the phase is %s", s.Phase)
	}
}

// checkEnd: I9, an ended rollout stays ended, and a rolled back one ended with
// stable confirmed at 100.
func (i *Invariants) checkEnd(w *World, r *Run) {
	s := r.State
	if was, on := i.ended[r.Plan.ID]; on && was != s.Phase {
		i.fail(w, r, "I9", "%s became %s", was, s.Phase)
	}
	if !s.Phase.Terminal() {
		return
	}
	if _, on := i.ended[r.Plan.ID]; on {
		return
	}
	i.ended[r.Plan.ID] = s.Phase
	moved := s.Asked != nil
	switch s.Phase {
	case rollout.PhaseRolledBack, rollout.PhaseStopped:
		if moved && (s.Confirmed == nil || s.Confirmed.Weights[s.Stable] != 100 || s.Confirmed.Weights[r.Plan.Release.Candidate] != 0) {
			i.fail(w, r, "I9", "%s with %v confirmed", s.Phase, s.Confirmed)
		}
	case rollout.PhasePromoted:
		last := r.Plan.Steps[len(r.Plan.Steps)-1]
		if s.Confirmed == nil || s.Confirmed.Weights[r.Plan.Release.Candidate] != last.Weight {
			i.fail(w, r, "I9", "promoted with %v confirmed", s.Confirmed)
		}
	default:
	}
}

// checkPromote: I12, no step begins by a rule while a required guardrail lacks
// its pass, and bakes are watched in full.
func (i *Invariants) checkPromote(w *World, r *Run, l Line) {
	for _, d := range l.Decisions {
		if d.Kind != rollout.DecisionStep && d.Kind != rollout.DecisionPromote {
			continue
		}
		for _, v := range d.Verdicts {
			if (v.Outcome == "no-data" || v.Outcome == "error") && !overridden(l) {
				i.fail(w, r, "I12", "%s while %s is %s", d.Kind, v.Guardrail, v.Outcome)
			}
		}
	}
}

func overridden(l Line) bool {
	return l.Event.Kind == rollout.EventCommanded
}

// checkOwner: I8, at most one rollout of an endpoint moves traffic.
func (i *Invariants) checkOwner(w *World, r *Run) {
	for _, o := range w.Runs {
		if o != r && o.State.Claimed && r.State.Claimed && !o.State.Phase.Terminal() && !r.State.Phase.Terminal() {
			i.fail(w, r, "I8", "%s and %s both hold the endpoint", o.Plan.ID, r.Plan.ID)
		}
	}
}
