package engine

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
)

// Two releases want one endpoint. What happens to the second is what its policy
// says: it waits, it is refused, or the first gives way to it.
func TestConcurrency(t *testing.T) {
	for _, c := range []struct {
		policy        rollout.Concurrency
		first, second rollout.Phase
	}{
		{rollout.ConcurrencyQueue, rollout.PhasePromoted, rollout.PhaseRefused},
		{rollout.ConcurrencyRefuse, rollout.PhasePromoted, rollout.PhaseRefused},
		{rollout.ConcurrencySupersede, rollout.PhaseStopped, rollout.PhasePromoted},
	} {
		t.Run(string(c.policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				e := w.start("one")
				defer w.endAll()
				w.begin(e, plan("r1", "recs", false))
				w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
				second := plan("r2", "recs", false)
				second.Release.Version, second.Concurrency = "v3", c.policy
				w.begin(e, second)
				if c.policy == rollout.ConcurrencyQueue {
					w.await("r2", time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhaseQueued && s.Ahead == "r1" })
				}
				if s := w.ended("r1", time.Hour); s.Phase != c.first {
					t.Errorf("the first: got %s, want %s\n%s", s.Phase, c.first, w.journal("r1"))
				}
				// After a promotion green serves: a queued release of green has
				// nothing to do and its checks say so.
				if s := w.ended("r2", time.Hour); s.Phase != c.second {
					t.Errorf("the second: got %s, want %s\n%s", s.Phase, c.second, w.journal("r2"))
				}
				rec, err := e.Endpoint(t.Context(), second.Endpoint)
				if err != nil || rec.Active != "" || len(rec.Queue) != 0 {
					t.Errorf("endpoint: got %+v, err %v, want it free", rec, err)
				}
				w.clean()
				w.auditJournal("r2")
			})
		})
	}
}

// A version that was rolled back is refused while it cools down. Somebody clears
// that, by name, and it may try again.
func TestCooldown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		w.failAt(5)
		w.begin(e, plan("r1", "recs", false))
		w.ended("r1", time.Hour)
		w.begin(e, plan("r2", "recs", false))
		if s := w.ended("r2", time.Hour); s.Phase != rollout.PhaseRefused || s.Reason != rollout.ReasonCooldown {
			t.Errorf("in the cooldown: got %s, %s, want refused, cooldown", s.Phase, s.Reason)
		}
		w.clean("r1", "r2")
		ref := rollout.EndpointRef{Router: "edge", Name: "recs"}
		if err := e.ClearCooldown(t.Context(), ref, "v9", rollout.Person{ID: "sre"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("clear v9: got %v, want ErrNotFound", err)
		}
		if err := e.ClearCooldown(t.Context(), ref, "v2", rollout.Person{ID: "sre"}); err != nil {
			t.Errorf("clear v2: got %v, want nil", err)
		}
		w.source.set(func() { w.source.bad = func(string, time.Time) float64 { return 0.001 } })
		w.begin(e, plan("r3", "recs", false))
		if s := w.ended("r3", time.Hour); s.Phase != rollout.PhasePromoted {
			t.Errorf("after the cooldown: got %s, want promoted\n%s", s.Phase, w.journal("r3"))
		}
		w.clean("r3")
	})
}
