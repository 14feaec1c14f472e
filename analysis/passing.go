package analysis

import (
	"math"
	"slices"

	"github.com/belayd/belay/analysis/sequential"
)

// What a pass has to exclude, and how surely. Small steps see few requests, and harm few:
// a step below evenWeight excludes a regression that would do as much harm as detect does
// there, and the last step the ladder needs is as sure as the policy says, those before it
// less, so that a regression has to slip through all of them.

// evenWeight is the weight in percent from which on a pass excludes detect itself.
const evenWeight = 25

// earlierBeta is by how much a step may be less sure than the policy's β, by how many
// judged steps come after it.
var earlierBeta = []float64{1, 2, 4, 6}

// beta is the chance of a false pass of the guardrail in a step.
func (p *Panel) beta(g *Guardrail, step int) float64 {
	at := slices.Index(g.Steps, step)
	if at < 0 {
		return chance(p.Beta)
	}
	after := min(len(g.Steps)-1-at, len(earlierBeta)-1)
	return chance(math.Min(p.Beta*earlierBeta[after], math.Max(p.Beta, 0.3)))
}

// passing is the guardrail as a pass at the candidate's weight has to exclude its
// regression.
func (g *Guardrail) passing(weight float64) *Guardrail {
	if weight <= 0 || weight >= evenWeight || g.DetectLatency || g.Limit.Relative && g.Quantile > 0 {
		return g
	}
	from := g.Limit.Value
	switch {
	case g.Limit.Relative:
		from = 1
		if (g.Detect > 1) != (g.Detect > g.Limit.Value) {
			return g
		}
	case g.Quantile > 0:
		if from = 1 - g.Quantile; g.Limit.AtLeast || g.Detect <= from {
			return g
		}
	}
	scaled := *g
	by := math.Sqrt(evenWeight / weight)
	scaled.Detect = from + (g.Detect-from)*by
	scaled.PassFloor = math.Min(g.PassFloor*(1+by)/2, (1+g.PassFloor)/2)
	if scaled.Detect < g.Detect { // never all of it
		scaled.Detect = math.Max(scaled.Detect, g.Detect/2)
	}
	if !g.Limit.Relative && g.Detect > from && g.Detect < 1 {
		scaled.Detect = math.Min(scaled.Detect, (1+g.Detect)/2)
	}
	return &scaled
}

// with is the test with what the other one excludes for a pass.
func with(t, pass sequential.Hypotheses) sequential.Hypotheses {
	t.PassLimit, t.PassGrid = pass.PassLimit, pass.PassGrid
	return t
}

// floorTest is the test of a floor: a relative limit that need not be kept below it. A
// regression that is as far beyond it as detect is beyond the limit must be caught.
func (g *Guardrail) floorTest() sequential.Hypotheses {
	return sequential.Absolute(g.Limit.Floor, math.Min(g.Limit.Floor*math.Max(1.5, g.Detect/g.Limit.Value), 0.9))
}

// passFloorTest is the test of the rate below which a pass need not compare.
func (g *Guardrail) passFloorTest() sequential.Hypotheses {
	return sequential.Absolute(g.PassFloor/2, g.PassFloor)
}

// floors takes an interval in for the absolute parts of a relative limit.
func (s *GuardrailState) floors(v *observation, t tallied, phi float64) {
	g := v.guardrail
	if g.Limit.Floor > 0 {
		limit := sequential.Cap(v.panel.share(), s.Breach.Newest)
		s.Worse.Add(g.floorTest().Breach(t.breach, s.Pilot), phi, limit)
	}
	if g.PassFloor > 0 {
		s.Floor.Add(g.passing(v.weight).passFloorTest().Pass(t.pass, s.Pilot), phi)
	}
}

// pass takes note of whether what an interval brought suffices for a pass. A step that
// ends soon can show little, and need not prove what it could only prove in a longer one.
func (s *GuardrailState) pass(v *observation) {
	beta := v.panel.beta(v.guardrail, v.step)
	s.Credit = 0
	if v.ends && s.PassSeconds > 0 && s.Due > 0 && v.guardrail.PassFloor <= 0 {
		planned := s.Due * (1 + v.left.Seconds()/s.PassSeconds)
		if need, ok := sequential.Closing(s.Due, planned, beta); ok {
			s.Credit = brief(math.Log(1/beta) - need + s.Pass[0] - s.Pass.LogE())
		}
	}
	s.Passed = s.Passed || s.passes(v.guardrail)+s.Credit >= math.Log(1/beta)
}

// brief is a figure with as many digits as evidence that is stored needs of it.
func brief(f float64) float64 { return math.Floor(f*1000) / 1000 }

// passes is the logarithm of the evidence for a pass: of a relative limit with an absolute
// part, the average of both.
func (s *GuardrailState) passes(g *Guardrail) float64 {
	if g.PassFloor <= 0 {
		return s.Pass.LogE()
	}
	return sequential.LogSum(s.Pass.LogE(), s.Floor.LogE()) - math.Ln2
}
