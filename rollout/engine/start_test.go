package engine

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// The same request is the same rollout however often it comes, and another one
// under its id is refused in words that say how they differ.
func TestStartAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", false))
		for _, c := range []struct {
			name   string
			change func(*rollout.Plan)
			err    error
			text   string
		}{
			{"the same", func(*rollout.Plan) {}, nil, ""},
			{"another version", func(p *rollout.Plan) { p.Release.Version = "v3" }, ErrDifferent, "not for green v3"},
			{"another policy", func(p *rollout.Plan) { p.Policy.Hash = "def" }, ErrDifferent, "not recommendations (def)"},
			{"no id", func(p *rollout.Plan) { p.ID = "" }, ErrDifferent, "cannot be an id"},
			{"an id that is a path", func(p *rollout.Plan) { p.ID = "r1/x" }, ErrDifferent, "cannot be an id"},
		} {
			p := plan("r1", "recs", false)
			c.change(p)
			s, created, err := e.Start(t.Context(), p)
			if !errors.Is(err, c.err) || created {
				t.Errorf("%s: got created %v, err %v, want false, %v", c.name, created, err, c.err)
			}
			if err == nil && s.State.ID != "r1" {
				t.Errorf("%s: got rollout %q, want r1", c.name, s.State.ID)
			}
			if err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: got %q, want it to say %q", c.name, err, c.text)
			}
		}
		w.ended("r1", time.Hour)
		w.clean("r1")
	})
}

// A process dies between writing the plan and the rollout. Nobody was told that it
// started; asked again, it starts once.
func TestStartAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		time.Sleep(time.Second)
		w.store.Fault = func(op mem.Op) (bool, error) {
			if strings.HasPrefix(op.Key, record.RolloutPrefix) {
				return false, store.ErrFull
			}
			return true, nil
		}
		if _, _, err := e.Start(t.Context(), plan("r1", "recs", false)); !errors.Is(err, store.ErrFull) {
			t.Fatalf("got %v, want ErrFull", err)
		}
		e.kill()
		w.store.Fault = nil
		e = w.start("one")
		time.Sleep(10 * time.Second)
		if _, err := e.Rollout(t.Context(), "r1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("before it is asked again: got %v, want ErrNotFound", err)
		}
		if _, created, err := e.Start(t.Context(), plan("r1", "recs", false)); err != nil || !created {
			t.Errorf("got created %v, err %v, want true, nil", created, err)
		}
		w.ended("r1", time.Hour)
		w.clean("r1")
	})
}

// A rollout that a newer version wrote is left alone and named; the others go on.
func TestNewerFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		if err := e.end(); err != nil {
			t.Fatal(err)
		}
		e.done <- nil
		rec, err := w.store.Head(t.Context(), "rollout/r1")
		if err != nil {
			t.Fatal(err)
		}
		var s map[string]any
		if err := json.Unmarshal(rec.State, &s); err != nil {
			t.Fatal(err)
		}
		s["schemaVersion"] = 9
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		rev, err := w.store.Append(t.Context(), "rollout/r1", rec.Entry, b, rec.Revision)
		if err != nil {
			t.Fatal(err)
		}
		w.endpoint("b")
		e = w.start("one")
		w.begin(e, plan("r2", "b", false))
		w.ended("r2", time.Hour)
		if rec, err := w.store.Head(t.Context(), "rollout/r1"); err != nil || rec.Revision != rev {
			t.Errorf("r1: got revision %d, err %v, want it untouched at %d", rec.Revision, err, rev)
		}
		if _, err := e.Rollout(t.Context(), "r1"); !errors.Is(err, rollout.ErrFormat) || !strings.Contains(err.Error(), "schema version 9") {
			t.Errorf("r1: got %v, want it to name schema version 9", err)
		}
		n := 0
		for _, err := range e.Rollouts(context.Background()) {
			if err == nil {
				n++
			}
		}
		if n != 1 {
			t.Errorf("got %d readable rollouts, want 1", n)
		}
		w.clean("r2")
	})
}

// The machine's disk comes back as it was an hour ago: the journal knows of 5% and
// the endpoint shows 25%. Nothing is moved until a person decides.
func TestStoreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		old := w.copyStore()
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 1 })
		e.kill()
		writes := len(w.router.Writes("recs"))
		w.store = old
		w.start("one")
		s := w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhaseSuspect })
		if s.Reason != decision.ReasonStoreLost {
			t.Errorf("got reason %s, want store-lost\n%s", s.Reason, w.journal("r1"))
		}
		time.Sleep(10 * time.Minute)
		if got := len(w.router.Writes("recs")); got != writes {
			t.Errorf("got %d writes after the loss, want none", got-writes)
		}
		if s := w.await("r1", time.Minute, func(*rollout.State) bool { return true }); s.Phase != rollout.PhaseSuspect || s.Page == nil {
			t.Errorf("ten minutes later: got phase %s, page %v, want suspect with a page open", s.Phase, s.Page)
		}
		w.clean("r1")
	})
}

// The disk comes back as it was at 5%, and a rollback since then is not on it: with
// onForeignChange restore the candidate that failed does not get its 5% again.
func TestStoreLostRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		p := plan("r1", "recs", false)
		p.OnForeignChange = rollout.ForeignRestore
		w.begin(e, p)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		old := w.copyStore()
		if _, err := e.Deliver(t.Context(), "r1", "stop", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "sre"}}); err != nil {
			t.Fatal(err)
		}
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Phase.Terminal() })
		e.kill()
		writes := len(w.router.Writes("recs"))
		w.store = old
		w.start("one")
		if s := w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhaseSuspect }); s.Page == nil {
			t.Errorf("got no page, want one\n%s", w.journal("r1"))
		}
		time.Sleep(10 * time.Minute)
		if got := len(w.router.Writes("recs")); got != writes {
			t.Errorf("got %d writes after the loss, want none", got-writes)
		}
	})
}

// copyStore returns a store with what w's holds now.
func (w *world) copyStore() *mem.Store {
	out := mem.New()
	heads := map[string]store.Revision{}
	for rec, err := range w.store.Since(context.Background(), "", 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		state := rec.State
		if head, err := w.store.Head(context.Background(), rec.Key); err == nil {
			state = head.State
		}
		rev, err := out.Append(context.Background(), rec.Key, rec.Entry, state, heads[rec.Key])
		if err != nil {
			w.t.Fatal(err)
		}
		heads[rec.Key] = rev
	}
	return out
}

// A start is cut off between the plan and the rollout's first record: the disk is full.
// The policy is edited, and the same release asked for again: nothing was started, so
// that it is started under the policy as it is now. Once it is, another one is refused.
func TestStartAfterOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		w.breakage = func(op mem.Op) (bool, error) {
			if op.Key == record.RolloutKey("r1") {
				return false, store.ErrFull
			}
			return true, nil
		}
		if _, _, err := e.Start(t.Context(), plan("r1", "recs", false)); !errors.Is(err, rollout.ErrFull) {
			t.Fatalf("on a full disk: got %v, want %v", err, rollout.ErrFull)
		}
		w.mu.Lock()
		w.breakage = nil
		w.mu.Unlock()
		edited := plan("r1", "recs", false)
		edited.Policy.Hash, edited.Steps = "def", edited.Steps[1:]
		s, created, err := e.Start(t.Context(), edited)
		if err != nil || !created || s.Plan.Policy.Hash != "def" {
			t.Fatalf("under the edited policy: got created %v, %v, want it started", created, err)
		}
		want, err := journal.PlanHash(s.Plan)
		if err != nil {
			t.Fatal(err)
		}
		for entry, err := range e.Journal(t.Context(), "r1") {
			if err != nil || entry.Seq == 1 && entry.Events[0].Plan != want {
				t.Errorf("the first entry: got %v, %v, want the plan %s", entry.Events, err, want)
			}
		}
		if _, _, err := e.Start(t.Context(), plan("r1", "recs", false)); !errors.Is(err, ErrDifferent) {
			t.Errorf("under the old policy again: got %v, want %v", err, ErrDifferent)
		}
		if s := w.ended("r1", time.Hour); s.Phase != rollout.PhasePromoted {
			t.Errorf("got %s, want promoted", s.Phase)
		}
		w.clean("r1")
	})
}
