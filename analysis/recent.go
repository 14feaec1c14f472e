package analysis

import (
	"math"

	"github.com/belayd/belay/analysis/sequential"
)

// contradicted reports whether what was read lately speaks against a pass that
// was earned earlier in the step: the evidence for it has fallen below where it
// began, or the last minute or two are beyond the limit and that is no chance by
// a test of this one look. It only delays a step's end; a breach is found by the
// evidence alone.
func (s *Standing) contradicted(g *Guardrail, m *Metric) bool {
	if s.Pass.LogE() < 0 {
		return true
	}
	if g.method(m) == methodMean {
		return false
	}
	t := s.Earlier.Add(s.Recent)
	if t.NC <= 0 {
		return false
	}
	test, _ := s.test(g, m)
	phi := s.Dispersion.Phi()
	rate := t.KC / t.NC
	if !test.Relative {
		return rate > test.Limit && t.NC*sequential.Divergence(rate, test.Limit)/phi >= oneLook
	}
	if t.NB <= 0 {
		return false
	}
	return beyond(t, test.Limit, g.Limit.AtLeast, phi)
}

// beyond is the one-look test of a ratio: whether the candidate's rate is beyond
// kappa times stable's by more than chance explains, with the pooled rate under
// the limit.
func beyond(t sequential.Tally, kappa float64, atLeast bool, phi float64) bool {
	off := t.KC/t.NC - kappa*t.KB/t.NB
	if atLeast {
		off = -off
	}
	pooled := (t.KC + t.KB) / (kappa*t.NC + t.NB)
	expected := math.Min(kappa*pooled, 1)
	variance := phi * (expected*(1-expected)/t.NC + kappa*kappa*math.Min(pooled, 1)*(1-math.Min(pooled, 1))/t.NB)
	return off > 0 && off*off >= 2*oneLook*variance
}
