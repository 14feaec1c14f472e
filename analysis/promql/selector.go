package promql

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/belayd/belay/analysis/template"
)

// A Selector is what selects series: name{label="x",code=~"5..|424"}. Values in
// it may hold ${…} until Expand replaced them.
type Selector struct {
	Name     string
	Matchers []*labels.Matcher
}

// ParseSelector reads a selector of one metric. What makes it a larger expression, a
// function, a range, an offset, is an error: increments are taken of raw series.
func ParseSelector(text string) (Selector, error) {
	expr, err := parse(text)
	if err != nil {
		return Selector{}, fmt.Errorf("parse selector: %w", err)
	}
	v, err := plain(text, expr)
	if err != nil {
		return Selector{}, fmt.Errorf("parse selector: %w", err)
	}
	s := selectorOf(v)
	if s.Name == "" {
		return Selector{}, fmt.Errorf("parse selector: %w", at(text, v.PosRange, "it names no metric",
			"one metric name, by =, is wanted"))
	}
	return s, nil
}

// plain is the expression as the bare selector that it must be.
func plain(text string, expr parser.Expr) (*parser.VectorSelector, error) {
	switch e := expr.(type) {
	case *parser.ParenExpr:
		return plain(text, e.Expr)
	case *parser.VectorSelector:
		if e.OriginalOffset != 0 || e.OriginalOffsetExpr != nil || e.Timestamp != nil || e.StartOrEnd != 0 {
			return nil, at(text, e.PosRange, "offset and @ have no place here: Belay asks for the interval itself",
				"write "+quote(selectorOf(e).String()))
		}
		return e, nil
	}
	return nil, instead(text, expr)
}

// selectorOf is the selector that the parser read.
func selectorOf(v *parser.VectorSelector) Selector {
	var s Selector
	for _, m := range v.LabelMatchers {
		if m.Name == labels.MetricName && m.Type == labels.MatchEqual {
			s.Name = m.Value
			continue
		}
		s.Matchers = append(s.Matchers, m)
	}
	return s
}

// Expand replaces ${name} in the values of the matchers. In a regular expression
// a value is taken literally, so no value can widen the question. A name that
// vars does not have, or that is empty, is an error.
func (s Selector) Expand(vars map[string]string) (Selector, error) {
	out := Selector{Name: s.Name, Matchers: make([]*labels.Matcher, len(s.Matchers))}
	for i, m := range s.Matchers {
		n, err := expandMatcher(m, vars)
		if err != nil {
			return Selector{}, err
		}
		out.Matchers[i] = n
	}
	return out, nil
}

func expandMatcher(m *labels.Matcher, vars map[string]string) (*labels.Matcher, error) {
	if !strings.Contains(m.Value, "${") {
		return m, nil
	}
	if name, ok := strings.CutPrefix(m.Value, "${"); ok && m.Type == labels.MatchEqual && strings.HasSuffix(name, "}") {
		// The commonest form of all, and read anew for every question.
		if v := vars[strings.TrimSuffix(name, "}")]; v != "" {
			return labels.NewMatcher(labels.MatchEqual, m.Name, v)
		}
	}
	lang := template.LangText
	if m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp {
		lang = template.LangRegexp
	}
	value, err := template.Expand(m.Value, lang, vars)
	if err != nil {
		return nil, fmt.Errorf("matcher of %s: %w", m.Name, err)
	}
	n, err := labels.NewMatcher(m.Type, m.Name, value)
	if err != nil {
		return nil, fmt.Errorf("matcher of %s: %w", m.Name, err)
	}
	return n, nil
}

// Matches says whether a series meets all conditions, whatever its name: value gives
// the value of a label, "" where the series has none.
func (s Selector) Matches(value func(label string) string) bool {
	for _, m := range s.Matchers {
		if !m.Matches(value(m.Name)) {
			return false
		}
	}
	return true
}

// Uses says whether a value of the selector holds ${name}.
func (s Selector) Uses(name string) bool {
	for _, m := range s.Matchers {
		if strings.Contains(m.Value, "${"+name+"}") {
			return true
		}
	}
	return false
}

// Suffixed is the selector of name+suffix: _bucket, _count.
func (s Selector) Suffixed(suffix string) Selector {
	s.Name += suffix
	return s
}

// String is the selector in Prometheus' notation, its matchers in their order.
func (s Selector) String() string {
	var inner []string
	name := s.Name
	if !model.LegacyValidation.IsValidMetricName(name) {
		inner, name = []string{strconv.Quote(name)}, ""
	}
	for _, m := range s.Matchers {
		inner = append(inner, m.String())
	}
	if len(inner) == 0 {
		return name
	}
	return name + "{" + strings.Join(inner, ",") + "}"
}

// LabelName is a label as PromQL writes it: quoted unless it is a plain name,
// which Prometheus takes since its version 3.
func LabelName(label string) string {
	if model.LegacyValidation.IsValidLabelName(label) {
		return label
	}
	return strconv.Quote(label)
}

// quote puts a text into the quotes of YAML.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
