package analysis

import (
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

// Moments are what a guardrail on a mean remembers: the past of both arms, by
// which intervals are judged, small intervals that wait to be merged, and the
// step's sums for estimates.
type Moments struct {
	PastCandidate Sums `json:"pastC,omitzero"`
	PastStable    Sums `json:"pastB,omitzero"`
	WaitCandidate Sums `json:"waitC,omitzero"`
	WaitStable    Sums `json:"waitB,omitzero"`
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
	meanGrid     = sequential.Increments{1, 0.5, 2, 4}
	meanPassGrid = [sequential.PassPoints]float64{1, 0.5, 2}
)

func (m *Moments) beginStep() {
	m.WaitCandidate, m.WaitStable, m.Passes = Sums{}, Sums{}, false
	m.StepCandidate, m.StepStable = Sums{}, Sums{}
}

// afresh keeps what was learnt and shown, and drops what waits.
func (m *Moments) afresh() *Moments {
	c := *m
	c.WaitCandidate, c.WaitStable, c.Passes = Sums{}, Sums{}, false
	return &c
}

// mean takes a reading of a mean in.
func (s *Standing) mean(v *visit) {
	r := v.reading
	if s.Moments == nil {
		s.Moments = &Moments{}
	}
	m := s.Moments
	if m.WaitCandidate.N == 0 && m.WaitStable.N == 0 {
		m.Passes = true
	}
	m.Passes = m.Passes && v.passes
	m.WaitCandidate = m.WaitCandidate.add(&r.Candidate, 1)
	if r.Stable.Fresh {
		m.WaitStable = m.WaitStable.add(&r.Stable, 1)
	}
	if !v.late {
		m.StepCandidate = m.StepCandidate.add(&r.Candidate, 1)
		if r.Stable.Fresh {
			m.StepStable = m.StepStable.add(&r.Stable, 1)
		}
	}
	relative := v.guardrail.Limit.Relative
	if m.WaitCandidate.N >= meanEvents && (!relative || m.WaitStable.N >= meanEvents) {
		s.meanBatch(v, m)
		m.WaitCandidate, m.WaitStable = Sums{}, Sums{}
	}
	m.PastCandidate = m.PastCandidate.add(&r.Candidate, meanForget)
	s.learnMean(&r.Stable)
}

// meanBatch judges what was merged, by the variance and the level of the past.
func (s *Standing) meanBatch(v *visit, m *Moments) {
	g, p := v.guardrail, v.panel
	past := m.PastStable
	if !g.Limit.Relative && (!past.known() || m.PastCandidate.known() && m.PastCandidate.variance() > past.variance()) {
		past = m.PastCandidate
	}
	if !past.known() {
		return
	}
	level, variance := past.mean(), past.variance()
	if m.Wide = variance > widest*widest*level*level; m.Wide {
		return
	}
	worse := 1.0 // lower is worse
	if !g.Limit.AtLeast {
		worse = -1
	}
	c, b := m.WaitCandidate, m.WaitStable
	limit, detect, scale := g.Limit.Value, g.Detect, 1.0
	healthy := limit
	against := func(f float64) (d, v float64) { return c.mean() - f, variance / c.N }
	if g.Limit.Relative {
		healthy, scale = 1, level
		against = func(f float64) (d, v float64) {
			return c.mean() - f*b.mean(), variance/c.N + f*f*variance/b.N
		}
	}
	phi, most := s.Dispersion.Phi(), sequential.Cap(p.share(), s.Breach.Newest)
	d, vd := against(limit)
	s.Breach.Add(meanIncrements(worse*d, vd, math.Abs(limit-detect)*scale), phi, most)
	if !g.Limit.Relative && b.N >= meanEvents {
		s.Shared.Add(meanIncrements(worse*(b.mean()-limit), variance/b.N, math.Abs(limit-detect)), phi, most)
	}
	if !m.Passes {
		return
	}
	d, vd = against(detect)
	var inc [sequential.PassPoints]float64
	for j, f := range meanPassGrid {
		inc[j] = sequential.MeanIncrement(-worse*d, vd, f*math.Abs(healthy-detect)*scale)
	}
	s.Pass.Add(inc, phi)
	s.Passed = s.Passed || s.Pass.LogE() >= math.Log(1/p.beta())
}

func meanIncrements(d, v, drift float64) (inc sequential.Increments) {
	for j, f := range meanGrid {
		inc[j] = sequential.MeanIncrement(d, v, f*drift)
	}
	return inc
}

// learnMean takes a sample of stable in: its moments and its dispersion.
func (s *Standing) learnMean(x *Sample) {
	if !x.Fresh || x.N <= 0 {
		return
	}
	if s.Moments == nil {
		s.Moments = &Moments{}
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
	s.Dispersion.Add(1, x2, df)
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
