package series

import (
	"math"
	"slices"
)

// A Histogram is a native histogram as it was sampled: cumulative over time,
// its buckets disjoint.
type Histogram struct {
	Count, Sum float64
	// Buckets are sorted by Upper; empty ones may be left out.
	Buckets []Bucket
	// Schema is the resolution of the exponential grid; GridUnknown where the
	// buckets do not say.
	Schema int
}

// A Bucket holds the observations in (Lower, Upper].
type Bucket struct{ Lower, Upper, Count float64 }

// GridUnknown is the Schema of a histogram whose bounds are not on a grid.
const GridUnknown = math.MaxInt32

// Schemas of exponential histograms.
const (
	minSchema = -4
	maxSchema = 8
)

// InferSchema tells the resolution from the buckets: the bounds of schema s are
// powers of 2^(2^-s). Buckets of which one lies elsewhere have custom bounds.
func InferSchema(bs []Bucket) int {
	schema, known := 0, false
	for _, b := range bs {
		if b.Lower <= 0 || math.IsInf(b.Upper, 0) {
			continue
		}
		if !known {
			s := -math.Log2(math.Log2(b.Upper / b.Lower))
			r := math.Round(s)
			if math.Abs(s-r) > 1e-6 || r < minSchema || r > maxSchema {
				return GridUnknown
			}
			schema, known = int(r), true
		}
		if !onGrid(schema, b.Lower) || !onGrid(schema, b.Upper) {
			return GridUnknown
		}
	}
	if !known {
		return GridUnknown
	}
	return schema
}

func onGrid(schema int, x float64) bool {
	pos := math.Ldexp(math.Log2(x), schema)
	return math.Abs(pos-math.Round(pos)) < 1e-6
}

// Bound is the upper bound of the bucket with this index: 2^(index·2^-schema).
func Bound(schema, index int) float64 {
	return math.Exp2(math.Ldexp(float64(index), -schema))
}

// gridAround is the bounds of the grid next to x; both are x where x lies on it.
func gridAround(schema int, x float64) (below, above float64) {
	pos := math.Ldexp(math.Log2(x), schema)
	if r := math.Round(pos); math.Abs(pos-r) < 1e-9 {
		return Bound(schema, int(r)), Bound(schema, int(r))
	}
	return Bound(schema, int(math.Floor(pos))), Bound(schema, int(math.Ceil(pos)))
}

// A part is what one stream counted in an interval: disjoint buckets and the
// number of all observations, those above the last bucket included.
type part struct {
	instance string
	buckets  []Bucket
	n        float64
	schema   int
}

// same says whether two bounds are one bound written by two programs.
func same(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-9*min(math.Abs(a), math.Abs(b))
}

// A cumulation answers how many observations there are up to a bound.
type cumulation struct {
	// full are the buckets that hold something; upTo[i] is what those before
	// full[i] hold.
	full []Bucket
	upTo []float64
}

// cumulate makes a cumulation of sorted, disjoint buckets.
func cumulate(bs []Bucket) cumulation {
	c := cumulation{full: make([]Bucket, 0, len(bs)), upTo: make([]float64, 1, len(bs)+1)}
	var sum float64
	for _, b := range bs {
		if b.Count != 0 {
			sum += b.Count
			c.full, c.upTo = append(c.full, b), append(c.upTo, sum)
		}
	}
	return c
}

// at is the number of observations ≤ bound, if the buckets tell it: none with
// observations may hold the bound inside.
func (c cumulation) at(bound float64) (float64, bool) {
	i, _ := slices.BinarySearchFunc(c.full, bound, func(b Bucket, bound float64) int {
		if b.Upper <= bound || same(b.Upper, bound) {
			return -1
		}
		return 1
	})
	if i < len(c.full) && c.full[i].Lower < bound && !same(c.full[i].Lower, bound) {
		return 0, false
	}
	return c.upTo[i], true
}

// bounds are the finite bounds of all lists and the extra ones, sorted, each
// once; one that was sampled goes before one that was computed.
func bounds(lists [][]Bucket, extra []float64) []float64 {
	var out []float64
	for _, bs := range lists {
		for _, b := range bs {
			for _, x := range [2]float64{b.Lower, b.Upper} {
				if !math.IsInf(x, 0) {
					out = append(out, x)
				}
			}
		}
	}
	out = append(out, extra...)
	slices.SortStableFunc(out, func(a, b float64) int {
		switch {
		case same(a, b):
			return 0
		case a < b:
			return -1
		}
		return 1
	})
	return slices.CompactFunc(out, same)
}

// subtract is what was observed between two samples of a native histogram; ok
// is false where the counter was reset between them.
func subtract(cur, prev *Histogram) (part, bool) {
	if cur.Count < prev.Count {
		return part{}, false
	}
	p := part{n: cur.Count - prev.Count, schema: coarser(cur.Schema, prev.Schema)}
	last, before := math.Inf(-1), 0.0
	now, then := cumulate(cur.Buckets), cumulate(prev.Buckets)
	for _, b := range bounds([][]Bucket{cur.Buckets, prev.Buckets}, nil) {
		c, ok := now.at(b)
		if !ok {
			continue
		}
		q, ok := then.at(b)
		if !ok {
			continue
		}
		d := c - q
		if d < before {
			return part{}, false
		}
		if d > before {
			p.buckets = append(p.buckets, Bucket{Lower: last, Upper: b, Count: d - before})
		}
		last, before = b, d
	}
	return p, before <= p.n
}

func coarser(a, b int) int {
	if a == GridUnknown || b == GridUnknown {
		return GridUnknown
	}
	return min(a, b)
}

// whole is all that the histogram holds, as an increment from nothing.
func (h *Histogram) whole() part {
	return part{buckets: h.Buckets, n: h.Count, schema: h.Schema}
}

// valid says whether the histogram is one: no number that is not a number, and
// no more in the buckets than in all.
func (h *Histogram) valid() bool {
	if !finite(h.Count) || h.Count < 0 {
		return false
	}
	var sum float64
	for _, b := range h.Buckets {
		if math.IsNaN(b.Lower) || math.IsNaN(b.Upper) || !finite(b.Count) || b.Count < 0 {
			return false
		}
		sum += b.Count
	}
	return sum <= h.Count
}

// commonBounds are the bounds at which every part can be cut, in seconds, and
// of those only the ones next to the cuts, where cuts are given.
func commonBounds(parts []part, sums []cumulation, spec Extraction) []float64 {
	cuts := spec.Cuts
	lists := make([][]Bucket, 0, len(parts))
	schema, known := maxSchema, false
	for _, p := range parts {
		lists = append(lists, p.buckets)
		if p.schema != GridUnknown && p.n > 0 {
			schema, known = min(schema, p.schema), true
		}
	}
	var grid []float64
	if known {
		for _, c := range cuts {
			if c > 0 {
				below, above := gridAround(schema, c)
				grid = append(grid, below, above)
			}
		}
	}
	all := slices.DeleteFunc(bounds(lists, grid), func(b float64) bool {
		return slices.ContainsFunc(sums, func(c cumulation) bool {
			_, ok := c.at(b)
			return !ok
		})
	})
	if len(cuts) == 0 {
		return all
	}
	return Next(all, cuts)
}

// Next is the bounds next to the cuts: the cut itself where it is a bound, else
// the bound below and the bound above, as far as there are such. The bounds are
// sorted, and so is the answer.
func Next(bounds, cuts []float64) []float64 {
	keep := make([]bool, len(bounds))
	for _, c := range cuts {
		i, _ := slices.BinarySearch(bounds, c)
		switch {
		case i < len(bounds) && same(bounds[i], c):
			keep[i] = true
		case i > 0 && same(bounds[i-1], c):
			keep[i-1] = true
		default:
			if i > 0 {
				keep[i-1] = true
			}
			if i < len(bounds) {
				keep[i] = true
			}
		}
	}
	var out []float64
	for i, b := range bounds {
		if keep[i] {
			out = append(out, b)
		}
	}
	return out
}
