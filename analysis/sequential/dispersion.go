package sequential

import "math"

// Unknown is the dispersion assumed while it cannot be estimated.
const Unknown = 2.0

// Dispersion estimates how much more events cluster (retries, bursts) than
// independent ones would, from how the baseline's instances differ within one
// interval. The zero value has seen nothing.
type Dispersion struct {
	X2 float64 `json:"x2,omitempty"`
	DF float64 `json:"df,omitempty"`
}

// Phi is an upper 80% bound of the dispersion, at least 1: what increments are
// divided by.
func (d Dispersion) Phi() float64 {
	if d.DF < 5 {
		return Unknown
	}
	return math.Max(1, d.X2/chiSquareLow(d.DF))
}

// Interval begins an interval of instances that together had k of n events.
func (d *Dispersion) Interval(k, n float64) Spread {
	if n <= 0 || k <= 0 || k >= n {
		return Spread{}
	}
	return Spread{into: d, rate: k / n}
}

// Spread collects one interval's instances; nothing is counted where all
// events or none were of the counted kind.
type Spread struct {
	into *Dispersion
	rate float64
	x2   float64
	pods float64
}

// Add adds an instance that had k of n events.
func (s *Spread) Add(k, n float64) {
	if s.into == nil || n <= 0 {
		return
	}
	e := k - n*s.rate
	s.x2 += e * e / (n * s.rate * (1 - s.rate))
	s.pods++
}

// Done takes the interval in.
func (s *Spread) Done() {
	if s.into == nil || s.pods < 2 {
		return
	}
	s.into.X2 += s.x2
	s.into.DF += s.pods - 1
}

// chiSquareLow is the 20% quantile of the chi-square distribution, by Wilson
// and Hilferty.
func chiSquareLow(df float64) float64 {
	h := 2 / (9 * df)
	c := 1 - h - 0.8416*math.Sqrt(h)
	return df * c * c * c
}
