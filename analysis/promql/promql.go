// Package promql reads PromQL as Prometheus reads it, by Prometheus' own parser:
// the selectors of which sources count, and the expressions that give one number.
//
// The rules of the package:
//   - It is pure: it asks nobody. What it refuses, the server would refuse or
//     could not be counted, and it says where in the text and what would help.
//   - Names are put into the parsed expression, never into its text: into the
//     value of a matcher, literally in a regular expression, or into a string. The text that is asked
//     is written from what was parsed, so no name can change an expression's shape.
//   - ${window} is the one substitution outside of strings; it is a duration.
//
// The grammar is that of Prometheus 3.5 with its experimental functions and
// durations: whether a server was started with them, only the server knows.
// What VictoriaMetrics takes beyond it is not read; see ExpandUnread.
package promql

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"

	"github.com/belayd/belay/analysis/template"
)

// The library's switches are the process's: they are set before anything is
// parsed and never again.
var _ = func() bool {
	parser.EnableExperimentalFunctions, parser.ExperimentalDurationExpr = true, true
	return true
}()

// maxText bounds the text that is read, in bytes.
const maxText = 16 << 10

// An Error says what is wrong with a text, where, and what would be right.
type Error = template.QueryError

// windowName stands outside of strings; sampleWindow is a duration of the same
// length, so that places stay where they are.
const (
	windowName   = "${window}"
	sampleWindow = "10000000s"
)

// parse reads an expression in which names are still to be put.
func parse(text string) (parser.Expr, error) {
	if len(text) > maxText {
		return nil, &Error{Text: text, Syntax: true, Why: fmt.Sprintf("it is longer than %d bytes", maxText)}
	}
	expr, err := parser.ParseExpr(strings.ReplaceAll(text, windowName, sampleWindow))
	if err == nil {
		return expr, nil
	}
	e := &Error{Text: text, Why: err.Error(), Syntax: true}
	if all, ok := errors.AsType[parser.ParseErrors](err); ok && len(all) > 0 {
		e.Start, e.Why = int(all[0].PositionRange.Start), all[0].Err.Error()
	}
	e.Hint = foreign(text, e.Why)
	if strings.TrimSpace(text) == "" {
		e.Why = "it is empty"
	}
	return nil, e
}

// foreign says what to write for the placeholders of other tools.
func foreign(text, why string) string {
	switch {
	case strings.Contains(text, "$__rate_interval"), strings.Contains(text, "$__interval"),
		strings.Contains(text, "$__range"):
		return "a dashboard's interval is ${window} here"
	case strings.Contains(text, "{{"):
		return "{{…}} is another tool's template; names are put in for " + variables()
	case strings.Contains(why, "'$'") && strings.Contains(text, "${"):
		return "names stand inside quotes; only ${window} stands outside of them"
	}
	return ""
}

func variables() string { return "${" + strings.Join(template.VariableNames, "} ${") + "}" }

// at is a mistake at a part of what was parsed.
func at(text string, r posrange.PositionRange, why, hint string) *Error {
	return &Error{Text: text, Start: int(r.Start), Why: why, Hint: hint}
}

// Check says why a text cannot be the expression of one number; nil when it can.
func Check(text string) error {
	expr, err := parse(text)
	if err != nil {
		return err
	}
	switch expr.Type() {
	case parser.ValueTypeVector, parser.ValueTypeScalar:
		return nil
	case parser.ValueTypeMatrix:
		return at(text, expr.PositionRange(), "it gives a range of samples, one number is wanted",
			"wrap it in a function such as rate() or max_over_time()")
	case parser.ValueTypeString, parser.ValueTypeNone:
	}
	return at(text, expr.PositionRange(), "it gives a "+string(expr.Type())+", one number is wanted", "")
}

// Fold takes max(…), min(…), sum(…) or avg(…) apart; fold is empty where there is none.
func Fold(text string) (fold, inner string) {
	text = strings.TrimSpace(text)
	for _, f := range []string{"max", "min", "sum", "avg"} {
		rest, ok := strings.CutPrefix(text, f)
		rest = strings.TrimSpace(rest)
		if ok && strings.HasPrefix(rest, "(") && strings.HasSuffix(rest, ")") {
			return f, rest[1 : len(rest)-1]
		}
	}
	return "", text
}
