package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/store"
)

// lagging is a store whose appends are there for everybody a while before whoever
// appended learns of it.
type lagging struct{ store.Store }

func (l lagging) Append(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
	rev, err := l.Store.Append(ctx, key, entry, state, after)
	time.Sleep(300 * time.Millisecond)
	return rev, err
}

// Whoever has seen a change in a journal and then lists the rollouts sees none as it
// was before it, though the append of the change has not returned yet.
func TestRolloutsAreNotBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		w.tune = func(c *Config) { c.Store, c.Poll = lagging{c.Store}, 50*time.Millisecond }
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		seen := 0
		for change, err := range e.Changes(ctx, 0) {
			if err != nil {
				t.Fatal(err)
			}
			seen++
			ended := false
			for snap, err := range e.Rollouts(ctx) {
				if err != nil {
					t.Fatal(err)
				}
				if snap.Plan.ID == change.Rollout && snap.Revision < change.Revision {
					t.Errorf("change %d (%s): got the rollout as of %d", change.Revision, snap.State.Phase, snap.Revision)
				}
				ended = snap.State.Phase == rollout.PhasePromoted
			}
			if ended {
				break
			}
		}
		if seen < 5 {
			t.Errorf("got %d changes, want a whole rollout", seen)
		}
	})
}
