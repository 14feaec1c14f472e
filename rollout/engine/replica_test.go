package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store"
)

// A leasing grants a name to one holder at a time. A holder that stops renewing
// keeps it until its time is over, as it is with a store that several replicas
// share.
type leasing struct {
	mu    sync.Mutex
	names map[string]*held
}

type held struct {
	l      *leasing
	name   string
	holder string
	dead   func() bool
	until  time.Time
	lost   chan struct{}
}

const leaseTTL = 6 * time.Second

// by returns the leaser that a process sees; it renews until the process dies.
func (l *leasing) by(dead func() bool) store.Leaser { return leaserFunc{l, dead} }

type leaserFunc struct {
	l    *leasing
	dead func() bool
}

func (f leaserFunc) Acquire(_ context.Context, name, holder string) (store.Lease, error) {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	if h := f.l.names[name]; h != nil {
		h.renew()
		if time.Now().Before(h.until) && h.holder != holder {
			return nil, store.ErrConflict
		}
		if h.holder != holder {
			close(h.lost)
		}
	}
	h := &held{l: f.l, name: name, holder: holder, dead: f.dead, until: time.Now().Add(leaseTTL), lost: make(chan struct{})}
	f.l.names[name] = h
	return h, nil
}

func (h *held) renew() {
	if !h.dead() {
		h.until = time.Now().Add(leaseTTL)
	}
}

func (h *held) Trusted() time.Time {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	if h.l.names[h.name] == h {
		h.renew()
	}
	return h.until.Add(-time.Second)
}

func (h *held) Lost() <-chan struct{} { return h.lost }

func (h *held) Release(context.Context) error {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	if h.l.names[h.name] == h && !h.dead() {
		delete(h.l.names, h.name)
	}
	return nil
}

// startLeased starts a replica that must have the endpoint's lease to act.
func (w *world) startLeased(owner string, l *leasing) *running {
	var r *running
	r = w.startWith(owner, l.by(func() bool { return r != nil && r.dead() }))
	return r
}

// The replica that carries a rollout dies in the middle. The other one, which had
// heard of everything and done nothing, takes over when the lease ends, under a
// new epoch, and finishes; so it is when the replica is stopped gracefully, only
// sooner.
func TestTakeover(t *testing.T) {
	for _, graceful := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			l := &leasing{names: map[string]*held{}}
			one := w.startLeased("one", l)
			w.begin(one, plan("r1", "recs", false))
			w.startLeased("two", l)
			w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 1 })
			if graceful {
				if err := one.end(); err != nil {
					t.Errorf("Run: got %v, want nil", err)
				}
				one.done <- nil
			} else {
				one.kill()
			}
			if s := w.ended("r1", time.Hour); s.Phase != rollout.PhasePromoted {
				t.Errorf("got %s, want promoted\n%s", s.Phase, w.journal("r1"))
			}
			w.endAll()
			w.clean("r1")
			rec, err := w.store.Head(context.Background(), "rollout/r1")
			if err != nil {
				t.Fatal(err)
			}
			if _, h, err := record.DecodeHead(rec); err != nil || h.Owner != "two" || h.Epoch != 2 {
				t.Errorf("got owner %s, epoch %d, err %v, want two, 2", h.Owner, h.Epoch, err)
			}
		})
	}
}

// An order reaches the replica that does not carry the rollout. It is recorded
// there, folded in by the one that does, once, and the caller learns what it led
// to.
func TestOrderElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		l := &leasing{names: map[string]*held{}}
		one := w.startLeased("one", l)
		w.begin(one, plan("r1", "recs", false))
		two := w.startLeased("two", l)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		pause := rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandPause, By: &person.Person{ID: "sre"}, Reason: "look"}
		for range 2 {
			s, err := two.Deliver(t.Context(), "r1", "pause 1/2", pause)
			if err != nil || s.State.Phase != rollout.PhasePaused || s.State.Last.Ignored != "" {
				t.Errorf("pause: got %s, %q, err %v, want paused", s.State.Phase, s.State.Last.Ignored, err)
			}
		}
		if s, err := two.Deliver(t.Context(), "r1", "k2", rollout.Event{Kind: rollout.EventAnswered, Gate: "none", Approve: true, By: &person.Person{ID: "sre"}}); err != nil || s.State.Last.Ignored == "" {
			t.Errorf("yes to no gate: got %q, err %v, want a reason why it is ignored", s.State.Last.Ignored, err)
		}
		if _, err := two.Deliver(t.Context(), "r1", "pause 1/2", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandResume, By: &person.Person{ID: "sre"}}); !errors.Is(err, ErrDifferent) {
			t.Errorf("another order under the key: got %v, want ErrDifferent", err)
		}
		if _, err := two.Deliver(t.Context(), "r9", "k", pause); !errors.Is(err, ErrNotFound) {
			t.Errorf("no such rollout: got %v, want ErrNotFound", err)
		}
		if _, err := one.Deliver(t.Context(), "r1", "k3", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "sre"}}); err != nil {
			t.Error(err)
		}
		w.ended("r1", time.Minute)
		if _, err := two.Deliver(t.Context(), "r1", "k4", pause); !errors.Is(err, ErrEnded) {
			t.Errorf("after the end: got %v, want ErrEnded", err)
		}
		w.clean("r1")
	})
}

// An order reaches a replica while the one that carries the rollout is dead. Nobody
// can fold it in before the lease ends, and the caller waits for two seconds: they
// learn that it is recorded, not that it failed; and it is done when it can be.
func TestOrderWhileTheOwnerIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		l := &leasing{names: map[string]*held{}}
		one := w.startLeased("one", l)
		w.begin(one, plan("r1", "recs", false))
		two := w.startLeased("two", l)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		one.kill()
		order := rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "sre"}, Reason: "look"}
		ctx, cancel := context.WithTimeout(t.Context(), replyWithin)
		defer cancel()
		s, err := two.Deliver(ctx, "r1", "rollback 1", order)
		if err != nil || s.Plan == nil || s.State.Last.Ignored != "" {
			t.Errorf("rollback: got %q, err %v, want it recorded", s.State.Last.Ignored, err)
		}
		if s := w.ended("r1", time.Minute); s.Phase != rollout.PhaseStopped {
			t.Errorf("got %s, want stopped by the order", s.Phase)
		}
		w.clean("r1")
	})
}

// A replica loses its lease for good while a forward call is wanted: it sends
// nothing any more.
func TestLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		l := &lapsing{until: time.Now().Add(time.Hour), lost: make(chan struct{})}
		e := w.startWith("one", l)
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		l.end()
		close(l.lost)
		time.Sleep(2 * time.Second)
		calls := len(w.router.Calls())
		time.Sleep(10 * time.Minute)
		if got := len(w.router.Calls()); got != calls {
			t.Errorf("got %d router calls after the loss, want none", got-calls)
		}
		w.clean("r1")
	})
}

// A replica can no longer renew its lease while a forward call of its hangs. The
// call is cut off before the lease ends, so that it is over when the next replica
// begins, which finishes the rollout.
func TestCallEndsWithLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := &leasing{names: map[string]*held{}}
		var alone atomic.Bool
		var cut time.Time
		var once sync.Once
		w.router.Hook = func(ctx context.Context, c *traffictest.Call) (bool, error) {
			w.check(c)
			err := error(nil)
			if c.Op == traffictest.OpShift && c.To.Weights["green"] == 25 {
				once.Do(func() {
					alone.Store(true)
					err = traffictest.Wait(ctx, time.Hour)
					cut = time.Now()
				})
			}
			return err == nil, err
		}
		one := w.startWith("one", l.by(alone.Load))
		w.begin(one, plan("r1", "recs", false))
		w.startLeased("two", l)
		w.await("r1", time.Hour, func(*rollout.State) bool { return alone.Load() })
		began := time.Now()
		if s := w.ended("r1", time.Hour); s.Phase != rollout.PhasePromoted {
			t.Errorf("got %s, want promoted\n%s", s.Phase, w.journal("r1"))
		}
		w.endAll()
		if took := cut.Sub(began); cut.IsZero() || took > leaseTTL-time.Second {
			t.Errorf("the call was cut off after %s, want before the lease ended (%s)", took, leaseTTL)
		}
		w.clean("r1")
	})
}
