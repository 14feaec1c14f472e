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

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/traffic"
)

// adapters are those that an engine of the world has.
func (w *world) adapters(r *running) Adapters {
	return Adapters{
		Routers:   map[string]traffic.Router{"edge": &cutRouter{Router: w.router, r: r}},
		Sources:   map[string]analysis.Source{"prom": &cutSource{Source: w.source, r: r}},
		Notifiers: map[string]notifier.Notifier{"chat": &cutNotifier{n: w.chat, r: r}, "pager": &cutNotifier{n: w.pager, r: r}},
	}
}

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

// A router that moved is used for the next try of a rollback under way, while the
// call that hangs on the old address is left to end there.
func TestReconfigureMovesRollback(t *testing.T) {
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
			t.Fatalf("before the reload: got %s after %d calls, want green to keep 5 while calls fail", truth, tried)
		}
		a := w.adapters(e)
		fresh := &scriptRouter{Router: w.router}
		a.Routers = map[string]traffic.Router{"edge": fresh}
		if err := e.Reconfigure(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if s := w.ended("r1", time.Hour); s.Phase != rollout.PhaseRolledBack {
			t.Errorf("got %s, want rolled-back", s.Phase)
		}
		if fresh.count() == 0 || old.count() != tried {
			t.Errorf("got %d calls of the new address and %d more of the old one, want some and none", fresh.count(), old.count()-tried)
		}
		w.clean("r1")
	})
}

// A raise that waits for a slot of the old adapter is sent by the new one, and the
// limit of calls under way is one for both.
func TestReconfigureKeepsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.endpoint("b")
		w.endpoint("c")
		var hang chan struct{}
		old := &scriptRouter{Router: w.router, shift: func(context.Context) error {
			if hang != nil {
				<-hang
			}
			return nil
		}}
		w.tune = func(c *Config) {
			c.Routers, c.RouterCalls, c.RouterTimeout = map[string]traffic.Router{"edge": old}, 1, time.Hour
		}
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", true))
		asked := w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Phase == rollout.PhaseWaiting })
		hang = make(chan struct{})
		w.begin(e, plan("r2", "b", false))
		w.await("r2", time.Hour, func(*rollout.State) bool { return old.count() == 2 })
		yes := rollout.Event{Kind: rollout.EventAnswered, Gate: "owner", Nonce: asked.Gates["owner"].Nonce, Approve: true, By: &rollout.Person{ID: "U1"}}
		if _, err := e.Deliver(t.Context(), "r1", "yes", yes); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		a := w.adapters(e)
		fresh := &scriptRouter{Router: w.router}
		a.Routers = map[string]traffic.Router{"edge": fresh}
		if err := e.Reconfigure(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		w.begin(e, plan("r3", "c", false))
		time.Sleep(time.Minute)
		if n := fresh.count(); n != 0 {
			t.Errorf("while the old adapter's call is under way: got %d calls of the new one, want the limit of 1 to hold", n)
		}
		close(hang)
		for _, id := range []string{"r1", "r2", "r3"} {
			if s := w.ended(id, time.Hour); s.Phase != rollout.PhasePromoted {
				t.Errorf("%s: got %s, want promoted", id, s.Phase)
			}
		}
		if n := old.count(); n != 2 {
			t.Errorf("got %d calls of the old adapter, want the two that were under way before", n)
		}
	})
}

// What an open rollout needs cannot go or become a stranger; whoever needs it is
// named, nothing else of the new adapters is taken over, and when the rollout has
// ended the same adapters are.
func TestReconfigureRefuses(t *testing.T) {
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
			name     string
			change   func(*Adapters)
			stranger []AdapterName
			want     string
		}{
			{"router", func(a *Adapters) { a.Routers = nil }, nil, "router edge is used by re0, re1, re2, re3, re4 and 2 more; keep it as it was"},
			{"source", func(a *Adapters) { a.Sources = nil }, nil, "source prom is used by re0"},
			{"pager", func(a *Adapters) { delete(a.Notifiers, "pager") }, nil, "notifier pager is used by re0"},
			{"chat", func(a *Adapters) { delete(a.Notifiers, "chat") }, nil, "notifier chat is used by re0"},
			{"another kind", func(*Adapters) {}, []AdapterName{{KindRouter, "edge"}}, "router edge is used by re0"},
		} {
			a := w.adapters(e)
			a.ExternalURL = "https://new.example"
			c.change(&a)
			err := e.Reconfigure(t.Context(), a, c.stranger...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", c.name, err, c.want)
			}
			if e.external() != "" || e.router("edge") == nil {
				t.Errorf("%s: something of the refused adapters is in force", c.name)
			}
		}
		for i := range 7 {
			id := fmt.Sprintf("re%d", i)
			if _, err := e.Deliver(t.Context(), id, "stop", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &rollout.Person{ID: "sre"}}); err != nil {
				t.Fatal(err)
			}
			w.ended(id, time.Hour)
		}
		if got := series(t, reg); !slices.Contains(got, "edge") || !slices.Contains(got, "prom") || !slices.Contains(got, "chat") {
			t.Fatalf("series before: got %v", got)
		}
		if err := e.Reconfigure(t.Context(), Adapters{}); err != nil {
			t.Errorf("nobody needs them any more: got %v, want them gone", err)
		}
		if got := series(t, reg); len(got) != 0 {
			t.Errorf("series of adapters that are gone: got %v, want none", got)
		}
	})
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

// A call that ends after its adapter is gone does not bring its series back.
func TestReconfigureLateCall(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := newMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	now := &adapterSet{routers: map[string]*router{"edge": {}}, sources: map[string]*source{"prom": {}}, outlets: map[string]*outlet{"chat": {}}}
	count := func() {
		m.routerCall("edge", nil)
		m.sourceAsked("prom", 1)
		m.sourceRead("prom", "ok")
		m.notified("chat", nil)
	}
	m.keep(now, nil)
	count()
	if got := len(series(t, reg)); got != 4 {
		t.Fatalf("got %d series, want 4", got)
	}
	m.keep(&adapterSet{}, now.without(&adapterSet{}))
	count()
	if got := series(t, reg); len(got) != 0 {
		t.Errorf("after late calls: got series of %v, want none", got)
	}
}

// An app whose token was revoked is replaced by one that hears: what the old one
// says while it is heard for the last time names the new one no more.
func TestReconfigureHealsInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for wait := range 20 {
			w := newWorld(t)
			w.tune = func(c *Config) { c.Inboxes = map[string]notifier.Inbox{"chat": &revoked{}} }
			e := w.start("one")
			time.Sleep(time.Duration(wait+2) * time.Second)
			if p := e.InboxProblems(); len(p) != 1 {
				t.Fatalf("with a revoked token: got %q, want the inbox named", p)
			}
			a := w.adapters(e)
			a.Inboxes = map[string]notifier.Inbox{"chat": &line{}}
			if err := e.Reconfigure(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if p := e.InboxProblems(); len(p) != 0 {
				t.Errorf("replaced after %d s: got %q, want nothing", wait+2, p)
			}
			w.endAll()
		}
	})
}

// revoked is an inbox that ends at once.
type revoked struct{ runs int }

func (r *revoked) Run(context.Context, func(context.Context, notifier.Answer) (notifier.Reply, error)) error {
	r.runs++
	return errors.New("invalid_auth")
}

// Before the open rollouts are known nothing may go; what stays may be replaced.
func TestReconfigureBeforeRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		w.endAll() // It does not run any more.
		if err := e.Reconfigure(t.Context(), Adapters{}); !errors.Is(err, errUnrecovered) {
			t.Errorf("got %v, want %v", err, errUnrecovered)
		}
		if err := e.Reconfigure(t.Context(), w.adapters(e)); err != nil {
			t.Errorf("nothing goes: got %v", err)
		}
	})
}

// Adapters are replaced all the time while rollouts start, raise, breach and end:
// every rollout has one end, and nothing is lost on the way.
func TestReconfigureMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tune = func(c *Config) { c.Inboxes = map[string]notifier.Inbox{"chat": &line{}} }
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
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for n := range 3 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(100+n*37) * time.Millisecond):
					}
					a := w.adapters(e)
					a.Inboxes = map[string]notifier.Inbox{"chat": &line{}}
					if err := e.Reconfigure(context.Background(), a); err != nil {
						t.Errorf("reconfigure: %v", err)
					}
				}
			})
		}
		var ids []string
		for i := range 8 {
			name := fmt.Sprintf("e%d", i)
			w.endpoint(name)
			w.begin(e, plan("r"+name, name, false))
			ids = append(ids, "r"+name)
		}
		for _, id := range ids {
			if s := w.ended(id, time.Hour); s.Phase != rollout.PhaseRolledBack {
				t.Errorf("%s: got %s, want rolled-back", id, s.Phase)
			}
		}
		close(stop)
		wg.Wait()
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
