package sequential

import (
	"encoding/json"
	"fmt"
	"math"
)

// Points is the number of effects the evidence for a breach is a mixture of.
const Points = 6

// Increments are the logarithms that one interval adds, one for each effect.
type Increments [Points]float64

// logPrior are the logarithms of the weights of the grid's effects.
var logPrior = Increments{math.Log(0.4), math.Log(0.15), math.Log(0.15), math.Log(0.1), math.Log(0.12), math.Log(0.08)}

// more and less are the effects as powers of the design effect, where more is worse and
// where less is: shares of what should happen are lost by halves, not by multiples.
var (
	more = [Points]float64{1, 0.5, 2.2, 4.5, 0.25, 7}
	less = [Points]float64{1, 0.5, 2.5, 6, 0.3, 15}
)

// Grid is the grid of effects around the design effect, which is the ratio of
// the smallest regression that must be caught to the limit; below 1 where less
// is worse. Half of it finds a regression that is hardly beyond the limit, and its
// high powers one that nobody had thought of.
func Grid(design float64) (r Increments) {
	powers := more
	if design < 1 {
		powers = less
	}
	for j, f := range powers {
		r[j] = math.Pow(design, f)
	}
	return r
}

// A Process is the evidence that one limit is broken: a mixture over the grid
// of effects and over segments, which start at different times. Because every
// started segment receives the same increments, the weighted sum over the
// segments is all there is to remember. The zero value has no segment started
// and stands at 1.
type Process struct {
	// Log is, for each effect, the logarithm of the weighted sum over the started
	// segments.
	Log Increments `json:"log"`
	// Started is the weight of all started segments; the rest counts as 1.
	Started float64 `json:"started"`
	// Newest is the weight of the segment that started last.
	Newest float64 `json:"newest"`
}

// earlierPoints is how many effects there were before those that came last; the others
// stood where they stand, so that a stored process goes on with what it has.
const earlierPoints = 4

// UnmarshalJSON reads a process, also one of fewer effects: those that it did not know
// begin as all of them do, with the weight of the started segments.
func (p *Process) UnmarshalJSON(b []byte) error {
	var x struct {
		Log     []float64 `json:"log"`
		Started float64   `json:"started"`
		Newest  float64   `json:"newest"`
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return fmt.Errorf("decode evidence: %w", err)
	}
	if n := len(x.Log); n != Points && n != earlierPoints {
		return fmt.Errorf("decode evidence: %d effects, want %d", n, Points)
	}
	*p = Process{Started: x.Started, Newest: x.Newest}
	for j := copy(p.Log[:], x.Log); j < Points && p.Started > 0; j++ {
		p.Log[j] = math.Log(p.Started)
	}
	return nil
}

// Start starts a segment of the given weight with evidence 1. The weights of
// all segments must sum to at most 1 and must not depend on what is tested.
func (p *Process) Start(weight float64) {
	if weight <= 0 {
		return
	}
	for j := range p.Log {
		if p.Started == 0 {
			p.Log[j] = math.Log(weight)
		} else {
			p.Log[j] = LogSum(p.Log[j], math.Log(weight))
		}
	}
	p.Started += weight
	p.Newest = weight
}

// Gross is a dispersion beyond that of any cluster: 25 times the variance of requests that
// fail by themselves.
const Gross = 25

// Add adds one interval's increments, each divided by phi and then capped; but what stands
// even at the dispersion Gross is not capped, so that one interval decides about a gross
// failure. Either way no more is added than d/phi.
func (p *Process) Add(d Increments, phi, limit float64) {
	if p.Started == 0 {
		return
	}
	if phi <= Gross {
		for j := range p.Log {
			p.Log[j] += math.Min(d[j]/phi, math.Max(limit, d[j]/Gross))
		}
		return
	}
	for j := range p.Log {
		p.Log[j] += math.Min(d[j]/phi, limit)
	}
}

// LogE is the logarithm of the evidence.
func (p *Process) LogE() float64 {
	rest := 1 - p.Started
	if p.Started == 0 {
		return 0
	}
	sum := math.Inf(-1)
	if rest > 1e-12 {
		sum = math.Log(rest)
	}
	for j := range p.Log {
		sum = LogSum(sum, logPrior[j]+p.Log[j])
	}
	return sum
}

// Cap is the most that one interval may add to one effect, so that no single
// interval decides, unless it is gross: share is the weight of the guardrail times α, newest the
// weight of the newest segment.
func Cap(share, newest float64) float64 {
	return math.Min(math.Log(10/(share*newest))/2, math.Log(1/share))
}

// StepWeight is the weight of the segment that starts with the i-th of n steps.
func StepWeight(n, i int) float64 {
	switch {
	case n <= 1:
		return 1
	case i == 0:
		return 0.55
	}
	return 0.45 / float64(n-1)
}

// RestartWeight divides a step's weight over its restarts: the step's start is
// restart 0; over all restarts the weights sum to the step's.
func RestartWeight(step float64, i int) float64 {
	if i == 0 {
		return 0.75 * step
	}
	return 0.25 * step / (float64(i) * float64(i+1))
}

// PassPoints is the number of effects the evidence for a pass is a mixture of.
const PassPoints = 3

// passLogPrior weighs them.
var passLogPrior = [PassPoints]float64{math.Log(0.6), math.Log(0.2), math.Log(0.2)}

// A Promotion is the evidence that a regression of the size that must be caught
// is absent. It is fresh in every step. The zero value stands at 1.
type Promotion [PassPoints]float64

// Add adds one interval's increments, divided by phi.
func (p *Promotion) Add(d [PassPoints]float64, phi float64) {
	for j := range p {
		p[j] += d[j] / phi
	}
}

// LogE is the logarithm of the evidence.
func (p *Promotion) LogE() float64 {
	sum := math.Inf(-1)
	for j := range p {
		sum = LogSum(sum, passLogPrior[j]+p[j])
	}
	return sum
}

// closingSlope is by which part of what a good release was to be expected to show the
// evidence that a pass needs falls. It trades little power at the end of a step for a pass
// that comes early where it can.
const closingSlope = 0.75

// Closing is the evidence of the first effect that suffices for a pass in a step that
// ends. due is what a good release was to be expected to show so far, and planned what it
// is to be expected to show by the end, as logarithms. A bound that holds for ever costs
// power where little can be seen; this one falls along a line that a regression of the
// excluded size crosses before the end with chance beta, by the normal approximation. ok
// is false where so much will be seen that nothing is gained, or hardly anything.
func Closing(due, planned, beta float64) (need float64, ok bool) {
	forever := math.Log(1 / beta)
	if planned < forever/2 || planned > 3*forever {
		return 0, false
	}
	crossed := func(a float64) bool {
		return EvidenceDrift{Distance: a, Mean: (closingSlope - 1) * planned, Variance: 2 * planned}.Crossed(1) > beta
	}
	return bisect(0, forever+planned, func(a float64) bool { return a <= 0 || crossed(a) }) - closingSlope*math.Min(due,
		planned), true
}

// PassLogPrior is the logarithm of the weight of the j-th effect.
func PassLogPrior(j int) float64 { return passLogPrior[j] }
