package sequential

import "math"

// An EvidenceDrift is evidence on its way to a threshold, as Brownian motion with drift:
// what one step adds on average, with which variance, and how far it has to go.
// The time of its first passage has the inverse Gaussian distribution.
type EvidenceDrift struct {
	Distance float64
	Mean     float64
	Variance float64
	// begin are the sums of what the first steps add, in mean and variance, where those
	// differ from the later ones; empty where they do not.
	begin []moments
}

type moments struct{ mean, variance float64 }

// A DispersionRamp is by how much increments are divided in each step while the dispersion is
// still being learnt, relative to what they are divided by once it is known: its
// upper bound is wide at first.
type DispersionRamp []float64

// paceSteps is after how many steps a pace stays what it is.
const paceSteps = 400

// Learning is the pace of evidence from a start at which nothing is known of the
// dispersion: every step teaches freedom degrees of freedom, and events really
// cluster by dispersion. It is the expected course of Dispersion.Phi.
func Learning(freedom, dispersion float64) DispersionRamp {
	p := make(DispersionRamp, paceSteps)
	for i := range p {
		phi := Unknown
		if df := float64(i) * freedom; df >= 5 {
			phi = math.Max(1, dispersion*df/ChiSquareLow(df))
		}
		p[i] = phi / dispersion
	}
	return p
}

// paced is the walk whose first steps add what step says for their pace.
func (w EvidenceDrift) paced(p DispersionRamp, step func(phi float64) (mean, variance float64)) EvidenceDrift {
	if len(p) == 0 {
		return w
	}
	w.begin = make([]moments, len(p)+1)
	for i, phi := range p {
		m, v := step(phi)
		w.begin[i+1] = moments{w.begin[i].mean + m, w.begin[i].variance + v}
	}
	last := w.begin[len(p)]
	w.Mean, w.Variance = last.mean-w.begin[len(p)-1].mean, last.variance-w.begin[len(p)-1].variance
	return w
}

// after is what n steps add, in mean and variance.
func (w EvidenceDrift) after(n float64) (mean, variance float64) {
	last := len(w.begin) - 1
	if last < 1 {
		return w.Mean * n, w.Variance * n
	}
	i := min(int(n), last-1)
	a, b, rest := w.begin[i], w.begin[i+1], n-float64(i)
	return a.mean + rest*(b.mean-a.mean), a.variance + rest*(b.variance-a.variance)
}

// Crossed is the chance that the threshold was reached within n steps.
func (w EvidenceDrift) Crossed(n float64) float64 {
	if n <= 0 {
		return 0
	}
	if w.Distance <= 0 {
		return 1
	}
	mean, variance := w.after(n)
	if variance <= 0 {
		if mean >= w.Distance {
			return 1
		}
		return 0
	}
	s := math.Sqrt(variance)
	// The product of a huge exponential with a tiny probability is taken in
	// logarithms.
	p := math.Exp(logPhi((mean-w.Distance)/s)) +
		math.Exp(2*mean*w.Distance/variance+logPhi(-(w.Distance+mean)/s))
	return math.Min(1, p)
}

// Quantile is the number of steps within which the threshold is reached with
// chance q; +Inf when it never is.
func (w EvidenceDrift) Quantile(q float64) float64 {
	if w.Distance <= 0 {
		return 0
	}
	if w.Mean <= 0 {
		return math.Inf(1)
	}
	high := w.Distance / w.Mean
	for range 64 {
		if w.Crossed(high) >= q {
			break
		}
		high *= 2
	}
	low := 0.0
	for range 60 {
		if m := (low + high) / 2; w.Crossed(m) < q {
			low = m
		} else {
			high = m
		}
	}
	return high
}

// Look is the chance that the threshold was seen to be reached at one of the
// first n looks, when the walk is only looked at between steps: what happens
// between two looks is missed, and what is seen overshoots the threshold.
func (w EvidenceDrift) Look(n int) float64 {
	w.Distance += overshoot * math.Sqrt(w.Variance)
	return w.Crossed(float64(n))
}

// overshoot is by how many standard deviations of a step a random walk is
// beyond a threshold when it is first seen there (Siegmund 1985).
const overshoot = 0.5826

// Looks is the number of looks within which the threshold is seen to be reached
// with chance q; +Inf when it never is.
func (w EvidenceDrift) Looks(q float64) float64 {
	w.Distance += overshoot * math.Sqrt(w.Variance)
	return math.Max(1, math.Ceil(w.Quantile(q)-1e-9))
}

// MeanLooks is the mean number of looks until the threshold is seen to be
// reached; +Inf when it may never be.
func (w EvidenceDrift) MeanLooks() float64 {
	if w.Mean <= 0 {
		return math.Inf(1)
	}
	w.Distance += overshoot * math.Sqrt(w.Variance)
	if far := w.Distance / w.Mean; far > 200 {
		mean, _ := w.after(far)
		return far + (w.Distance-mean)/w.Mean + 0.5
	}
	sum := 1.0
	for n := 1; n < 20000; n++ {
		rest := 1 - w.Crossed(float64(n))
		if sum += rest; rest < 1e-9 {
			break
		}
	}
	return sum
}

// logPhi is the logarithm of the standard normal distribution function.
func logPhi(z float64) float64 {
	if z > -20 {
		return math.Log(math.Erfc(-z/math.Sqrt2) / 2)
	}
	// The asymptotic series of Mills' ratio.
	i := 1 / (z * z)
	return -z*z/2 - math.Log(-z) - math.Log(2*math.Pi)/2 + math.Log1p(-i+3*i*i-15*i*i*i+105*i*i*i*i)
}

// HalfNormal is the logarithm of the one-sided Gaussian mixture that is the
// closed form of MeanIncrement's grid: u is the sum of weighted differences, v
// the sum of their variances and tau the scale of the half-normal prior; the
// evidence is for differences below 0.
func HalfNormal(u, v, tau float64) float64 {
	a := 1 + tau*tau*v
	return math.Ln2 - math.Log(a)/2 + tau*tau*u*u/(2*a) + logPhi(-u*tau/math.Sqrt(a))
}

// Divergence is the Kullback-Leibler divergence of rate p from rate q.
func Divergence(p, q float64) float64 {
	d := 0.0
	if p > 0 {
		d += p * math.Log(p/q)
	}
	if p < 1 {
		d += (1 - p) * (math.Log1p(-p) - math.Log1p(-q))
	}
	return d
}

// Information is the most that the evidence against a ratio of kappa can grow
// by per request of both arms, when a share w of them goes to a candidate with
// rate pc and the rest to a baseline with rate pb; x is the nearest point of
// the null.
func Information(w, pc, pb, kappa float64) (rate, x float64) {
	if w <= 0 || w >= 1 {
		return 0, pb
	}
	x, _ = projection(w, 1-w, kappa, pc/(kappa*pb), pb)
	if x <= 0 {
		return 0, pb
	}
	return w*Divergence(pc, kappa*x) + (1-w)*Divergence(pb, x), x
}
