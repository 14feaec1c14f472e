package analysis

import (
	"testing"
	"time"
)

// demoRun carries one release up the demonstration's ladder: every step bakes
// for at least bake and then waits for the verdicts. It returns how long each
// step took and the first breach.
func demoRun(seed uint64, stable, candidate arm, bake time.Duration) (steps []time.Duration, breach *Breach, after time.Duration) {
	r, p := seeded(seed), demoPanel()
	var e Evidence
	now := epoch
	for step, weight := range []int{5, 25, 60, 100} {
		start := now
		for {
			at := StepContext{At: now.Add(time.Second), Step: step, StepStart: start,
				StableWeight: 100 - weight, CandidateWeight: weight, Serving: true}
			var v Verdicts
			e, v = Judge(p, e, at, demoReadings(r, now, weight, 200, stable, candidate))
			now = at.At
			if len(v.Breaches) > 0 {
				return steps, &v.Breaches[0], now.Sub(epoch)
			}
			if v.MayEnd && now.Sub(start) >= bake {
				break
			}
			if now.Sub(start) > 5*time.Minute {
				return append(steps, now.Sub(start)), nil, 0
			}
		}
		steps = append(steps, now.Sub(start))
	}
	return steps, nil, 0
}

// A healthy release of the demonstration passes every step, and the first one,
// which is the slowest because only ten requests a second reach the candidate,
// within 45 seconds.
func TestDemoHealthy(t *testing.T) {
	longest := make([]time.Duration, 4)
	for seed := range uint64(60) {
		steps, breach, _ := demoRun(seed, healthy, healthy, 12*time.Second)
		if breach != nil {
			t.Fatalf("seed %d: a healthy release breached: %s", seed, breach.Sentence)
		}
		if len(steps) != 4 {
			t.Fatalf("seed %d: got %v, want four steps to end", seed, steps)
		}
		for i, d := range steps {
			longest[i] = max(longest[i], d)
		}
	}
	t.Logf("longest steps: %v", longest)
	if longest[0] > 45*time.Second || longest[1] > 20*time.Second || longest[2] > 15*time.Second {
		t.Errorf("got longest steps %v, want at most 45s, 20s, 15s", longest)
	}
}

// Gross faults of the demonstration are caught within seconds at 5%.
func TestDemoFaults(t *testing.T) {
	for _, c := range []struct {
		name      string
		candidate arm
		blame     string
		within    time.Duration
	}{
		{"failures 30%", arm{fail: 0.3, watched: 0.9, slow: 1}, "failures", 8 * time.Second},
		{"failures 10%", arm{fail: 0.1, watched: 0.9, slow: 1}, "failures", 40 * time.Second},
		{"latency x5", arm{fail: 0.001, watched: 0.9, slow: 5}, "p95", 8 * time.Second},
		{"nobody watches through", arm{fail: 0.001, watched: 0.4, slow: 1}, "watch-through", 12 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			var worst time.Duration
			for seed := range uint64(20) {
				_, breach, after := demoRun(seed, healthy, c.candidate, 20*time.Second)
				if breach == nil || breach.Guardrail != c.blame || breach.Action != ActionRollback {
					t.Fatalf("seed %d: got breach %+v, want %s rolled back", seed, breach, c.blame)
				}
				worst = max(worst, after)
			}
			t.Logf("slowest of 20: %v", worst)
			if worst > c.within {
				t.Errorf("got slowest detection %v, want within %v", worst, c.within)
			}
		})
	}
}
