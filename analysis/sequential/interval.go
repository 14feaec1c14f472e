package sequential

import "math"

// LogBeta is the logarithm of the evidence against the rate p after k of n
// events: the mixture of all rates under Beta(½,½), two-sided.
func LogBeta(k, n, p float64) float64 {
	return logBetaConstant(k, n) + betaKernel(k, n, p)
}

// logBetaConstant is the part of LogBeta that does not depend on the rate.
func logBetaConstant(k, n float64) float64 {
	a, _ := math.Lgamma(k + 0.5)
	b, _ := math.Lgamma(n - k + 0.5)
	c, _ := math.Lgamma(n + 1)
	return a + b - c - math.Log(math.Pi)
}

func betaKernel(k, n, p float64) float64 {
	var s float64
	if k > 0 {
		s -= k * math.Log(p)
	}
	if n-k > 0 {
		s -= (n - k) * math.Log1p(-p)
	}
	return s
}

// Interval is the anytime-valid confidence interval of a rate after k of n
// events: with chance 1−alpha it holds the true rate at every moment at once.
func Interval(k, n, alpha float64) (low, high float64) {
	if n <= 0 {
		return 0, 1
	}
	k = math.Min(math.Max(k, 0), n)
	need := math.Log(1/alpha) - logBetaConstant(k, n)
	mid := k / n
	out := func(p float64) bool { return betaKernel(k, n, p) >= need }
	if k > 0 {
		low = bisect(0, mid, out)
	}
	high = 1
	if k < n {
		high = bisect(1, mid, out)
	}
	return low, high
}

// bisect finds the border between out (true) and in (false).
func bisect(out, in float64, isOut func(float64) bool) float64 {
	for range 42 {
		m := (out + in) / 2
		if isOut(m) {
			out = m
		} else {
			in = m
		}
	}
	return (out + in) / 2
}

// MeanHalfWidth is half the width of the anytime-valid confidence interval of a
// mean of n observations of the given variance. It is asymptotic, and
// narrowest around n = 500.
func MeanHalfWidth(n, variance, alpha float64) float64 {
	if n <= 0 {
		return math.Inf(1)
	}
	const rho2 = 0.02
	a := n*rho2 + 1
	return math.Sqrt(variance * 2 * a / (n * n * rho2) * math.Log(math.Sqrt(a)/alpha))
}

// SumHalfWidth is how far a sum of the given variance strays from what it should be, to
// one side and at any moment, but with chance alpha. It is the normal mixture, made for
// sums that stray by about scale, and asymptotic.
func SumHalfWidth(variance, scale, alpha float64) float64 {
	if variance <= 0 {
		return 0
	}
	need := 2 * math.Log(1/alpha)
	prior := math.Max(1, scale*scale/need) / (need + math.Log1p(need))
	sum := variance + prior
	return math.Sqrt(sum * (math.Log(sum/prior) + need))
}
