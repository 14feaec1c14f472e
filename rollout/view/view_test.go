package view_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/view"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// at is a rollout on its second step, judged when its metric was read up to readTo.
func at(readTo time.Time, v analysis.Verdict) (*rollout.Plan, rollout.State) {
	v.Guardrail, v.Unit, v.Limit = "failures", "share", "<= 1%"
	p := &rollout.Plan{
		ID: "r1", Release: rollout.Release{Candidate: "green"},
		Steps: []rollout.Step{{Name: "canary"}, {Name: "quarter"}},
		Panel: analysis.Panel{Guardrails: []analysis.Guardrail{{Name: "failures", Metric: "errors", Limit: analysis.Limit{Value: 0.01, Text: "<= 1%"}}}},
	}
	s := rollout.State{
		ID: "r1", Phase: rollout.PhaseBaking, Step: 1, Reached: 1, StepSince: noon, Verdicts: []analysis.Verdict{v},
		Evidence: analysis.Evidence{Cursors: map[string]time.Time{"errors": readTo}},
	}
	return p, s
}

// judged is a verdict with figures, and 60% of the evidence for a pass.
func judged(o analysis.Outcome) analysis.Verdict {
	return analysis.Verdict{
		Outcome: o, Sentence: "as it was", LogE: -0.56, LogEThreshold: 5.7, LogEPass: 1.8, LogEPassNeeds: 3,
		Candidate: analysis.Estimate{N: 100, Value: 0.003, Low: 0.001, High: 0.006, Known: true},
	}
}

// Under a step there is no verdict of the step before: until the first reading of its
// own a guardrail is undecided, and no figure stands there. What is missing stays shown.
func TestNoVerdictOfTheStepBefore(t *testing.T) {
	for _, c := range []struct {
		name   string
		readTo time.Time
		was    analysis.Outcome
		want   analysis.Outcome
		kept   bool
	}{
		{"a pass of the step before", noon.Add(-10 * time.Second), analysis.OutcomePass, analysis.OutcomeUndecided, false},
		{"a breach of the step before", noon, analysis.OutcomeBreach, analysis.OutcomeUndecided, false},
		{"a pass of this step", noon.Add(time.Second), analysis.OutcomePass, analysis.OutcomePass, true},
		{"a source that fails", noon.Add(-time.Minute), analysis.OutcomeError, analysis.OutcomeError, true},
		{"no data", noon.Add(-time.Minute), analysis.OutcomeNoData, analysis.OutcomeNoData, true},
		{"what rests", noon.Add(-time.Minute), analysis.OutcomeResting, analysis.OutcomeResting, true},
	} {
		p, s := at(c.readTo, judged(c.was))
		g := view.Of(p, s).Guardrails[0]
		if g.Verdict != c.want || (g.Candidate != nil) != c.kept || (g.Plot != nil) != c.kept || !g.AsOf.Equal(c.readTo) {
			t.Errorf("%s: got %s, %v as of %s; want %s, figures kept: %v", c.name, g.Verdict, g.Candidate, g.AsOf, c.want, c.kept)
		}
		if !c.kept && g.Sentence != "failures was not read in step quarter yet." {
			t.Errorf("%s: it says %q", c.name, g.Sentence)
		}
		// While the way to the next step is under way, the step before is judged.
		s.Step, s.Reached, s.Phase = 1, 0, rollout.PhaseShifting
		if g := view.Of(p, s).Guardrails[0]; g.Verdict != c.was || g.Sentence != "as it was" {
			t.Errorf("%s, shifting: got %s: %s", c.name, g.Verdict, g.Sentence)
		}
	}
}

// The evidence is shown as the share of what is needed: never below none, never as all
// before it is all, and all of it once a pass has latched.
func TestEvidence(t *testing.T) {
	for _, c := range []struct {
		name string
		v    analysis.Verdict
		want string
	}{
		{"under way", judged(analysis.OutcomeUndecided), `{"breach":0,"pass":0.6}`},
		{"passed, and weaker since", judged(analysis.OutcomePass), `{"breach":0,"pass":1}`},
		{"nearly", analysis.Verdict{LogE: 5.69999, LogEThreshold: 5.7, LogEPassNeeds: 3}, `{"breach":0.999,"pass":0}`},
		{"beyond", analysis.Verdict{LogE: 90, LogEThreshold: 5.7, LogEPass: math.NaN(), LogEPassNeeds: 3}, `{"breach":1,"pass":0}`},
		{"no pass is tested", analysis.Verdict{LogE: 1.425, LogEThreshold: 5.7}, `{"breach":0.25,"pass":0}`},
		{"a threshold", analysis.Verdict{Outcome: analysis.OutcomePass}, `null`},
	} {
		got, err := json.Marshal(view.Judged(c.v).Evidence)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v; want %s", c.name, got, err, c.want)
		}
	}
}

// What of the policy's falseRollback was spent is part of the picture once something is judged.
func TestFalseRollbackIsShown(t *testing.T) {
	p := &rollout.Plan{Panel: analysis.Panel{
		Metrics:    []analysis.Metric{{Name: "failures", Counts: &analysis.Counts{Total: "t", Bad: "b"}}},
		Guardrails: []analysis.Guardrail{{Name: "failures", Metric: "failures", Limit: analysis.Limit{Value: 0.01}, Detect: 0.02, Test: analysis.TestSequential, Steps: []int{0, 1}}},
		Alpha:      0.01, Steps: 2,
	}}
	var s rollout.State
	if got := view.Of(p, s).FalseRollback; got != nil {
		t.Errorf("before anything was judged: got %+v, want nothing", got)
	}
	s.Evidence = s.Evidence.BeginStep(p.Panel, analysis.StepContext{})
	if got := view.Of(p, s).FalseRollback; got == nil || got.Limit != 0.01 || got.Spent <= 0 || got.Spent >= 0.01 {
		t.Errorf("in the first of two steps: got %+v, want a part of 1%% spent", got)
	}
}
