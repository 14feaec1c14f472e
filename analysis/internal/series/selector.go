package series

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/belayd/belay/analysis"
)

// An Op is how a matcher compares.
type Op string

// The four comparisons of a label with a text or an anchored RE2 expression.
const (
	Equal    Op = "="
	NotEqual Op = "!="
	Like     Op = "=~"
	NotLike  Op = "!~"
)

// A Matcher is one condition on a label. An absent label has the value "".
type Matcher struct {
	Label string
	Op    Op
	Value string

	re *regexp.Regexp
}

// A Selector is what selects series: name{label="x",code=~"5..|424"}. Texts in
// it may hold ${…} until Expand replaced them.
type Selector struct {
	Name     string
	Matchers []Matcher
}

// maxSelector bounds the text that ParseSelector takes, in bytes.
const maxSelector = 16 << 10

// ParseSelector parses a series selector. What makes it a larger expression, a
// function, a range, an offset, is an error: increments are taken of raw series.
func ParseSelector(text string) (Selector, error) {
	if len(text) > maxSelector {
		return Selector{}, fmt.Errorf("parse selector: longer than %d bytes", maxSelector)
	}
	p := parser{rest: text}
	s, err := p.selector()
	if err != nil {
		return Selector{}, fmt.Errorf("parse selector %q: %w", text, err)
	}
	return s, nil
}

// Expand replaces ${name} in the values of the matchers. In a regular expression
// a value is taken literally, as analysis.Expand does, so no value can widen the
// question. A name that vars does not have, or that is empty, is an error.
func (s Selector) Expand(vars map[string]string) (Selector, error) {
	out := Selector{Name: s.Name, Matchers: make([]Matcher, 0, len(s.Matchers))}
	for _, m := range s.Matchers {
		if !strings.Contains(m.Value, "${") {
			out.Matchers = append(out.Matchers, m)
			continue
		}
		n, err := m.expand(vars)
		if err != nil {
			return Selector{}, err
		}
		out.Matchers = append(out.Matchers, n)
	}
	return out, nil
}

func (m Matcher) expand(vars map[string]string) (Matcher, error) {
	if name, ok := strings.CutPrefix(m.Value, "${"); ok && m.Op == Equal && strings.HasSuffix(name, "}") {
		if v := vars[strings.TrimSuffix(name, "}")]; v != "" {
			return Matcher{Label: m.Label, Op: m.Op, Value: v}, nil
		}
	}
	text, err := analysis.Expand("x{"+m.String()+"}", analysis.LangPromQL, vars)
	if err != nil {
		return Matcher{}, err
	}
	x, err := ParseSelector(text)
	if err != nil {
		return Matcher{}, err
	}
	if len(x.Matchers) != 1 {
		return Matcher{}, fmt.Errorf("expand matcher of %s: %w", m.Label, analysis.ErrUnsafe)
	}
	return x.Matchers[0], nil
}

// NewMatcher returns the condition; it fails where the expression is not RE2.
func NewMatcher(label string, op Op, value string) (Matcher, error) {
	m := Matcher{Label: label, Op: op, Value: value}
	if (op == Like || op == NotLike) && !strings.Contains(value, "${") {
		re, err := regexp.Compile("^(?s:" + value + ")$")
		if err != nil {
			return Matcher{}, fmt.Errorf("matcher of %s: %w", label, err)
		}
		m.re = re
	}
	return m, nil
}

// Matches says whether the value meets the condition. A matcher that still
// holds ${…} in an expression matches nothing.
func (m Matcher) Matches(value string) bool {
	switch m.Op {
	case Equal:
		return value == m.Value
	case NotEqual:
		return value != m.Value
	case Like:
		return m.re != nil && m.re.MatchString(value)
	case NotLike:
		return m.re != nil && !m.re.MatchString(value)
	}
	return false
}

// String is the condition in Prometheus' notation.
func (m Matcher) String() string {
	return LabelName(m.Label) + string(m.Op) + strconv.Quote(m.Value)
}

// LabelName is a label as PromQL writes it: quoted unless it is a plain name,
// which Prometheus takes since its version 3.
func LabelName(label string) string {
	for i := range len(label) {
		if !nameByte(label[i], i == 0, false) {
			return strconv.Quote(label)
		}
	}
	if label == "" {
		return `""`
	}
	return label
}

// Matches says whether the series has the selector's name and meets all its
// conditions.
func (s Selector) Matches(l Labels) bool {
	if s.Name != "" && l.Get(NameLabel) != s.Name {
		return false
	}
	return s.MatchesLabels(l)
}

// MatchesLabels is Matches without a look at the name.
func (s Selector) MatchesLabels(l Labels) bool {
	for i := range s.Matchers {
		if !s.Matchers[i].Matches(l.Get(s.Matchers[i].Label)) {
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
	var b strings.Builder
	quoted := !plainName(s.Name)
	if !quoted {
		b.WriteString(s.Name)
	}
	if len(s.Matchers) == 0 && !quoted {
		return b.String()
	}
	b.WriteByte('{')
	if quoted {
		b.WriteString(strconv.Quote(s.Name))
	}
	for i, m := range s.Matchers {
		if i > 0 || quoted {
			b.WriteByte(',')
		}
		b.WriteString(m.String())
	}
	b.WriteByte('}')
	return b.String()
}

// plainName says whether the name can stand before the brace.
func plainName(name string) bool {
	for i := range len(name) {
		if !nameByte(name[i], i == 0, true) {
			return false
		}
	}
	return name != ""
}
