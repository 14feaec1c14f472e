package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

// The process dies right after it wrote down that the second step begins, before the
// write was sent, and is away for an hour while the candidate breaks. What the
// journal wants from before is not written: the guardrails are read again first, and
// the rollback comes from the first step. Nobody is told that the endpoint could not
// be read for an hour.
func TestStepFromBeforeOutage(t *testing.T) {
	for _, broken := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			e := w.start("one")
			defer w.endAll()
			var away atomic.Bool
			w.hangForward(25)
			hang, check := w.router.Hook, func(_ context.Context, c *traffictest.Call) (bool, error) { w.check(c); return true, nil }
			w.router.Hook = func(ctx context.Context, c *traffictest.Call) (bool, error) {
				if away.Load() {
					return check(ctx, c)
				}
				return hang(ctx, c)
			}
			w.begin(e, plan("r1", "recs", false))
			w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Step == 1 && s.Reached == 0 })
			e.kill()
			away.Store(true)
			w.source.set(func() { // slow, so that no reading comes before the write would
				w.source.down = func([]analysis.Query) error { time.Sleep(3 * time.Second); return nil }
			})
			if broken {
				w.failAt(5)
			}
			time.Sleep(time.Hour)
			back := time.Now()
			w.start("one")
			s := w.ended("r1", time.Hour)
			want := rollout.PhasePromoted
			if broken {
				want = rollout.PhaseRolledBack
			}
			if s.Phase != want {
				t.Errorf("broken %v: got phase %s (%s), want %s\n%s", broken, s.Phase, s.Sentence, want, w.journal("r1"))
			}
			for _, c := range w.router.Calls() {
				if c.Op == traffictest.OpShift && c.To.Weights["green"] > 5 && c.At.After(back) && (broken || c.At.Sub(back) < 10*time.Second) {
					t.Errorf("broken %v: %v was written %s after the outage, want nothing before three readings", broken, c.To.Weights, c.At.Sub(back))
				}
			}
			w.clean("r1")
		})
	}
}
