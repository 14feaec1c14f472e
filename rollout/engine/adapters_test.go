package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/traffic"
)

// A scriptRouter is the world's router at another address; shift decides about
// its writes.
type scriptRouter struct {
	traffic.Router
	shift func(ctx context.Context) error

	mu     sync.Mutex
	shifts int
}

func (s *scriptRouter) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	s.mu.Lock()
	s.shifts++
	s.mu.Unlock()
	if s.shift != nil {
		if err := s.shift(ctx); err != nil {
			return err
		}
	}
	return s.Router.Shift(ctx, endpoint, from, to)
}

func (s *scriptRouter) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shifts
}

// The engine that follows one with a rollback under way carries it on first, at the
// address that the router has for it; what the old address was asked for ends there.
func TestNextEngineMovesRollback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		down := errors.New("connection refused")
		breach := false
		old := &scriptRouter{Router: w.router, shift: func(context.Context) error {
			if breach {
				return down
			}
			return nil
		}}
		w.tune = func(c *Config) { c.Routers = map[string]traffic.Router{"edge": old} }
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		breach = true
		w.source.set(func() {
			w.source.bad = func(d string, _ time.Time) float64 { return map[string]float64{"green": 0.5}[d] }
		})
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Phase == rollout.PhaseRollingBack })
		time.Sleep(20 * time.Second)
		tried := old.count()
		if truth := w.router.Truth("recs"); truth.Weights["green"] != 5 || tried < 3 {
			t.Fatalf("before the next engine: got %s after %d calls, want green to keep 5 while calls fail", truth, tried)
		}
		fresh := &scriptRouter{Router: w.router}
		w.tune = func(c *Config) { c.Routers = map[string]traffic.Router{"edge": fresh} }
		w.next(e)
		if s := w.ended("r1", time.Hour); s.Phase != rollout.PhaseRolledBack {
			t.Errorf("got %s, want rolled-back", s.Phase)
		}
		if fresh.count() == 0 || old.count() != tried {
			t.Errorf("got %d calls of the new address and %d more of the old one, want some and none", fresh.count(), old.count()-tried)
		}
		w.clean("r1")
	})
}

// next starts another engine in the place of one that it stops.
func (w *world) next(e *running) *running {
	w.t.Helper()
	if err := e.end(); err != nil {
		w.t.Errorf("Run: got %v, want nil", err)
	}
	e.done <- nil
	return w.start("one")
}

// What an open rollout needs is in use, whoever needs it is named, and once the
// rollout has ended nothing is. The figures of the engine before go on, and the series
// of adapters that the next one does not have end.
func TestInUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		reg := prometheus.NewRegistry()
		w.tune = func(c *Config) { c.Registerer = reg }
		e := w.start("one")
		defer w.endAll()
		for i := range 7 {
			name := fmt.Sprintf("e%d", i)
			w.endpoint(name)
			w.begin(e, plan("r"+name, name, true))
		}
		w.await("re6", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		for _, c := range []struct {
			leaving AdapterName
			want    string
		}{
			{AdapterName{KindRouter, "edge"}, "router edge is used by re0, re1, re2, re3, re4 and 2 more; keep it as it was"},
			{AdapterName{KindSource, "prom"}, "source prom is used by re0"},
			{AdapterName{KindNotifier, "pager"}, "notifier pager is used by re0"},
			{AdapterName{KindNotifier, "chat"}, "notifier chat is used by re0"},
		} {
			if err := e.InUse(t.Context(), []AdapterName{c.leaving}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: got %v, want %q", c.leaving, err, c.want)
			}
		}
		if err := e.InUse(t.Context(), []AdapterName{{KindSource, "idle"}}); err != nil {
			t.Errorf("a source that nobody needs: got %v, want nil", err)
		}
		e = w.next(e)
		if s := w.await("re0", time.Minute, func(*rollout.State) bool { return true }); s.Reached != 0 {
			t.Errorf("after the next engine began: got step %d, want the one before", s.Reached)
		}
		before := counted(t, reg, "belay_router_calls_total")
		for i := range 7 {
			id := fmt.Sprintf("re%d", i)
			if _, err := e.Deliver(t.Context(), id, "stop", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "sre"}}); err != nil {
				t.Fatal(err)
			}
			w.ended(id, time.Hour)
		}
		if after := counted(t, reg, "belay_router_calls_total"); before == 0 || after <= before {
			t.Errorf("router calls: got %v of the engine before and %v after, want more", before, after)
		}
		all := []AdapterName{{KindRouter, "edge"}, {KindSource, "prom"}, {KindNotifier, "chat"}, {KindNotifier, "pager"}}
		if err := e.InUse(t.Context(), all); err != nil {
			t.Errorf("nobody needs them any more: got %v, want nil", err)
		}
		if got := series(t, reg); !slices.Contains(got, "edge") || !slices.Contains(got, "prom") || !slices.Contains(got, "chat") {
			t.Fatalf("series before: got %v", got)
		}
		w.tune = func(c *Config) { c.Registerer, c.Routers, c.Sources, c.Notifiers = reg, nil, nil, nil }
		late := e.metrics
		w.next(e)
		synctest.Wait()
		late.routerCall("edge", nil)
		late.sourceAsked("prom", 1)
		late.sourceRead("prom", "ok")
		late.notified("chat", nil)
		if got := series(t, reg); len(got) != 0 {
			t.Errorf("series of adapters that are gone, after late calls: got %v, want none", got)
		}
	})
}

// counted is the sum of a counter's series.
func counted(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	mfs, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range mfs {
		for _, m := range mf.Metric {
			if mf.GetName() == name {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// series lists the names of the adapters that have counters.
func series(t *testing.T, reg *prometheus.Registry) []string {
	t.Helper()
	mfs, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, mf := range mfs {
		for _, m := range mf.Metric {
			for _, l := range m.Label {
				if n := l.GetName(); n == "router" || n == "source" || n == "notifier" {
					out = append(out, l.GetValue())
				}
			}
		}
	}
	return out
}

// Before the open rollouts are known, and once the engine has stopped, nobody knows
// what is in use.
func TestInUseUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		w.endAll() // It does not run any more.
		if err := e.InUse(t.Context(), []AdapterName{{KindRouter, "edge"}}); !errors.Is(err, errUnrecovered) {
			t.Errorf("got %v, want %v", err, errUnrecovered)
		}
		if err := e.InUse(t.Context(), nil); err != nil {
			t.Errorf("nothing leaves: got %v", err)
		}
	})
}

// Engines follow one another all the time while rollouts start, raise, breach and end:
// every rollout has one end, and nothing is lost on the way.
func TestEnginesFollowMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		spoilt := time.Now().Add(90 * time.Second)
		w.source.set(func() {
			w.source.bad = func(d string, at time.Time) float64 {
				if d == "green" && at.After(spoilt) {
					return 0.2
				}
				return 0.001
			}
		})
		var ids []string
		for i := range 8 {
			name := fmt.Sprintf("e%d", i)
			w.endpoint(name)
			w.begin(e, plan("r"+name, name, false))
			ids = append(ids, "r"+name)
			e = w.next(e)
		}
		for range 30 {
			time.Sleep(4100 * time.Millisecond)
			e = w.next(e)
		}
		for _, id := range ids {
			if s := w.ended(id, time.Hour); s.Phase != rollout.PhaseRolledBack {
				t.Errorf("%s: got %s, want rolled-back", id, s.Phase)
			}
		}
		w.clean(ids...)
	})
}

var _ traffic.Router = (*scriptRouter)(nil)

// The config lost what an open rollout needs while belayd was away: the rollout is
// held and somebody is called, and what it needs is named, until it has ended.
func TestForsaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		if got := e.Forsaken(); len(got) != 0 {
			t.Errorf("with everything there: got %q", got)
		}
		e.kill()
		w.tune = func(c *Config) { c.Routers, c.Sources = nil, nil }
		e = w.start("one")
		s := w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Phase == rollout.PhaseHeld })
		if s.Page == nil {
			t.Errorf("held without a page\n%s", w.journal("r1"))
		}
		want := []string{"router edge is not in the config any more and is needed by r1", "source prom is not in the config any more and is needed by r1"}
		if got := e.Forsaken(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
