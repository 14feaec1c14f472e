package engine

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// A scene is what happens to an engine without the protection that is named, so that a
// promise is broken. With it none is.
type scene struct {
	name   string
	mutant string
	play   func(w *world)
	// times repeats the scene, numbered from 1 in world.turn.
	times int
}

var scenes = []scene{
	{"effects before their append", "eager", (*world).slowStore, 1},
	{"a raise although the endpoint is another's", "unclaimed", (*world).stolenEndpoint, 1},
	{"a raise although the lease is not trusted", "untrusted", (*world).untrustedLease, 1},
	{"an unknown append taken for a success", "assume", (*world).unknownAppend, 60},
	{"an append over somebody else's", "overwrite", (*world).twoOwners, 1},
	{"a rollback in the router's queue", "queued", (*world).slowNeighbours, 1},
	{"a rollback that waits for the store", "stuck", func(w *world) { w.storeAwayAtBreach(awayFaults["full"]) }, 1},
	{"a forward call that goes on", "keep", (*world).forwardSuperseded, 1},
	{"an act folded in again", "twice", (*world).killedAtAct, 80},
	{"a rollback behind its messages", "notices", (*world).slowNeighbours, 1},
	{"no read-back", "blind", (*world).neverApplied, 1},
	{"a router taken away from its rollout", "forsake", (*world).forsaken, 1},
	{"a page about the store that a restart forgets", "forget", (*world).restartedInOutage, 1},
}

// With all its protections the engine breaks no promise in any scene. That each scene
// would notice the one that is missing is shown by TestMutants.
func TestScenes(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			// The crash matrix and the broken appends repeat these everywhere.
			for _, v := range s.violations(t, nil, min(s.times, 3)) {
				t.Error(v)
			}
		})
	}
}

// violations plays the scene until a promise is broken, at most so many times.
func (s *scene) violations(t *testing.T, mutate func(*Config), times int) (found []string) {
	for n := 1; n <= times && len(found) == 0; n++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.mutate, w.turn = mutate, n
			w.fatal = func(format string, args ...any) { w.violate(format, args...) }
			s.play(w)
			w.endAll()
			found = w.audit()
		})
	}
	return found
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
	var er claim.Record
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

// restartedInOutage is a process that dies while people are called about its store,
// which is well again when the next one starts.
func (w *world) restartedInOutage() {
	e := w.start("one")
	p := plan("r1", "recs", false)
	p.Steps[0].Bake = time.Hour
	w.begin(e, p)
	w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
	w.unwritable(func(string) bool { return true })
	time.Sleep(2 * time.Minute)
	e.kill()
	w.unwritable(nil)
	w.start("one")
	time.Sleep(3 * time.Minute)
	if calls, _, ends := w.storePages(); calls != 1 || ends != 1 {
		w.violate("the page about the store: got %d calls and %d ends, want one each", calls, ends)
	}
}

// forsaken is a config without the router of a rollout that then breaches.
func (w *world) forsaken() {
	e := w.start("one")
	w.failAt(5)
	w.begin(e, plan("r1", "recs", false))
	w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
	var used *InUseError
	if err := e.InUse(w.t.Context(), []AdapterName{{KindRouter, "edge"}}); !errors.As(err, &used) {
		w.violate("the router of an open rollout may be taken away: %v", err)
	}
	if s := w.ended("r1", time.Hour); s.Phase != rollout.PhaseRolledBack {
		w.violate("the rollout that lost its router is %s", s.Phase)
	}
}
