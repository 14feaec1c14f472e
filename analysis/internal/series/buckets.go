package series

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/belayd/belay/analysis"
)

// Buckets is the sample of a deployment's latencies, from the series of classic
// buckets, of native histograms, or both. Series that have a native histogram
// in some sample and none in another are refused.
func Buckets(classic, native []*Series, spec Extraction) (analysis.Sample, error) {
	cs, les, err := classicStreams(classic, spec)
	if err != nil {
		return analysis.Sample{}, err
	}
	ns, err := nativeStreams(native, spec)
	if err != nil {
		return analysis.Sample{}, err
	}
	if !fresh(cs, spec) && !fresh(ns, spec) {
		return analysis.Sample{}, nil
	}
	if err := proven(slices.Concat(cs, ns), spec); err != nil {
		return analysis.Sample{}, err
	}
	r := findRestarts(slices.Concat(cs, ns), spec.Gap)
	var parts []part
	for i, s := range cs {
		d, err := s.increase(spec, r)
		if err != nil {
			return analysis.Sample{}, err
		}
		parts = append(parts, classicPart(d, les[i], s.instance))
	}
	for i, h := range native {
		ps, err := nativeParts(h, ns[i], spec, r)
		if err != nil {
			return analysis.Sample{}, err
		}
		parts = append(parts, ps...)
	}
	return cut(parts, spec), nil
}

// cut sums the parts by instance, over the bounds at which all can be cut.
func cut(parts []part, spec Extraction) analysis.Sample {
	by := map[string]*analysis.Sample{}
	for _, p := range parts {
		at(by, p.instance).N += p.n
	}
	fill(by, parts, spec)
	return gather(by, spec)
}

// fill puts the parts' buckets into the samples of their instances.
func fill(by map[string]*analysis.Sample, parts []part, spec Extraction) {
	sums := make([]cumulation, len(parts))
	for i, p := range parts {
		sums[i] = cumulate(p.buckets)
	}
	bs := commonBounds(parts, sums, spec)
	for j, p := range parts {
		x := at(by, p.instance)
		if x.Buckets == nil && len(bs) > 0 {
			x.Buckets = make([]analysis.Bucket, len(bs))
		}
		before := 0.0
		for i, b := range bs {
			n, _ := sums[j].at(b)
			x.Buckets[i].Upper = b
			x.Buckets[i].Count += n - before
			before = n
		}
	}
}

// classicStreams makes one stream of the buckets that differ in le alone, with
// the bounds of each in seconds; the last is +Inf.
func classicStreams(all []*Series, spec Extraction) ([]*stream, [][]float64, error) {
	type bucket struct {
		le float64
		s  *Series
	}
	groups := map[string][]bucket{}
	for _, s := range all {
		le, err := strconv.ParseFloat(s.Labels.Get("le"), 64)
		if err != nil || math.IsNaN(le) {
			return nil, nil, fmt.Errorf("series %s has the bound le=%q", describe(s.Labels), s.Labels.Get("le"))
		}
		if spec.Unit == "ms" {
			le /= 1000
		}
		k := s.Labels.key("le")
		groups[k] = append(groups[k], bucket{le, s})
	}
	var ss []*stream
	var les [][]float64
	for _, k := range slices.Sorted(maps.Keys(groups)) {
		g := groups[k]
		slices.SortFunc(g, func(a, b bucket) int { return cmp.Compare(a.le, b.le) })
		g = slices.CompactFunc(g, func(a, b bucket) bool { return a.le == b.le })
		if !math.IsInf(g[len(g)-1].le, 1) {
			return nil, nil, fmt.Errorf("series %s has no bucket le=\"+Inf\" beside it", describe(g[0].s.Labels))
		}
		members, bounds := make([]*Series, len(g)), make([]float64, len(g))
		for i, b := range g {
			members[i], bounds[i] = b.s, b.le
		}
		if n := len(bounds); n > 1 {
			if err := UnitError(g[0].s.Labels.Get(NameLabel), spec.Unit, unscaled(bounds[n-2], spec.Unit)); err != nil {
				return nil, nil, err
			}
		}
		s := joint(members, len(members)-1, spec.Instance)
		ss, les = append(ss, s), append(les, bounds)
	}
	return ss, les, nil
}

// unscaled is a bound in the unit of the series.
func unscaled(seconds float64, unit string) float64 {
	if unit == "ms" {
		return seconds * 1000
	}
	return seconds
}

// classicPart makes disjoint buckets of cumulative increments. A bucket may not
// hold more than the one above it: what was read between two writes is cut off.
func classicPart(d, les []float64, instance string) part {
	for i := len(d) - 2; i >= 0; i-- {
		d[i] = min(d[i], d[i+1])
	}
	p := part{instance: instance, n: d[len(d)-1], schema: GridUnknown}
	lower, before := math.Inf(-1), 0.0
	for i, le := range les[:len(les)-1] {
		p.buckets = append(p.buckets, Bucket{Lower: lower, Upper: le, Count: d[i] - before})
		lower, before = le, d[i]
	}
	if over := p.n - before; over > 0 {
		p.buckets = append(p.buckets, Bucket{Lower: lower, Upper: math.Inf(1), Count: over})
	}
	return p
}

func nativeStreams(all []*Series, spec Extraction) ([]*stream, error) {
	for _, s := range all {
		for i := range s.Points {
			h := s.Points[i].H
			if h == nil {
				return nil, fmt.Errorf("series %s is a plain number, a histogram is wanted", describe(s.Labels))
			}
			if !h.valid() {
				return nil, fmt.Errorf("series %s has a histogram with numbers that are none", describe(s.Labels))
			}
			s.Points[i].V = h.Count
		}
	}
	return single(all, spec.Instance), nil
}

func nativeParts(native *Series, s *stream, spec Extraction, r restarts) ([]part, error) {
	var out []part
	after := s.after(spec)
	for i, p := range native.Points {
		if p.T <= after || p.T > spec.To {
			continue
		}
		how := s.origin(i, spec.Gap)
		if how == fromNothing {
			continue
		}
		x := p.H.whole()
		if how >= fromPrevious && !r.within(s.target, s.t[i-1], p.T) {
			if d, ok := subtract(p.H, native.Points[i-1].H); ok {
				x = d
			}
		}
		out = append(out, inSeconds(x, s.instance, spec.Unit))
	}
	// A series that only marks a beginning still names its instance.
	if out == nil {
		out = append(out, part{instance: s.instance, schema: GridUnknown})
	}
	return out, nil
}

// inSeconds is a copy of the part with its bounds in seconds.
func inSeconds(p part, instance, unit string) part {
	p.instance = instance
	if unit != "ms" {
		return p
	}
	bs := slices.Clone(p.buckets)
	for i := range bs {
		bs[i].Lower /= 1000
		bs[i].Upper /= 1000
	}
	// A grid of powers of two in milliseconds is none in seconds.
	p.buckets, p.schema = bs, GridUnknown
	return p
}
