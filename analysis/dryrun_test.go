package analysis

import (
	"testing"
	"time"
)

// A dry run takes nothing from the others: no part of their α, and no say in what a step
// needs; its own verdict says that nothing rests on it.
func TestDryRun(t *testing.T) {
	failures := Guardrail{
		Name: "failures", Metric: "failures", Limit: Limit{Value: 0.02, Text: "<= 2%"}, Detect: 0.06,
		OnBreach: ActionRollback, Evidence: EvidenceRequired, Test: TestSequential, Steps: []int{0},
	}
	p := Panel{
		Metrics:    []Metric{{Name: "failures", Source: "prom", Counts: &Counts{Total: "t", Bad: "b"}}},
		Guardrails: []Guardrail{failures}, Alpha: 0.01, Beta: 0.05, Steps: 1, Interval: 15 * time.Second,
	}
	tried := failures
	tried.Name, tried.OnBreach = "tried", ActionNote
	with := p
	with.Guardrails = append(with.Guardrails[:1:1], tried)
	if got, want := with.share(), p.share(); got != want {
		t.Errorf("share: got %g with a dry run, want %g as without", got, want)
	}
	at := StepContext{StableWeight: 95, CandidateWeight: 5, Serving: true}
	if got := with.Judged(at); len(got) != 1 || got[0].Name != "failures" {
		t.Errorf("what the step needs: got %+v, want failures alone", got)
	}
	_, vs := Judge(with, Evidence{}, at, nil)
	if vs.Each[0].Note || !vs.Each[1].Note {
		t.Errorf("verdicts: got %+v, want the second to be a dry run's", vs.Each)
	}
	if alone := (Panel{Metrics: p.Metrics, Guardrails: []Guardrail{tried}}); alone.Acts("failures") || !with.Acts("failures") {
		t.Error("Acts: want it of a metric on which something rests, and of no other")
	}
}
