package analysis

import (
	"fmt"
	"math"
	"time"

	"github.com/belayd/belay/analysis/sequential"
)

// countsTest is the test of a guardrail on counts.
func (g *Guardrail) countsTest() sequential.Hypotheses {
	switch {
	case g.Limit.Relative:
		return sequential.Relative(g.Limit.Value, g.Detect, 1)
	case g.Limit.AtLeast:
		return sequential.Absolute(1-g.Limit.Value, 1-g.Detect)
	}
	return sequential.Absolute(g.Limit.Value, g.Detect)
}

// missing reports whether the events that are tested are those that the metric
// does not count: an absolute "at least" limits what is missing.
func (g *Guardrail) missing() bool { return g.Limit.AtLeast && !g.Limit.Relative }

// updateCounts takes a reading of counters in.
func (s *GuardrailState) updateCounts(v *observation) {
	g, r := v.guardrail, v.reading
	t := sequential.Tally{NC: r.Candidate.N, KC: g.events(&r.Candidate)}
	if r.Stable.Fresh {
		t.NB, t.KB = r.Stable.N, g.events(&r.Stable)
	}
	s.count(v, t)
	test := with(g.countsTest(), g.passing(v.weight).countsTest())
	s.lately(v, t, func(rate float64) bool { return rate > test.Limit })
	s.updateBinomial(v, tallied{test: test, breach: t, pass: t, events: g.events})
	s.disperse(&r.Stable, g.events)
}

// lately remembers how the last minutes were, where the limit is absolute.
func (s *GuardrailState) lately(v *observation, t sequential.Tally, beyond func(rate float64) bool) {
	if !v.guardrail.Limit.Relative && !v.late {
		s.Lately.see(t, v.reading.To.Sub(v.reading.From), beyond)
	}
}

// events is how many of the sample's events are tested, clamped to what there
// are: counters of the same source may be read a moment apart.
func (g *Guardrail) events(x *Sample) float64 {
	k := math.Min(x.K, x.N)
	if g.missing() {
		return x.N - k
	}
	return k
}

// learn takes a sample of stable alone in.
func (s *GuardrailState) learn(g *Guardrail, m *Metric, x *Sample) {
	if !x.Fresh {
		return
	}
	switch g.method(m) {
	case methodCounts:
		s.Pilot.Learn(g.events(x), x.N)
		s.disperse(x, g.events)
	case methodQuantile:
		s.learnQuantile(g, x)
	case methodMean:
		s.learnMean(x)
	case methodThreshold:
	}
}

// disperse learns from how stable's instances differ within one interval.
func (s *GuardrailState) disperse(x *Sample, events func(*Sample) float64) {
	disperse(&s.Dispersion, x, events)
}

func disperse(d *sequential.Dispersion, x *Sample, events func(*Sample) float64) {
	if !x.Fresh || len(x.Instances) < 2 {
		return
	}
	var k, n float64
	for i := range x.Instances {
		k += events(&x.Instances[i].Sample)
		n += x.Instances[i].N
	}
	spread := d.Interval(k, n)
	for i := range x.Instances {
		spread.Add(events(&x.Instances[i].Sample), x.Instances[i].N)
	}
	spread.Done()
}

// most is the largest number that a sample may hold: beyond it doubles no
// longer count.
const most = 1 << 52

// check says what is wrong with the sample's numbers; empty when nothing is.
func (x *Sample) check(kind Kind) string {
	if why := x.checkOne(kind); why != "" {
		return why
	}
	for i := range x.Instances {
		if why := x.Instances[i].checkOne(kind); why != "" {
			return fmt.Sprintf("instance %s: %s", x.Instances[i].Name, why)
		}
	}
	return ""
}

func (x *Sample) checkOne(kind Kind) string {
	if kind == KindValue {
		if !finite(x.Value) {
			return "the value is not a number"
		}
		return ""
	}
	if !count(x.N) {
		return fmt.Sprintf("%v events", x.N)
	}
	switch kind {
	case KindCounts:
		if !count(x.K) {
			return fmt.Sprintf("%v counted events", x.K)
		}
		// A moment between two counters explains a few more than all, not many.
		if x.K-x.N > math.Max(5, x.N/10) {
			return fmt.Sprintf("%v counted events of only %v", x.K, x.N)
		}
	case KindHistogram:
		last := math.Inf(-1)
		for _, b := range x.Buckets {
			if !finite(b.Upper) || b.Upper <= last {
				return fmt.Sprintf("bucket bound %v after %v", b.Upper, last)
			}
			if !count(b.Count) {
				return fmt.Sprintf("%v events in bucket %v", b.Count, b.Upper)
			}
			last = b.Upper
		}
	case KindMean:
		if !finite(x.Sum) || math.Abs(x.Sum) > most*most || !(x.SumSq >= 0) || x.SumSq > most*most || !(x.Batches >= 0) ||
			x.Batches > x.N {
			return fmt.Sprintf("sum %v with sum of squares %v", x.Sum, x.SumSq)
		}
	case KindValue:
	}
	return ""
}

func count(f float64) bool { return f >= 0 && f <= most }

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// Lately is how the endpoint did in the last minutes, both deployments together. It is
// no evidence: it tells that an incident is over, and how bad the last minutes were.
type Lately struct {
	// Now counts the newest minute so far, which is Seconds long, and Before the one
	// before. The counted events of a mean are its sums.
	Now    sequential.Tally `json:"now,omitzero"`
	Before sequential.Tally `json:"before,omitzero"`
	// Last is the last interval.
	Last    sequential.Tally `json:"last,omitzero"`
	Seconds float64          `json:"s,omitempty"`
	// Calm is for how many seconds, in whole minutes, both together have kept the limit.
	Calm float64 `json:"calm,omitempty"`
}

const (
	// CalmFor is for how long an endpoint must have kept a limit again before a common
	// incident is over.
	CalmFor = 5 * time.Minute
	// gross is how many times the limit a failure is beyond doubt.
	gross = 10
)

// see takes an interval in; beyond says whether a rate is outside the limit.
func (l *Lately) see(t sequential.Tally, took time.Duration, beyond func(rate float64) bool) {
	l.Now, l.Last = l.Now.Add(t), t
	if l.Seconds += took.Seconds(); l.Seconds < 60 {
		return
	}
	if n := l.Now.NC + l.Now.NB; n > 0 {
		if beyond((l.Now.KC + l.Now.KB) / n) {
			l.Calm = 0
		} else {
			l.Calm += l.Seconds
		}
	}
	l.Before, l.Now, l.Seconds = l.Now, sequential.Tally{}, 0
}

// over reports whether the endpoint has kept the limit for long enough.
func (l *Lately) over() bool { return l.Calm >= CalmFor.Seconds() }

// gross reports whether the candidate's last minutes, or its last interval, were at gross
// times the limit, or half-way from it to everything.
func (l *Lately) gross(limit float64) bool {
	beyond := func(t sequential.Tally) bool { return t.NC > 0 && t.KC/t.NC >= min(gross*limit, (1+limit)/2) }
	return beyond(l.Last) || beyond(l.Now.Add(l.Before))
}
