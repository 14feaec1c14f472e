package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// The store is full, hangs or loses its answers when the breach comes. Within
// seconds the rollback is sent all the same and a human is called; when the store
// returns, the journal has it all.
func TestStoreAwayAtBreach(t *testing.T) {
	for name, fault := range awayFaults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newWorld(t).runClean(func(w *world) { w.storeAwayAtBreach(fault) }) })
		})
	}
}

// awayFaults are the ways in which a store is away.
var awayFaults = map[string]func(mem.Op) (bool, error){
	"full":    func(mem.Op) (bool, error) { return false, store.ErrFull },
	"unknown": func(mem.Op) (bool, error) { return false, store.ErrUnknown },
	"slow": func(mem.Op) (bool, error) {
		time.Sleep(time.Minute)
		return true, nil
	},
}

// storeAwayAtBreach runs a rollout whose store breaks before the candidate does,
// and repairs the store after two minutes.
func (w *world) storeAwayAtBreach(fault func(mem.Op) (bool, error)) {
	w.store.Fault = func(op mem.Op) (bool, error) {
		w.mu.Lock()
		down := w.storeDown
		w.mu.Unlock()
		if !down {
			return true, nil
		}
		return fault(op)
	}
	e := w.start("one")
	time.Sleep(time.Second)
	if _, _, err := e.Start(context.Background(), plan("r1", "recs", false)); err != nil {
		w.t.Fatal(err)
	}
	w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 1 })
	time.Sleep(20 * time.Second)
	w.mu.Lock()
	w.storeDown = true
	w.mu.Unlock()
	broke := time.Now()
	w.source.set(func() {
		w.source.bad = func(d string, at time.Time) float64 {
			if d == "green" && !at.Before(broke) {
				return 0.5
			}
			return 0.001
		}
	})
	deadline := time.Now().Add(30 * time.Second)
	for w.router.Truth("recs").Weights["blue"] != 100 && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
	}
	if took := time.Since(broke); w.router.Truth("recs").Weights["blue"] != 100 {
		w.violate("promise 3: the store was away and nothing was rolled back within %s", took)
	}
	time.Sleep(30 * time.Second)
	if len(w.pager.all(notifier.TopicPage)) == 0 {
		w.violate("promise 5: the store was away, the rollback was sent, and nobody was called")
	}
	time.Sleep(time.Minute)
	w.mu.Lock()
	w.storeDown = false
	w.mu.Unlock()
	if s := w.ended("r1", time.Hour); s.Phase != rollout.PhaseRolledBack {
		w.violate("got phase %s, want rolled-back", s.Phase)
	}
	w.auditJournal("r1")
}

// The store breaks for good. Run says so at once, after sending the rollback that
// it could not write down.
func TestStoreBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.failAt(5)
		w.store.Fault = func(op mem.Op) (bool, error) {
			if !bytes.Contains(op.Entry, []byte(`"kind":"rollback"`)) {
				return true, nil
			}
			w.mu.Lock()
			w.storeDown = true
			w.mu.Unlock()
			return false, store.ErrBroken
		}
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		err := <-e.done
		if !errors.Is(err, store.ErrBroken) {
			t.Errorf("Run: got %v, want it to wrap ErrBroken", err)
		}
		if got := w.router.Truth("recs").Weights["blue"]; got != 100 {
			t.Errorf("blue has %d%%, want 100%%", got)
		}
		e.done <- err
		w.endAll()
	})
}

// The store cannot be read when the process starts. It waits for it.
func TestStoreAwayAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		e.kill()
		away := time.Now().Add(time.Minute)
		w.tune = func(c *Config) { c.Store = &unreadable{Store: c.Store, until: away} }
		w.start("one")
		if s := w.ended("r1", time.Hour); s.Phase != rollout.PhasePromoted {
			t.Errorf("got phase %s, want promoted\n%s", s.Phase, w.journal("r1"))
		}
		w.clean("r1")
	})
}

// unreadable is a store whose heads cannot be listed for a while.
type unreadable struct {
	store.Store
	until time.Time
}

func (u *unreadable) Heads(ctx context.Context, prefix string) iter.Seq2[store.Record, error] {
	if time.Now().Before(u.until) {
		return func(yield func(store.Record, error) bool) { yield(store.Record{}, errors.New("no route to host")) }
	}
	return u.Store.Heads(ctx, prefix)
}

// The pager took the page about the store and then not its end. People have closed
// it by hand when the store goes away again, hours later: they are called again.
// Once the pager is well, one end closes what it shows.
func TestStoreAwayAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		w.begin(e, plan("r1", "recs", true))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Phase == rollout.PhaseWaiting })
		stuck := true
		w.pager.set(func() {
			w.pager.fail = func(_ context.Context, n notifier.Notice) error {
				if n.Resolve && stuck {
					return errors.New("HTTP status 502 Bad Gateway")
				}
				return nil
			}
		})
		count := func() (calls, ends int) {
			for _, n := range w.pager.all(notifier.TopicPage) {
				switch {
				case n.Key != "store/one":
				case n.Resolve:
					ends++
				default:
					calls++
				}
			}
			return calls, ends
		}
		full := func(mem.Op) (bool, error) { return false, store.ErrFull }
		w.down(full, 2*time.Minute)
		time.Sleep(3 * time.Hour)
		if calls, ends := count(); calls != 1 || ends != 0 {
			t.Fatalf("after one outage: got %d calls and %d ends, want one call", calls, ends)
		}
		w.down(full, 2*time.Minute)
		if calls, _ := count(); calls != 2 {
			t.Errorf("the store is away again: got %d calls, want another", calls)
		}
		w.pager.set(func() { stuck = false })
		time.Sleep(time.Minute)
		if calls, ends := count(); calls != 2 || ends != 1 {
			t.Errorf("the pager is well: got %d calls and %d ends, want two calls and one end", calls, ends)
		}
		time.Sleep(time.Hour)
		if lines := e.PageProblems(); len(lines) != 0 {
			t.Errorf("got page problems %q, want none", lines)
		}
	})
}

// The store is away for hours. The rollout is watched on: a candidate that breaks at
// the end of them is rolled back as soon as ever, what waits to be written stays small,
// and when the store returns one entry stands for all of it, of which the journal folds
// to the same states.
func TestStoreAwayForHours(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(mem.Op) (bool, error){
		"full": awayFaults["full"], "unknown": awayFaults["unknown"],
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newWorld(t).runClean(func(w *world) { w.storeAwayForHours(fault) }) })
		})
	}
}

// awayHours is how long: memory that grew with it would show within the first.
const awayHours = 6

func (w *world) storeAwayForHours(fault func(mem.Op) (bool, error)) {
	e := w.start("one")
	p := plan("r1", "recs", false)
	p.Steps[1].Bake = 48 * time.Hour
	w.begin(e, p)
	w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 1 })
	reads := func() int {
		w.source.mu.Lock()
		defer w.source.mu.Unlock()
		return len(w.source.reads)
	}
	before, most := reads(), 0
	w.mu.Lock()
	w.storeDown, w.breakage = true, fault
	w.mu.Unlock()
	for range awayHours * 6 {
		time.Sleep(10 * time.Minute)
		most = max(most, e.runner("r1").waiting())
	}
	if got, want := reads()-before, awayHours*3600/5; got < want-5 {
		w.violate("promise 3: the store was away, and the source was read %d times, want %d", got, want)
	}
	if most > 64<<10 {
		w.violate("the store was away for hours: %d bytes wait, want at most 64 KiB", most)
	}
	w.failAt(25)
	broke := time.Now()
	for w.router.Truth("recs").Weights["blue"] != 100 && time.Since(broke) < time.Minute {
		time.Sleep(time.Second)
	}
	if took := time.Since(broke); took > time.Minute {
		w.violate("promise 3: the store was away for hours and nothing was rolled back within %s", took)
	}
	time.Sleep(time.Minute)
	w.mu.Lock()
	w.storeDown, w.breakage = false, nil
	w.mu.Unlock()
	if s := w.ended("r1", time.Hour); s.Phase != rollout.PhaseRolledBack {
		w.violate("got phase %s, want rolled-back", s.Phase)
	}
	w.auditJournal("r1")
	unwritten := 0
	for entry, err := range e.Journal(w.t.Context(), "r1") {
		if err != nil {
			w.violate("%v", err)
			return
		}
		for _, d := range entry.Decisions {
			if d.Kind == decision.Unwritten {
				unwritten++
				w.t.Logf("%s: %s", entry.At.Format(time.DateTime), d.Sentence)
			}
		}
	}
	if unwritten != 1 {
		w.violate("got %d entries that stand for the outage, want 1", unwritten)
	}
}

// waiting is what waits for the store, in bytes.
func (l *runner) waiting() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.drafts {
		n += len(b.entry) + len(b.state)
		for _, part := range []any{b.events, b.decisions, b.phases, b.after} {
			text, err := json.Marshal(part)
			if err != nil {
				panic(err) // plain data
			}
			n += len(text)
		}
	}
	return n
}

// One rollout of two cannot be written, while the other one's appends succeed all the
// time: people are called for it, by name, and relieved when it can be written again.
func TestOneUnwritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		w.endpoint("other")
		e := w.start("one")
		for id, endpoint := range map[string]string{"r1": "recs", "r2": "other"} {
			p := plan(id, endpoint, false)
			p.Steps[0].Bake = 6 * time.Hour
			w.begin(e, p)
			w.await(id, time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		}
		w.mu.Lock()
		w.breakage = func(op mem.Op) (bool, error) {
			return op.Key != record.RolloutKey("r1"), map[bool]error{true: store.ErrFull}[op.Key == record.RolloutKey("r1")]
		}
		w.mu.Unlock()
		time.Sleep(2 * time.Minute)
		pages := w.pager.all(notifier.TopicPage)
		if len(pages) != 1 || pages[0].Resolve || !strings.Contains(pages[0].Summary, "rollout r1") {
			t.Fatalf("two minutes later: got %+v, want one page that names r1", pages)
		}
		time.Sleep(time.Hour)
		w.mu.Lock()
		w.breakage = nil
		w.mu.Unlock()
		time.Sleep(time.Minute)
		if pages = w.pager.all(notifier.TopicPage); len(pages) != 2 || !pages[1].Resolve {
			t.Errorf("it can be written again: got %d pages, want the end of the one", len(pages))
		}
	})
}
