package engine

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

// crowd starts rollouts that bake at 5% each on an endpoint of its own.
func (w *world) crowd(e *running, n int, tune func(*rollout.Plan)) {
	w.t.Helper()
	for i := range n {
		name := fmt.Sprintf("e%03d", i)
		w.endpoint(name)
		p := plan("r-"+name, name, false)
		if tune != nil {
			tune(p)
		}
		w.begin(e, p)
	}
}

// One notifier is told and calls people, and takes 5 s for each message. While two
// hundred rollouts say how they stand, one breaks: people are called within seconds.
func TestPageLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		p := plan("r1", "recs", false)
		p.Steps[0].Bake = time.Hour
		w.begin(e, p)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		slow := func(ctx context.Context, _ notifier.Notice) error {
			if !sleep(ctx, 5*time.Second) {
				return ctx.Err()
			}
			return nil
		}
		w.pager.set(func() { w.pager.fail = slow })
		w.crowd(e, 200, func(p *rollout.Plan) { p.Notify = []string{"pager"} })
		time.Sleep(5 * time.Second)
		w.failAt(5)
		s := w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhaseRollingBack || s.Phase.Terminal() })
		time.Sleep(6 * time.Second)
		if len(w.pager.all(notifier.TopicPage)) == 0 {
			t.Errorf("%s after the breach (%s): got no page, want it before what is only told", time.Since(s.PhaseSince), s.Sentence)
		}
	})
}

// The checks of as many releases as there may be calls hang. Somebody else's change of
// another endpoint's traffic is noticed all the same, at the next reading.
func TestPreflightPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		hang := w.hanging(func(c *traffictest.Call) bool { return c.Op == traffictest.OpDescribe })
		w.tune = func(c *Config) { c.RouterTimeout = 2 * time.Minute }
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		hang.Store(true)
		w.crowd(e, 64, nil)
		time.Sleep(time.Second)
		w.router.Foreign("recs", split.Split{Weights: map[string]int{"blue": 40, "green": 60}})
		w.await("r1", 15*time.Second, func(s *rollout.State) bool { return s.Phase == rollout.PhaseHeld })
	})
}

// The router's API hangs while many rollouts bake. A read that gets no place among the
// calls is a failed read: all are held within the two minutes of the rule, one call
// and one interval.
func TestHangingRouter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		const many = 100
		hang := w.hanging(func(c *traffictest.Call) bool { return c.Op == traffictest.OpSplit })
		e := w.start("one")
		w.crowd(e, many, func(p *rollout.Plan) { p.Steps[0].Bake = time.Hour })
		for i := range many {
			w.await(fmt.Sprintf("r-e%03d", i), time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		}
		hang.Store(true)
		time.Sleep(2*time.Minute + 10*time.Second + 2*5*time.Second)
		for i := range many {
			s, err := e.Rollout(t.Context(), fmt.Sprintf("r-e%03d", i))
			if err != nil || s.State.Phase != rollout.PhaseHeld {
				t.Fatalf("rollout %d: got %s, %v, want it held", i, s.State.Phase, err)
			}
		}
	})
}
