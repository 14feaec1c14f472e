package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/store/mem"
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
					w.await("r2", time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhaseQueued && s.BlockedBy == "r1" })
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
		if s := w.ended("r2", time.Hour); s.Phase != rollout.PhaseRefused || s.Reason != decision.ReasonCooldown {
			t.Errorf("in the cooldown: got %s, %s, want refused, cooldown", s.Phase, s.Reason)
		}
		w.clean("r1", "r2")
		ref := rollout.EndpointRef{Router: "edge", Name: "recs"}
		if err := e.ClearCooldown(t.Context(), ref, "v9", person.Person{ID: "sre"}, "it was not it"); !errors.Is(err, ErrNotFound) {
			t.Errorf("clear v9: got %v, want ErrNotFound", err)
		}
		if err := e.ClearCooldown(t.Context(), ref, "v2", person.Person{ID: "sre"}, "it was the database"); err != nil {
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

// More releases come for an endpoint at once than may wait there: some are refused and
// told the bound. One that supersedes them comes while the process dies at some
// instant: each of them is refused for good and closed, the newest alone rolls out,
// and the record owes nobody an answer.
func TestCrowd(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 300 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.endAll()
			w.tune = func(c *Config) { c.Queue = 20 }
			w.breakage = func(mem.Op) (bool, error) {
				time.Sleep(time.Millisecond) // so that there are instants between appends
				return true, nil
			}
			e := w.start("one")
			w.begin(e, plan("r0", "recs", true))
			w.await("r0", time.Hour, func(s *rollout.State) bool { return s.Phase == rollout.PhaseWaiting })
			name := func(i int) string { return fmt.Sprintf("q%02d", i) }
			for i := range 30 {
				p := plan(name(i), "recs", false)
				p.Release.Version = name(i)
				w.begin(e, p)
			}
			time.Sleep(time.Minute)
			full := 0
			for i := range 30 {
				s := w.await(name(i), time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhaseQueued || s.Closed() })
				if s.Phase == rollout.PhaseRefused && s.Reason == decision.ReasonBusy && strings.Contains(s.Sentence, "queue: 20") {
					full++
				}
			}
			if full != 10 {
				t.Errorf("got %d refused for a full queue, want 10", full)
			}
			newest := plan("newest", "recs", false)
			newest.Release.Version, newest.Concurrency = "v9", rollout.ConcurrencySupersede
			w.begin(e, newest)
			time.Sleep(after)
			e.kill()
			time.Sleep(down)
			e = w.start("one")
			if s := w.ended("newest", time.Hour); s.Phase != rollout.PhasePromoted {
				t.Errorf("the newest: got %s (%s), want it promoted", s.Phase, s.Sentence)
			}
			for i := range 30 {
				if s := w.ended(name(i), time.Minute); s.Phase != rollout.PhaseRefused {
					t.Errorf("%s: got %s (%s), want it refused", name(i), s.Phase, s.Sentence)
				}
			}
			rec, err := e.Endpoint(t.Context(), newest.Endpoint)
			if err != nil || rec.Active != "" || len(rec.Queue)+len(rec.Dropped) != 0 {
				t.Errorf("the endpoint: got %+v, %v, want it free and nobody owed", rec, err)
			}
		})
	}
}
