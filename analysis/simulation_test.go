package analysis

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// The simulation carries releases up a ladder of four steps, interval by
// interval, and lets Belay's judge and the rules that people use now decide on
// the very same numbers.

const (
	simTick   = 15 * time.Second
	simTicks  = 40 // intervals in a step: ten minutes
	simStable = 8  // stable's instances
	simCand   = 3  // the candidate's
)

// ladder are the candidate's weights.
var ladder = []float64{0.05, 0.25, 0.50, 0.75}

// climate is the world that a release is rolled out in.
type climate struct {
	name  string
	rps   float64 // requests per second of the endpoint
	rate  float64 // stable's failure rate
	ratio float64 // the candidate's failure rate as a multiple of stable's
	from  int     // the step in which the ratio begins
	watch float64 // the candidate's watch-through as a multiple of stable's
	drift float64 // standard deviation of the common level's logarithm
	// incident: for two minutes in the middle of the second step both arms fail
	// five times as often.
	incident bool
	// burst is the mean size of the clusters that failures come in; 0: none.
	burst float64
	// history is how many intervals of stable alone are taken in before the rollout,
	// which the daemon does not do; instances tells whether the source tells
	// instances apart.
	history   int
	instances bool
}

// interval is what every rule gets to see of 15 seconds.
type interval struct {
	step       int
	nc, kc     float64
	nb, kb     float64
	wnc, wkc   float64 // plays and those watched through
	wnb, wkb   float64
	podsC      [simCand][2]float64
	podsB      [simStable][2]float64
	end        bool // the last interval of its step
	cumulative int  // intervals since the step began
}

// sky makes a climate's intervals.
type sky struct {
	climate
	r     *rand.Rand
	level float64
}

func newSky(c climate, seed uint64) *sky {
	return &sky{climate: c, r: seeded(seed)}
}

// pois is a Poisson number, by the normal approximation above 60.
func pois(r *rand.Rand, mean float64) float64 {
	if mean > 60 {
		return math.Max(0, math.Round(mean+math.Sqrt(mean)*r.NormFloat64()))
	}
	if mean <= 0 {
		return 0
	}
	k, p, sum, u := 0.0, math.Exp(-mean), math.Exp(-mean), r.Float64()
	for u > sum && k < 400 {
		k++
		p *= mean / k
		sum += p
	}
	return k
}

// fails is how many of n requests fail at rate p: independently, or in clusters
// of geometric size.
func (s *sky) fails(n, p float64) float64 {
	if s.burst == 0 || n == 0 {
		return binom(s.r, n, p)
	}
	clusters := pois(s.r, n*p/s.burst)
	k := clusters
	if clusters > 200 {
		q := 1 / s.burst
		k = clusters/q + math.Sqrt(clusters*(1-q))/q*s.r.NormFloat64()
		return math.Min(n, math.Max(0, math.Round(k)))
	}
	for range int(clusters) {
		k += math.Floor(math.Log(s.r.Float64()) / math.Log(1-1/s.burst))
	}
	return math.Min(n, k)
}

// binom is a binomial number by inversion, or by the normal approximation.
func binom(r *rand.Rand, n, p float64) float64 {
	if p > 0.5 {
		return n - binom(r, n, 1-p)
	}
	if n*p > 60 {
		return math.Min(n, math.Max(0, math.Round(n*p+math.Sqrt(n*p*(1-p))*r.NormFloat64())))
	}
	if n <= 0 || p <= 0 {
		return 0
	}
	odds := p / (1 - p)
	k, q := 0.0, math.Exp(n*math.Log1p(-p))
	sum, u := q, r.Float64()
	for u > sum && k < n {
		q *= (n - k) / (k + 1) * odds
		k++
		sum += q
	}
	return k
}

// next makes the i-th interval of a step with candidate's weight w.
func (s *sky) next(step, i int, w float64) (x interval) {
	x.step, x.cumulative, x.end = step, i+1, i == simTicks-1
	level := 1.0
	if s.drift > 0 {
		// A common level that wanders over about ten minutes.
		const keep = 0.975
		s.level = keep*s.level + math.Sqrt(1-keep*keep)*s.r.NormFloat64()
		level = math.Exp(s.drift*s.level - s.drift*s.drift/2)
	}
	if s.incident && step == 1 && i >= 16 && i < 24 {
		level = 5
	}
	pb := math.Min(0.9, s.rate*level)
	pc := pb
	watch := 0.6
	if step >= s.from {
		pc = math.Min(0.95, pb*s.ratio)
		watch = math.Min(1, watch*s.watch)
	}
	per := s.rps * simTick.Seconds()
	for j := range x.podsB {
		n := pois(s.r, per*(1-w)/simStable)
		x.podsB[j] = [2]float64{n, s.fails(n, pb)}
		x.nb += n
		x.kb += x.podsB[j][1]
	}
	for j := range x.podsC {
		n := pois(s.r, per*w/simCand)
		x.podsC[j] = [2]float64{n, s.fails(n, pc)}
		x.nc += n
		x.kc += x.podsC[j][1]
	}
	x.wnb, x.wnc = x.nb, x.nc
	x.wkb, x.wkc = binom(s.r, x.wnb, 0.6), binom(s.r, x.wnc, watch)
	return x
}

// A rule decides whether a release is rolled back or held.
type rule interface {
	// see takes an interval in; verdict is "", "rollback" or "hold".
	see(x *interval) (verdict string)
}

// outcome is how one rollout ended.
type outcome struct {
	verdict  string
	ticks    int     // until the verdict
	bad      float64 // failures beyond stable's rate until then
	requests float64 // of both arms until then
}

// rollOut carries one release up the ladder past several rules at once.
func rollOut(c climate, seed uint64, rules []rule, outs []outcome) {
	s := newSky(c, seed)
	left := len(rules)
	for i := range outs {
		outs[i] = outcome{}
	}
	for range c.history {
		x := s.next(-1, 0, 0)
		for _, ru := range rules {
			if b, ok := ru.(*belay); ok {
				b.learn(&x)
			}
		}
	}
	var bad, requests float64
	for step, w := range ladder {
		for i := range simTicks {
			x := s.next(step, i, w)
			requests += x.nc + x.nb
			if step >= c.from {
				bad += x.kc - x.kc/c.ratio
			}
			for j, ru := range rules {
				if outs[j].verdict != "" {
					continue
				}
				if v := ru.see(&x); v != "" {
					outs[j] = outcome{verdict: v, ticks: step*simTicks + i + 1, bad: bad, requests: requests}
					left--
				}
			}
			if left == 0 {
				return
			}
		}
	}
}

// belay is the judge itself, on one rollout.
type belay struct {
	panel Panel
	e     Evidence
	at    StepContext
	now   time.Time
	got   brought
	rs    [2]Reading
	c, b  []Instance
	split bool
}

func newBelay(p Panel, instances bool) *belay {
	b := &belay{panel: p, now: epoch, got: brought{read: make([]bool, len(p.Guardrails)), idle: make([]bool, len(p.Guardrails))}, split: instances}
	b.e = Evidence{}.clone(len(p.Guardrails))
	b.c, b.b = make([]Instance, simCand), make([]Instance, simStable)
	for i := range b.c {
		b.c[i].Name = fmt.Sprintf("candidate-%d", i)
	}
	for i := range b.b {
		b.b[i].Name = fmt.Sprintf("stable-%d", i)
	}
	return b
}

// readings turns an interval into readings of failures and of watched.
func (b *belay) readings(x *interval) []Reading {
	to := b.now.Add(simTick)
	for i, p := range x.podsC {
		b.c[i].Sample = Sample{Fresh: true, N: p[0], K: p[1]}
	}
	for i, p := range x.podsB {
		b.b[i].Sample = Sample{Fresh: true, N: p[0], K: p[1]}
	}
	b.rs[0] = Reading{Metric: "failures", From: b.now, To: to, Status: StatusOK,
		Candidate: Sample{Fresh: true, N: x.nc, K: x.kc}, Stable: Sample{Fresh: true, N: x.nb, K: x.kb}}
	if b.split {
		b.rs[0].Candidate.Instances, b.rs[0].Stable.Instances = b.c, b.b
	}
	b.rs[1] = Reading{Metric: "watched", From: b.now, To: to, Status: StatusOK,
		Candidate: Sample{Fresh: true, N: x.wnc, K: x.wkc}, Stable: Sample{Fresh: true, N: x.wnb, K: x.wkb}}
	b.now = to
	return b.rs[:]
}

// learn takes an interval of stable alone in: it teaches the pilot and the
// dispersion, and is no evidence for or against anything.
func (b *belay) learn(x *interval) {
	for _, r := range b.readings(x) {
		b.e.teach(&b.panel, &r)
	}
}

func (e *Evidence) teach(p *Panel, r *Reading) {
	for j := range p.Guardrails {
		if g := &p.Guardrails[j]; g.Metric == r.Metric {
			e.Standings[j].learn(g, p.metric(r.Metric), &r.Stable)
		}
	}
}

func (b *belay) see(x *interval) string {
	if !b.e.Begun || b.at.Step != x.step {
		b.at = StepContext{Step: x.step, StepStart: b.now, Serving: true,
			CandidateWeight: int(100 * ladder[x.step]), StableWeight: 100 - int(100*ladder[x.step])}
		b.e.begin(&b.panel, b.at)
	}
	for _, r := range b.readings(x) {
		b.e.ingest(&b.panel, b.at, &r, &b.got)
	}
	b.at.At = b.now
	sum := 0.0
	for i := range b.panel.Guardrails {
		sum += math.Exp(b.e.Standings[i].Breach.LogE())
	}
	if sum < 1/b.panel.share() {
		return ""
	}
	v := b.e.verdicts(&b.panel, b.at, &b.got)
	if len(v.Breaches) == 0 {
		return "" // unreachable unless rounding put the sum on the threshold
	}
	return string(v.Breaches[0].Action)
}

// simPanel has the three guardrails of the simulation: failures against stable
// and by themselves, and watch-through.
func simPanel(names ...string) Panel {
	steps := []int{0, 1, 2, 3}
	all := map[string]Guardrail{
		"failures": {Metric: "failures", Limit: Limit{Relative: true, Value: 1.2, Text: "<= 1.2x stable"}, Detect: 2},
		"absolute": {Metric: "failures", Limit: Limit{Value: 0.01, Text: "<= 1%"}, Detect: 0.02},
		"p95":      p95Guardrail(),
		"watched":  {Metric: "watched", Limit: Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, Detect: 0.95},
	}
	p := Panel{
		Metrics: []Metric{{Name: "failures", Counts: &Counts{Total: "t", Bad: "b"}}, {Name: "watched", Counts: &Counts{Total: "t", Good: "g"}}},
		Alpha:   0.01, Beta: 0.05, Steps: 4, Interval: simTick, OnSharedBreach: ActionHold,
	}
	for _, n := range names {
		g := all[n]
		g.Name, g.OnBreach, g.Evidence, g.Test, g.Steps = n, ActionRollback, EvidenceRequired, TestSequential, steps
		p.Guardrails = append(p.Guardrails, g)
	}
	return p
}
