package engine

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// Each protection of the engine, taken away, breaks a promise in some scene; with
// it the same scene breaks none. What the tests of this package would not notice
// is not protected.
func TestMutants(t *testing.T) {
	for _, c := range []struct {
		name   string
		mutant func(*Config)
		scene  func(w *world)
		// times repeats the scene, numbered from 1 in killAt or breakAt.
		times int
	}{
		{"effects before their append", without(mutantEager), (*world).slowStore, 1},
		{"a raise although the endpoint is another's", without(mutantUnclaimed), (*world).stolenEndpoint, 1},
		{"a raise although the lease is not trusted", without(mutantUntrusted), (*world).untrustedLease, 1},
		{"an unknown append taken for a success", without(mutantAssume), (*world).unknownAppend, 60},
		{"an append over somebody else's", without(mutantOverwrite), (*world).twoOwners, 1},
		{"a rollback in the router's queue", without(mutantQueued), (*world).slowNeighbours, 1},
		{"a rollback that waits for the store", without(mutantStuck), func(w *world) { w.storeAwayAtBreach(awayFaults["full"]) }, 1},
		{"a forward call that goes on", without(mutantKeep), (*world).forwardSuperseded, 1},
		{"an act folded in again", twice, (*world).killedAtAct, 80},
		{"a rollback behind its messages", without(mutantNotices), (*world).slowNeighbours, 1},
		{"no read-back", without(mutantBlind), (*world).neverApplied, 1},
		{"a router taken away from its rollout", without(mutantForsake), (*world).forsaken, 1},
		{"an inbox that stops before the next one hears", without(mutantDeaf), (*world).deaf, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run := func(m func(*Config)) (violations []string) {
				for n := 1; n <= c.times && len(violations) == 0; n++ {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						w.mutate, w.turn = m, n
						w.fatal = func(format string, args ...any) { w.violate(format, args...) }
						c.scene(w)
						w.endAll()
						violations = w.audit()
					})
				}
				return violations
			}
			if v := run(nil); len(v) > 0 {
				t.Errorf("with the protection: got %q, want no violation", v)
			}
			if v := run(c.mutant); len(v) == 0 {
				t.Error("without the protection: got no violation, want some")
			} else {
				t.Logf("caught: %.200s", v[0])
			}
		})
	}
}

// without takes one protection of the engine away.
func without(m mutant) func(*Config) { return func(c *Config) { c.mutant = m } }

// twice is a core that remembers no act.
func twice(c *Config) {
	c.next = func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		s.Acts = nil
		return rollout.Next(p, s, ev)
	}
}

// slowStore is a promotion on a store that takes its time.
func (w *world) slowStore() {
	w.store.Fault = func(mem.Op) (bool, error) {
		time.Sleep(200 * time.Millisecond)
		return true, nil
	}
	st := stories[1]
	for _, v := range w.judge(st, w.play(st, "one")) {
		w.violate("%s", v)
	}
}

// stolenEndpoint changes the endpoint's record under a rollout that is about to
// raise.
func (w *world) stolenEndpoint() {
	e := w.start("one")
	w.begin(e, plan("r1", "recs", false))
	w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
	key := rollout.EndpointRef{Router: "edge", Name: "recs"}.Key()
	rec, err := w.store.Head(w.t.Context(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	var er rollout.EndpointRecord
	if err := json.Unmarshal(rec.State, &er); err != nil {
		w.t.Fatal(err)
	}
	er.Active = "somebody-else"
	b, err := json.Marshal(er)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Append(w.t.Context(), key, []byte("{}"), b, rec.Revision); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(10 * time.Minute)
}

// untrustedLease is a replica whose lease ran out and is not known to be lost.
func (w *world) untrustedLease() {
	l := &lapsing{until: time.Now().Add(time.Hour), lost: make(chan struct{})}
	check := w.router.Hook
	w.router.Hook = func(ctx context.Context, c *traffictest.Call) (bool, error) {
		if c.Op == traffictest.OpShift && c.To.Weights["green"] > 0 && time.Now().After(l.Trusted()) {
			w.violate("I6: green was to have %d%% after the lease's end", c.To.Weights["green"])
		}
		return check(ctx, c)
	}
	e := w.startWith("one", l)
	w.begin(e, plan("r1", "recs", false))
	w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
	l.end()
	time.Sleep(10 * time.Minute)
}

// unknownAppend loses one append and says that its outcome is unknown.
func (w *world) unknownAppend() {
	var n atomic.Int64 // The store asks without a lock, several appends at a time.
	w.store.Fault = func(mem.Op) (bool, error) {
		if n.Add(1) == int64(w.turn+2) {
			return false, store.ErrUnknown
		}
		return true, nil
	}
	st := stories[1]
	for _, v := range w.judge(st, w.play(st, "one")) {
		w.violate("%s", v)
	}
}

// twoOwners are two processes on one store, with leases that exclude nobody.
func (w *world) twoOwners() {
	w.start("two")
	st := stories[0]
	for _, v := range w.judge(st, w.play(st, "one")) {
		w.violate("%s", v)
	}
}

// killedAtAct kills the process at one of the instants of a story with an act.
func (w *world) killedAtAct() {
	w.killAt = w.turn
	st := stories[2]
	for _, v := range w.judge(st, w.play(st, "one")) {
		w.violate("%s", v)
	}
}

// neverApplied accepts the first raise and does nothing.
func (w *world) neverApplied() {
	w.router.Next(traffictest.NeverApply)
	st := stories[1]
	for _, v := range w.judge(st, w.play(st, "one")) {
		w.violate("%s", v)
	}
}
