package jsonpath

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/belayd/belay/analysis/template"
)

// An Expr is an expression of a metric: what to ask, and what to take of the answer.
type Expr struct {
	Query string
	// Fold is sum, max, min, last, buckets or nothing.
	Fold string
	Path Path
	// Bound and Count are the members of a bucket.
	Bound, Count Path
}

var folded = regexp.MustCompile(`^(sum|max|min|last|buckets)\s*\((.*)\)$`)

// ParseExpr parses `query -> path` or `path`, the query defaulting to the
// source's. Names go into a path literally; into a query, whose language nobody
// knows, only where they consist of harmless characters.
func ParseExpr(text, fallback string, vars map[string]string) (Expr, error) {
	e := Expr{Query: fallback}
	rest := text
	if i := strings.LastIndex(text, "->"); i >= 0 {
		e.Query, rest = strings.TrimSpace(text[:i]), text[i+2:]
	}
	var err error
	if e.Query, err = Replace(e.Query, vars, harmless); err != nil {
		return Expr{}, err
	}
	rest = strings.TrimSpace(rest)
	if m := folded.FindStringSubmatch(rest); m != nil {
		e.Fold, rest = m[1], strings.TrimSpace(m[2])
	}
	if e.Fold == "buckets" {
		return e.buckets(rest, vars)
	}
	e.Path, err = ParsePath(rest, vars)
	return e, err
}

// Check says what is wrong with an expression, whatever names are put into it;
// nil when nothing is.
func Check(text string) *template.QueryError {
	vars := map[string]string{}
	for _, name := range slices.Concat(template.VariableNames, IntervalNames) {
		vars[name] = "x"
		if isNumber(name) {
			vars[name] = "0"
		}
	}
	_, err := ParseExpr(text, "", vars)
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*template.QueryError](err)
	if !ok {
		return &template.QueryError{Text: text, Why: err.Error(), Syntax: true}
	}
	at := strings.LastIndex(text, e.Text) // the path ends what was written
	return &template.QueryError{Text: text, Start: max(at, 0) + e.Start, Why: e.Why, Hint: e.Hint, Syntax: true}
}

// IntervalNames are the names that say what is asked about: from exclusive, to
// inclusive, as RFC 3339 and in seconds and milliseconds.
var IntervalNames = []string{"from", "to", "fromUnix", "toUnix", "fromMillis", "toMillis"}

// isNumber says whether the name stands for an instant in digits.
func isNumber(name string) bool {
	return slices.Contains(IntervalNames[2:], name)
}

// buckets parses path, $.le, $.n.
func (e Expr) buckets(text string, vars map[string]string) (Expr, error) {
	parts := strings.Split(text, ",")
	if len(parts) < 3 {
		return Expr{}, errors.New("buckets: three paths are wanted: the buckets, and in each its bound and its count")
	}
	n := len(parts)
	var err error
	if e.Path, err = ParsePath(strings.Join(parts[:n-2], ","), vars); err != nil {
		return Expr{}, err
	}
	if e.Bound, err = ParsePath(parts[n-2], vars); err != nil {
		return Expr{}, err
	}
	e.Count, err = ParsePath(parts[n-1], vars)
	return e, err
}

// unsafe matches what could be more than a name in some query language.
var unsafe = regexp.MustCompile(`[^A-Za-z0-9_.:/-]`)

func harmless(name, v string) (string, error) {
	if v == "" || unsafe.MatchString(v) || strings.Contains(v, "--") || strings.Contains(v, "/*") {
		return "", fmt.Errorf("${%s} holds characters that may not stand in a query: %w", name, template.ErrUnsafe)
	}
	return v, nil
}

// Replace puts the values of vars, escaped, for ${…}.
func Replace(s string, vars map[string]string, escape func(name, value string) (string, error)) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		name, rest, closed := strings.Cut(s[i+2:], "}")
		v, known := vars[name]
		if !closed || !known {
			return "", fmt.Errorf("unknown name ${%s}", name)
		}
		v, err := escape(name, v)
		if err != nil {
			return "", err
		}
		b.WriteString(s[:i])
		b.WriteString(v)
		s = rest
	}
}
