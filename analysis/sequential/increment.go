package sequential

import "math"

const (
	// ceiling is the highest rate an alternative may have while the limit itself
	// is lower; see clip.
	ceiling = 0.98
	// floor is the lowest rate that enters a logarithm.
	floor = 1e-9
	// pilotMin and pilotMax bound the baseline's rate for which the exact
	// two-sample form is used.
	pilotMin = 1e-9
	pilotMax = 1 - 1e-6
)

// clip keeps the alternative q below 1 and above the limit p, so that it never
// changes sides: at most 0.98, or half-way from p to 1 where p is near 1.
func clip(q, p float64) float64 {
	return math.Min(q, math.Max(ceiling, (1+p)/2))
}

// OneSample is the logarithm of the likelihood ratio of rate q against rate p
// after k of n events. It is an e-value increment for "the rate is at most p"
// when q > p, and for "at least p" when q < p, also when only the running
// average of the rates keeps the limit.
func OneSample(k, n, p, q float64) float64 {
	return k*math.Log(q/p) + (n-k)*(math.Log1p(-q)-math.Log1p(-p))
}

// stakes are what one event of each kind adds to the logarithm of the evidence:
// a candidate's counted event and its others, a baseline's counted event and
// its others. Every increment is a sum of stakes.
type stakes struct{ c1, c0, b1, b0 float64 }

func (s stakes) of(t Tally) float64 {
	return t.KC*s.c1 + (t.NC-t.KC)*s.c0 + t.KB*s.b1 + (t.NB-t.KB)*s.b0
}

// Poisson is the increment of the two-sample test in its Poisson limit: it
// needs no pilot, is valid for every common rate and loses no power while the
// rates are small. kappa is the limit on the ratio candidate to baseline and
// r·kappa the alternative.
func Poisson(t Tally, kappa, r float64) float64 {
	return poissonStakes(t.NC, t.NB, kappa, r).of(t)
}

func poissonStakes(nc, nb, kappa, r float64) stakes {
	if nc <= 0 || nb <= 0 {
		return stakes{}
	}
	b := math.Log((kappa*nc + nb) / (r*kappa*nc + nb))
	return stakes{c1: math.Log(r) + b, b1: b}
}

// TwoSample is the logarithm of the e-value against "the candidate's rate is at
// most kappa times the baseline's" (at least, when r < 1) for one interval,
// exact for any common rate. The alternative is a ratio of r·kappa at the
// baseline rate pilot; a wrong pilot costs power, never validity.
func TwoSample(t Tally, kappa, r, pilot float64) float64 {
	return exactStakes(t.NC, t.NB, kappa, r, pilot).of(t)
}

func exactStakes(nc, nb, kappa, r, pilot float64) stakes {
	x, q := projection(nc, nb, kappa, r, pilot)
	if x <= 0 {
		return stakes{}
	}
	return stakes{
		c1: math.Log(q / (kappa * x)), c0: math.Log1p(-q) - math.Log1p(-kappa*x),
		b1: math.Log(pilot / x), b0: math.Log1p(-pilot) - math.Log1p(-x),
	}
}

// projection is the point x of the null (kappa·x, x) that is nearest to the
// alternative (q, pilot) in the sense of the reverse information projection,
// and q itself. x is 0 where the test abstains: an empty arm, a pilot that is
// not usable, or an alternative on the wrong side.
func projection(nc, nb, kappa, r, pilot float64) (x, q float64) {
	if nc <= 0 || nb <= 0 || pilot < pilotMin || pilot > pilotMax || kappa*pilot >= pilotMax {
		return 0, 0
	}
	q = r * kappa * pilot
	if r > 1 {
		q = clip(q, kappa*pilot)
	}
	q = math.Max(q, floor*floor)
	rp := q / kappa
	a := kappa * (nc + nb)
	b := nc*kappa*(rp+1) + nb*(1+kappa*pilot)
	c := nc*kappa*rp + nb*pilot
	x = 2 * c / (b + math.Sqrt(math.Max(0, b*b-4*a*c)))
	if !(x > 0 && x < 1 && kappa*x < 1) {
		return 0, 0 // unreachable unless rounding put the root on the border
	}
	return x, q
}

// nearest is how far, as a logarithm, what is excluded may be from what is expected for
// their evidence to be near normal: small effects take many events to tell.
const nearest = 0.25

// Due is what an interval is to be expected to add to the evidence of the first effect for
// a pass when the candidate does as expected; 0 where the evidence is not near normal.
func (t Hypotheses) Due(y Tally, p Pilot) float64 {
	rate, ok := p.Rate()
	if !t.Relative || !ok || math.Abs(math.Log(t.PassGrid[0])) > nearest {
		return 0
	}
	y.KB, y.KC = rate*y.NB, math.Min(1, rate*t.PassGrid[0]*t.PassLimit)*y.NC
	return TwoSample(y, t.PassLimit, t.PassGrid[0], rate)
}

// MeanIncrement is the increment of the Gaussian test on a difference of means:
// d is the difference in the direction that keeps the limit, v its predictable
// variance, drift the size of the effect it is made for. It is asymptotic.
func MeanIncrement(d, v, drift float64) float64 {
	if v <= 0 || drift <= 0 {
		return 0
	}
	lambda := drift / v
	return -lambda*d - lambda*lambda*v/2
}
