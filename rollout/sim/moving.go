package sim

import (
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/split"
)

// checkStep: a step is reached at its own split only, what breaks a limit has its
// consequence in the same event, and a person's rollback always works.
func (i *Invariants) checkStep(w *World, r *Run, a *account, l Line) {
	s := r.State
	if s.Reached > a.step {
		if own := target(r, s.Reached); !s.Confirmed.Equal(own) || !w.showed(own.Equal) {
			i.fail(w, r, OwnSplit, "step %s is reached at %s; the endpoint shows %s",
				r.Plan.Steps[s.Reached].Name, s.Confirmed, w.Endpoint.Split)
		}
	}
	a.step = max(a.step, s.Reached)
	if s.Confirmed != nil && (len(a.had) == 0 || !a.had[len(a.had)-1].Equal(*s.Confirmed)) {
		a.had = append(a.had, *s.Confirmed)
	}
	if !stopped(s.Phase) {
		a.stopped = time.Time{}
	} else {
		if a.stopped.IsZero() {
			a.stopped = w.Now
		}
		for _, e := range s.Outbox {
			if e.Kind == rollout.EffectSetTraffic && e.Forward && !slices.Contains(a.raises, key(e)) {
				i.fail(w, r, StoppedWrite, "a write of %s is wanted while %s", e.To, s.Phase)
			}
		}
	}
	a.raises = nil
	for _, e := range s.Outbox {
		if e.Kind == rollout.EffectSetTraffic && e.Forward {
			a.raises = append(a.raises, key(e))
		}
	}
	back := s.Phase == rollout.PhaseRollingBack || s.Phase.Terminal()
	if l.Event.Kind == rollout.EventMeasured && l.Ignored == "" && !back {
		i.checkBreaches(w, r)
	}
	if ev := l.Event; ev.Kind == rollout.EventCommanded && ev.Command == rollout.CommandRollback && s.Phase != "" &&
		!back {
		i.fail(w, r, RefusedRollback, "%s after a person's rollback: %s", s.Phase, l.Ignored)
	}
}

// checkBreaches: a limit that is broken rolls back or stops, as the policy says.
func (i *Invariants) checkBreaches(w *World, r *Run) {
	for _, v := range r.State.Verdicts {
		if v.Outcome != analysis.OutcomeBreach {
			continue
		}
		switch action := onBreach(r, v.Guardrail); {
		case action == analysis.ActionRollback && v.Cause == analysis.CauseCandidate:
			i.fail(w, r, IgnoredBreach, "%s is broken and the rollout is %s", v.Guardrail, r.State.Phase)
		case action == analysis.ActionRollback || action == analysis.ActionHold:
			if p := r.State.Phase; p != rollout.PhaseHeld && p != rollout.PhaseSuspect {
				i.fail(w, r, IgnoredBreach, "%s is broken (%s) and the rollout is %s", v.Guardrail, v.Cause, p)
			}
		}
	}
}

// target is the split of a step.
func target(r *Run, step int) split.Split {
	st, cand, stable := r.Plan.Steps[step], r.Plan.Release.Candidate, r.State.Stable
	switch st.Kind() {
	case split.ShareMirror:
		return split.Split{Weights: map[string]int{stable: 100}, Mirror: map[string]int{cand: st.Mirror}}
	case split.ShareLive:
	}
	return split.Split{Weights: map[string]int{stable: 100 - st.Weight, cand: st.Weight}}
}

// checkRaise: what gives the candidate traffic is a step's split, or one that was
// confirmed before and is put back; a rollout that was stopped sends none, and one that
// has put stable back gives none.
func (i *Invariants) checkRaise(w *World, a *account, wr Write) {
	cand := wr.Run.Plan.Release.Candidate
	if wr.To.Share(cand).None() {
		return
	}
	own := slices.ContainsFunc(a.had, wr.To.Equal)
	for n := range wr.Run.Plan.Steps {
		own = own || n <= wr.Run.State.Step && wr.To.Equal(target(wr.Run, n))
	}
	if !own {
		i.fail(w, wr.Run, OwnSplit, "a write of %s, which is no step's", wr.To)
	}
	if !a.stopped.IsZero() && wr.Sent.After(a.stopped) {
		i.fail(w, wr.Run, StoppedWrite, "a write of %s while %s", wr.To, wr.Run.State.Phase)
	}
	if a.ended == rollout.PhaseRolledBack || a.ended == rollout.PhaseStopped {
		i.fail(w, wr.Run, AfterEnd, "a write of %s, sent at %s, lands at %s after %s",
			wr.To, wr.Sent.UTC().Format("15:04:05"), wr.At.UTC().Format("15:04:05"), a.ended)
	}
}
