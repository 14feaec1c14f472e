package analysis

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// A season is a world in which whole rollouts are carried out, with the rules of the
// rollout itself: bakes, extensions, holds that end by themselves and people who do not
// answer. Chance is the same for equal seeds.
type season struct {
	name      string
	rps, base float64
	// ratio is the candidate's failures as a multiple of stable's, from step from on,
	// and never less than least of its requests.
	ratio, least float64
	from         int
	watch        float64 // the candidate's watch-through as a multiple of stable's
	stable, cand int     // instances of either
	unlabelled   bool    // no label tells instances apart
	// common and local are how often incidents begin, an hour: of everybody, or of each
	// instance by itself. They multiply failures by times for 30 to 120 seconds.
	common, local, times float64
	// kappa makes each instance's rate of every interval its own (beta-binomial).
	kappa float64
	// swing is how far load and failures go up and down in two hours.
	swing float64
	// sticky is how many clients there are, who stay with one deployment; 0: requests
	// are shared out one by one. With buckets, the label is the client's bucket.
	sticky  int
	buckets bool
	// jump multiplies everybody's failures in the last step.
	jump float64
}

// A journey is how one rollout of a season ended.
type journey struct {
	end    string // promoted, asks, or rolled back
	cause  string // the guardrail, or single-instance, undecided
	took   time.Duration
	shared int  // holds that ended by themselves
	flip   bool // rolled back after a shared hold
}

const (
	endPromoted = "promoted"
	endAsks     = "asks"
	endBack     = "rolled back"
)

// seasonLadder is a ladder with the time that its steps bake.
type seasonLadder struct {
	weights []int
	bake    time.Duration
	extend  time.Duration
}

var (
	longLadder = seasonLadder{weights: []int{5, 25, 60, 95, 100}, bake: 30 * time.Minute, extend: time.Hour}
	fullLadder = seasonLadder{weights: []int{5, 25, 60, 100}, bake: 30 * time.Minute, extend: time.Hour}
)

// seasonPanel has the named guardrails over the ladder.
func seasonPanel(l seasonLadder, names ...string) Panel {
	p := simPanel(names...)
	p.Metrics = append(p.Metrics, Metric{Name: "latency", Histogram: &Histogram{Series: "l", Unit: "s"}})
	p.Steps = len(l.weights)
	for i := range p.Guardrails {
		p.Guardrails[i].Steps = nil
		for j := range l.weights {
			p.Guardrails[i].Steps = append(p.Guardrails[i].Steps, j)
		}
	}
	return p
}

// seasonGuardrail is a p95 limit beside those of simPanel.
func p95Guardrail() Guardrail {
	return Guardrail{Name: "p95", Metric: "latency", Quantile: 0.95, Limit: Limit{Value: 0.25, Text: "<= 250ms"}, Detect: 0.1}
}

// A seasonRun makes one rollout's intervals.
type seasonRun struct {
	season
	r      *rand.Rand
	now    time.Duration
	common incident
	local  map[string]*incident
	heads  map[string][]float64
}

// An incident is when something was last bad, and until when.
type incident struct{ from, to time.Duration }

// at makes an incident begin by chance, and is how bad it is now.
func (in *incident) at(s *seasonRun, perHour float64) float64 {
	if perHour <= 0 {
		return 1
	}
	if s.now >= in.to && s.r.Float64() < perHour*simTick.Hours() {
		in.from, in.to = s.now, s.now+30*time.Second+time.Duration(s.r.Float64()*90)*time.Second
	}
	if s.now >= in.from && s.now < in.to {
		return s.times
	}
	return 1
}

// arm makes one deployment's interval: per requests at rate p.
func (s *seasonRun) arm(name string, n int, per, p, watch float64) (failures, latency, watched Sample) {
	failures, latency, watched = Sample{Fresh: true}, Sample{Fresh: true}, Sample{Fresh: true}
	slow := make([]float64, 2)
	for i := range n {
		id := fmt.Sprintf("%s-%d", name, i)
		in := s.local[id]
		if in == nil {
			in = &incident{}
			s.local[id] = in
		}
		factor := in.at(s, s.season.local)
		q := math.Min(0.9, p*factor)
		if s.kappa > 0 {
			q = beta(s.r, q*s.kappa, (1-q)*s.kappa)
		}
		m := pois(s.r, per/float64(n))
		x := Sample{Fresh: true, N: m, K: binom(s.r, m, q)}
		tail := math.Min(0.9, 0.021*math.Min(3, factor)*math.Min(3, math.Max(1, p/math.Max(s.base, 1e-9)/math.Max(s.ratio, 1))))
		over := binom(s.r, m, tail)
		slow[0] += m - over
		slow[1] += over
		w := Sample{Fresh: true, N: m, K: binom(s.r, m, 0.6*watch)}
		failures.N, failures.K, watched.N, watched.K = failures.N+m, failures.K+x.K, watched.N+m, watched.K+w.K
		if !s.unlabelled {
			failures.Instances = append(failures.Instances, Instance{Name: id, Sample: x})
			watched.Instances = append(watched.Instances, Instance{Name: id, Sample: w})
			latency.Instances = append(latency.Instances, Instance{Name: id, Sample: Sample{Fresh: true, N: m, Buckets: tails(m, over)}})
		}
	}
	latency.N, latency.Buckets = failures.N, tails(failures.N, slow[1])
	return failures, latency, watched
}

// tails are the buckets of n requests of which over took more than 250 ms.
func tails(n, over float64) []Bucket {
	return []Bucket{{Upper: 0.1, Count: n - over}, {Upper: 0.25}, {Upper: 0.5, Count: over}}
}

// beta is a number with a beta distribution.
func beta(r *rand.Rand, a, b float64) float64 {
	x, y := gamma(r, a), gamma(r, b)
	if x+y <= 0 {
		return 0
	}
	return x / (x + y)
}

// readings are what the sources answer for one interval at the candidate's weight.
func (s *seasonRun) readings(at StepContext, step int, last bool) []Reading {
	load, level := 1.0, s.common.at(s, s.season.common)
	if s.swing > 0 {
		load = math.Exp(s.swing * math.Sin(2*math.Pi*s.now.Hours()/2))
		level *= math.Sqrt(load)
	}
	if last && s.jump > 0 {
		level *= s.jump
	}
	pb := math.Min(0.9, s.base*level)
	pc, watch := pb, 1.0
	if step >= s.from {
		pc = math.Min(0.95, math.Max(pb*math.Max(s.ratio, 1), s.least))
		if s.watch > 0 {
			watch = s.watch
		}
	}
	per := s.rps * load * simTick.Seconds()
	w := float64(at.CandidateWeight) / 100
	base := Reading{From: at.At.Add(-simTick), To: at.At, Status: StatusOK}
	f, l, v := base, base, base
	f.Metric, l.Metric, v.Metric = "failures", "latency", "watched"
	if s.sticky > 0 {
		f.Stable, f.Candidate = s.clients(per, w, pb)
		l.Stable, l.Candidate = Sample{Fresh: true, N: f.Stable.N, Buckets: tails(f.Stable.N, 0)}, Sample{Fresh: true, N: f.Candidate.N, Buckets: tails(f.Candidate.N, 0)}
		v.Stable, v.Candidate = f.Stable, f.Candidate
		return []Reading{f, l, v}
	}
	if w < 1 {
		f.Stable, l.Stable, v.Stable = s.arm("stable", s.stable, per*(1-w), pb, 1)
	}
	f.Candidate, l.Candidate, v.Candidate = s.arm("candidate", s.cand, per*w, pc, watch)
	return []Reading{f, l, v}
}
