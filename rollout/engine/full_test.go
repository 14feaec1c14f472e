package engine

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
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
		Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Steps: []rollout.Step{{Name: "full", Share: split.Share{Weight: 100}}}}
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

// The store is full, and somebody orders a rollback, by a request and by Slack. Nothing
// can be written down: they are told so, with the command that does it by hand.
func TestOrderByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		w.begin(e, plan("r1", "recs", true))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Phase == rollout.PhaseWaiting })
		w.mu.Lock()
		w.breakage = func(mem.Op) (bool, error) { return false, store.ErrFull }
		w.mu.Unlock()
		_, err := e.Deliver(t.Context(), "r1", "key", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "sre"}})
		var unrecorded *failure.UnrecordedError
		if !errors.As(err, &unrecorded) || unrecorded.Manual != "put 100 on blue" || !errors.Is(err, rollout.ErrFull) {
			t.Errorf("a request: got %v, want the command by hand", err)
		}
		r, err := e.Answer(t.Context(), "chat", notifier.Answer{ID: "1", Rollout: "r1", Command: "rollback", Who: "slack:T1/U1", Reason: "why", At: time.Now()})
		if err != nil || r.Accepted || !strings.Contains(r.Text, "put 100 on blue") {
			t.Errorf("Slack: got %+v, %v, want the command by hand", r, err)
		}
	})
}

// The store has no reserve: no step goes forward until it has one, and a rollback
// needs none.
func TestNoReserveNoStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		var reserved atomic.Bool
		w.tune = func(c *Config) {
			c.Hindered = func() error {
				return map[bool]error{false: errors.New("the store has no reserve")}[reserved.Load()]
			}
		}
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		time.Sleep(time.Minute)
		if writes := w.router.Writes("recs"); len(writes) != 0 {
			t.Errorf("without a reserve: got %d writes, want none", len(writes))
		}
		reserved.Store(true)
		w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Reached == 0 })
		reserved.Store(false)
		if _, err := e.Deliver(t.Context(), "r1", "key", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "sre"}}); err != nil {
			t.Error(err)
		}
		w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhaseStopped })
	})
}
