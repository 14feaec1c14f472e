package sim

import (
	"hash/fnv"
	"math"
)

// A Random is a small seeded generator (SplitMix64: Steele, Lea, Flood 2014,
// "Fast splittable pseudorandom number generators"). The same seed gives the
// same numbers on every machine. It is not safe for concurrent use.
type Random struct{ state uint64 }

// NewRandom seeds a generator.
func NewRandom(seed uint64) *Random { return &Random{state: seed} }

// keyed seeds a generator for one named thing, so that its numbers do not depend
// on what else was drawn.
func keyed(seed uint64, name string, n int64) *Random {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	r := Random{state: seed ^ h.Sum64()}
	r.state += uint64(n) * 0x9e3779b97f4a7c15 //nolint:gosec // a wrapped product is what is wanted
	// The state is a draw itself: the streams of neighbouring n would otherwise be
	// one stream, shifted by a step.
	r.state = r.Uint64()
	return &r
}

// Uint64 is the next number.
func (r *Random) Uint64() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// Float64 is uniform in [0, 1).
func (r *Random) Float64() float64 { return float64(r.Uint64()>>11) / (1 << 53) }

// IntN is uniform in [0, n); 0 when n is not positive.
func (r *Random) IntN(n int) int {
	if n <= 0 {
		return 0
	}
	return int(r.Uint64() % uint64(n)) //nolint:gosec // the remainder is below n
}

// Chance is true with probability p.
func (r *Random) Chance(p float64) bool { return r.Float64() < p }

// Normal is standard normal (Box and Muller 1958).
func (r *Random) Normal() float64 {
	u := 1 - r.Float64()
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*r.Float64())
}

// Poisson draws a count with the mean; above 30 by the rounded normal.
func (r *Random) Poisson(mean float64) float64 {
	if mean <= 0 {
		return 0
	}
	if mean > 30 {
		return math.Max(0, math.Round(mean+math.Sqrt(mean)*r.Normal()))
	}
	limit, n, p := math.Exp(-mean), 0.0, 1.0
	for {
		p *= r.Float64()
		if p <= limit {
			return n
		}
		n++
	}
}

// Binomial draws how many of n happen with probability p each; exact for small
// counts, otherwise by the Poisson or the normal limit.
func (r *Random) Binomial(n, p float64) float64 {
	switch {
	case n <= 0 || p <= 0:
		return 0
	case p >= 1:
		return n
	case n <= 40:
		k := 0.0
		for range int(n) {
			if r.Chance(p) {
				k++
			}
		}
		return k
	case p > 0.5:
		return n - r.Binomial(n, 1-p)
	case n*p < 30:
		return math.Min(n, r.Poisson(n*p))
	}
	k := math.Round(n*p + math.Sqrt(n*p*(1-p))*r.Normal())
	return math.Min(n, math.Max(0, k))
}
