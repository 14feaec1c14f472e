package sequential

import "math"

// A Drift is what one interval adds to the evidence for each effect, in mean
// and variance.
type Drift[A Increments | [PassPoints]float64] struct {
	Mean, Variance A
}

// Expected is one interval as it is expected: the events of both arms with the
// rates that they will have. Phi is what increments are divided by, Dispersion
// how much events really cluster.
type Expected struct {
	NC, NB     float64
	PC, PB     float64
	Phi        float64
	Dispersion float64
}

// tally is the interval with its expected counts.
func (x Expected) tally() Tally {
	return Tally{NC: x.NC, KC: x.NC * x.PC, NB: x.NB, KB: x.NB * x.PB}
}

// pilot is a long past of the baseline.
func (x Expected) pilot() Pilot { return Pilot{K: x.PB * 1e9, N: 1e9} }

// BreachDrift is the drift of the evidence for a breach.
func (t Hypotheses) BreachDrift(x Expected) (d Drift[Increments]) {
	y, p := x.tally(), x.pilot()
	mean, withC, withB := t.Breach(y, p), t.Breach(y.Add(Tally{KC: 1}), p), t.Breach(y.Add(Tally{KB: 1}), p)
	for j := range mean {
		d.Mean[j], d.Variance[j] = x.moments(mean[j], withC[j]-mean[j], withB[j]-mean[j])
	}
	return d
}

// PassDrift is the drift of the evidence for a pass.
func (t Hypotheses) PassDrift(x Expected) (d Drift[[PassPoints]float64]) {
	y, p := x.tally(), x.pilot()
	mean, withC, withB := t.Pass(y, p), t.Pass(y.Add(Tally{KC: 1}), p), t.Pass(y.Add(Tally{KB: 1}), p)
	for j := range mean {
		d.Mean[j], d.Variance[j] = x.moments(mean[j], withC[j]-mean[j], withB[j]-mean[j])
	}
	return d
}

// moments are the mean and variance of an increment that is affine in the
// counts, with what one more count of either arm adds.
func (x Expected) moments(mean, c, b float64) (m, v float64) {
	v = c*c*x.NC*x.PC*(1-x.PC) + b*b*x.NB*x.PB*(1-x.PB)
	return mean / x.Phi, v * x.Dispersion / (x.Phi * x.Phi)
}

// BreachWalk is the walk of the effect that will cross first, counted in
// intervals: share is the guardrail's weight times α, segment the weight of the
// segment that is expected to find the regression. pace may be nil.
func BreachWalk(d Drift[Increments], share, segment float64, pace DispersionRamp) EvidenceDrift {
	limit := Cap(share, segment)
	best := EvidenceDrift{Distance: math.Inf(1)}
	for j := range d.Mean {
		step := func(phi float64) (m, v float64) { return capped(d.Mean[j]/phi, d.Variance[j]/(phi*phi), limit) }
		m, v := step(1)
		best = best.sooner(EvidenceDrift{Distance: -math.Log(share) - math.Log(segment) - logPrior[j], Mean: m,
			Variance: v}.paced(pace, step))
	}
	return best
}

// PassWalk is the walk of the effect that will pass first; beta is the chance
// of a false pass. pace may be nil.
func PassWalk(d Drift[[PassPoints]float64], beta float64, pace DispersionRamp) EvidenceDrift {
	best := EvidenceDrift{Distance: math.Inf(1)}
	for j := range d.Mean {
		w := EvidenceDrift{Distance: -math.Log(beta) - passLogPrior[j], Mean: d.Mean[j], Variance: d.Variance[j]}
		best = best.sooner(w.paced(pace, func(phi float64) (m, v float64) {
			return d.Mean[j] / phi,
				d.Variance[j] / (phi * phi)
		}))
	}
	return best
}

// sooner is the walk that is expected to arrive first.
func (w EvidenceDrift) sooner(u EvidenceDrift) EvidenceDrift {
	if u.Mean > 0 && (w.Mean <= 0 || u.Distance/u.Mean < w.Distance/w.Mean) {
		return u
	}
	return w
}

// capped are the mean and variance of a normal increment that is cut at limit.
func capped(mean, variance, limit float64) (m, v float64) {
	s := math.Sqrt(variance)
	if s == 0 || math.IsInf(limit, 1) {
		return math.Min(mean, limit), variance
	}
	z := (limit - mean) / s
	density := math.Exp(-z*z/2) / math.Sqrt(2*math.Pi)
	below := math.Exp(logPhi(z))
	// The moments of min(X, limit), relative to the mean of X.
	first := -s*density + (limit-mean)*(1-below)
	second := variance*(below-z*density) + (limit-mean)*(limit-mean)*(1-below)
	return mean + first, math.Max(0, second-first*first)
}

// Grade is how well a regression of the size that must be caught can be caught.
type Grade string

// The grades.
const (
	GradeOK    Grade = "OK"
	GradeWeak  Grade = "WEAK"
	GradeBlind Grade = "BLIND"
)

// GradeOf grades the chance to detect within the bake.
func GradeOf(power float64) Grade {
	switch {
	case power >= 0.9:
		return GradeOK
	case power >= 0.5:
		return GradeWeak
	}
	return GradeBlind
}
