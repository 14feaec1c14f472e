package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
)

// The journal says which phases a rollout entered: each goes on where the one
// before ended, the last is the one it is in, and what led there is among the
// entry's decisions.
func TestPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		for _, c := range []rollout.Command{rollout.CommandPause, rollout.CommandResume} {
			ev := rollout.Event{Kind: rollout.EventCommanded, Command: c, By: &person.Person{ID: "sre"}, Reason: "lunch"}
			if _, err := e.Deliver(t.Context(), "r1", string(c), ev); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		final := w.ended("r1", 2*time.Hour)
		time.Sleep(5 * time.Second)
		var last rollout.Phase
		seen := map[rollout.Phase]bool{}
		reached := 0
		for entry, err := range e.Journal(t.Context(), "r1") {
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range entry.Phases {
				if c.From != last || c.To == c.From || c.At.IsZero() || c.Decisions > len(entry.Decisions) {
					t.Errorf("entry %d: got %+v after %q", entry.Seq, c, last)
				}
				last, seen[c.To] = c.To, true
				if c.Reached {
					reached++
					if c.Confirmed == nil || c.Step == "" {
						t.Errorf("entry %d: a step was reached without its split: %+v", entry.Seq, c)
					}
				}
			}
		}
		if last != final.Phase || !seen[rollout.PhasePaused] || !seen[rollout.PhaseBaking] || reached != len(plan("r1", "recs", false).Steps) {
			t.Errorf("got last phase %s, seen %v, %d steps reached; want %s, paused among them, every step", last, seen, reached, final.Phase)
		}
	})
}
