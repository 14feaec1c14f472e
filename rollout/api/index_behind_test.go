package api

import (
	"slices"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/view"
)

// A rollout ends, and whoever carries it knows so a moment after its journal: the
// list waits for that moment, and does not show for ever what was before.
func TestIndexIsNotBehind(t *testing.T) {
	r := serve(t, Config{Auth: actors()})
	id := r.started(t, "k", "recs", "7")
	c := r.client(t, tokenOf(RoleOperate))
	phase := func() rollout.Phase {
		for x, err := range c.Rollouts(t.Context(), view.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if x.ID == id {
				return x.Phase
			}
		}
		return ""
	}
	for phase() == "" {
		time.Sleep(time.Millisecond)
	}
	r.engine.mu.Lock()
	before := *r.engine.rollouts[id]
	r.engine.behind = map[string][]rollout.Snapshot{id: slices.Repeat([]rollout.Snapshot{before}, 3)}
	r.engine.mu.Unlock()
	r.engine.set(id, func(s *rollout.State) { s.Phase = rollout.PhaseRefused })
	for end := time.Now().Add(10 * time.Second); phase() != rollout.PhaseRefused; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the list: got %s for 10 s, want refused, as its journal says", phase())
		}
	}
}
