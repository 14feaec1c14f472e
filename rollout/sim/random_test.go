package sim

import (
	"math"
	"testing"
)

// TestKeyedStreamsAreApart: the draws of neighbouring cells are independent.
// Sums over neighbours would otherwise vary far more than their parts allow.
func TestKeyedStreamsAreApart(t *testing.T) {
	const cells, trials, mean = 7, 4000, 4.0
	var sum, squares float64
	for i := range int64(trials) {
		total := 0.0
		for c := range int64(cells) {
			total += keyed(1, "green", i*cells+c).Poisson(mean)
		}
		sum += total
		squares += total * total
	}
	m := sum / trials
	variance := squares/trials - m*m
	if want := cells * mean; math.Abs(variance-want) > 0.15*want || math.Abs(m-want) > 0.05*want {
		t.Errorf("sum of %d cells: got mean %.2f and variance %.2f, want both near %.0f", cells, m, variance, want)
	}
}

// TestBinomial: every way of drawing has the mean and the variance of a binomial.
func TestBinomial(t *testing.T) {
	r := NewRandom(3)
	for _, c := range []struct{ n, p float64 }{{20, 0.3}, {1000, 0.01}, {1000, 0.4}, {1000, 0.97}, {5, 0}, {5, 1}} {
		var sum, squares float64
		const trials = 20000
		for range trials {
			k := r.Binomial(c.n, c.p)
			if k < 0 || k > c.n || k != math.Trunc(k) {
				t.Fatalf("Binomial(%g, %g) = %g", c.n, c.p, k)
			}
			sum += k
			squares += k * k
		}
		m := sum / trials
		v := squares/trials - m*m
		if math.Abs(m-c.n*c.p) > 0.03*c.n*c.p+0.01 || math.Abs(v-c.n*c.p*(1-c.p)) > 0.1*c.n*c.p*(1-c.p)+0.05 {
			t.Errorf("Binomial(%g, %g): got mean %.3f, variance %.3f, want %.3f, %.3f", c.n, c.p, m, v, c.n*c.p, c.n*c.p*(1-c.p))
		}
	}
}
