package httpjson

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/series"
)

// An expr is an expression of a metric: what to ask, and what to take of the answer.
type expr struct {
	query string
	// fold is sum, max, min, last, buckets or nothing.
	fold string
	path path
	// le and n are the members of a bucket.
	le, n path
}

var folded = regexp.MustCompile(`^(sum|max|min|last|buckets)\s*\((.*)\)$`)

// parseExpr parses `query -> path` or `path`, the query defaulting to the
// source's. Names go into a path literally; into a query, whose language nobody
// knows, only where they consist of harmless characters.
func parseExpr(text, fallback string, vars map[string]string) (expr, error) {
	e := expr{query: fallback}
	rest := text
	if i := strings.LastIndex(text, "->"); i >= 0 {
		e.query, rest = strings.TrimSpace(text[:i]), text[i+2:]
	}
	var err error
	if e.query, err = replace(e.query, vars, harmless); err != nil {
		return expr{}, err
	}
	rest = strings.TrimSpace(rest)
	if m := folded.FindStringSubmatch(rest); m != nil {
		e.fold, rest = m[1], strings.TrimSpace(m[2])
	}
	if e.fold == "buckets" {
		return e.buckets(rest, vars)
	}
	e.path, err = parsePath(rest, vars)
	return e, err
}

// buckets parses path, $.le, $.n.
func (e expr) buckets(text string, vars map[string]string) (expr, error) {
	parts := strings.Split(text, ",")
	if len(parts) < 3 {
		return expr{}, errors.New("buckets: three paths are wanted: the buckets, and in each its bound and its count")
	}
	n := len(parts)
	var err error
	if e.path, err = parsePath(strings.Join(parts[:n-2], ","), vars); err != nil {
		return expr{}, err
	}
	if e.le, err = parsePath(parts[n-2], vars); err != nil {
		return expr{}, err
	}
	e.n, err = parsePath(parts[n-1], vars)
	return e, err
}

// unsafe matches what could be more than a name in some query language.
var unsafe = regexp.MustCompile(`[^A-Za-z0-9_.:/-]`)

func harmless(name, v string) (string, error) {
	if v == "" || unsafe.MatchString(v) || strings.Contains(v, "--") || strings.Contains(v, "/*") {
		return "", fmt.Errorf("${%s} holds characters that may not stand in a query: %w", name, analysis.ErrUnsafe)
	}
	return v, nil
}

// replace puts the values of vars, escaped, for ${…}.
func replace(s string, vars map[string]string, escape func(name, value string) (string, error)) (string, error) {
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

// number is what the expression takes of a document; ok is false where it
// selects nothing.
func (e expr) number(doc any) (x float64, ok bool, err error) {
	vs, err := e.path.values(doc)
	if err != nil {
		return 0, false, err
	}
	var xs []float64
	for _, v := range vs {
		x, some, err := number(v)
		if err != nil {
			return 0, false, err
		}
		if some {
			xs = append(xs, x)
		}
	}
	switch {
	case len(xs) == 0:
		return 0, false, nil
	case e.fold == "" && len(xs) > 1:
		return 0, false, fmt.Errorf("it selects %d numbers, one is wanted: wrap it in sum(), max(), min() or last()", len(xs))
	case e.fold == "max":
		return slices.Max(xs), true, nil
	case e.fold == "min":
		return slices.Min(xs), true, nil
	case e.fold == "last":
		return xs[len(xs)-1], true, nil
	}
	for _, y := range xs {
		x += y
	}
	return x, true, nil
}

// histogram makes buckets of a document: each holds the events above the bound
// before and up to its own; one without a bound, or with +Inf, those above all.
func (e expr) histogram(doc any, unit string) ([]series.Bucket, bool, error) {
	vs, err := e.path.values(doc)
	if err != nil {
		return nil, false, err
	}
	var out []series.Bucket
	for _, v := range vs {
		b, err := e.bucket(v, unit)
		if err != nil {
			return nil, false, err
		}
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b series.Bucket) int { return cmp.Compare(a.Upper, b.Upper) })
	lower := math.Inf(-1)
	for i := range out {
		if out[i].Upper == lower {
			return nil, false, fmt.Errorf("two buckets have the bound %v", lower)
		}
		out[i].Lower, lower = lower, out[i].Upper
	}
	return out, len(vs) > 0, nil
}

func (e expr) bucket(v any, unit string) (series.Bucket, error) {
	var b series.Bucket
	ns, err := e.n.values(v)
	if err != nil {
		return b, err
	}
	if len(ns) != 1 {
		return b, fmt.Errorf("a bucket has %d counts", len(ns))
	}
	n, ok, err := number(ns[0])
	if err != nil || !ok {
		return b, errors.Join(errors.New("a bucket has no count"), err)
	}
	b.Count, b.Upper = n, math.Inf(1)
	les, err := e.le.values(v)
	if err != nil || len(les) == 0 || les[0] == nil {
		return b, err
	}
	if text, is := les[0].(string); is && strings.Trim(strings.ToLower(text), "+") == "inf" {
		return b, nil
	}
	le, _, err := number(les[0])
	if err != nil {
		return b, fmt.Errorf("bound: %w", err)
	}
	if unit == "ms" {
		le /= 1000
	}
	b.Upper = le
	return b, nil
}
