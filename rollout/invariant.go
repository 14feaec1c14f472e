package rollout

import (
	"errors"
	"fmt"
	"slices"

	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/shift"
)

// check says which invariant the state, or the step to it from the one before,
// breaks, or nil. It is always on: a state that breaks one is never handed out (see
// suspect).
func (s *State) check(p *Plan, before *State) error {
	for _, f := range []func(*Plan) error{s.checkLadder, s.checkShift, s.checkPhase, s.checkStopped, s.checkOutbox} {
		if err := f(p); err != nil {
			return err
		}
	}
	return s.checkStep(p, before)
}

// checkStep: a step is reached at its own split only, and a rollout that is stopped
// begins no forward write.
func (s *State) checkStep(p *Plan, before *State) error {
	if s.Reached > before.Reached {
		if own := p.target(s.Reached, s.Stable); !s.Confirmed.Equal(own) {
			return fmt.Errorf("step %d reached at %s, not at its own %s", s.Reached, s.Confirmed, own)
		}
	}
	if !s.Phase.stopped() {
		return nil
	}
	for _, e := range s.Outbox {
		if e.Kind == EffectSetTraffic && e.Forward &&
			!slices.ContainsFunc(before.Outbox, func(o Effect) bool { return o.ID == e.ID && o.Attempt == e.Attempt }) {
			return fmt.Errorf("a forward write begins while %s", s.Phase)
		}
	}
	return nil
}

// checkStopped: the phase, the hold and the change under way agree. Only somebody
// else's split is put back while a hold stands.
func (s *State) checkStopped(*Plan) error {
	sh := s.Shift
	switch {
	case s.Phase == PhaseShifting && sh == nil:
		return errors.New("shifting without a shift")
	case s.Phase.stopped() && sh != nil && !sh.Stopped():
		return fmt.Errorf("%s and a shift that goes on", s.Phase)
	case (s.Phase == PhaseBaking || s.Phase == PhaseWaiting) && sh != nil:
		return fmt.Errorf("%s during a shift", s.Phase)
	case s.Hold != nil && !s.Phase.stopped() && (s.Phase != PhaseShifting || sh.Why != shift.Restore):
		return fmt.Errorf("%s with a hold", s.Phase)
	}
	return nil
}

// checkLadder: Reached ≤ Step < number of steps; nothing above what was allowed.
func (s *State) checkLadder(p *Plan) error {
	switch {
	case s.Step < -1 || s.Step >= max(len(p.Steps), 1):
		return fmt.Errorf("step %d of %d", s.Step, len(p.Steps))
	case s.Reached < -1 || s.Reached > s.Step:
		return fmt.Errorf("reached step %d beyond step %d", s.Reached, s.Step)
	case s.Step >= 0 && s.Stable == "":
		return errors.New("a step without a stable deployment")
	case s.Reached >= 0 && s.Confirmed == nil:
		return errors.New("a step was reached and no split confirmed")
	case s.Await != nil && s.Phase != PhasePreflight:
		return fmt.Errorf("%s and a candidate that is waited for", s.Phase)
	case s.Bake.Watched < 0:
		return errors.New("negative bake")
	}
	return nil
}

// checkShift: what is asked sums to 100, is the step's own on the way up, is never above
// the allowed weight, and a rollback gives the candidate nothing.
func (s *State) checkShift(p *Plan) error {
	if s.Shift == nil {
		return nil
	}
	sum := 0
	for name, w := range s.Shift.To.Weights {
		if w < 0 {
			return fmt.Errorf("a negative weight for %s", name)
		}
		sum += w
	}
	cand := s.Shift.To.Weights[p.Release.Candidate]
	switch {
	case sum != 100:
		return fmt.Errorf("a split that sums to %d", sum)
	case cand > s.Allowed && cand > confirmedWeight(s, p):
		return fmt.Errorf("candidate weight %d above the allowed %d", cand, s.Allowed)
	case s.Shift.Why == shift.Forward && (s.Step < 0 || !s.Shift.To.Equal(p.target(s.Step, s.Stable))):
		return fmt.Errorf("a forward shift to %s, which is not step %d's split", s.Shift.To, s.Step)
	case s.Shift.Why == shift.Rollback && !s.Shift.To.Share(p.Release.Candidate).None():
		return errors.New("a rollback that leaves the candidate traffic")
	case (s.Shift.Why == shift.Rollback) != (s.Phase == PhaseRollingBack):
		return fmt.Errorf("phase %s during a shift for %s", s.Phase, s.Shift.Why)
	}
	return nil
}

func confirmedWeight(s *State, p *Plan) int {
	if s.Confirmed == nil {
		return 0
	}
	return s.Confirmed.Weights[p.Release.Candidate]
}

// checkPhase: the phase and what it stands for agree.
func (s *State) checkPhase(p *Plan) error {
	switch s.Phase {
	case PhaseRollingBack:
		if s.Shift == nil {
			return errors.New("rolling back without a shift")
		}
		if s.Ending != PhaseRolledBack && s.Ending != PhaseStopped {
			return fmt.Errorf("rolling back towards %q", s.Ending)
		}
	case PhaseHeld, PhasePaused, PhaseSuspect:
		if s.Hold == nil {
			return fmt.Errorf("%s without a reason", s.Phase)
		}
	case PhasePromoted:
		if s.Step != len(p.Steps)-1 || s.Reached != s.Step {
			return fmt.Errorf("promoted at step %d of %d", s.Reached+1, len(p.Steps))
		}
	case PhaseBaking:
		if s.Reached < 0 {
			return errors.New("baking before the first step")
		}
	case PhaseRolledBack, PhaseStopped, PhaseRefused:
		if s.Shift != nil {
			return fmt.Errorf("%s with a shift under way", s.Phase)
		}
	case PhaseQueued, PhaseScheduled, PhasePreflight, PhaseShifting, PhaseWaiting, "":
	}
	if s.Phase.Terminal() && s.Phase != PhaseRolledBack && s.Page != nil {
		return errors.New("ended with an open page, and not by a rollback")
	}
	return nil
}

// checkOutbox: IDs are unique and there is at most one write of traffic.
func (s *State) checkOutbox(*Plan) error {
	seen := map[string]bool{}
	writes := 0
	for _, e := range s.Outbox {
		if e.ID == "" || seen[e.ID] {
			return fmt.Errorf("effect id %q twice or empty", e.ID)
		}
		seen[e.ID] = true
		if e.Kind == EffectSetTraffic {
			writes++
		}
	}
	if writes > 1 {
		return fmt.Errorf("%d writes of traffic at once", writes)
	}
	return nil
}

// suspect is the state after an event that would have broken an invariant: what
// was true before, stopped, with a page. Unreachable unless the machine has a bug.
func suspect(p *Plan, before State, ev Event, err error) State {
	m := &machine{p: p, s: before.clone(), ev: ev}
	m.s.At = later(before.At, ev.At)
	m.ev.At = m.s.At
	m.s.Seq++
	m.s.Last = Last{}
	if m.s.Phase.Terminal() || m.s.Phase == "" || m.s.Phase == PhaseRollingBack {
		m.ignore("internal: " + err.Error())
		return m.s
	}
	sentence := fmt.Sprintf("Internal: the event %s would have broken an invariant (%v); nothing was done.", ev.Kind, err)
	m.s.Hold = &Hold{Reason: decision.ReasonStoreLost, Sentence: sentence, Since: m.now()}
	if m.s.Shift != nil {
		m.stopShift()
	}
	m.decide(decision.Decision{Kind: decision.Hold, Reason: decision.ReasonStoreLost, Sentence: sentence})
	m.enter(PhaseSuspect, decision.ReasonStoreLost, sentence)
	m.settlePage()
	m.settleOutbox()
	return m.s
}
