package analysis

import (
	"math"
	"slices"
)

// MetricOf is the metric of a guardrail, or of the budget; "" for a name that is neither's.
func (p Panel) MetricOf(name string) string {
	if p.Budget != nil && name == BudgetName {
		return p.Budget.Metric
	}
	for i := range p.Guardrails {
		if p.Guardrails[i].Name == name {
			return p.Guardrails[i].Metric
		}
	}
	return ""
}

// Steadied reports whether a guardrail on the metric counts readings in the step, one an
// interval: it is not to be read out of turn.
func (p Panel) Steadied(metric string, step int) bool {
	for i := range p.Guardrails {
		g := &p.Guardrails[i]
		if g.Metric == metric && slices.Contains(g.Steps, step) && g.method(p.metric(metric)) == methodThreshold {
			return true
		}
	}
	return false
}

// Asked are the names of the metrics to read in a step, in the panel's order:
// those of the guardrails that are judged in it, and the budget's.
func (p Panel) Asked(step int) []string {
	var names []string
	for i := range p.Metrics {
		name := p.Metrics[i].Name
		wanted := p.Budget != nil && p.Budget.Metric == name
		for j := range p.Guardrails {
			wanted = wanted || p.Guardrails[j].Metric == name && slices.Contains(p.Guardrails[j].Steps, step)
		}
		if wanted {
			names = append(names, name)
		}
	}
	return names
}

// Counts reports whether the metric of that name counts events, so that a reading of
// it can say that there were none.
func (p *Panel) Counts(metric string) bool {
	m := p.metric(metric)
	return m != nil && !m.Rate() && (m.Kind() == KindCounts || m.Kind() == KindHistogram)
}

// Shown is the value of a guardrail's limit as policies write it, where it is not
// relative: events in a rate's time, and otherwise the limit's value.
func (p *Panel) Shown(g *Guardrail) float64 {
	if m := p.metric(g.Metric); m != nil && m.Rate() && !g.Limit.Relative {
		return g.Limit.Value * Trials
	}
	return g.Limit.Value
}

// metric finds a metric by its name; nil when the panel has none.
func (p *Panel) metric(name string) *Metric {
	for i := range p.Metrics {
		if p.Metrics[i].Name == name {
			return &p.Metrics[i]
		}
	}
	return nil
}

// share is the part of α that one guardrail has, or the budget: its weight in its group
// times the group's α.
func (p *Panel) share() float64 {
	n := 0
	if p.Budget != nil {
		n = 1
	}
	for i := range p.Guardrails {
		if g := &p.Guardrails[i]; p.sequential(g) && g.OnBreach != ActionNote {
			n++
		}
	}
	return chance(p.Alpha) / math.Max(1, float64(n))
}

// Acts reports whether something rests on the metric: the budget, or a guardrail that is
// no dry run.
func (p *Panel) Acts(metric string) bool {
	return p.Budget != nil && p.Budget.Metric == metric || slices.ContainsFunc(p.Guardrails, func(g Guardrail) bool {
		return g.Metric == metric && g.OnBreach != ActionNote
	})
}

// chance keeps a probability where its logarithm is a number and a threshold.
func chance(f float64) float64 { return math.Min(math.Max(f, 1e-12), 0.5) }

// sequential reports whether the guardrail draws on α.
func (p *Panel) sequential(g *Guardrail) bool {
	m := p.metric(g.Metric)
	return m != nil && g.method(m) != methodThreshold
}

// A method is how a guardrail's readings become evidence.
type method int

const (
	methodCounts method = iota
	methodQuantile
	methodMean
	methodThreshold
)

// method is the way the guardrail is judged on its metric.
func (g *Guardrail) method(m *Metric) method {
	switch kind := m.Kind(); {
	case g.Test == TestThreshold || kind == KindValue:
		return methodThreshold
	case kind == KindHistogram:
		return methodQuantile
	case kind == KindMean:
		return methodMean
	}
	return methodCounts
}

// rests reports whether the guardrail has nothing to compare with at the moment.
func (g *Guardrail) rests(at StepContext) bool { return g.Limit.Relative && at.StableWeight <= 0 }
