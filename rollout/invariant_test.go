package rollout

import (
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/shift"
	"github.com/belayd/belay/rollout/split"
)

// A state in which phase, hold, shift and step contradict each other is never handed
// out: each of these is refused by its own rule.
func TestCheckRefuses(t *testing.T) {
	p := &Plan{Release: Release{Candidate: "green"}, Steps: []Step{{Name: "5", Share: split.Share{Weight: 5}}, {Name: "50", Share: split.Share{Weight: 50}}}}
	split := func(green int) split.Split {
		return split.Split{Weights: map[string]int{"blue": 100 - green, "green": green}}
	}
	forward := func(to int, stage shift.Stage) *shift.Shift {
		return &shift.Shift{Why: shift.Forward, From: split(5), To: split(to), Stage: stage}
	}
	write := []Effect{{ID: "r1/1/1", Kind: EffectSetTraffic, Forward: true}}
	at5 := split(5)
	sound := State{Phase: PhaseBaking, Stable: "blue", Allowed: 5, Confirmed: &at5, Asked: &at5}
	if err := sound.check(p, &sound); err != nil {
		t.Fatalf("a sound state: %v", err)
	}

	for _, c := range []struct {
		name, want string
		change     func(*State)
	}{
		{"shifting and no shift is wanted", "shifting without a shift", func(s *State) { s.Phase = PhaseShifting }},
		{"paused and a write begins", "a forward write begins while paused", func(s *State) {
			s.Phase, s.Hold, s.Outbox = PhasePaused, &Hold{Paused: true}, write
		}},
		{"a step reached at another split", "not at its own", func(s *State) { s.Step, s.Reached = 1, 1 }},
		{"up to another split than the step's", "not step 1's split", func(s *State) {
			s.Step, s.Phase, s.Allowed, s.Shift = 1, PhaseShifting, 50, forward(40, shift.Writing)
		}},
		{"above what the gates allow", "above the allowed", func(s *State) {
			s.Step, s.Phase, s.Shift = 1, PhaseShifting, forward(50, shift.Writing)
		}},
		{"held and the shift goes on", "a shift that goes on", func(s *State) {
			s.Step, s.Phase, s.Allowed, s.Hold, s.Shift = 1, PhaseHeld, 50, &Hold{}, forward(50, shift.Settling)
		}},
		{"baking during a shift", "baking during a shift", func(s *State) {
			s.Step, s.Allowed, s.Shift = 1, 50, forward(50, shift.Settling)
		}},
		{"held without a hold", "held without a reason", func(s *State) { s.Phase = PhaseHeld }},
		{"a hold while baking", "baking with a hold", func(s *State) { s.Hold = &Hold{} }},
		{"rolling back without a shift", "rolling back without a shift", func(s *State) { s.Phase = PhaseRollingBack }},
	} {
		s := sound
		c.change(&s)
		if err := s.check(p, &sound); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}
