package policies

import (
	"fmt"
	"math"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies/document"
)

const maxGuardrails = 64

func (c *checker) guardrails() {
	gs := c.policy.Document.Spec.Guardrails
	if n := c.policy.at["spec.guardrails"]; n != nil && n.Shape == document.Sequence && len(gs) == 0 && !c.policy.Base {
		c.report("spec.guardrails", document.CodeMissing, "needs at least one guardrail: a ladder that nobody "+
			"watches is no rollout")
	}
	if len(gs) > maxGuardrails {
		c.report("spec.guardrails", document.CodeBounds, fmt.Sprintf("at most %d guardrails", maxGuardrails))
		return
	}
	names := make([]string, len(gs))
	for i := range gs {
		names[i] = gs[i].Name
		at := fmt.Sprintf("spec.guardrails[%d]", i)
		c.name(at+".name", gs[i].Name, plainName)
		c.guardrail(&gs[i], at)
	}
	c.uniqueNames("spec.guardrails", names)
}

func (c *checker) guardrail(g *Guardrail, at string) {
	var kind analysis.Kind
	if g.Metric != "" {
		if g.Source != "" && !isBuiltin(g.Metric) {
			c.reportGot(at+".source", document.CodeMeaning, "the metric's definition names its source; source "+
				"belongs to metric: builtin/… only")
		} else if g.Source != "" {
			c.configName(at+".source", "source", g.Source, sourcesOf(c.env))
		}
		if m := c.metric(g.Metric, g.Source, at+".metric"); m.known {
			kind = m.def.Kind()
		}
	}
	if kind == "" && g.Quantile > 0 {
		kind = analysis.KindHistogram
	}
	if kind != "" && kind != analysis.KindHistogram && g.Quantile > 0 {
		c.reportGot(at+".quantile", document.CodeMeaning, "only histograms have quantiles, and this metric is a "+
			DescribeKind(kind))
		return
	}
	c.test(g, kind, at)
	if g.Limit.Text == "" {
		return
	}
	why := g.Limit.suits(kind, g.Quantile > 0)
	if c.rate(g) {
		why = g.Limit.suitsRate(g.Test)
	}
	if why != "" {
		c.reportGot(at+".limit", document.CodeMeaning, why)
		return
	}
	c.detect(g, kind, at)
}

// rate says whether the guardrail is of a counter against time.
func (c *checker) rate(g *Guardrail) bool {
	m := c.policy.metrics[g.Metric]
	return m.known && m.def.Rate()
}

func isBuiltin(metric string) bool { return len(metric) > 8 && metric[:8] == "builtin/" }

func DescribeKind(k analysis.Kind) string {
	switch k {
	case analysis.KindCounts:
		return "pair of counters"
	case analysis.KindHistogram:
		return "histogram"
	case analysis.KindMean:
		return "mean"
	case analysis.KindValue:
		return "plain value"
	}
	return "metric"
}

// test settles how the guardrail is judged.
func (c *checker) test(g *Guardrail, kind analysis.Kind, at string) {
	switch {
	case g.Test == "" && kind == analysis.KindValue:
		g.Test = analysis.TestThreshold
		c.fill(at, "test", string(g.Test), "default: a plain value")
	case g.Test == "" && c.rate(g) && g.Limit.none():
		g.Test = analysis.TestThreshold
		c.fill(at, "test", string(g.Test), "default: not one event is allowed")
	case g.Test == "" && (kind != "" || !c.policy.Base):
		g.Test = analysis.TestSequential
		c.fill(at, "test", string(g.Test), document.OriginDefault)
	case g.Test == analysis.TestSequential && kind == analysis.KindValue:
		c.reportGot(at+".test", document.CodeMeaning,
			"a plain value carries no evidence: only test: threshold can judge it")
	}
	if g.Test != analysis.TestThreshold {
		if g.BreachAfter.N > 0 {
			c.reportGot(at+".breachAfter", document.CodeMeaning, "belongs to test: threshold")
		}
		return
	}
	if c.policy.at[at+".breachAfter"] == nil {
		g.BreachAfter = KofN{K: 3, N: 5}
		if c.rate(g) && g.Limit.none() {
			g.BreachAfter = KofN{K: 1, N: 1}
		}
		c.fill(at, "breachAfter", g.BreachAfter.String(), document.OriginDefault)
	}
	if g.Detect.Given() {
		c.reportGot(at+".detect", document.CodeMeaning,
			"a threshold has no detect: it compares each reading with the limit")
	}
}

// detect checks the smallest regression that must be caught, or derives it.
func (c *checker) detect(g *Guardrail, kind analysis.Kind, at string) {
	if g.Test == analysis.TestThreshold {
		return
	}
	if !g.Detect.Given() {
		if c.policy.at[at+".detect"] != nil {
			return // it was given and could not be read
		}
		q, ok := defaultDetect(g.Limit, kind, float64(g.Quantile))
		if !ok {
			if kind != "" {
				c.report(at, document.CodeMissing, "needs detect: none follows from a limit that is not above 0")
			}
			return
		}
		g.Detect = q
		c.fill(at, "detect", q.Text, "default: from limit")
		return
	}
	if why := g.Detect.suits(g.Limit, kind, float64(g.Quantile)); why != "" {
		c.reportGot(at+".detect", document.CodeMeaning, why)
	}
}

// defaultDetect is the regression that must be caught when the policy does not
// say. It is spelled so that it can be read back.
func defaultDetect(l LimitText, kind analysis.Kind, quantile float64) (Quantity, bool) {
	v := l.Quantity.Value
	var text string
	switch u := l.Quantity.Unit; {
	case kind == analysis.KindHistogram && u == UnitStable:
		text = "2x stable" // a ratio of the tail shares, whatever the limit on the latency
	case kind == analysis.KindHistogram:
		text = document.FormatNumber(TailDoubled(quantile)*100) + "%"
	case u == UnitStable && l.AtLeast:
		text = document.FormatNumber(math.Min(0.95, v*0.97)) + "x stable"
	case u == UnitStable:
		text = document.FormatNumber(math.Max(2, v*5/3)) + "x stable"
	case u == UnitShare && kind != analysis.KindMean && l.AtLeast:
		text = document.FormatNumber((1-beyond(1-v))*100) + "%"
	case u == UnitShare && kind != analysis.KindMean:
		text = document.FormatNumber(beyond(v)*100) + "%"
	case kind == analysis.KindCounts && u == UnitNumber && v > 0: // a rate
		text = document.FormatNumber(2 * v)
	case kind == analysis.KindMean && v > 0:
		text = meanDetect(l)
	default:
		return Quantity{}, false
	}
	var q Quantity
	if q.UnmarshalText([]byte(text)) != nil {
		return Quantity{}, false // unreachable unless the limit is beyond what a number can say
	}
	return q, true
}

// beyond is twice a share, at most halfway from it to 1.
func beyond(p float64) float64 { return math.Min(2*p, (1+p)/2) }

// TailDoubled is twice the share beyond a quantile: 0.10 for p95.
func TailDoubled(q float64) float64 { return beyond(1 - q) }

// meanDetect is twice an upper limit, and 0.95 of a lower one.
func meanDetect(l LimitText) string {
	v := l.Quantity.Value * 2
	if l.AtLeast {
		v = l.Quantity.Value * 0.95
	}
	if l.Quantity.Unit == UnitSeconds {
		return document.FormatNumber(v*1000) + "ms"
	}
	return document.FormatNumber(v)
}

// suits says why a given detect does not go with the limit; "" when it does.
func (q Quantity) suits(l LimitText, kind analysis.Kind, quantile float64) string {
	lim := l.Quantity
	if kind == analysis.KindHistogram && lim.Unit == UnitSeconds && q.Unit == UnitShare {
		if tail := 1 - quantile; q.Value <= tail || q.Value >= 1 {
			return fmt.Sprintf("the share of slower requests must be beyond the quantile's own: "+
				"above %s%% and below 100%%", document.FormatNumber(tail*100))
		}
		return ""
	}
	if kind == analysis.KindHistogram && lim.Unit == UnitStable && q.Unit == UnitStable {
		if q.Value <= 1 {
			return "must be a ratio of the tail shares above 1x"
		}
		return ""
	}
	switch {
	case q.Unit != lim.Unit && lim.Unit == UnitStable:
		return "the limit is a multiple of stable, and so must detect be: 2x stable"
	case q.Unit != lim.Unit:
		return "must have the unit of the limit, " + lim.Text
	case lim.Unit == UnitStable && !l.AtLeast && q.Value <= 1:
		return "a release as good as stable is beyond it, so none could pass: above 1x stable"
	case lim.Unit == UnitStable && l.AtLeast && q.Value >= 1:
		return "a release as good as stable is beyond it, so none could pass: below 1x stable"
	case l.AtLeast && q.Value >= lim.Value:
		return "must be beyond the limit: below " + lim.Text
	case !l.AtLeast && q.Value <= lim.Value:
		return "must be beyond the limit: above " + lim.Text
	case lim.Unit == UnitShare && kind != analysis.KindMean && kind != analysis.KindValue &&
		(q.Value <= 0 || q.Value >= 1):
		return "must lie between 0% and 100%"
	case q.Value <= 0 && lim.Unit == UnitStable:
		return "must be above 0x stable"
	}
	return ""
}
