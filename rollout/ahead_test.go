package rollout_test

import (
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
)

// TestLookAhead: what the candidate alone has counted after the end of a reading, while
// its source waits for others, is a gross failure. The metric is read again as soon as the
// source has come so far, and only then; what is bad but not gross waits for its turn.
func TestLookAhead(t *testing.T) {
	for bad, want := range map[float64]bool{0: false, 4: false, 50: false, 400: true} {
		sc := newScenario(t)
		s := stateAt(t, sc, func(s rollout.State) bool {
			return s.Phase == rollout.PhaseBaking && s.Reached == 1 && s.Bake.Watched > time.Minute
		})
		e, ok := kind(s, rollout.EffectMeasure)
		if !ok || e.Early {
			t.Fatalf("the story is another one: %+v", s.Outbox)
		}
		next := e.NotBefore.Add(2500 * time.Millisecond)
		ev := rollout.Event{Kind: rollout.EventMeasured, At: e.NotBefore.Add(time.Millisecond), Effect: e.ID, Attempt: e.Attempt}
		for name, from := range e.Since {
			r := analysis.Reading{Metric: name, From: from, To: e.NotBefore, Status: analysis.StatusOK, Next: next}
			r.Stable, r.Candidate = analysis.Sample{Fresh: true}, analysis.Sample{Fresh: true}
			if name == "failures" {
				r.Ahead = analysis.Sample{Fresh: true, N: 1000, K: bad}
			}
			ev.Readings = append(ev.Readings, r)
		}
		s = rollout.Next(sc.plan, s, ev)
		e, ok = kind(s, rollout.EffectMeasure)
		_, only := e.Since["failures"]
		if !ok || e.Early != want {
			t.Errorf("%v of 1,000 fail ahead: got an early look %v, want %v", bad, e.Early, want)
		}
		if want && (e.NotBefore.Before(next) || e.NotBefore.Sub(next) > time.Second || len(e.Since) != 1 || !only) {
			t.Errorf("got a look at %s of %v, want one of failures right after %s", e.NotBefore, e.Since, next)
		}
	}
}
