package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

// A person pauses a rollout while the write of its second step hangs at the router, and
// the process dies and is back within seconds. The write is not sent anew: a paused
// rollout gets no more traffic, and a resume sends it.
func TestPausedAmidWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		var back atomic.Bool
		w.hangForward(25)
		hang := w.router.Hook
		w.router.Hook = func(ctx context.Context, c *traffictest.Call) (bool, error) {
			if back.Load() {
				w.check(c)
				return true, nil
			}
			return hang(ctx, c)
		}
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Step == 1 && s.Shift != nil })
		time.Sleep(time.Second)
		by := &person.Person{ID: "sre"}
		if s, err := e.Deliver(t.Context(), "r1", "k1", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandPause, By: by}); err != nil || s.State.Phase != rollout.PhasePaused {
			t.Fatalf("pause: got %s, err %v, want paused", s.State.Phase, err)
		}
		e.kill()
		back.Store(true)
		time.Sleep(2 * time.Second)
		e = w.start("one")
		time.Sleep(2 * time.Minute)
		if got := w.router.Truth("recs").Weights["green"]; got != 5 {
			t.Errorf("the paused rollout has %d%%, want the 5%% that it was paused at\n%s", got, w.journal("r1"))
		}
		if _, err := e.Deliver(t.Context(), "r1", "k2", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandResume, By: by}); err != nil {
			t.Fatal(err)
		}
		if s := w.ended("r1", time.Hour); s.Phase != rollout.PhasePromoted {
			t.Errorf("got %s, want promoted after the resume\n%s", s.Phase, w.journal("r1"))
		}
		w.clean("r1")
	})
}
