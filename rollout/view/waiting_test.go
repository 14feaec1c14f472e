package view_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/shift"
	"github.com/belayd/belay/rollout/view"
)

// What a rollout waits for, in every phase: the words that the API, messages and the
// command line show. Read testdata/waiting.txt as somebody would who waits.
func TestWaitingFor(t *testing.T) {
	p := &rollout.Plan{ID: "r2", Approvals: []approval.Approval{{Name: "owner"}, {Name: "sre"}}}
	open := approval.Question{State: approval.Open, Expires: noon.Add(4 * time.Hour)}
	phase := func(ph rollout.Phase, with func(*rollout.State)) rollout.State {
		s := rollout.State{Phase: ph, Step: -1, Reached: -1, Hold: &rollout.Hold{}}
		if with != nil {
			with(&s)
		}
		return s
	}
	lacks := []analysis.Verdict{
		{Guardrail: "failures", Outcome: analysis.OutcomePass}, {Guardrail: "p95", Outcome: analysis.OutcomeUndecided},
		{Guardrail: "cpu", Outcome: analysis.OutcomeNoData}, {Guardrail: "revenue", Outcome: analysis.OutcomeResting},
	}
	var b strings.Builder
	for _, c := range []struct {
		name string
		s    rollout.State
	}{
		{"queued", phase(rollout.PhaseQueued, nil)},
		{"queued behind one", phase(rollout.PhaseQueued, func(s *rollout.State) { s.BlockedBy = "r1" })},
		{"scheduled", phase(rollout.PhaseScheduled, nil)},
		{"scheduled for an instant", phase(rollout.PhaseScheduled, func(s *rollout.State) { s.StartAt = noon })},
		{"preflight", phase(rollout.PhasePreflight, nil)},
		{"shifting", phase(rollout.PhaseShifting, nil)},
		{"baking", phase(rollout.PhaseBaking, func(s *rollout.State) { s.Bake.Needs = 750 * time.Second })},
		{"baked, and undecided", phase(rollout.PhaseBaking, func(s *rollout.State) { s.Verdicts = lacks })},
		{"baked, and passed", phase(rollout.PhaseBaking, func(s *rollout.State) { s.Verdicts = lacks[:1] })},
		{"waiting for a window", phase(rollout.PhaseWaiting, nil)},
		{"waiting for one", phase(rollout.PhaseWaiting, func(s *rollout.State) { s.Gates = map[string]approval.Question{"owner": open} })},
		{"waiting for two", phase(rollout.PhaseWaiting, func(s *rollout.State) {
			s.Gates = map[string]approval.Question{"owner": open, "sre": open}
		})},
		{"held", phase(rollout.PhaseHeld, nil)},
		{"held by itself", phase(rollout.PhaseHeld, func(s *rollout.State) {
			s.Hold = &rollout.Hold{Reason: decision.ReasonNoData, Self: true}
		})},
		{"paused", phase(rollout.PhasePaused, func(s *rollout.State) { s.Hold.Paused = true })},
		{"suspect", phase(rollout.PhaseSuspect, nil)},
		{"rolling back", phase(rollout.PhaseRollingBack, nil)},
		{"rolling back, withheld", phase(rollout.PhaseRollingBack, func(s *rollout.State) {
			s.Shift = &shift.Shift{Stage: shift.Withheld}
		})},
		{"promoted", phase(rollout.PhasePromoted, nil)},
	} {
		fmt.Fprintf(&b, "%-26s %s\n", c.name, view.Of(p, c.s).WaitingFor)
	}
	file := filepath.Join("testdata", "waiting.txt")
	goldentest.Check(t, file, b.String())
}
