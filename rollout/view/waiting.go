package view

import (
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/shift"
)

// waitingFor says for people what the rollout waits for; "" when it does not
// wait.
func waitingFor(p *rollout.Plan, s rollout.State) string {
	switch s.Phase {
	case rollout.PhaseQueued:
		return strings.TrimSuffix("its turn behind "+s.BlockedBy, " behind ")
	case rollout.PhaseScheduled:
		if s.StartAt.IsZero() {
			return "the policy's schedule"
		}
		return "the policy's schedule, which starts at " + s.StartAt.UTC().Format(time.RFC3339)
	case rollout.PhaseWaiting:
		var open []string
		for _, g := range questionsOf(p, s) {
			if g.State == approval.Open {
				open = append(open, "approval "+g.Name+" until "+g.Expires.Format(time.RFC3339))
			}
		}
		if len(open) == 0 {
			return "a change window"
		}
		return strings.Join(open, ", ")
	case rollout.PhaseHeld, rollout.PhasePaused, rollout.PhaseSuspect:
		return s.Hold.WaitsFor()
	case rollout.PhaseShifting:
		return "the endpoint to show the new weights"
	case rollout.PhaseRollingBack:
		if s.Shift != nil && s.Shift.Stage == shift.Withheld {
			return "stable to have 100%, or a person who repeats the rollback"
		}
		return "the endpoint to show stable at 100%"
	case rollout.PhaseBaking:
		return waitingBaking(s)
	case rollout.PhasePreflight:
		if s.Await != nil {
			return "the deployment to be ready until " + s.Await.Until.UTC().Format(time.RFC3339)
		}
	case rollout.PhasePromoted, rollout.PhaseRolledBack, rollout.PhaseStopped, rollout.PhaseRefused:
	}
	return ""
}

// waitingBaking says what a baking step still lacks.
func waitingBaking(s rollout.State) string {
	if left := s.Bake.Needs - s.Bake.Watched; left > 0 {
		return "the bake: " + left.Round(time.Second).String() + " of watched time"
	}
	var lacks []string
	for _, v := range s.Verdicts {
		if !v.Note && v.Outcome != analysis.OutcomePass && v.Outcome != analysis.OutcomeResting {
			lacks = append(lacks, v.Guardrail)
		}
	}
	if len(lacks) == 0 {
		return "the next reading"
	}
	return "evidence: " + strings.Join(slices.Compact(lacks), ", ")
}
