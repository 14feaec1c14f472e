package analysis_test

import (
	"fmt"
	"time"

	"github.com/belayd/belay/analysis"
)

// A release whose failures must stay below 1.2 times stable's is read every 15
// seconds, until the evidence decides.
func ExampleJudge() {
	panel := analysis.Panel{
		Metrics: []analysis.Metric{{Name: "failures", Source: "prom", Counts: &analysis.Counts{Total: "total", Bad: "bad"}}},
		Guardrails: []analysis.Guardrail{{
			Name: "failures", Metric: "failures", Limit: analysis.Limit{Relative: true, Value: 1.2, Text: "<= 1.2x stable"}, Detect: 2,
			OnBreach: analysis.ActionRollback, Evidence: analysis.EvidenceRequired, Test: analysis.TestSequential, Steps: []int{0},
		}},
		Alpha: 0.01, Beta: 0.05, Steps: 1, Interval: 15 * time.Second, OnSharedBreach: analysis.ActionHold,
	}
	start := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	var evidence analysis.Evidence
	for i := range 3 {
		from := start.Add(time.Duration(i) * panel.Interval)
		at := analysis.StepContext{At: from.Add(panel.Interval), StepStart: start, StableWeight: 95, CandidateWeight: 5, Serving: true}
		reading := analysis.Reading{
			Metric: "failures", From: from, To: at.At, Status: analysis.StatusOK,
			Candidate: analysis.Sample{Fresh: true, N: 400, K: 24},
			Stable:    analysis.Sample{Fresh: true, N: 7600, K: 40},
		}
		var verdicts analysis.Verdicts
		evidence, verdicts = analysis.Judge(panel, evidence, at, []analysis.Reading{reading})
		fmt.Println(verdicts.Each[0].Sentence)
		for _, b := range verdicts.Breaches {
			fmt.Println(b.Action)
			return
		}
	}
	// Output:
	// failures is undecided: 6.00% (1.88% to 13.5%) of 400 requests, stable 0.53%; a pass takes better figures than these.
	// failures broke its limit <= 1.2x stable: 6.00% (2.69% to 11.1%) of 800 requests, stable 0.53%; a release within the limit would look this bad less than once in 1,700 rollouts.
	// rollback
}
