package series

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/belayd/belay/analysis"
)

// A Spec says what is to be counted. Instants and lengths of time are in
// milliseconds.
type Spec struct {
	// From and To bound the interval (From, To].
	From, To int64
	// Gap is the longest time between two samples over which is counted. Series
	// must reach back to From-Gap for the answer to be exact.
	Gap int64
	// Stale: a deployment whose newest sample is Stale or more older than To is
	// not fresh.
	Stale int64
	// Instance is the label that tells instances apart; it may be empty.
	Instance string
	// Unit is the unit of a histogram's bounds, "s" or "ms".
	Unit string
	// Cuts are the latencies, in seconds, that will be tested.
	Cuts []float64
}

// A Tally is what one instance did, by sources that count events themselves.
type Tally struct {
	Instance string
	// N is the number of events; K of them are marked.
	N, K float64
	// Buckets are disjoint, in seconds, sorted; events above them are in N only.
	Buckets    []Bucket
	Sum, SumSq float64
}

// Events is the sample of tallies, buckets cut as those of counters are.
func Events(tallies []Tally, spec Spec) (analysis.Sample, error) {
	var parts []part
	by := map[string]*analysis.Sample{}
	for _, t := range tallies {
		p := part{instance: t.Instance, buckets: t.Buckets, n: t.N, schema: GridUnknown}
		h := Histogram{Count: t.N, Buckets: t.Buckets}
		if !h.valid() || !finite(t.K) || t.K < 0 || !finite(t.Sum) || !finite(t.SumSq) || t.SumSq < 0 {
			return analysis.Sample{}, errors.New("a number of events is negative or none")
		}
		parts = append(parts, p)
		x := at(by, t.Instance)
		x.N += t.N
		x.K += t.K
		x.Sum += t.Sum
		x.SumSq += t.SumSq
	}
	for _, x := range by {
		x.K = min(x.K, x.N)
	}
	fill(by, parts, spec)
	return gather(by, spec), nil
}

// Counts is the sample of a deployment's total and its bad, or good, series.
func Counts(total, marked []*Series, spec Spec) (analysis.Sample, error) {
	ts := single(total, spec.Instance)
	ms := single(marked, spec.Instance)
	if !fresh(ts, spec) {
		return analysis.Sample{}, nil
	}
	r := findRestarts(slices.Concat(ts, ms), spec.Gap)
	by := map[string]*analysis.Sample{}
	for _, s := range ts {
		d, err := s.increase(spec, r)
		if err != nil {
			return analysis.Sample{}, err
		}
		at(by, s.instance).N += d[0]
	}
	for _, s := range ms {
		d, err := s.increase(spec, r)
		if err != nil {
			return analysis.Sample{}, err
		}
		at(by, s.instance).K += d[0]
	}
	// Two counters are not read in one instant by everybody who serves them: the
	// marked one may be a request ahead.
	for _, s := range by {
		s.K = min(s.K, s.N)
	}
	return gather(by, spec), nil
}

// Mean is the sample of a deployment's count, sum and sum of squares. The sum
// may fall; the other two may not.
func Mean(count, sum, squares []*Series, spec Spec) (analysis.Sample, error) {
	if len(count) == 0 {
		return analysis.Sample{}, nil
	}
	sums, sqs := byLabels(sum), byLabels(squares)
	var ss []*stream
	for _, c := range count {
		k := c.Labels.key(NameLabel)
		if sums[k] == nil || sqs[k] == nil {
			return analysis.Sample{}, fmt.Errorf("series %s has no sum or no sum of squares with the same labels", describe(c.Labels))
		}
		s := joint([]*Series{c, sums[k], sqs[k]}, 0, spec.Instance)
		s.free = 1
		ss = append(ss, s)
	}
	if !fresh(ss, spec) {
		return analysis.Sample{}, nil
	}
	r := findRestarts(ss, spec.Gap)
	by := map[string]*analysis.Sample{}
	for _, s := range ss {
		d, err := s.increase(spec, r)
		if err != nil {
			return analysis.Sample{}, err
		}
		x := at(by, s.instance)
		x.N += d[0]
		x.Sum += d[1]
		x.SumSq += d[2]
	}
	return gather(by, spec), nil
}

// Buckets is the sample of a deployment's latencies, from the series of classic
// buckets, of native histograms, or both. Series that have a native histogram
// in some sample and none in another are refused.
func Buckets(classic, native []*Series, spec Spec) (analysis.Sample, error) {
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
func cut(parts []part, spec Spec) analysis.Sample {
	by := map[string]*analysis.Sample{}
	for _, p := range parts {
		at(by, p.instance).N += p.n
	}
	fill(by, parts, spec)
	return gather(by, spec)
}

// fill puts the parts' buckets into the samples of their instances.
func fill(by map[string]*analysis.Sample, parts []part, spec Spec) {
	bs := commonBounds(parts, spec)
	for _, p := range parts {
		x := at(by, p.instance)
		if x.Buckets == nil && len(bs) > 0 {
			x.Buckets = make([]analysis.Bucket, len(bs))
		}
		before := 0.0
		for i, b := range bs {
			n, _ := upTo(p.buckets, b)
			x.Buckets[i].Upper = b
			x.Buckets[i].Count += n - before
			before = n
		}
	}
}

// classicStreams makes one stream of the buckets that differ in le alone, with
// the bounds of each in seconds; the last is +Inf.
func classicStreams(all []*Series, spec Spec) ([]*stream, [][]float64, error) {
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
		s := joint(members, len(members)-1, spec.Instance)
		ss, les = append(ss, s), append(les, bounds)
	}
	return ss, les, nil
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

func nativeStreams(all []*Series, spec Spec) ([]*stream, error) {
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

func nativeParts(native *Series, s *stream, spec Spec, r restarts) ([]part, error) {
	var out []part
	for i, p := range native.Points {
		if p.T <= spec.From || p.T > spec.To {
			continue
		}
		how := s.origin(i, spec.Gap)
		if how == fromNothing {
			continue
		}
		x := p.H.whole()
		if how == fromPrevious && !r[s.target][p.T] {
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

// Plain is the value of a selector at To: exactly one series with a fresh
// sample, or all of them folded by max, min, sum or avg.
func Plain(all []*Series, fold string, spec Spec) (analysis.Sample, error) {
	var vs []float64
	for _, s := range all {
		for _, p := range slices.Backward(s.Points) {
			if p.T > spec.To {
				continue
			}
			if p.T <= spec.To-spec.Stale {
				break
			}
			if p.H != nil || !finite(p.V) {
				return analysis.Sample{}, fmt.Errorf("series %s has the value %v", describe(s.Labels), p.V)
			}
			vs = append(vs, p.V)
			break
		}
	}
	if len(vs) == 0 {
		return analysis.Sample{}, nil
	}
	switch fold {
	case "max":
		return analysis.Sample{Fresh: true, Value: slices.Max(vs)}, nil
	case "min":
		return analysis.Sample{Fresh: true, Value: slices.Min(vs)}, nil
	case "sum", "avg":
		var sum float64
		for _, v := range vs {
			sum += v
		}
		if fold == "avg" {
			sum /= float64(len(vs))
		}
		if !finite(sum) {
			return analysis.Sample{}, errors.New("the sum is not finite")
		}
		return analysis.Sample{Fresh: true, Value: sum}, nil
	}
	if len(vs) > 1 {
		return analysis.Sample{}, fmt.Errorf("%d series where one is wanted", len(vs))
	}
	return analysis.Sample{Fresh: true, Value: vs[0]}, nil
}

func byLabels(all []*Series) map[string]*Series {
	m := make(map[string]*Series, len(all))
	for _, s := range all {
		m[s.Labels.key(NameLabel)] = s
	}
	return m
}

// fresh says whether a stream has a sample that is young enough.
func fresh(ss []*stream, spec Spec) bool {
	return slices.ContainsFunc(ss, func(s *stream) bool {
		t, ok := s.last(spec.To)
		return ok && t > spec.To-spec.Stale
	})
}

func at(by map[string]*analysis.Sample, instance string) *analysis.Sample {
	if by[instance] == nil {
		by[instance] = &analysis.Sample{Fresh: true}
	}
	return by[instance]
}

// gather sums the instances up, in the order of their names.
func gather(by map[string]*analysis.Sample, spec Spec) analysis.Sample {
	out := analysis.Sample{Fresh: true}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		x := *by[name]
		out.N += x.N
		out.K += x.K
		out.Sum += x.Sum
		out.SumSq += x.SumSq
		if out.Buckets == nil && x.Buckets != nil {
			out.Buckets = make([]analysis.Bucket, len(x.Buckets))
		}
		for i, b := range x.Buckets {
			out.Buckets[i].Upper = b.Upper
			out.Buckets[i].Count += b.Count
		}
		if spec.Instance != "" {
			out.Instances = append(out.Instances, analysis.Instance{Name: name, Sample: x})
		}
	}
	return out
}
