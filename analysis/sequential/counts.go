package sequential

import "math"

// Hypotheses are a pair of hypotheses on counted events: the limit whose breach is
// looked for, and the regression whose absence allows a pass.
type Hypotheses struct {
	// Relative: the limits multiply the baseline's rate; otherwise they are rates.
	Relative bool
	// Limit is the rate or ratio that must be kept, and Grid the effects, as
	// ratios to the limit.
	Limit float64
	Grid  Increments
	// PassLimit is the rate or ratio that must be excluded, and PassGrid what is
	// expected instead: rates, or ratios to PassLimit.
	PassLimit float64
	PassGrid  [PassPoints]float64
}

// Absolute is the test of a rate that must be at most limit; detect > limit is
// the rate that must be caught.
func Absolute(limit, detect float64) Hypotheses {
	limit = math.Min(math.Max(limit, floor), 1-floor)
	detect = math.Min(math.Max(detect, limit*(1+1e-6)), 1-floor)
	t := Hypotheses{Limit: limit, Grid: Grid(detect / limit), PassLimit: detect}
	t.PassGrid = [PassPoints]float64{
		math.Max(limit, floor), math.Max(math.Sqrt(limit*detect), floor), math.Max(limit*limit/detect, floor),
	}
	return t
}

// Relative is the test of a ratio to the baseline's rate: at most limit where
// detect > limit, at least limit where detect < limit. healthy is the ratio
// that a good release is expected to have.
func Relative(limit, detect, healthy float64) Hypotheses {
	h := healthy / detect
	return Hypotheses{
		Relative: true, Limit: limit, Grid: Grid(detect / limit),
		PassLimit: detect, PassGrid: [PassPoints]float64{h, math.Sqrt(h), h * h},
	}
}

// Breach is what an interval adds to the evidence for a breach.
func (t Hypotheses) Breach(y Tally, p Pilot) (d Increments) {
	for j, r := range t.Grid {
		if t.Relative {
			d[j] = relative(y, t.Limit, r, p)
		} else {
			d[j] = OneSample(y.KC, y.NC, t.Limit, clip(r*t.Limit, t.Limit))
		}
	}
	return d
}

// Pass is what an interval adds to the evidence for a pass.
func (t Hypotheses) Pass(y Tally, p Pilot) (d [PassPoints]float64) {
	for j, q := range t.PassGrid {
		if t.Relative {
			d[j] = relative(y, t.PassLimit, q, p)
		} else {
			d[j] = OneSample(y.KC, y.NC, t.PassLimit, q)
		}
	}
	return d
}

func relative(y Tally, kappa, r float64, p Pilot) float64 {
	if rate, ok := p.Rate(); ok {
		return TwoSample(y, kappa, r, rate)
	}
	return Poisson(y, kappa, r)
}

// A Pilot follows the baseline's rate, forgetting slowly. It is only ever used
// for intervals after those it has seen.
type Pilot struct {
	K float64 `json:"k,omitempty"`
	N float64 `json:"n,omitempty"`
}

// forget is how much of the past a pilot keeps at each interval.
const forget = 0.995

// Learn takes one interval of the baseline in.
func (p *Pilot) Learn(k, n float64) {
	if n <= 0 {
		return
	}
	p.K, p.N = forget*p.K+k, forget*p.N+n
}

// Rate is the baseline's rate so far; ok is false while too little is known.
func (p Pilot) Rate() (rate float64, ok bool) {
	if p.N < 100 {
		return 0, false
	}
	rate = (p.K + 0.5) / (p.N + 1)
	return rate, rate >= pilotMin
}
