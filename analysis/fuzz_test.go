package analysis

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

// everythingPanel has a guardrail of every kind.
func everythingPanel() Panel {
	p := demoPanel()
	p.Metrics = append(p.Metrics,
		Metric{Name: "revenue", Mean: &Mean{Count: "c", Sum: "s", SumOfSquares: "q"}},
		Metric{Name: "cpu", Value: &Value{Query: "q"}})
	add := func(name, metric string, limit Limit, detect, quantile float64, test Test, action Action) {
		p.Guardrails = append(p.Guardrails, Guardrail{Name: name, Metric: metric, Limit: limit, Detect: detect, Quantile: quantile,
			Test: test, OnBreach: action, Evidence: EvidenceRequired, Steps: []int{0, 1}, BreachAfter: KofN{K: 2, N: 3}})
	}
	add("relative", "failures", Limit{Relative: true, Value: 1.2}, 2, 0, TestSequential, ActionHold)
	add("tail", "latency", Limit{Relative: true, Value: 1.2}, 2, 0.95, TestSequential, ActionHold)
	add("fast", "latency", Limit{AtLeast: true, Value: 0.01}, 0, 0.5, TestSequential, ActionPage)
	add("revenue", "revenue", Limit{Relative: true, AtLeast: true, Value: 0.98}, 0.9, 0, TestSequential, ActionHold)
	add("spend", "revenue", Limit{Value: 10}, 12, 0, TestSequential, ActionPage)
	add("cpu", "cpu", Limit{Value: 0.85}, 0, 0, TestThreshold, ActionPage)
	add("p95 now", "latency", Limit{Value: 0.3}, 0, 0.95, TestThreshold, ActionPage)
	add("availability", "watched", Limit{AtLeast: true, Value: 0.5}, 0.3, 0, TestSequential, ActionRollback)
	p.Budget = &Budget{Metric: "failures", AtMost: 100}
	return p
}

// Whatever a source answers, the judge neither panics nor produces what is not
// a number, and leaves the evidence it was given alone; and with a candidate
// that is missing nothing ever passes.
func FuzzJudge(f *testing.F) {
	start := func(rs []Reading) {
		b, err := json.Marshal(rs)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, byte(0), 0.0)
		f.Add(b, byte(255), math.Inf(1))
	}
	r := seeded(1)
	start(demoReadings(r, epoch, 25, 200, healthy, healthy))
	cpu := counted(1, 0, 0, 0, 0)
	cpu.Metric, cpu.Candidate.Value = "cpu", 0.5
	revenue := counted(1, 0, 0, 0, 0)
	revenue.Metric, revenue.Candidate, revenue.Stable = "revenue", spend(r, 200, 10, 1), spend(r, 200, 10, 1)
	start([]Reading{cpu, revenue, withInstances(counted(1, 0, 0, 100, 0), [2]float64{10, 0}, [2]float64{10, 5}, [2]float64{9, 1})})
	p := everythingPanel()
	f.Fuzz(func(t *testing.T, data []byte, flags byte, evil float64) {
		var rs []Reading
		if json.Unmarshal(data, &rs) != nil || len(rs) > 20 {
			return
		}
		at := StepContext{At: epoch.Add(time.Second), StepStart: epoch, Step: int(flags & 1), Settling: flags&2 != 0,
			StableWeight: int(flags>>2&1) * 50, CandidateWeight: 50, Serving: true}
		var e Evidence
		for round := range 6 {
			for i := range rs {
				x := &rs[i]
				x.From, x.To = epoch.Add(time.Duration(round)*time.Second), epoch.Add(time.Duration(round+1)*time.Second)
				if flags&8 != 0 {
					x.Candidate.N, x.Stable.Sum = evil, evil
				}
				if flags&16 != 0 {
					x.Candidate.Fresh = false
				}
			}
			before, err := json.Marshal(e)
			if err != nil {
				t.Fatalf("marshal evidence: %v", err)
			}
			next, v := Judge(p, e, at, rs)
			if after, _ := json.Marshal(e); string(after) != string(before) {
				t.Fatal("Judge changed the evidence it was given")
			}
			if _, err := json.Marshal(v); err != nil {
				t.Fatalf("marshal verdicts: %v", err)
			}
			if flags&16 != 0 && (v.MayEnd || v.Watched) {
				t.Fatalf("with no candidate: got %+v, want neither watched nor an end", v)
			}
			e = next
		}
		roundTrip(t, e)
		if _, err := json.Marshal(e.Restart(p, ActionRollback, at).Override(p, ActionRollback, "", at)); err != nil {
			t.Fatalf("marshal restarted evidence: %v", err)
		}
	})
}
