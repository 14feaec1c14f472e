package policytest

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

// A syntheticTraffic makes up traffic like that of a test's series.
type syntheticTraffic struct {
	plan   *rollout.Plan
	start  time.Time
	rps    float64
	stable sim.Model
	bad    sim.Model
	// from is the step since which the candidate is bad; beyond the last step it
	// never is.
	from   int
	bounds []float64
	days   time.Duration
}

// first is the first value of a series that is not missing; 0 when there is none.
func (b *seriesSource) first(name string) float64 {
	for _, v := range b.series[name] {
		if !math.IsNaN(v) {
			return v
		}
	}
	return 0
}

func newSyntheticTraffic(b *seriesSource, plan *rollout.Plan, pr Property) *syntheticTraffic {
	t := &syntheticTraffic{plan: plan, start: b.start, from: len(plan.Steps)}
	count := func(arm string) float64 { return b.first(b.volume + "/total@" + arm) }
	t.rps = (count("stable") + count("candidate")) / b.interval.Seconds()
	t.stable = sim.Model{Rates: map[string]float64{}, Sigma: sigma}
	for _, m := range plan.Panel.Metrics {
		switch m.Kind() {
		case analysis.KindCounts:
			part := countedPart(m.Counts)
			n := b.first(m.Name + "/total@stable")
			if m.Rate() {
				n = m.Counts.TrialsIn(b.interval)
			}
			if n > 0 {
				t.stable.Rates[m.Name] = b.first(m.Name+"/"+part+"@stable") / n
			}
		case analysis.KindHistogram:
			t.stable.P95 = b.first(m.Name+"/p95@stable") / 1000
			t.bounds = b.bounds[m.Name]
		case analysis.KindMean:
			t.stable.Mean, t.stable.Deviation = b.first(m.Name+"/mean@stable"), b.first(m.Name+"/deviation@stable")
		case analysis.KindValue:
			t.stable.Value = b.first(m.Name + "/value@stable")
		}
	}
	for _, s := range plan.Steps {
		t.days += s.Bake + plan.MaxExtend
	}
	t.days += 8 * 24 * time.Hour // windows and schedules
	t.days = min(t.days, maxReadings*plan.Interval)
	t.bad = t.stable
	if pr.Trace == "regression" {
		t.spoil(pr)
	}
	return t
}

// spoil makes the candidate as bad as the guardrail's detect, from a step on.
func (t *syntheticTraffic) spoil(pr Property) {
	t.from = max(slices.IndexFunc(t.plan.Steps, func(s rollout.Step) bool { return s.Name == pr.From }), 0)
	i := max(slices.IndexFunc(t.plan.Panel.Guardrails,
		func(g analysis.Guardrail) bool { return g.Name == pr.Guardrail }), 0)
	g := t.plan.Panel.Guardrails[i]
	t.bad.Rates = map[string]float64{}
	maps.Copy(t.bad.Rates, t.stable.Rates)
	m := t.plan.Panel.Metrics[slices.IndexFunc(t.plan.Panel.Metrics,
		func(m analysis.Metric) bool { return m.Name == g.Metric })]
	switch m.Kind() {
	case analysis.KindCounts:
		bad := g.Detect
		if g.Limit.Relative {
			bad = math.Min(1, t.stable.Rates[g.Metric]*g.Detect)
		}
		t.bad.Rates[g.Metric] = bad
	case analysis.KindHistogram:
		t.bad.P95 = t.slower(g)
	case analysis.KindMean:
		t.bad.Mean = g.Detect
		if g.Limit.Relative {
			t.bad.Mean *= t.stable.Mean
		}
	case analysis.KindValue:
		t.bad.Value = g.Limit.Value * 2
		if g.Limit.AtLeast {
			t.bad.Value = g.Limit.Value / 2
		}
	}
}

// slower is the 95th percentile with which the tail beyond the limit has the
// share that must be caught.
func (t *syntheticTraffic) slower(g analysis.Guardrail) float64 {
	limit := g.Limit.Value
	if g.Limit.Relative {
		limit = t.stable.P95 * g.Limit.Value
	}
	share := g.Detect
	if g.DetectLatency || g.Limit.Relative {
		share = policies.TailDoubled(g.Quantile)
	}
	lo, hi := limit/100, limit*100
	for range 60 {
		mid := math.Sqrt(lo * hi)
		if 1-sim.Lognormal(limit, mid, sigma) < share {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// play runs one random trace.
func (t *syntheticTraffic) play(p *policies.Policy, seed uint64) (*sim.Run, []sim.Line) {
	var run *sim.Run
	candidate := candidateOf(p)
	source := &sim.Traffic{
		Seed: seed, RPS: sim.Steady(t.rps), Bounds: t.bounds, Cell: t.plan.Interval,
		Model: func(deployment string, _ time.Time, _ int) sim.Model {
			if deployment == candidate && run != nil && run.State.Step >= t.from {
				return t.bad
			}
			return t.stable
		},
	}
	w := sim.New(sim.Config{Start: arrival(t.plan, t.start),
		Split: split.Split{Weights: map[string]int{stableOf(p): 100}}, Source: source})
	w.Watch = func(w *sim.World, r *sim.Run, l sim.Line) {
		run = r
		for _, d := range l.Decisions {
			if d.Kind == decision.Ask {
				w.At(w.Now.Add(time.Minute), func(w *sim.World) { approveAll(w, r, d.Gate) })
			}
		}
	}
	run = w.Begin(t.plan)
	w.Run(t.start.Add(t.days))
	return run, w.Journal
}
