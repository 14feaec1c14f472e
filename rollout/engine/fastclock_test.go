package engine

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/person"
)

// An order reaches a replica whose clock is an hour ahead, and is folded in by the one
// that carries the rollout. The rollout's time does not jump: its guardrails are read
// on, and a candidate that breaks right afterwards is rolled back as soon as ever.
func TestOrderFromFastClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		l := &leasing{names: map[string]*held{}}
		one := w.startLeased("one", l)
		w.begin(one, plan("r1", "recs", false))
		w.tune = func(c *Config) { c.wall = func() time.Time { return time.Now().Add(time.Hour) } }
		two := w.startLeased("two", l)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		s, err := two.Deliver(t.Context(), "r1", "extend 1", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandExtend,
			Extend: 10 * time.Minute, By: &person.Person{ID: "sre"}})
		if err != nil || s.State.Last.Ignored != "" {
			t.Fatalf("extend: got %q, err %v, want it folded in", s.State.Last.Ignored, err)
		}
		if ahead := time.Until(s.State.At); ahead > 0 {
			t.Errorf("the rollout's time is %s ahead, want that of the replica that carries it", ahead)
		}
		w.failAt(5)
		if s := w.await("r1", 5*time.Minute, func(s *rollout.State) bool { return s.Phase.Terminal() }); s.Phase != rollout.PhaseRolledBack {
			t.Errorf("got %s, want rolled-back\n%s", s.Phase, w.journal("r1"))
		}
		w.clean("r1")
	})
}

// The host's clock is an hour ahead and is put right. Rollouts that start then, and
// those that were under way, are read and judged as ever: a candidate that breaks is
// rolled back within minutes.
func TestClockPutBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		carry bool // the rollout starts before the clock is put right
	}{{"a rollout that starts afterwards", false}, {"a rollout under way", true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.endAll()
				w.source.punctual = true
				var ahead atomic.Int64
				ahead.Store(int64(time.Hour))
				w.tune = func(c *Config) { c.wall = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) } }
				e := w.start("one")
				w.endpoint("other")
				w.begin(e, plan("r0", "other", false))
				if c.carry {
					w.begin(e, plan("r1", "recs", false))
				}
				time.Sleep(20 * time.Second)
				ahead.Store(0)
				if !c.carry {
					w.begin(e, plan("r1", "recs", false))
				}
				w.await("r1", 10*time.Minute, func(s *rollout.State) bool { return s.Reached == 1 })
				w.failAt(25)
				if s := w.await("r1", 5*time.Minute, func(s *rollout.State) bool { return s.Phase.Terminal() }); s.Phase != rollout.PhaseRolledBack || s.Reason != decision.ReasonBreach {
					t.Errorf("got %s (%s), want rolled-back for the breach\n%s", s.Phase, s.Sentence, w.journal("r1"))
				}
			})
		})
	}
}
