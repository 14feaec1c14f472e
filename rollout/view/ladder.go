package view

import (
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/split"
)

// A Step is where on the ladder a rollout stands.
type Step struct {
	Name string `json:"name"`
	split.Share
	// Since is when the step's weight was read back; zero while it was not.
	Since time.Time `json:"since,omitzero"`
	// BakeLeft is the watched time that is still needed, as in "12m30s".
	BakeLeft string `json:"bakeLeft,omitempty"`
}

// A LadderStep is one step of the plan.
type LadderStep struct {
	Name string `json:"name"`
	split.Share
	Bake     string   `json:"bake"`
	Requires []string `json:"requires,omitempty"`
	// State is done, current or ahead.
	State string `json:"state"`
}

// The states of a LadderStep.
const (
	StepDone    = "done"
	StepCurrent = "current"
	StepAhead   = "ahead"
)

func stepOf(p *rollout.Plan, s rollout.State) *Step {
	if s.Step < 0 || s.Step >= len(p.Steps) {
		return nil
	}
	st := p.Steps[s.Step]
	out := &Step{Name: st.Name, Share: st.Share}
	if s.Reached == s.Step && !s.StepSince.IsZero() {
		out.Since = s.StepSince.UTC()
		if left := s.Bake.Needs - s.Bake.Watched; !s.Phase.Terminal() {
			out.BakeLeft = max(left, 0).Round(time.Second).String()
		}
	}
	return out
}

func ladder(p *rollout.Plan, s rollout.State) []LadderStep {
	out := make([]LadderStep, len(p.Steps))
	for i, st := range p.Steps {
		state := StepAhead
		switch {
		case i < s.Step, i == s.Step && s.Phase == rollout.PhasePromoted:
			state = StepDone
		case i == s.Step:
			state = StepCurrent
		}
		out[i] = LadderStep{Name: st.Name, Share: st.Share, Bake: st.Bake.String(), Requires: st.Requires, State: state}
	}
	return out
}
