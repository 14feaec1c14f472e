package engine

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// unmarkable lets every append pass but those that mark an act as taken up.
func unmarkable(op mem.Op) (bool, error) {
	if strings.HasPrefix(op.Key, record.InboxPrefix) && op.After > 0 {
		return false, store.ErrFull
	}
	return true, nil
}

// A bake is lengthened by an hour. The process dies after that is in the journal and
// before the act's own record says so, and the next one cannot write that either.
// Whoever ordered it got no answer and repeats the request: it is one hour.
func TestActOnceAcrossCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		w.breakage = unmarkable
		order := rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandExtend, Extend: time.Hour, By: &person.Person{ID: "sre"}}
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		if _, err := e.Deliver(t.Context(), "r1", "key", order); err != nil {
			t.Fatal(err)
		}
		e.kill()
		time.Sleep(down)
		e = w.start("one")
		for range 2 {
			if _, err := e.Deliver(t.Context(), "r1", "key", order); err != nil {
				t.Error(err)
			}
			time.Sleep(5 * time.Second)
		}
		if s := w.await("r1", time.Minute, func(*rollout.State) bool { return true }); s.Bake.Needs != time.Hour+time.Minute {
			t.Errorf("got a bake of %s, want an hour and a minute\n%s", s.Bake.Needs, w.journal("r1"))
		}
		w.mu.Lock()
		w.breakage = nil
		w.mu.Unlock()
		e.kill()
		time.Sleep(down)
		e = w.start("one")
		time.Sleep(5 * time.Second)
		if left, err := e.unfolded(t.Context(), "r1"); err != nil || len(left) != 0 {
			t.Errorf("the store is well: got %d acts that are not marked, %v, want none", len(left), err)
		}
	})
}

// More acts than a state remembers wait while the process is away, and marks of theirs
// cannot be written. Each is taken up once, in their order; an order to roll back
// waits for none of them.
func TestManyActsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		e.kill()
		time.Sleep(down)
		other, err := New(Config{Store: w.store, Leaser: w.store, Owner: "two"})
		if err != nil {
			t.Fatal(err)
		}
		const acts = 3 * rollout.HeardMax
		by := &person.Person{ID: "sre"}
		for i := range acts {
			ev := rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandExtend, Extend: time.Minute, By: by, Key: fmt.Sprint("x", i), At: time.Now().UTC()}
			if _, err := other.record(t.Context(), "r1", ev); err != nil {
				t.Fatal(err)
			}
		}
		w.breakage = unmarkable
		for range 3 {
			e = w.start("one")
			time.Sleep(10 * time.Second)
			e.kill()
			time.Sleep(down)
		}
		w.mu.Lock()
		w.breakage = nil
		w.mu.Unlock()
		e = w.start("one")
		want := time.Minute * (1 + acts)
		w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Bake.Needs >= want })
		w.mu.Lock()
		w.breakage = unmarkable
		w.mu.Unlock()
		time.Sleep(time.Minute)
		if s := w.await("r1", time.Minute, func(*rollout.State) bool { return true }); s.Bake.Needs != want {
			t.Errorf("got a bake of %s, want %s: each act once", s.Bake.Needs, want)
		}
		if _, err := e.Deliver(t.Context(), "r1", "back", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: by}); err != nil {
			t.Error(err)
		}
		w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Phase.Terminal() })
	})
}
