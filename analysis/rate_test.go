package analysis

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// restarts is a panel with one guardrail on a counter against time, at most two an hour.
func restarts(limit Limit, test Test) Panel {
	limit.Value /= Trials
	if limit.Relative {
		limit.Value *= Trials
	}
	return Panel{
		Metrics: []Metric{{Name: "restarts", Counts: &Counts{Bad: "r", Per: time.Hour, Deployment: "d", Instance: "pod"}}},
		Guardrails: []Guardrail{{Name: "restarts", Metric: "restarts", Limit: limit, Detect: limit.Value * 2, OnBreach: ActionRollback, Evidence: EvidenceRequired,
			Test: test, BreachAfter: KofN{K: 1, N: 1}, Steps: []int{0}}},
		Alpha: 0.01, Beta: 0.05, Steps: 1, Interval: 15 * time.Second, OnSharedBreach: ActionRollback,
	}
}

// bake judges hours of five instances each, of which the candidate's and stable's have so
// many events an hour; it says how that ends, and after how many looks.
func bake(p Panel, candidate, stable float64, looks int, r *rand.Rand) (Verdict, int) {
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	at := StepContext{StepStart: start, StableWeight: 50, CandidateWeight: 50, Serving: true}
	trials := p.Metrics[0].Counts.TrialsIn(p.Interval)
	sample := func(rate float64) Sample {
		x := Sample{Fresh: true}
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			i := Instance{Name: name, Sample: Sample{Fresh: true, N: trials}}
			if r.Float64() < rate*trials/Trials {
				i.K = 1
			}
			x.N, x.K, x.Instances = x.N+i.N, x.K+i.K, append(x.Instances, i)
		}
		return x
	}
	var e Evidence
	var vs Verdicts
	for look := range looks {
		from := start.Add(time.Duration(look) * p.Interval)
		at.At = from.Add(p.Interval)
		e, vs = Judge(p, e, at, []Reading{{Metric: "restarts", From: from, To: at.At, Status: StatusOK, Candidate: sample(candidate), Stable: sample(stable)}})
		if v := vs.Each[0]; v.Outcome == OutcomeBreach {
			return v, look + 1
		}
	}
	return vs.Each[0], looks
}

// A rate is judged as a share of moments: what keeps its limit is left alone, also at
// the limit, what breaks it is found, and the sentence says it in events and time.
func TestRate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := restarts(Limit{Value: 2, Text: "<= 2"}, TestSequential)
	false2 := 0
	for range 300 {
		if v, _ := bake(p, 2, 2, 240, r); v.Outcome == OutcomeBreach {
			false2++
		}
	}
	if false2 > 6 {
		t.Errorf("exactly at the limit: %d of 300 hours broke it, want about 1%% at most", false2)
	}
	v, looks := bake(p, 20, 0.1, 240, r)
	if v.Outcome != OutcomeBreach || looks > 120 {
		t.Errorf("ten times the limit: got %s after %d looks, want a breach within half an hour", v.Outcome, looks)
	}
	if !strings.Contains(v.Sentence, "per 1h over") || v.Unit != "rate" || v.Candidate.Value < 5 || v.Candidate.Value > 60 {
		t.Errorf("got %+v, want events per hour", v)
	}
	if v, _ = bake(p, 0, 0, 960, r); v.Outcome != OutcomePass || !strings.Contains(v.Sentence, "a regression to 4 per 1h") {
		t.Errorf("none in twenty hours of instances: got %s: %s", v.Outcome, v.Sentence)
	}
	p = restarts(Limit{Relative: true, Value: 2, Text: "<= 2x stable"}, TestSequential)
	if v, _ := bake(p, 60, 3, 240, r); v.Outcome != OutcomeBreach {
		t.Errorf("twenty times stable's: got %s: %s", v.Outcome, v.Sentence)
	}
	if v, _ := bake(p, 3, 3, 240, r); v.Outcome == OutcomeBreach {
		t.Errorf("as stable: got %s", v.Sentence)
	}
}

// Where none is allowed the first event breaks the limit, in the reading that has it.
func TestRateOfNone(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	p := restarts(Limit{Text: "<= 0"}, TestThreshold)
	if v, _ := bake(p, 0, 5, 100, r); v.Outcome != OutcomePass || !strings.Contains(v.Sentence, "0 per 1h") {
		t.Errorf("none: got %s: %s", v.Outcome, v.Sentence)
	}
	if v, looks := bake(p, 300, 0, 100, r); v.Outcome != OutcomeBreach || looks > 5 {
		t.Errorf("one: got %s after %d looks: %s", v.Outcome, looks, v.Sentence)
	}
	if m := p.Metrics[0]; p.Counts("restarts") || !m.Rate() {
		t.Error("a rate says that nothing is served")
	}
}
