package succession

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// A house is a store, a router and a source, and the engines that carry rollouts there.
type house struct {
	t      *testing.T
	store  *mem.Store
	router *traffictest.Fake
	*Engines

	stop  context.CancelFunc
	ended chan error
}

// A pager takes everything.
type pager struct{}

func (pager) Notify(context.Context, notifier.Notice) (string, error) { return "taken", nil }

func newHouse(t *testing.T, endpoints ...string) *house {
	h := &house{t: t, store: mem.New(), router: &traffictest.Fake{}, ended: make(chan error, 1)}
	for _, name := range endpoints {
		h.router.Set(name, traffic.Split{Weights: map[string]int{"blue": 100}}, traffic.Description{
			Deployments: map[string]traffic.Deployment{"blue": {Ready: true, Instances: 2}, "green": {Ready: true, Instances: 2, Version: "v2"}},
		})
	}
	h.Engines = New(h.engine("edge"))
	ctx, stop := context.WithCancel(t.Context())
	h.stop = stop
	go func() { h.ended <- h.Run(ctx) }()
	return h
}

// engine is one with a router of that name.
func (h *house) engine(router string) *engine.Engine {
	h.t.Helper()
	steady := analysistest.Steady(analysistest.Rates{StableN: 1e5, StableK: 10, CandidateN: 1e5, CandidateK: 10})
	e, err := engine.New(engine.Config{
		Store: h.store, Leaser: store.Always{}, Owner: "one", Version: "test",
		Routers: map[string]traffic.Router{router: h.router},
		Sources: map[string]analysis.Source{"prom": analysistest.NewFake(steady)}, Notifiers: map[string]notifier.Notifier{"pager": pager{}},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

// follow lets another engine follow.
func (h *house) follow() {
	h.t.Helper()
	if err := h.Replace(h.t.Context(), h.engine("edge"), nil, func() {}); err != nil {
		h.t.Errorf("replace: got %v, want nil", err)
	}
}

func (h *house) end() {
	h.stop()
	if err := <-h.ended; err != nil {
		h.t.Errorf("Run: got %v, want nil", err)
	}
}

// release starts a rollout to 5% and then everything.
func (h *house) release(id, endpoint string) error { return h.start(h.t.Context(), id, endpoint) }

func (h *house) start(ctx context.Context, id, endpoint string) error {
	r := rollout.Release{Policy: "recs", Candidate: "green", Version: "v2", Requester: person.Person{ID: "ci"}, Source: "test"}
	_, _, err := h.Release(ctx, id, r, func(context.Context) (*rollout.Plan, error) {
		return &rollout.Plan{
			SchemaVersion: 1, ID: id, Policy: rollout.PolicyRef{Name: "recs", Owner: "team", Text: "…", Hash: "abc"}, Release: r,
			Endpoint: rollout.EndpointRef{Router: "edge", Name: endpoint}, Stable: "auto",
			OnForeignChange: rollout.ForeignHold, Concurrency: rollout.ConcurrencyQueue,
			Interval: time.Second, MaxExtend: 10 * time.Minute, OnUndecided: rollout.UndecidedHold,
			OnNoData:      sight.MissingPolicy{After: time.Minute, Then: analysis.ActionHold},
			OnSourceError: sight.MissingPolicy{After: time.Minute, Then: analysis.ActionHold},
			Steps: []rollout.Step{
				{Name: "canary", Share: split.Share{Weight: 5}, Bake: time.Hour}, {Name: "full", Share: split.Share{Weight: 100}, Bake: time.Hour},
			},
			Panel: analysis.Panel{
				Metrics: []analysis.Metric{{Name: "failures", Source: "prom", Counts: &analysis.Counts{Total: "requests", Bad: "errors", Deployment: "deployment"}}},
				Guardrails: []analysis.Guardrail{{Name: "failures", Metric: "failures", Limit: analysis.Limit{Value: 0.01, Text: "<= 1%"}, Detect: 0.05,
					OnBreach: analysis.ActionRollback, Evidence: analysis.EvidenceRequired, Test: analysis.TestSequential, Steps: []int{0, 1}}},
				Alpha: 0.01, Beta: 0.05, Steps: 2, Interval: time.Second, OnSharedBreach: analysis.ActionHold,
			},
			Rollback: rollout.RollbackPolicy{VerifyWithin: time.Minute, Cooldown: time.Hour}, Page: []string{"pager"},
		}, nil
	})
	return err
}

// phase waits until a rollout is in a phase.
func (h *house) phase(id string, want rollout.Phase) {
	h.t.Helper()
	for range 600 {
		if s, err := h.Rollout(h.t.Context(), id); err == nil && s.State.Phase == want {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s, err := h.Rollout(h.t.Context(), id)
	h.t.Fatalf("%s: got %s (%s), %v, want %s", id, s.State.Phase, s.State.Sentence, err, want)
}

// rollback orders a rollback, under a key.
func (h *house) rollback(id, key string) error {
	operate := access.Actor{Person: person.Person{ID: "sre"}, Grants: []access.Grant{{Roles: []access.Role{access.RoleOperate}}}}
	_, err := h.Act(h.t.Context(), id, key, operate, func(rollout.Snapshot, *rollout.Event) (rollout.Event, error) {
		return rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &operate.Person, At: time.Now()}, nil
	})
	return err
}

// Orders to roll back come all the time while engines follow one another, also where the
// one that leaves has a call under way that does not return: each is taken, answered
// without an error, and done.
func TestOrdersAreNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 24
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("e%d", i))
		}
		h := newHouse(t, append(names, "slow")...)
		defer h.end()
		for i, name := range names {
			if err := h.release(fmt.Sprintf("r%d", i), name); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			h.phase(fmt.Sprintf("r%d", i), rollout.PhaseBaking)
		}
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 200 * time.Millisecond)
				if err := h.rollback(fmt.Sprintf("r%d", i), "stop"); err != nil {
					t.Errorf("order %d: got %v, want it taken", i, err)
				}
			})
		}
		for range 12 {
			time.Sleep(170 * time.Millisecond)
			h.router.Next(func(ctx context.Context, _ *traffictest.Call) (bool, error) {
				time.Sleep(800 * time.Millisecond)
				return true, ctx.Err()
			})
			h.follow()
		}
		wg.Wait()
		for i := range n {
			h.phase(fmt.Sprintf("r%d", i), rollout.PhaseStopped)
			if got := h.router.Truth(names[i]).Weights["green"]; got != 0 {
				t.Errorf("%s: green has %d%%, want 0%%", names[i], got)
			}
		}
	})
}

// An order is under way when its engine leaves, and the store takes longer over it than
// the engine may take to end: the next engine answers for it.
func TestOrderOfSlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "recs")
		defer h.end()
		if err := h.release("r1", "recs"); err != nil {
			t.Fatal(err)
		}
		h.phase("r1", rollout.PhaseBaking)
		var slow atomic.Bool
		h.store.Fault = func(op mem.Op) (bool, error) {
			if op.Key == record.RolloutKey("r1") && !slow.Swap(true) {
				time.Sleep(8 * time.Second)
			}
			return true, nil
		}
		done := make(chan error, 1)
		go func() { done <- h.rollback("r1", "stop") }()
		time.Sleep(100 * time.Millisecond)
		h.follow()
		if err := <-done; err != nil {
			t.Errorf("the order: got %v, want it taken", err)
		}
		h.phase("r1", rollout.PhaseStopped)
		time.Sleep(10 * time.Second) // until the call that was left behind has ended
	})
}

// A rollout that starts while an engine is replaced is started by one of the two, and
// what it needs is not taken away under it.
func TestStartsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "recs")
		defer h.end()
		if err := h.release("r1", "recs"); err != nil {
			t.Fatal(err)
		}
		h.phase("r1", rollout.PhaseBaking)
		before := h.Now()
		gone := []engine.AdapterName{{Kind: engine.KindRouter, Name: "edge"}}
		err := h.Replace(t.Context(), h.engine("other"), gone, func() { t.Error("something happened all the same") })
		if _, used := errors.AsType[*engine.InUseError](err); !used || h.Now() != before {
			t.Fatalf("the router of an open rollout: got %v, want it refused", err)
		}
		began := make(chan error, 1)
		err = h.Replace(t.Context(), h.engine("edge"), nil, func() {
			go func() { began <- h.release("r2", "recs") }()
			time.Sleep(time.Second)
			select {
			case err := <-began:
				t.Errorf("between two engines: a rollout was started (%v), want it to wait", err)
				began <- err
			default:
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-began; err != nil {
			t.Errorf("a start in between: got %v, want it started by the next engine", err)
		}
		h.phase("r2", rollout.PhaseQueued)
	})
}

// A stream goes on over engines, without a gap, and ends with its context.
func TestStreamsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a", "b", "c")
		defer h.end()
		ctx, cancel := context.WithCancel(t.Context())
		var got []journal.Change
		over := make(chan struct{})
		go func() {
			defer close(over)
			for c, err := range h.Changes(ctx, 0) {
				if err != nil {
					t.Errorf("changes: %v", err)
				}
				got = append(got, c)
			}
		}()
		for i, endpoint := range []string{"a", "b", "c"} {
			if err := h.release(fmt.Sprintf("r%d", i), endpoint); err != nil {
				t.Fatal(err)
			}
			h.phase(fmt.Sprintf("r%d", i), rollout.PhaseBaking)
			h.follow()
		}
		time.Sleep(2 * time.Second)
		cancel()
		<-over
		seen := map[string]int{}
		for i, c := range got {
			if seen[c.Rollout]++; c.Entry.Seq != seen[c.Rollout] || i > 0 && c.Revision <= got[i-1].Revision {
				t.Errorf("entry %d of %s came as number %d", c.Entry.Seq, c.Rollout, seen[c.Rollout])
			}
		}
		if len(seen) != 3 {
			t.Errorf("got changes of %v, want of three rollouts", seen)
		}
	})
}

// The process ends: nobody waits for an engine that does not come.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "recs")
		if err := h.release("r1", "recs"); err != nil {
			t.Fatal(err)
		}
		h.phase("r1", rollout.PhaseBaking)
		h.end()
		if err := h.Replace(t.Context(), h.engine("edge"), nil, func() { t.Error("an engine began after the end") }); !errors.Is(err, rollout.ErrStopped) {
			t.Errorf("replace: got %v, want %v", err, rollout.ErrStopped)
		}
		if _, err := h.Rollout(t.Context(), "r1"); err != nil {
			t.Errorf("what is read comes from the store: got %v", err)
		}
	})
}
