package engine

import (
	"errors"
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// TestStartOnFullStore: whoever asks for a rollout while the disk is full hears
// just that, and nothing was begun; with room again the same request succeeds.
func TestStartOnFullStore(t *testing.T) {
	s := mem.New()
	full := true
	s.Fault = func(mem.Op) (bool, error) {
		if full {
			return false, store.ErrFull
		}
		return true, nil
	}
	e, err := New(Config{Store: s, Leaser: store.Always{}, Owner: "a"})
	if err != nil {
		t.Fatal(err)
	}
	p := &rollout.Plan{SchemaVersion: 1, ID: "aaaaaaaaaaaaaaaaaaaa", Release: rollout.Release{Candidate: "green", Version: "v2"},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Steps: []rollout.Step{{Name: "full", Weight: 100}}}
	if _, _, err := e.Start(t.Context(), p); !errors.Is(err, rollout.ErrFull) {
		t.Errorf("start on a full store: got %v, want rollout.ErrFull", err)
	}
	if _, err := e.Rollout(t.Context(), p.ID); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("after it: got %v, want no rollout", err)
	}
	full = false
	if _, created, err := e.Start(t.Context(), p); err != nil || !created {
		t.Errorf("start with room again: got created %v, %v", created, err)
	}
}
