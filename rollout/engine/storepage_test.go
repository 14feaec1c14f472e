package engine

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// storePages counts what the pager got about the store: calls, of which those that a
// receiver can tell apart are different, and ends.
func (w *world) storePages() (calls, different, ends int) {
	seen := map[string]bool{}
	for _, n := range w.pager.all(notifier.TopicPage) {
		switch {
		case !strings.HasPrefix(n.Key, "store/"):
		case n.Resolve:
			ends++
		default:
			calls++
			seen[n.Delivery] = true
		}
	}
	return calls, len(seen), ends
}

// unwritable breaks the appends of some keys, or mends them all.
func (w *world) unwritable(broken func(key string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breakage = func(op mem.Op) (bool, error) {
		if broken != nil && broken(op.Key) {
			return false, store.ErrFull
		}
		return true, nil
	}
}

// The process dies while people have been called about its store. The next one calls
// nobody anew for the same outage, and when the store takes appends again it ends the
// page, whichever of the two comes back first.
func TestStorePageAcrossRestart(t *testing.T) {
	all := func(string) bool { return true }
	one := func(key string) bool { return key == record.RolloutKey("r1") }
	for _, c := range []struct {
		name   string
		broken func(key string) bool
		// early: the store is back before the process is.
		early bool
		calls int
	}{
		{"the store is back first", all, true, 1},
		{"the process is back first", all, false, 2},
		{"one rollout is written first", one, true, 1},
		{"one rollout stays unwritable", one, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.endAll()
				w.endpoint("other")
				e := w.start("one")
				for id, endpoint := range map[string]string{"r1": "recs", "r2": "other"} {
					p := plan(id, endpoint, false)
					p.Steps[0].Bake = 12 * time.Hour
					w.begin(e, p)
					w.await(id, time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
				}
				w.unwritable(c.broken)
				time.Sleep(3 * time.Minute)
				if calls, _, ends := w.storePages(); calls != 1 || ends != 0 {
					t.Fatalf("in the outage: got %d calls and %d ends, want one call", calls, ends)
				}

				e.kill()
				if c.early {
					w.unwritable(nil)
				}
				time.Sleep(5 * time.Second)
				e = w.start("one")
				time.Sleep(3 * time.Minute)
				if open, err := e.OpenPages(t.Context(), "pager"); err != nil || !c.early && len(open) != 1 {
					t.Errorf("after the restart: got open pages %+v, %v, want the one about the store", open, err)
				}
				w.unwritable(nil)
				time.Sleep(3 * time.Minute)
				if calls, different, ends := w.storePages(); calls != c.calls || different != 1 || ends != 1 {
					t.Errorf("after the outage: got %d calls (%d different) and %d ends, want %d (1) and 1", calls, different, ends, c.calls)
				}
				if open, err := e.OpenPages(t.Context(), "pager"); err != nil || len(open) != 0 {
					t.Errorf("after the outage: got open pages %+v, %v, want none", open, err)
				}
				if lines := e.PageProblems(); len(lines) != 0 {
					t.Errorf("got page problems %q, want none", lines)
				}

				w.unwritable(c.broken)
				time.Sleep(3 * time.Minute)
				if _, different, _ := w.storePages(); different != 2 {
					t.Errorf("in the next outage: got %d different calls, want another", different)
				}
			})
		})
	}
}

// Nobody was called about the store. A process that is killed right after an append and
// comes back at once, or that is stopped for a weekend, has nothing to end.
func TestNoStorePageToEnd(t *testing.T) {
	for name, pause := range map[string]func(e *running){
		"killed": func(e *running) { e.kill(); time.Sleep(5 * time.Second) },
		"stopped": func(e *running) {
			if err := e.end(); err != nil {
				e.w.t.Error(err)
			}
			e.done <- nil
			time.Sleep(48 * time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.endAll()
				e := w.start("one")
				p := plan("r1", "recs", false)
				p.Steps[0].Bake = 12 * time.Hour
				w.begin(e, p)
				w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
				time.Sleep(time.Minute)
				w.await("r1", time.Minute, func(s *rollout.State) bool { return time.Since(s.At) < 7*time.Second })
				pause(e)
				w.start("one")
				time.Sleep(5 * time.Minute)
				if calls, _, ends := w.storePages(); calls+ends != 0 {
					t.Errorf("got %d calls and %d ends about the store, want none", calls, ends)
				}
			})
		})
	}
}
