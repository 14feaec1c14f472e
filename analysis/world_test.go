package analysis

import (
	"math"
	"math/rand/v2"
	"time"
)

// epoch is when every test's rollout begins.
var epoch = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

// arm is how one deployment behaves in a test's world.
type arm struct {
	fail    float64 // share of requests that fail
	watched float64 // share of plays that are watched through
	slow    float64 // factor on latencies
}

var healthy = arm{fail: 0.001, watched: 0.9, slow: 1}

// seed is the seed of the i-th trial.
func seed(i int) uint64 { return uint64(i) + 1 } //nolint:gosec // i counts trials

// seeded is a reproducible source of chance.
func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)) } //nolint:gosec // reproducible on purpose

func poisson(r *rand.Rand, mean float64) float64 {
	if mean > 30 {
		return math.Max(0, math.Round(mean+math.Sqrt(mean)*r.NormFloat64()))
	}
	l, k, p := math.Exp(-mean), 0.0, 1.0
	for {
		if p *= r.Float64(); p <= l {
			return k
		}
		k++
	}
}

func binomial(r *rand.Rand, n, p float64) float64 {
	if n*p > 30 && n*(1-p) > 30 {
		return math.Min(n, math.Max(0, math.Round(n*p+math.Sqrt(n*p*(1-p))*r.NormFloat64())))
	}
	k := 0.0
	for range int(n) {
		if r.Float64() < p {
			k++
		}
	}
	return k
}

// latencyBounds are the bounds of the test's histogram, in seconds.
var latencyBounds = []float64{0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5}

// histogram is n lognormal latencies with median 60 ms times slow.
func histogram(r *rand.Rand, n, slow float64) Sample {
	x := Sample{Fresh: true, N: n}
	counts := make([]float64, len(latencyBounds)+1)
	for range int(n) {
		l := 0.06 * slow * math.Exp(0.5*r.NormFloat64())
		i := 0
		for i < len(latencyBounds) && l > latencyBounds[i] {
			i++
		}
		counts[i]++
	}
	for i, b := range latencyBounds {
		x.Buckets = append(x.Buckets, Bucket{Upper: b, Count: counts[i]})
	}
	return x
}

// demoPanel is the policy of the demonstration: four short steps, read every
// second.
func demoPanel() Panel {
	all := []int{0, 1, 2, 3}
	return Panel{
		Metrics: []Metric{
			{Name: "failures", Source: "prom", Counts: &Counts{Total: "t", Bad: "b", Deployment: "d"}},
			{Name: "latency", Source: "prom", Histogram: &Histogram{Series: "l", Unit: "s", Deployment: "d"}},
			{Name: "watched", Source: "prom", Counts: &Counts{Total: "t", Good: "g", Deployment: "d"}},
		},
		Guardrails: []Guardrail{
			{Name: "failures", Metric: "failures", Limit: Limit{Value: 0.02, Text: "<= 2%"}, Detect: 0.05,
				OnBreach: ActionRollback, Evidence: EvidenceRequired, Test: TestSequential, Steps: all},
			{Name: "p95", Metric: "latency", Quantile: 0.95, Limit: Limit{Value: 0.25, Text: "<= 250ms"}, Detect: 0.10,
				OnBreach: ActionRollback, Evidence: EvidenceRequired, Test: TestSequential, Steps: all},
			{Name: "watch-through", Metric: "watched", Limit: Limit{AtLeast: true, Relative: true, Value: 0.95, Text: ">= 0.95x stable"},
				Detect: 0.85, OnBreach: ActionRollback, Evidence: EvidenceRequired, Test: TestSequential, Steps: all},
		},
		Alpha: 0.01, Beta: 0.05, Steps: 4, Interval: time.Second, OnSharedBreach: ActionHold,
	}
}

// read makes one second of readings of the demonstration's three metrics.
func demoReadings(r *rand.Rand, from time.Time, weight int, rps float64, stable, candidate arm) []Reading {
	to := from.Add(time.Second)
	nc, nb := poisson(r, rps*float64(weight)/100), poisson(r, rps*float64(100-weight)/100)
	count := func(n, p float64) Sample { return Sample{Fresh: true, N: n, K: binomial(r, n, p)} }
	base := Reading{From: from, To: to, Status: StatusOK}
	failures, lat, watched := base, base, base
	failures.Metric, lat.Metric, watched.Metric = "failures", "latency", "watched"
	failures.Stable, failures.Candidate = count(nb, stable.fail), count(nc, candidate.fail)
	lat.Stable, lat.Candidate = histogram(r, nb, stable.slow), histogram(r, nc, candidate.slow)
	watched.Stable, watched.Candidate = count(nb, stable.watched), count(nc, candidate.watched)
	return []Reading{failures, lat, watched}
}
