package promql

import (
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/belayd/belay/analysis"
)

// A Pattern is what an expression asks for, where that can be counted exactly
// instead: the share of one counter in another, a quantile of a histogram, a mean,
// or how fast one counter rises.
type Pattern struct {
	Kind PatternKind
	// Total is the counter of all, or the histogram, or the count of a mean; the only one of a rate.
	Total Selector
	// Marked is the counter of those that are meant, or the sum of a mean.
	Marked Selector
	// Good says that Marked counts what is wanted.
	Good bool
	// Rest: the expression is the share of those that Marked does not count.
	Rest bool
	// Quantile is the share of a quantile, 0.95, or 0 where it is no number.
	Quantile float64
	// By are the labels that the expression keeps, without le.
	By []string
}

// PatternKind is what a Pattern can be written as.
type PatternKind string

// The kinds of shapes.
const (
	ShapeCounts    PatternKind = "counts"
	ShapeHistogram PatternKind = "histogram"
	ShapeMean      PatternKind = "mean"
	ShapeRate      PatternKind = "rate"
)

// Recognize finds the shape of an expression. It is not ok for what has none: a
// gauge, a join, an expression over ranges of expressions.
func Recognize(text string) (Pattern, bool) {
	expr, err := parse(text)
	if err != nil {
		return Pattern{}, false
	}
	return shapeOf(expr)
}

func shapeOf(expr parser.Expr) (Pattern, bool) {
	e, flipped := bareOf(expr)
	switch e := e.(type) {
	case *parser.BinaryExpr:
		s, ok := ratio(e)
		s.Rest = s.Rest != flipped
		return s, ok
	case *parser.Call:
		if e.Func.Name == "histogram_quantile" {
			return quantile(e)
		}
	case *parser.AggregateExpr:
		if inner, ok := shapeOf(e.Expr); ok && inner.Kind != ShapeRate && inner.Kind != ShapeCounts &&
			len(inner.By) == 0 {
			return inner, true
		}
	}
	if c, ok := counterOf(e); ok {
		return Pattern{Kind: ShapeRate, Total: c.Selector, By: c.by}, true
	}
	return Pattern{}, false
}

// ratio is a division of two counters.
func ratio(e *parser.BinaryExpr) (Pattern, bool) {
	if e.Op != parser.DIV {
		return Pattern{}, false
	}
	den, ok := counterOf(e.RHS)
	if !ok {
		return Pattern{}, false
	}
	num, ok := counterOf(e.LHS)
	rest := false
	if difference, is := stripped(e.LHS).(*parser.BinaryExpr); !ok && is && difference.Op == parser.SUB {
		// (total - marked) / total is the share of the others.
		var all counter
		all, ok = counterOf(difference.LHS)
		num, rest = den, true
		if ok {
			num, ok = counterOf(difference.RHS)
		}
		ok = ok && all.String() == den.String()
	}
	if !ok {
		return Pattern{}, false
	}
	s := Pattern{Kind: ShapeCounts, Total: den.Selector, Marked: num.Selector, By: den.by, Good: !looksBad(num.Selector),
		Rest: rest}
	if base, isSum := strings.CutSuffix(num.Name, "_sum"); isSum && den.Name == base+"_count" {
		s.Kind, s.Good = ShapeMean, false
	}
	return s, true
}

// failures are words of names and values that mean that something failed; outcomes
// those that mean that it did not.
var (
	failures = []string{"err", "fail", "5..", "5xx", "[5", "^5", "50", "4..", "4xx", "drop", "timeout", "reject",
		"exception", "abort", "unavailable"}
	outcomes = []string{"2..", "2xx", "[2", "^2", "20", "success", "ok"}
)

// looksBad says whether a counter counts failures: by a matcher that selects them or
// leaves out what succeeded, or else by its name. One that leaves out failures counts what
// is left.
func looksBad(s Selector) bool {
	mentions := func(text string, words []string) bool {
		text = strings.ToLower(text)
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
	}
	for _, m := range s.Matchers {
		selects := m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp
		switch {
		case mentions(m.Value, failures):
			return selects
		case mentions(m.Value, outcomes) && looksLikeOutcome(m.Name):
			return !selects
		}
	}
	return mentions(s.Name, failures)
}

// looksLikeOutcome says whether a label tells how something went.
func looksLikeOutcome(label string) bool {
	label = strings.ToLower(label)
	return slices.ContainsFunc([]string{"code", "status", "result", "outcome", "success", "class", "state"},
		func(word string) bool {
			return strings.Contains(label, word)
		})
}

// quantile is histogram_quantile of a sum of rates.
func quantile(e *parser.Call) (Pattern, bool) {
	c, ok := counterOf(e.Args[1])
	if !ok {
		return Pattern{}, false
	}
	s := Pattern{Kind: ShapeHistogram, Total: c.Selector, By: c.by}
	s.Total.Name = strings.TrimSuffix(c.Name, "_bucket")
	if q, is := stripped(e.Args[0]).(*parser.NumberLiteral); is {
		s.Quantile = q.Val
	}
	return s, true
}

// A counter is a selector under rate() or increase(), summed or not.
type counter struct {
	Selector
	by []string
}

func counterOf(expr parser.Expr) (counter, bool) {
	switch e := stripped(expr).(type) {
	case *parser.AggregateExpr:
		c, ok := counterOf(e.Expr)
		if !ok || e.Op != parser.SUM {
			return counter{}, false
		}
		if !e.Without {
			c.by = slices.DeleteFunc(slices.Clone(e.Grouping),
				func(label string) bool { return label == labels.BucketLabel })
		}
		return c, true
	case *parser.Call:
		m, ok := firstArg(e).(*parser.MatrixSelector)
		if !ok || !slices.Contains([]string{"rate", "irate", "increase"}, e.Func.Name) {
			return counter{}, false
		}
		v, ok := m.VectorSelector.(*parser.VectorSelector)
		if !ok || v.OriginalOffset != 0 || v.Timestamp != nil || v.StartOrEnd != 0 {
			return counter{}, false
		}
		s := selectorOf(v)
		return counter{Selector: s}, s.Name != ""
	}
	return counter{}, false
}

func firstArg(c *parser.Call) parser.Expr {
	if len(c.Args) == 0 {
		return nil
	}
	return c.Args[0]
}

// stripped is an expression without what only guards or scales it.
func stripped(expr parser.Expr) parser.Expr {
	e, flipped := bareOf(expr)
	if flipped {
		return expr
	}
	return e
}

// guards are the functions that change nothing of what is counted.
var guards = []string{"clamp_min", "clamp_max", "clamp", "round", "scalar", "abs", "ceil", "floor", "vector", "sort",
	"sort_desc"}

// bareOf takes parentheses, guards against no traffic and factors away. flipped says
// that the expression is 1 less what is left.
func bareOf(expr parser.Expr) (e parser.Expr, flipped bool) {
	for {
		switch x := expr.(type) {
		case *parser.ParenExpr:
			expr = x.Expr
			continue
		case *parser.StepInvariantExpr:
			expr = x.Expr
			continue
		case *parser.Call:
			if slices.Contains(guards, x.Func.Name) && len(x.Args) > 0 {
				expr = x.Args[0]
				continue
			}
		case *parser.BinaryExpr:
			inner, flip := side(x)
			if inner != nil {
				expr, flipped = inner, flipped != flip
				continue
			}
		}
		return expr, flipped
	}
}

// side is the operand of a binary expression that matters, nil where both do.
func side(e *parser.BinaryExpr) (inner parser.Expr, flip bool) {
	left, right := constant(e.LHS), constant(e.RHS)
	switch {
	case e.Op == parser.LOR && (right || isAbsent(e.RHS)):
		return e.LHS, false
	case e.Op == parser.SUB && left:
		return e.RHS, true
	case (e.Op == parser.MUL || e.Op == parser.ADD) && left:
		return e.RHS, false
	case right && slices.Contains([]parser.ItemType{parser.MUL, parser.DIV, parser.ADD, parser.GTR, parser.GTE,
		parser.LSS, parser.LTE, parser.NEQ}, e.Op):
		return e.LHS, false
	}
	return nil, false
}

// constant says whether an expression is a number, or a vector or sum of numbers.
func constant(expr parser.Expr) bool {
	return expr != nil && len(selectors(expr)) == 0
}

// isAbsent says whether an expression only says that something is not there.
func isAbsent(expr parser.Expr) bool {
	e, _ := bareOf(expr)
	c, ok := e.(*parser.Call)
	return ok && (c.Func.Name == "absent" || c.Func.Name == "absent_over_time")
}

// Definition is the shape as a policy writes it, on one line.
func (s Pattern) Definition() string {
	deployment := `""`
	switch {
	case len(s.By) > 0:
		deployment = s.By[0]
	case !s.Total.Uses("deployment") && !s.Total.Uses("role") && !s.Total.Uses("version"):
		deployment = "LABEL"
	}
	total, marked := quote(s.Total.String()), quote(s.Marked.String())
	switch s.Kind {
	case ShapeCounts:
		role := "bad"
		if s.Good {
			role = "good"
		}
		return "counts: {total: " + total + ", " + role + ": " + marked + ", deployment: " + deployment + "}"
	case ShapeHistogram:
		return "histogram: {series: " + total + ", unit: " + s.unit() + ", deployment: " + deployment + "}"
	case ShapeMean:
		return "mean: {count: " + total + ", sum: " + marked + ", deployment: " + deployment + "}"
	case ShapeRate:
		return "counts: {bad: " + total + ", per: 1h, deployment: " + deployment + "}"
	}
	return total
}

// unit is the histogram's, by its name.
func (s Pattern) unit() string {
	if unit, known := UnitOf(s.Total.Name); known {
		return unit
	}
	return "s"
}

// UnitOf is the unit that a metric's name ends in, "s" or "ms".
func UnitOf(name string) (unit string, known bool) {
	for _, suffix := range []string{"_bucket", "_count", "_sum", "_total"} {
		name = strings.TrimSuffix(name, suffix)
	}
	switch {
	case strings.HasSuffix(name, "_seconds"):
		return "s", true
	case strings.HasSuffix(name, "_milliseconds"), strings.HasSuffix(name, "_ms"), strings.HasSuffix(name, "_millis"):
		return "ms", true
	}
	return "", false
}

// instead says what to write for an expression where a plain selector is wanted.
func instead(text string, expr parser.Expr) *Error {
	const raw = "a plain selector is wanted: give the raw counter; Belay takes the differences itself"
	r := expr.PositionRange()
	s, known := shapeOf(expr)
	inner := selectors(expr)
	switch {
	case known && s.Kind == ShapeRate:
		return at(text, r, raw+" and adds the series up", "write "+quote(s.Total.String()))
	case known && s.Kind == ShapeHistogram:
		return at(text, r, "a plain selector is wanted, and this is a quantile already", "define "+s.Definition()+
			" and put quantile: "+quantileName(s.Quantile)+" into the guardrail")
	case known:
		return at(text, r, "a plain selector is wanted, and this divides two counters already",
			"define "+s.Definition())
	case len(inner) == 1 && selectorOf(inner[0]).Name != "":
		return at(text, r, raw, "write "+quote(selectorOf(inner[0]).String()))
	}
	return at(text, r, raw, "an expression can only be the query of a value")
}

func quantileName(q float64) string {
	if q <= 0 || q >= 1 {
		return "p95"
	}
	return "p" + strconv.FormatFloat(q*100, 'g', 6, 64)
}

// Exact is the definition that counts exactly what an expression only estimates;
// it is not ok for what has none.
func Exact(text string) (analysis.Kind, string, bool) {
	s, ok := Recognize(text)
	if !ok || s.Kind == ShapeRate && !mishap(s.Total) {
		return "", "", false
	}
	if s.Kind == ShapeRate {
		return analysis.KindCounts, s.Definition(), true
	}
	return analysis.Kind(s.Kind), s.Definition(), true
}

// mishap says whether a counter counts what should not happen, by its name and matchers.
func mishap(s Selector) bool {
	name := strings.ToLower(s.Name)
	return looksBad(s) || slices.ContainsFunc([]string{"restart", "oom", "crash", "panic", "evict", "kill", "abort"},
		func(word string) bool {
			return strings.Contains(name, word)
		})
}
