package analysis

import (
	"math/bits"

	"github.com/belayd/belay/analysis/sequential"
)

// Marks remember which of a threshold's last readings were beyond the limit.
type Marks struct {
	// Candidate and Stable have one bit a reading, the last in bit 0, set when it
	// was beyond the limit.
	Candidate uint64 `json:"c"`
	Stable    uint64 `json:"b"`
	// Read is false until the step's first reading; Value and StableValue are the
	// last figures.
	Read        bool    `json:"read,omitempty"`
	Value       float64 `json:"value"`
	StableValue float64 `json:"stableValue"`
	StableKnown bool    `json:"stableKnown,omitempty"`
}

// threshold compares a reading with the limit.
func (s *GuardrailState) threshold(v *observation) {
	g, r := v.guardrail, v.reading
	c, known := g.figure(v.metric, &r.Candidate)
	if !known {
		return // nothing happened: nothing to compare
	}
	if v.metric.Kind() == KindHistogram && c >= r.Candidate.last() && c <= g.Limit.Value && r.Candidate.slower(c) > 0 {
		s.Trouble, s.Reason = OutcomeError, "the histogram's last bucket ends at "+latency(c)+", below the limit: it "+
			"cannot be judged"
		return
	}
	b, stable := 0.0, false
	if r.Stable.Fresh {
		b, stable = g.figure(v.metric, &r.Stable)
	}
	limit := g.Limit.Value
	if g.Limit.Relative {
		if !stable {
			return
		}
		limit *= b
	}
	if s.Marks == nil {
		s.Marks = &Marks{}
	}
	m := s.Marks
	m.Candidate = m.Candidate<<1 | bit(g.violates(c, limit))
	m.Stable = m.Stable<<1 | bit(stable && !g.Limit.Relative && g.violates(b, limit))
	m.Value, m.StableValue, m.StableKnown = c, b, stable
	m.Read = m.Read || v.passes
	s.lately(v, sequential.Tally{NC: 1, KC: float64(m.Candidate & 1), NB: 1, KB: float64(m.Stable & 1)},
		func(rate float64) bool { return rate > 0 })
	if v.metric.Kind() == KindValue {
		s.Step.NC++
		s.Step.NB += float64(bit(stable))
		return
	}
	s.Step.NC += r.Candidate.N
	s.Step.NB += r.Stable.N
}

// figure is the number that a threshold compares; known is false when there
// were no events to make one from.
func (g *Guardrail) figure(m *Metric, x *Sample) (f float64, known bool) {
	kind := m.Kind()
	switch {
	case kind == KindValue:
		return x.Value, true
	case x.N <= 0:
		return 0, false
	case kind == KindHistogram:
		return x.quantile(g.Quantile), true
	case kind == KindMean:
		return x.Sum / x.N, true
	}
	return min(x.K, x.N) / x.N, true
}

// quantile is the sample's quantile, interpolated within its bucket.
func (x *Sample) quantile(q float64) float64 {
	want, fast, low := q*x.N, 0.0, 0.0
	for _, b := range x.Buckets {
		if fast+b.Count >= want && b.Count > 0 {
			return low + (b.Upper-low)*max(0, want-fast)/b.Count
		}
		fast += b.Count
		low = b.Upper
	}
	return low
}

// violates reports whether f is beyond the limit.
func (g *Guardrail) violates(f, limit float64) bool {
	if g.Limit.AtLeast {
		return f < limit
	}
	return f > limit
}

// kOfN are the rule's numbers, with the defaults filled in.
func (g *Guardrail) kOfN() (k, n int) {
	k = max(1, g.BreachAfter.K)
	n = min(max(k, g.BreachAfter.N), 64)
	return min(k, n), n
}

// count reports whether the rule of k out of the last n fires on these marks.
func (m *Marks) count(g *Guardrail, marks uint64) bool {
	k, n := g.kOfN()
	return bits.OnesCount64(marks&(^uint64(0)>>(64-n))) >= k
}

// passed reports whether the last reading was within the limit and the rule
// does not fire.
func (m *Marks) passed(g *Guardrail) bool {
	if m == nil || !m.Read || m.Candidate&1 == 1 {
		return false
	}
	return !m.count(g, m.Candidate)
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
