package sequential

import "math"

// Unknown is the dispersion assumed while it cannot be estimated.
const Unknown = 2.0

// Dispersion estimates how much more events cluster (retries, bursts) than
// independent ones would, from how the baseline's instances differ within one
// interval: Pearson's statistic over its degrees of freedom. Intervals are
// weighted by their events. Unweighted, an interval with a single cluster would
// count for no more than its size, while its share of the variance grows with
// the square. The zero value has seen nothing.
type Dispersion struct {
	// Freedom is the number of degrees of freedom.
	Freedom float64 `json:"df,omitempty"`
	// X2 and DF are the weighted sums of the statistic and of the degrees of
	// freedom, D1 that of the latter by squared weights.
	X2 float64 `json:"x2,omitempty"`
	DF float64 `json:"wdf,omitempty"`
	D1 float64 `json:"d1,omitempty"`
	// X4, XD and D2 are the sums of the weighted terms' squares and product.
	X4 float64 `json:"x4,omitempty"`
	XD float64 `json:"xd,omitempty"`
	D2 float64 `json:"d2,omitempty"`
	// Sizes is the weighted sum of how many events an instance had.
	Sizes float64 `json:"sizes,omitempty"`
}

// Phi is an upper 80% bound of the dispersion, at least 1: what increments are
// divided by. It is the greater of the chi-square bound and of one by how much
// the intervals differ: where few large clusters make up the events, they tell
// less than their number says.
func (d Dispersion) Phi() float64 {
	if d.Freedom < 5 || d.DF <= 0 {
		return Unknown
	}
	phi := d.X2 / d.DF
	spread := math.Sqrt(math.Max(0, d.X4-2*phi*d.XD+phi*phi*d.D2)) / d.DF
	effective := math.Max(1, d.DF*d.DF/d.D1)
	return math.Max(1, math.Max(phi*effective/ChiSquareLow(effective), phi+upper80*spread))
}

// Of is the dispersion where an instance has size events in an interval. What makes
// the events of one instance alike grows with their number (an intra-class correlation
// ρ makes φ = 1 + ρ(n−1)), so that the baseline's own dispersion is too little for
// instances with more events than its own: what is sure of it is scaled. For smaller
// ones it stays, because retries come in the same clusters.
func (d Dispersion) Of(size float64) float64 {
	phi := d.Phi()
	if d.Freedom < 5 || d.DF <= 0 || d.Sizes <= 0 {
		return phi
	}
	mean := d.Sizes / d.DF
	if size <= mean || mean <= 1 {
		return phi
	}
	x := d.X2 / d.DF
	sure := x - 1 - upper80*x*math.Sqrt(2*d.D1)/d.DF
	return math.Max(phi, 1+math.Max(0, sure)*(size-1)/(mean-1))
}

// upper80 is the 80% quantile of the standard normal distribution.
const upper80 = 0.8416

// Add takes an interval in: its weight, Pearson's statistic, its degrees of freedom,
// and how many events an instance had.
func (d *Dispersion) Add(weight, x2, df, size float64) {
	if weight <= 0 || df <= 0 {
		return
	}
	d.Freedom += df
	x, y := weight*x2, weight*df
	d.X2 += x
	d.DF += y
	d.D1 += weight * y
	d.X4 += x * x
	d.XD += x * y
	d.D2 += y * y
	d.Sizes += y * size
}

// Interval begins an interval of instances that together had k of n events.
func (d *Dispersion) Interval(k, n float64) Spread {
	if n <= 0 || k <= 0 || k >= n {
		return Spread{}
	}
	return Spread{into: d, rate: k / n, weight: k * (n - k) / n}
}

// Spread collects one interval's instances; nothing is counted where all
// events or none were of the counted kind.
type Spread struct {
	into   *Dispersion
	rate   float64
	weight float64
	x2     float64
	pods   float64
	n, n2  float64
}

// Add adds an instance that had k of n events.
func (s *Spread) Add(k, n float64) {
	if s.into == nil || n <= 0 {
		return
	}
	e := k - n*s.rate
	s.x2 += e * e / (n * s.rate * (1 - s.rate))
	s.pods++
	s.n, s.n2 = s.n+n, s.n2+n*n
}

// Done takes the interval in.
func (s *Spread) Done() {
	if s.into != nil && s.n > 0 {
		s.into.Add(s.weight, s.x2, s.pods-1, s.n2/s.n)
	}
}

// ChiSquareLow is the 20% quantile of the chi-square distribution, by Wilson
// and Hilferty.
func ChiSquareLow(df float64) float64 {
	h := 2 / (9 * df)
	c := 1 - h - upper80*math.Sqrt(h)
	return df * c * c * c
}
