package promql

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/belayd/belay/analysis/template"
)

// window matches what ${window} may be.
var window = regexp.MustCompile(`^([0-9]{1,9}(ms|s|m|h|d))+$`)

// Expand puts names into the strings and the matchers of an expression and
// writes it anew. In a matcher's regular expression and in those of
// label_replace they mean themselves.
func Expand(text string, vars map[string]string) (string, error) {
	text, err := withWindow(text, vars["window"])
	if err != nil {
		return "", err
	}
	expr, err := parse(text)
	if err != nil {
		return "", fmt.Errorf("parse expression: %w", err)
	}
	if err := put(expr, vars); err != nil {
		return "", fmt.Errorf("expand expression: %w", err)
	}
	return expr.String(), nil
}

// withWindow writes the window out, wherever it stands: a duration is harmless.
func withWindow(text, value string) (string, error) {
	if !strings.Contains(text, windowName) {
		return text, nil
	}
	if !window.MatchString(value) {
		return "", fmt.Errorf("expand expression: %w: the window is not a duration", template.ErrUnsafe)
	}
	return strings.ReplaceAll(text, windowName, value), nil
}

// put replaces the names below a node of the tree, which is nobody else's.
func put(node parser.Node, vars map[string]string) (err error) {
	switch n := node.(type) {
	case *parser.VectorSelector:
		for i, m := range n.LabelMatchers {
			if n.LabelMatchers[i], err = expandMatcher(m, vars); err != nil {
				return err
			}
		}
		return nil
	case *parser.StringLiteral:
		n.Val, err = template.Expand(n.Val, template.LangText, vars)
		return err
	case *parser.Call:
		if n.Func.Name == "label_replace" {
			return putLabelReplace(n, vars)
		}
	}
	for _, child := range parser.Children(node) {
		if err := put(child, vars); err != nil {
			return err
		}
	}
	return nil
}

// putLabelReplace knows that label_replace(v, label, replacement, label, regex)
// has groups in the third of its arguments and a regular expression in the last.
func putLabelReplace(n *parser.Call, vars map[string]string) (err error) {
	for i, arg := range n.Args {
		s, literal := arg.(*parser.StringLiteral)
		switch {
		case !literal:
			err = put(arg, vars)
		case i == 2:
			groups := map[string]string{}
			for name, value := range vars {
				groups[name] = strings.ReplaceAll(value, "$", "$$")
			}
			s.Val, err = template.Expand(s.Val, template.LangText, groups)
		case i == 4:
			s.Val, err = template.Expand(s.Val, template.LangRegexp, vars)
		default:
			err = put(arg, vars)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// harmless matches values that mean the same in every place of an expression.
var harmless = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// ExpandUnread puts names into an expression that Prometheus' parser does not
// read, because it is written for VictoriaMetrics. Nobody knows what stands
// where in it, so only names of letters, digits, - and _ are put in.
func ExpandUnread(text string, vars map[string]string) (string, error) {
	text, err := withWindow(text, vars["window"])
	if err != nil {
		return "", err
	}
	names, err := template.Variables(text)
	if err != nil {
		return "", fmt.Errorf("expand expression: %w", err)
	}
	for _, name := range names {
		if v := vars[name]; v != "" && !harmless.MatchString(v) {
			return "", fmt.Errorf("expand ${%s}: %w: the expression is not Prometheus' and takes plain names only",
				name, template.ErrUnsafe)
		}
	}
	return template.Expand(text, template.LangText, vars)
}

// selectors are those of an expression, in their order.
func selectors(expr parser.Expr) []*parser.VectorSelector {
	var out []*parser.VectorSelector
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			out = append(out, v)
		}
		return nil
	})
	return out
}
