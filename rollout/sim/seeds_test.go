package sim_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/sim"
)

var (
	seeds = flag.Int("seeds", 2000, "worlds to simulate")
	seed  = flag.Uint64("seed", 0, "simulate only the world of this seed, and print it")
)

// TestSeeds simulates worlds with random policies, releases, faults, people and
// foreign writers, and holds every invariant at every event. The seed of a world
// that breaks one is printed: -seed N tells its story again.
func TestSeeds(t *testing.T) {
	if *seed != 0 {
		w := newChaos(*seed, nil)
		w.world.Watch = narrate(t, w.world.Watch)
		w.run()
		t.Logf("seed %d: %v, violations %v", *seed, w.phases(), w.violations())
		return
	}
	injected, ends := map[string]int{}, map[rollout.Phase]int{}
	bad := 0
	for s := uint64(1); s <= uint64(*seeds); s++ {
		w := newChaos(s, nil)
		w.run()
		for k, n := range w.injected {
			injected[k] += n
		}
		for _, r := range w.world.Runs {
			ends[r.State.Phase]++
		}
		if vs := w.violations(); len(vs) > 0 {
			bad++
			t.Errorf("seed %d: %s", s, strings.Join(vs, "\n\t"))
			if bad >= 5 {
				t.Fatal("stopped after five worlds with violations")
			}
		}
	}
	t.Logf("%d seeds, %d worlds with violations; faults injected: %s; rollouts ended: %s", *seeds, bad, counts(injected), counts(ends))
}

// TestMutants removes one protection at a time: the invariants must notice each.
func TestMutants(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		t.Run(name, func(t *testing.T) {
			for s := uint64(1); s <= 400; s++ {
				w := newChaos(s, mutants[name])
				w.run()
				if vs := w.violations(); len(vs) > 0 {
					t.Logf("caught at seed %d: %s", s, vs[0])
					return
				}
			}
			t.Errorf("400 worlds did not notice that the protection is gone")
		})
	}
}

func counts[K ~string](m map[K]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

func narrate(t *testing.T, next func(*sim.World, *sim.Run, sim.Line)) func(*sim.World, *sim.Run, sim.Line) {
	return func(w *sim.World, r *sim.Run, l sim.Line) {
		next(w, r, l)
		for _, d := range l.Decisions {
			t.Logf("%s %s %-14s %s", w.Now.Format("15:04:05.000"), r.Plan.ID, d.Kind, d.Sentence)
		}
		if f := l.Event.Failure; f != nil {
			t.Logf("%s %s (%s failed: %s)", w.Now.Format("15:04:05.000"), r.Plan.ID, l.Event.Kind, f.Message)
		}
	}
}

// A chaos is a world in which everything may go wrong until it calms down; then
// every rollout must come to an end or wait for a person.
type chaos struct {
	sim.Fine
	world    *sim.World
	inv      *sim.Invariants
	random   *sim.Random
	start    time.Time
	calm     time.Time
	injected map[string]int
	// rates of the faults, per call.
	router, lost, late, source, notify, crash float64
}

// horizon is how long a world lasts and calmAfter when its faults stop.
const (
	horizon   = 6 * time.Hour
	calmAfter = 40 * time.Minute
)

func newChaos(s uint64, mutant func(*rollout.Plan, rollout.State, rollout.Event) rollout.State) *chaos {
	r := sim.NewRandom(s)
	c := &chaos{random: r, start: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), injected: map[string]int{}, inv: &sim.Invariants{}}
	c.calm = c.start.Add(calmAfter)
	rate := func(most float64) float64 {
		if r.Chance(0.5) {
			return 0
		}
		return most * r.Float64()
	}
	c.router, c.lost, c.late = rate(0.3), rate(0.3), rate(0.2)
	c.source, c.notify, c.crash = rate(0.2), rate(0.5), rate(0.04)
	models := map[string]sim.Model{"blue": model(r, false), "green": model(r, r.Chance(0.4))}
	turns := c.start.Add(time.Duration(r.IntN(40)) * time.Minute)
	if r.Chance(0.5) {
		turns = c.start
	}
	healthy := models["blue"]
	traffic := &sim.Traffic{Seed: s, RPS: sim.Steady(5 + 200*r.Float64()), Bounds: []float64{0.1, 0.2, 0.3, 0.5, 1}, Cell: 5 * time.Second,
		Model: func(d string, at time.Time, _ int) sim.Model {
			if d == "green" && at.Before(turns) {
				return healthy
			}
			return models[d]
		}}
	c.world = sim.New(sim.Config{Start: c.start, Split: rollout.Split{Weights: map[string]int{"blue": 100}}, Source: traffic, Faults: c, Next: mutant})
	c.inv.Watch(c.world)
	for i := range 1 + r.IntN(2) {
		p := plan(r, i+1)
		c.world.At(c.start.Add(time.Duration(i*r.IntN(30))*time.Minute), func(w *sim.World) { w.Begin(p) })
	}
	c.people()
	return c
}

// model is how a deployment behaves.
func model(r *sim.Random, bad bool) sim.Model {
	m := sim.Model{Rates: map[string]float64{"failures": 0.002, "watched": 0.9}, P95: 0.15, Sigma: 0.4}
	if !bad {
		return m
	}
	switch r.IntN(4) {
	case 0:
		m.Rates["failures"] = 0.3
	case 1:
		m.P95 = 1
	case 2:
		m.Rates["watched"] = 0.5
	case 3:
		m.Gone = true
	}
	return m
}

// plan is a random policy, resolved.
func plan(r *sim.Random, n int) *rollout.Plan {
	bake := time.Duration(1+r.IntN(8)) * time.Minute
	p := &rollout.Plan{SchemaVersion: 1, ID: fmt.Sprintf("r%d", n), Policy: rollout.PolicyRef{Name: "p", Owner: "o"},
		Release:  rollout.Release{Candidate: "green", Version: fmt.Sprintf("v%d", n), Requester: rollout.Person{ID: "ci"}},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Stable: "auto",
		OnForeignChange: pick(r, rollout.ForeignHold, rollout.ForeignAdopt, rollout.ForeignRestore, rollout.ForeignRollback),
		Concurrency:     pick(r, rollout.ConcurrencyQueue, rollout.ConcurrencyRefuse, rollout.ConcurrencySupersede),
		Interval:        time.Duration(5+5*r.IntN(4)) * time.Second, Settle: time.Duration(r.IntN(3)) * 20 * time.Second,
		MaxExtend:     time.Duration(1+r.IntN(10)) * time.Minute,
		OnUndecided:   pick(r, rollout.UndecidedHold, rollout.UndecidedRollback, rollout.UndecidedPromote),
		OnNoData:      rollout.MissingPolicy{After: time.Minute, Then: pick(r, analysis.ActionHold, analysis.ActionRollback), RollbackAfter: 3 * time.Minute},
		OnSourceError: rollout.MissingPolicy{After: time.Minute, Then: pick(r, analysis.ActionHold, analysis.ActionPage)},
		Rollback:      rollout.RollbackPolicy{VerifyWithin: 2 * time.Minute, Cooldown: time.Hour},
		Page:          []string{"oncall", "backup"}, Notify: []string{"slack"},
	}
	weights := pick(r, []int{5, 25, 60, 100}, []int{10, 50, 100}, []int{1, 5, 10, 20, 50}, []int{100})
	if r.Chance(0.2) {
		p.Steps = append(p.Steps, rollout.Step{Name: "shadow", Mirror: 10, Bake: bake})
	}
	for _, w := range weights {
		p.Steps = append(p.Steps, rollout.Step{Name: fmt.Sprint(w), Weight: w, Bake: bake})
	}
	if r.Chance(0.4) {
		p.Steps[r.IntN(len(p.Steps))].Requires = []string{"owner"}
		p.Approvals = []rollout.Approval{{Name: "owner", Notifier: "slack", Quorum: 1 + r.IntN(2), NotByRequester: true,
			Expires: time.Duration(5+r.IntN(60)) * time.Minute, OnExpiry: pick(r, rollout.ExpiryHold, rollout.ExpiryRollback)}}
	}
	if r.Chance(0.1) {
		p.Windows = &rollout.Windows{Timezone: "Europe/Berlin", Open: []rollout.Window{{Cron: "0 * * * *", For: 30 * time.Minute}}}
	}
	p.Panel = panel(r, p)
	return p
}

func panel(r *sim.Random, p *rollout.Plan) analysis.Panel {
	var all []int
	for i := range p.Steps {
		all = append(all, i)
	}
	action := pick(r, analysis.ActionRollback, analysis.ActionRollback, analysis.ActionHold, analysis.ActionPage)
	pn := analysis.Panel{Alpha: 0.01, Beta: 0.05, Steps: len(p.Steps), Interval: p.Interval, OnSharedBreach: analysis.ActionHold,
		Metrics: []analysis.Metric{
			{Name: "failures", Source: "sim", Counts: &analysis.Counts{Total: "t", Bad: "b", Deployment: "d"}},
			{Name: "latency", Source: "sim", Histogram: &analysis.Histogram{Series: "h", Unit: "s", Deployment: "d"}},
			{Name: "watched", Source: "sim", Counts: &analysis.Counts{Total: "t", Good: "g", Deployment: "d"}},
		},
		Guardrails: []analysis.Guardrail{
			{Name: "failures", Metric: "failures", Limit: analysis.Limit{Value: 0.02, Text: "<= 2%"}, Detect: 0.06, OnBreach: analysis.ActionRollback},
			{Name: "p95", Metric: "latency", Quantile: 0.95, Limit: analysis.Limit{Value: 0.3, Text: "<= 300ms"}, Detect: 0.10, OnBreach: action},
			{Name: "watched", Metric: "watched", Limit: analysis.Limit{AtLeast: true, Relative: true, Value: 0.95, Text: ">= 0.95x stable"}, Detect: 0.85, OnBreach: action},
		}}
	for i := range pn.Guardrails {
		pn.Guardrails[i].Evidence = pick(r, analysis.EvidenceRequired, analysis.EvidenceOptional)
		pn.Guardrails[i].Test, pn.Guardrails[i].Steps = analysis.TestSequential, all
	}
	if r.Chance(0.3) {
		pn.Budget = &analysis.Budget{Metric: "failures", AtMost: float64(100 + r.IntN(400))}
	}
	return pn
}

func pick[T any](r *sim.Random, from ...T) T { return from[r.IntN(len(from))] }

// people act at random: they approve, reject, command, and write the traffic
// themselves.
func (c *chaos) people() {
	r := c.random
	for range r.IntN(12) {
		at := c.start.Add(time.Duration(r.IntN(int(calmAfter/time.Second))) * time.Second)
		who := &rollout.Person{ID: pick(r, "ann", "bob", "ci", "eve")}
		act, n, x := r.IntN(10), r.IntN(2), r.IntN(101)
		c.world.At(at, func(w *sim.World) {
			if n >= len(w.Runs) {
				return
			}
			run := w.Runs[n]
			switch {
			case act < 4:
				for name, q := range run.State.Gates {
					c.injected["answer"]++
					w.Fold(run, rollout.Event{Kind: rollout.EventAnswered, Gate: name, Nonce: q.Nonce, Approve: act > 0, By: who})
					break
				}
			case act < 8:
				c.injected["command"]++
				cmd := pick(r, rollout.CommandPause, rollout.CommandResume, rollout.CommandPromote, rollout.CommandExtend, rollout.CommandResume, rollout.CommandRollback)
				w.Fold(run, rollout.Event{Kind: rollout.EventCommanded, Command: cmd, By: who, Reason: "because", Extend: time.Minute})
			default:
				c.injected["foreign write"]++
				w.Write(rollout.Split{Weights: map[string]int{"blue": 100 - x, "green": x}})
			}
		})
	}
	// After the calm somebody patient looks at whatever waits for a person.
	for i := range 12 {
		c.world.At(c.calm.Add(time.Duration(i)*20*time.Minute), c.attend)
	}
}

// attend does what a person would do for each rollout that waits.
func (c *chaos) attend(w *sim.World) {
	for _, run := range w.Runs {
		by := &rollout.Person{ID: "dora"}
		for name, q := range run.State.Gates {
			w.Fold(run, rollout.Event{Kind: rollout.EventAnswered, Gate: name, Nonce: q.Nonce, Approve: true, By: by})
			w.Fold(run, rollout.Event{Kind: rollout.EventAnswered, Gate: name, Nonce: q.Nonce, Approve: true, By: &rollout.Person{ID: "emil"}})
			break
		}
		switch run.State.Phase {
		case rollout.PhaseHeld, rollout.PhasePaused, rollout.PhaseSuspect, rollout.PhaseRollingBack:
			w.Fold(run, rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: by, Reason: "enough"})
		default:
		}
	}
}

func (c *chaos) run() {
	closed := c.world.Run(c.start.Add(horizon))
	if !closed {
		for _, r := range c.world.Runs {
			if !r.State.Closed() && !waits(r.State.Phase) {
				c.inv.Violations = append(c.inv.Violations, fmt.Sprintf("I10: %s is %s after %s without faults: %s", r.Plan.ID, r.State.Phase, horizon-calmAfter, r.State.Sentence))
			}
		}
	}
	c.inv.Finish(c.world)
}

// waits reports whether the phase may last until a person or a window comes.
func waits(p rollout.Phase) bool {
	return p == rollout.PhaseHeld || p == rollout.PhasePaused || p == rollout.PhaseWaiting || p == rollout.PhaseQueued || p == rollout.PhaseSuspect
}

func (c *chaos) violations() []string { return c.inv.Violations }

func (c *chaos) phases() []rollout.Phase {
	var out []rollout.Phase
	for _, r := range c.world.Runs {
		out = append(out, r.State.Phase)
	}
	return out
}

// hit decides whether a fault with the rate strikes now, and counts it.
func (c *chaos) hit(w *sim.World, name string, rate float64) bool {
	if !w.Now.Before(c.calm) || !c.random.Chance(rate) {
		return false
	}
	c.injected[name]++
	return true
}

// Append crashes the daemon before or after an append.
func (c *chaos) Append(w *sim.World, _ *sim.Run, _ int) sim.Crash {
	switch {
	case c.hit(w, "crash before append", c.crash/2):
		return sim.CrashBefore
	case c.hit(w, "crash after append", c.crash/2):
		return sim.CrashAfter
	}
	return sim.NoCrash
}

// Restart takes from a second to five minutes; now and then somebody impatient
// promotes as soon as the daemon is back.
func (c *chaos) Restart(w *sim.World) time.Duration {
	d := time.Duration(1+c.random.IntN(300)) * time.Second
	if c.hit(w, "promote after a crash", 0.3) {
		w.At(w.Now.Add(d+time.Second), func(w *sim.World) {
			w.Fold(w.Runs[0], rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandPromote, By: &rollout.Person{ID: "ann"}, Reason: "at once"})
		})
	}
	return d
}

// Shift refuses, loses answers, is late, or never applies.
func (c *chaos) Shift(w *sim.World, _ sim.Write) sim.ShiftFault {
	gone := &rollout.Failure{Kind: rollout.FailureTransient, Message: "connection reset"}
	switch {
	case c.hit(w, "write lost", c.router/3):
		return sim.ShiftFault{Failure: gone}
	case c.hit(w, "write busy", c.router/3):
		return sim.ShiftFault{Failure: &rollout.Failure{Kind: rollout.FailureBusy, Message: "429", RetryAfter: time.Second}}
	case c.hit(w, "write accepted, never applied", c.router/3):
		return sim.ShiftFault{}
	case c.hit(w, "answer lost", c.lost):
		return sim.ShiftFault{Apply: true, Failure: gone}
	case c.hit(w, "write late", c.late):
		return sim.ShiftFault{Apply: true, Delay: time.Duration(1+c.random.IntN(60)) * time.Second}
	}
	return sim.ShiftFault{Apply: true}
}

// Split fails now and then.
func (c *chaos) Split(w *sim.World) *rollout.Failure {
	if c.hit(w, "read of the split failed", c.router/2) {
		return &rollout.Failure{Kind: rollout.FailureTransient, Message: "504"}
	}
	return nil
}

// Read fails, or answers nonsense.
func (c *chaos) Read(w *sim.World, _ *sim.Run, q analysis.Query) *analysis.Reading {
	if !c.hit(w, "source failed", c.source) {
		return nil
	}
	r := analysis.ErrorReading(q, "timeout")
	return &r
}

// Checks cannot be made, or find something to complain of.
func (c *chaos) Checks(w *sim.World, _ *sim.Run) []rollout.CheckResult {
	switch {
	case c.hit(w, "check not made", c.router):
		return []rollout.CheckResult{{Check: "ready", Found: "504", Expected: "an answer", Transient: true}}
	case c.hit(w, "check failed", c.lost/4):
		return []rollout.CheckResult{{Check: "ready", Found: "0 instances", Expected: "2 instances"}}
	}
	return []rollout.CheckResult{{Check: "ready", OK: true}}
}

// Notify fails.
func (c *chaos) Notify(w *sim.World, _ string) *rollout.Failure {
	if c.hit(w, "message lost", c.notify) {
		return &rollout.Failure{Kind: rollout.FailureTransient, Message: "503"}
	}
	return nil
}

// Clock runs a little wild, backwards too.
func (c *chaos) Clock(w *sim.World) time.Time {
	if c.hit(w, "clock jumped back", c.crash/4) {
		return w.Now.Add(-time.Duration(c.random.IntN(3600)) * time.Second)
	}
	return w.Now
}
