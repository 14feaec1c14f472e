package analysis

import (
	"fmt"
	"math"

	"github.com/belayd/belay/analysis/sequential"
)

// Sums are the sums that a mean is made of.
type Sums struct {
	N     float64 `json:"n,omitempty"`
	Sum   float64 `json:"sum,omitempty"`
	SumSq float64 `json:"sumSq,omitempty"`
	// Batches are those of the samples: SumSq is made of them where it is not 0.
	Batches float64 `json:"batches,omitempty"`
}

// sumsOf are the sums of one sample.
func sumsOf(x *Sample) Sums { return Sums{x.N, x.Sum, x.SumSq, x.Batches} }

func (a Sums) add(x *Sample, keep float64) Sums {
	return Sums{keep*a.N + x.N, keep*a.Sum + x.Sum, keep*a.SumSq + x.SumSq, keep*a.Batches + x.Batches}
}

// known says whether there are enough events, and batches of them, to tell how much
// the values spread.
func (a Sums) known() bool {
	return a.N >= meanEvents && (a.Batches == 0 || a.Batches >= meanBatches)
}

func (a Sums) mean() float64 { return a.Sum / a.N }

// variance is that of one observation. Out of batches it is the upper bound that
// holds in four cases of five, so that a short past makes nobody sure.
func (a Sums) variance() float64 {
	m := a.mean()
	if a.Batches == 0 {
		return math.Max(0, a.SumSq/a.N-m*m)
	}
	df := a.Batches - 1
	if df < 1 {
		return 0
	}
	return math.Max(0, a.SumSq-a.N*m*m) / math.Min(df, sequential.ChiSquareLow(df))
}

// Deviation is the standard deviation of one event of a mean.
func (x *Sample) Deviation() float64 {
	if x.N <= 0 {
		return 0
	}
	return math.Sqrt(sumsOf(x).variance())
}

// MeanStats are what a guardrail on a mean remembers: the past of both arms, by
// which intervals are judged, small intervals that wait to be merged, and the
// step's sums for estimates.
type MeanStats struct {
	PastCandidate Sums `json:"pastC,omitzero"`
	PastStable    Sums `json:"pastB,omitzero"`
	WaitCandidate Sums `json:"waitC,omitzero"`
	WaitStable    Sums `json:"waitB,omitzero"`
	// Beside is the candidate's part that waits to be compared with WaitStable where the
	// limit is absolute, and WaitCandidate need not wait for stable.
	Beside Sums `json:"beside,omitzero"`
	// Passes: all that waits may count towards a pass.
	Passes        bool `json:"passes,omitempty"`
	StepCandidate Sums `json:"stepC,omitzero"`
	StepStable    Sums `json:"stepB,omitzero"`
	// Wide: the values spread too much for a mean to be judged.
	Wide bool `json:"wide,omitempty"`
}

const (
	// meanEvents is how many events an interval needs before its mean is normal
	// enough.
	meanEvents = 100
	// meanBatches is how many batches tell how much values spread, where their
	// squares are not known.
	meanBatches = 12
	// widest is the greatest coefficient of variation at which means are judged.
	widest = 2.0
	// meanForget is how much of the past the moments keep at each interval.
	meanForget = 0.995
)

// meanGrid and meanPassGrid are the effects, as multiples of the design effect.
var (
	meanGrid     = sequential.Increments{1, 0.5, 2, 4, 0.25, 8}
	meanPassGrid = [sequential.PassPoints]float64{1, 0.5, 2}
)

func (m *MeanStats) beginStep() {
	m.WaitCandidate, m.WaitStable, m.Beside, m.Passes = Sums{}, Sums{}, Sums{}, false
	m.StepCandidate, m.StepStable = Sums{}, Sums{}
}

// afresh keeps what was learnt and shown, and drops what waits.
func (m *MeanStats) afresh() *MeanStats {
	c := *m
	c.WaitCandidate, c.WaitStable, c.Beside, c.Passes = Sums{}, Sums{}, Sums{}, false
	return &c
}

// mean takes a reading of a mean in.
func (s *GuardrailState) mean(v *observation) {
	r, relative := v.reading, v.guardrail.Limit.Relative
	if s.Moments == nil {
		s.Moments = &MeanStats{}
	}
	m := s.Moments
	if m.WaitCandidate.N == 0 {
		m.Passes = true
	}
	m.Passes = m.Passes && v.passes
	s.Alone = !r.Stable.Fresh
	level := r.Candidate.Sum / math.Max(1, r.Candidate.N)
	s.tellApart(v, func(w *Without, x *Sample) float64 {
		w.Sums = w.Sums.add(x, 1)
		return math.Abs(x.Sum - level*x.N)
	})
	m.WaitCandidate = m.WaitCandidate.add(&r.Candidate, 1)
	if r.Stable.Fresh {
		m.WaitStable = m.WaitStable.add(&r.Stable, 1)
		m.Beside = m.Beside.add(&r.Candidate, 1)
	}
	t := sequential.Tally{NC: r.Candidate.N, KC: r.Candidate.Sum, NB: r.Stable.N, KB: r.Stable.Sum}
	s.lately(v, t, func(mean float64) bool { return v.guardrail.violates(mean, v.guardrail.Limit.Value) })
	if !v.late {
		m.StepCandidate = m.StepCandidate.add(&r.Candidate, 1)
		if r.Stable.Fresh {
			m.StepStable = m.StepStable.add(&r.Stable, 1)
		}
	}
	both := m.WaitStable.N >= meanEvents && m.Beside.N >= meanEvents
	if m.WaitCandidate.N >= meanEvents && (!relative || both) {
		s.meanBatch(v, m)
		m.WaitCandidate = Sums{}
	}
	if both {
		s.meanBeside(v, m)
		m.WaitStable, m.Beside = Sums{}, Sums{}
	}
	m.PastCandidate = m.PastCandidate.add(&r.Candidate, meanForget)
	s.learnMean(&r.Stable)
}

// A spread is what the past says of a mean: stable's level, and the variance of one
// event of either arm.
type spread struct{ level, candidate, stable float64 }

// spread is what batches are judged by; ok is false while too little is known, or where
// the values are not fit for a mean. The candidate's own values may spread more than
// stable's, and are never taken to spread less.
func (m *MeanStats) spread(g *Guardrail) (x spread, ok bool) {
	past := m.PastStable
	if !past.known() && !g.Limit.Relative {
		past = m.PastCandidate
	}
	if !past.known() || !m.PastCandidate.known() {
		return spread{}, false
	}
	x = spread{level: past.mean(), stable: past.variance()}
	x.candidate = math.Max(x.stable, m.PastCandidate.variance())
	own := m.PastCandidate.mean()
	m.Wide = x.stable > widest*widest*x.level*x.level || x.candidate > widest*widest*math.Max(own*own, x.level*x.level)
	return x, !m.Wide
}

// meanBatch judges what was merged, by the variance and the level of the past.
func (s *GuardrailState) meanBatch(v *observation, m *MeanStats) {
	g, p := v.guardrail, v.panel
	past, ok := m.spread(g)
	if !ok {
		none := sequential.Increments{}
		s.Apart.add(s.Breach, none, func(*Without) sequential.Increments { return none }, 1, 0, 0)
		return
	}
	limit, detect, scale, healthy := g.Limit.Value, g.Detect, 1.0, g.Limit.Value
	excluded := g.passing(v.weight).Detect
	if g.Limit.Relative {
		if past.level <= 0 {
			s.Trouble, s.Reason = OutcomeError, fmt.Sprintf("stable's mean is %s, and a share of that is no limit: "+
				"write an absolute one", number(past.level))
			return
		}
		healthy, scale = 1, past.level
	}
	b := m.WaitStable
	against := func(c Sums, f float64) (d, v float64) {
		if g.Limit.Relative {
			return c.mean() - f*b.mean(), past.candidate/c.N + f*f*past.stable/b.N
		}
		return c.mean() - f, past.candidate / c.N
	}
	phi, most := s.Dispersion.Phi(), sequential.Cap(p.share(), s.Breach.Newest)
	drift := math.Abs(limit-detect) * scale
	breach := func(c Sums) sequential.Increments {
		if c.N <= 0 {
			return sequential.Increments{}
		}
		d, v := against(c, limit)
		return meanIncrements(g.worse()*d, v, drift)
	}
	inc := breach(m.WaitCandidate)
	s.Breach.Add(inc, phi, most)
	s.Apart.add(s.Breach, inc, func(w *Without) sequential.Increments { return breach(m.WaitCandidate.without(w.Sums)) },
		phi, most, 0)
	if !m.Passes {
		return
	}
	d, vd := against(m.WaitCandidate, excluded)
	var good [sequential.PassPoints]float64
	for j, f := range meanPassGrid {
		good[j] = sequential.MeanIncrement(-g.worse()*d, vd, f*math.Abs(healthy-excluded)*scale)
	}
	s.Pass.Add(good, phi)
	if g.Limit.Relative {
		off := (healthy - excluded) * scale
		s.Due += off * off / (2 * vd * phi)
	}
	s.pass(v)
}

// meanBeside takes in, for an absolute limit, how the candidate did beside stable, and
// how stable did by itself.
func (s *GuardrailState) meanBeside(v *observation, m *MeanStats) {
	g := v.guardrail
	past, ok := m.spread(g)
	if g.Limit.Relative || !ok {
		return
	}
	c, b, drift := m.Beside, m.WaitStable, math.Abs(g.Limit.Value-g.Detect)
	phi, most := s.Dispersion.Phi(), sequential.Cap(v.panel.share(), s.Breach.Newest)
	s.Worse.Add(meanIncrements(g.worse()*(c.mean()-b.mean()), past.candidate/c.N+past.stable/b.N, drift), phi, most)
	s.Shared.Add(meanIncrements(g.worse()*(b.mean()-g.Limit.Value), past.stable/b.N, drift), phi, most)
}

// worse is the sign of a difference that keeps the limit: 1 where lower is worse.
func (g *Guardrail) worse() float64 {
	if g.Limit.AtLeast {
		return 1
	}
	return -1
}

// without are the sums less another's.
func (a Sums) without(b Sums) Sums {
	return Sums{math.Max(0, a.N-b.N), a.Sum - b.Sum, a.SumSq - b.SumSq, math.Max(0, a.Batches-b.Batches)}
}

func meanIncrements(d, v, drift float64) (inc sequential.Increments) {
	for j, f := range meanGrid {
		inc[j] = sequential.MeanIncrement(d, v, f*drift)
	}
	return inc
}

// learnMean takes a sample of stable in: its moments and its dispersion.
func (s *GuardrailState) learnMean(x *Sample) {
	if !x.Fresh || x.N <= 0 {
		return
	}
	if s.Moments == nil {
		s.Moments = &MeanStats{}
	}
	s.Moments.PastStable = s.Moments.PastStable.add(x, meanForget)
	now := sumsOf(x)
	if now.Batches > 0 {
		now = s.Moments.PastStable // one sample's batches are too few
	}
	if len(x.Instances) < 2 || now.Batches > 0 && !now.known() || now.variance() <= 0 {
		return
	}
	x2, df := 0.0, -1.0
	for i := range x.Instances {
		if in := &x.Instances[i]; in.N > 0 {
			e := in.Sum - in.N*x.Sum/x.N
			x2 += e * e / (in.N * now.variance())
			df++
		}
	}
	s.Dispersion.Add(1, x2, df, x.N/(df+1))
}

// estimate is the mean with its anytime-valid 95% interval, which is
// asymptotic.
func (a Sums) estimate(phi float64) Estimate {
	if a.N <= 0 {
		return Estimate{}
	}
	if a.Batches > 0 && a.Batches < meanBatches {
		return Estimate{} // no interval can be told yet
	}
	half := sequential.MeanHalfWidth(a.N/phi, a.variance(), 0.05)
	m := a.mean()
	return Estimate{N: a.N, Value: m, Low: m - half, High: m + half, Known: true}
}
