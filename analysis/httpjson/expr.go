package httpjson

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/belayd/belay/analysis/internal/series"
	"github.com/belayd/belay/analysis/jsonpath"
)

// number is what the expression takes of a document; ok is false where it
// selects nothing.
func number(e jsonpath.Expr, doc any) (x float64, ok bool, err error) {
	vs, err := e.Path.Select(doc)
	if err != nil {
		return 0, false, err
	}
	var xs []float64
	for _, v := range vs {
		x, some, err := jsonpath.Number(v)
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
	case e.Fold == "" && len(xs) > 1:
		return 0, false, fmt.Errorf("it selects %d numbers, one is wanted: wrap it in sum(), max(), min() or last()",
			len(xs))
	case e.Fold == "max":
		return slices.Max(xs), true, nil
	case e.Fold == "min":
		return slices.Min(xs), true, nil
	case e.Fold == "last":
		return xs[len(xs)-1], true, nil
	}
	for _, y := range xs {
		x += y
	}
	return x, true, nil
}

// histogram makes buckets of a document: each holds the events above the bound
// before and up to its own; one without a bound, or with +Inf, those above all.
func histogram(e jsonpath.Expr, doc any, unit string) ([]series.Bucket, bool, error) {
	vs, err := e.Path.Select(doc)
	if err != nil {
		return nil, false, err
	}
	var out []series.Bucket
	for _, v := range vs {
		b, err := bucket(e, v, unit)
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

func bucket(e jsonpath.Expr, v any, unit string) (series.Bucket, error) {
	var b series.Bucket
	ns, err := e.Count.Select(v)
	if err != nil {
		return b, err
	}
	if len(ns) != 1 {
		return b, fmt.Errorf("a bucket has %d counts", len(ns))
	}
	n, ok, err := jsonpath.Number(ns[0])
	if err != nil || !ok {
		return b, errors.Join(errors.New("a bucket has no count"), err)
	}
	b.Count, b.Upper = n, math.Inf(1)
	les, err := e.Bound.Select(v)
	if err != nil || len(les) == 0 || les[0] == nil {
		return b, err
	}
	if text, is := les[0].(string); is && strings.Trim(strings.ToLower(text), "+") == "inf" {
		return b, nil
	}
	le, _, err := jsonpath.Number(les[0])
	if err != nil {
		return b, fmt.Errorf("bound: %w", err)
	}
	if unit == "ms" {
		le /= 1000
	}
	b.Upper = le
	return b, nil
}
