package analysis

import (
	"fmt"
	"math"
	"strings"

	"github.com/belayd/belay/analysis/sequential"
)

// estimates are both arms' figures over the step, in the guardrail's unit.
// Intervals are widened by the dispersion, as the evidence is.
func (s *GuardrailState) estimates(g *Guardrail, m *Metric) (unit string, candidate, stable Estimate) {
	phi := s.Dispersion.Phi()
	switch g.method(m) {
	case methodThreshold:
		return s.marked(g, m)
	case methodQuantile:
		return "s", s.Shape.estimate(g.Quantile, true, phi), s.Shape.estimate(g.Quantile, false, phi)
	case methodMean:
		if s.Moments == nil {
			return "mean", Estimate{}, Estimate{}
		}
		return "mean", s.Moments.StepCandidate.estimate(phi), s.Moments.StepStable.estimate(phi)
	case methodCounts:
	}
	t := s.Step
	candidate, stable = share(g, t.KC, t.NC, phi), share(g, t.KB, t.NB, phi)
	if m.Rate() {
		return "rate", candidate.rate(m), stable.rate(m)
	}
	return "share", candidate, stable
}

// rate is an estimate of the share of trials as events in a rate's time; N is the time
// that was seen, in seconds.
func (e Estimate) rate(m *Metric) Estimate {
	e.Value, e.Low, e.High = e.Value*Trials, e.Low*Trials, e.High*Trials
	e.N *= m.Counts.Per.Seconds() / Trials
	return e
}

// share is the estimate of a share in the metric's own sense.
func share(g *Guardrail, k, n, phi float64) Estimate {
	if n <= 0 {
		return Estimate{}
	}
	e := Estimate{N: n, Value: k / n, Known: true}
	e.Low, e.High = sequential.Interval(k/phi, n/phi, 0.05)
	if g.missing() {
		e.Value, e.Low, e.High = 1-e.Value, 1-e.High, 1-e.Low
	}
	return e
}

// marked are a threshold's last figures: they have no interval.
// A plain number under a limit in percent is shown as one, so that 85 is not taken
// for 85%.
func (s *GuardrailState) marked(g *Guardrail, m *Metric) (unit string, candidate, stable Estimate) {
	units := map[Kind]string{KindCounts: "share", KindHistogram: "s", KindMean: "mean", KindValue: "value"}
	unit = units[m.Kind()]
	if m.Kind() == KindValue && strings.HasSuffix(g.Limit.Text, "%") {
		unit = "share"
	}
	k := s.Marks
	if m.Rate() {
		unit = "rate"
	}
	if k == nil || s.Step.NC <= 0 {
		return unit, Estimate{}, Estimate{}
	}
	candidate = Estimate{N: s.Step.NC, Value: k.Value, Low: k.Value, High: k.Value, Known: true}
	if k.StableKnown {
		stable = Estimate{N: s.Step.NB, Value: k.StableValue, Low: k.StableValue, High: k.StableValue, Known: true}
	}
	if m.Rate() {
		return "rate", candidate.rate(m), stable.rate(m)
	}
	return unit, candidate, stable
}

// pace is what more evidence comes with.
func pace(m *Metric) string {
	if m.Rate() {
		return "number of instances"
	}
	return "traffic"
}

// needed says what a pass still takes.
func (s *GuardrailState) needed(p *Panel, g *Guardrail, m *Metric, at StepContext) string {
	if g.method(m) == methodThreshold {
		if s.Marks == nil || !s.Marks.Read {
			return "a first reading"
		}
		return "a reading within the limit"
	}
	if m := s.Moments; m != nil && m.PastStable.Batches > 0 && !m.PastStable.known() {
		return fmt.Sprintf("%d batches of stable's events, an instance's in one scrape each, to tell how much they spread",
			meanBatches)
	}
	if m := s.Moments; m != nil && m.Wide {
		return "a histogram or a ratio instead: the values spread too widely for a mean"
	}
	if g.method(m) == methodQuantile && g.Limit.Relative && (s.Tail == nil || s.Tail.Aim == nil) {
		if s.Tail != nil && s.Tail.known(g) {
			return "finer buckets around stable's " + quantileName(g.Quantile)
		}
		return "more of stable's requests, to know where its " + quantileName(g.Quantile) + " lies"
	}
	if s.PassN <= 0 {
		return "requests to judge"
	}
	// What the evidence grew by per request so far is what it will grow by.
	more := math.Inf(1)
	need := math.Log(1 / p.beta(g, at.Step))
	ways := []sequential.Promotion{s.Pass}
	if g.PassFloor > 0 {
		ways, need = append(ways, s.Floor), need+math.Ln2
	}
	for _, way := range ways {
		for j, l := range way {
			if l > 0 {
				more = math.Min(more, (need-sequential.PassLogPrior(j)-l)*s.PassN/l)
			}
		}
	}
	if math.IsInf(more, 1) || more > 1e12 {
		if g.method(m) == methodCounts && g.Limit.Relative && s.Step.KC == 0 && s.Step.KB == 0 {
			return "something to compare: neither deployment had one of what is counted; an absolute limit passes without"
		}
		return "better figures than these"
	}
	more = math.Max(1, more)
	text := "about " + roughly(more) + " more " + events(m)
	if m.Rate() {
		text = "about " + span(more*m.Counts.Per.Seconds()/Trials) + " more of its instances' time"
	}
	if s.PassSeconds > 0 {
		text += ", ≈ " + span(more*s.PassSeconds/s.PassN) + " at this " + pace(m)
	}
	return text
}
