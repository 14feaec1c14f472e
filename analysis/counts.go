package analysis

import (
	"fmt"
	"math"

	"github.com/belayd/belay/analysis/sequential"
)

// countsTest is the test of a guardrail on counts.
func (g *Guardrail) countsTest() sequential.Test {
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

// counts takes a reading of counters in.
func (s *Standing) counts(v *visit) {
	g, r := v.guardrail, v.reading
	t := sequential.Tally{NC: r.Candidate.N, KC: g.events(&r.Candidate)}
	if r.Stable.Fresh {
		t.NB, t.KB = r.Stable.N, g.events(&r.Stable)
	}
	s.count(v, t)
	test := with(g.countsTest(), g.passing(v.weight).countsTest())
	s.lately(v, t, func(rate float64) bool { return rate > test.Limit })
	s.binary(v, tallied{test: test, breach: t, pass: t, events: g.events})
	s.disperse(&r.Stable, g.events)
}

// lately remembers how the last minutes were, where the limit is absolute.
func (s *Standing) lately(v *visit, t sequential.Tally, beyond func(rate float64) bool) {
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
func (s *Standing) learn(g *Guardrail, m *Metric, x *Sample) {
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
func (s *Standing) disperse(x *Sample, events func(*Sample) float64) {
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
		if !finite(x.Sum) || math.Abs(x.Sum) > most*most || !(x.SumSq >= 0) || x.SumSq > most*most || !(x.Batches >= 0) || x.Batches > x.N {
			return fmt.Sprintf("sum %v with sum of squares %v", x.Sum, x.SumSq)
		}
	case KindValue:
	}
	return ""
}

func count(f float64) bool { return f >= 0 && f <= most }

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
