package sim_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

// A chaos is a world in which everything may go wrong until it calms down; then
// every rollout must come to an end or wait for a person.
type chaos struct {
	sim.Fine
	world    *sim.World
	inv      *sim.Invariants
	random   *sim.Random
	traffic  *sim.Traffic
	start    time.Time
	calm     time.Time
	injected map[string]int
	// rates of the faults, per call.
	router, lost, late, refused, source, notify, crash float64
	// unfenced: the API has no versions.
	unfenced bool
	// absent is a metric in which the candidate never shows; "" for none.
	absent string
	// tells: the router describes the deployments; becomes is when green becomes another
	// version, zero for never.
	tells   bool
	becomes time.Time
	// monitored: something still calls stable when it has no traffic.
	monitored bool
	// away are the spans in which something is out, by what.
	away map[string][]span
	// jumps are when the daemon's clock jumps, and by how much.
	jumps []jump
}

type span struct{ from, to time.Time }

type jump struct {
	at time.Time
	by time.Duration
}

// horizon is how long a world lasts and calmAfter when its faults stop.
const (
	horizon   = 6 * time.Hour
	calmAfter = 40 * time.Minute
	// eventsMost is several times what the busiest world folds.
	eventsMost = 20000
)

func newChaos(s uint64, mutant func(*rollout.Plan, rollout.State, rollout.Event) rollout.State) *chaos {
	r := sim.NewRandom(s)
	c := &chaos{random: r, injected: map[string]int{}, inv: &sim.Invariants{}}
	c.start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	c.calm = c.start.Add(calmAfter)
	rate := func(most float64) float64 {
		if r.Chance(0.5) {
			return 0
		}
		return most * r.Float64()
	}
	c.router, c.lost, c.late, c.refused = rate(0.3), rate(0.3), rate(0.2), rate(0.04)
	c.source, c.notify, c.crash = rate(0.2), rate(0.5), rate(0.04)
	c.unfenced = r.Chance(0.3)
	if r.Chance(0.1) {
		c.absent = pick(r, "failures", "latency", "watched", "cpu")
	}
	c.tells, c.monitored = r.Chance(0.4), r.Chance(0.3)
	if r.Chance(0.15) {
		c.becomes = c.start.Add(time.Duration(r.IntN(int(calmAfter/time.Second))) * time.Second)
	}
	c.outages()
	c.clocks()
	models := map[string]sim.Model{"blue": model(r, false), "green": model(r, r.Chance(0.4)), "red": model(r, false)}
	turns := c.start.Add(time.Duration(r.IntN(40)) * time.Minute)
	if r.Chance(0.5) {
		turns = c.start
	}
	healthy := models["blue"]
	c.traffic = &sim.Traffic{Seed: s, RPS: sim.Steady(5 + 200*r.Float64()), Cell: 5 * time.Second,
		Bounds: []float64{0.1, 0.2, 0.3, 0.5, 1},
		Model: func(d string, at time.Time, _ int) sim.Model {
			if d == "green" && at.Before(turns) {
				return healthy
			}
			return models[d]
		}}
	if s%3 == 0 {
		c.traffic.Scrape = 5 * time.Second // and suspicion is followed up before the interval is over
	}
	c.world = sim.New(sim.Config{Start: c.start, Split: split.Split{Weights: map[string]int{"blue": 100}},
		Source: source{c}, Faults: c, Next: mutant, Alarm: time.Minute, Most: eventsMost})
	c.inv.Watch(c.world)
	for i := range 1 + r.IntN(2) {
		p := plan(r, i+1)
		c.world.At(c.start.Add(time.Duration(i*r.IntN(30))*time.Minute), func(w *sim.World) { w.Begin(p) })
	}
	c.people()
	return c
}

// outages draws the spans in which something is out.
func (c *chaos) outages() {
	c.away = map[string][]span{}
	r := c.random
	for _, what := range []string{"source", "failures", "cpu", "stale", "alternating", "nothing new", "hang",
		"split", "writes", "oncall", "backup", "slack", "store", "blue", "green", "instances"} {
		if !r.Chance(0.15) {
			continue
		}
		for range 1 + r.IntN(3) {
			from := c.start.Add(time.Duration(r.IntN(int(calmAfter/time.Second))) * time.Second)
			to := from.Add(time.Duration(10+r.IntN(pick(r, 120, 300, 1200))) * time.Second)
			if to.After(c.calm) {
				to = c.calm
			}
			c.away[what] = append(c.away[what], span{from, to})
			if what == "source" && r.Chance(0.5) { // what a source that was away scrapes anew is stale at first
				c.away["stale"] = append(c.away["stale"], span{to, to.Add(time.Duration(5+r.IntN(60)) * time.Second)})
			}
		}
	}
}

// clocks draws how the daemon's clock jumps: forward to stay, ahead from the start and
// put right, back.
func (c *chaos) clocks() {
	r := c.random
	some := func(most int) time.Duration { return time.Duration(1+r.IntN(most)) * time.Second }
	at := c.start.Add(some(int(calmAfter / time.Second)))
	switch r.IntN(12) {
	case 0:
		c.jumps = []jump{{at, some(pick(r, 60, 600, 3600))}}
	case 1:
		ahead := some(pick(r, 60, 600, 3600))
		c.jumps = []jump{{c.start, ahead}, {at, -ahead}}
	case 2:
		c.jumps = []jump{{at, -some(3600)}}
	}
}

// is reports whether something is out now.
func (c *chaos) is(w *sim.World, what string) bool {
	for _, s := range c.away[what] {
		if !w.Now.Before(s.from) && w.Now.Before(s.to) {
			c.injected[what+" out"]++
			return true
		}
	}
	return false
}

func pick[T any](r *sim.Random, from ...T) T { return from[r.IntN(len(from))] }

func (c *chaos) run() {
	closed := c.world.Run(c.start.Add(horizon))
	if !closed {
		for _, r := range c.world.Runs {
			if !r.State.Closed() && !waits(r.State.Phase) && r.State.Page == nil {
				c.inv.Violations = append(c.inv.Violations, sim.Violation{Name: sim.Endless, Rollout: r.Plan.ID, At: c.world.Now,
					Text: fmt.Sprintf("%s after %s without faults: %s", r.State.Phase, horizon-calmAfter, r.State.Sentence)})
			}
		}
	}
	c.inv.Finish(c.world)
}

// waits reports whether the phase may last until a person or a window comes.
func waits(p rollout.Phase) bool {
	return slices.Contains([]rollout.Phase{rollout.PhaseHeld, rollout.PhasePaused, rollout.PhaseWaiting, rollout.PhaseQueued,
		rollout.PhaseSuspect}, p)
}

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

// Read answers as the traffic does, up to the present: a clock that is ahead asks for
// what has not happened yet.
func (s source) Read(w *sim.World, r *sim.Run, q analysis.Query) analysis.Reading {
	if q.To.After(w.Now) {
		q.To = w.Now
	}
	if q.To.Before(q.From) {
		q.To = q.From
	}
	out := s.traffic.Read(w, r, q)
	if n := q.To.Unix() / 5; s.monitored && q.Metric.Counts != nil && w.Endpoint.At(q.To).Weights["blue"] == 0 && n%3 == 0 {
		out.Stable.N, out.Stable.K = out.Stable.N+1, out.Stable.K+float64(n%2)
	}
	return out
}
