package series

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/belayd/belay/analysis"
)

// An Extraction says what is to be counted. Instants and lengths of time are in
// milliseconds.
type Extraction struct {
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
	// Batches: a mean has no sum of squares.
	Batches bool
	// Per is what a rate counts against, in milliseconds, which is Trials trials.
	Per, Trials float64
}

// InstanceCounts are what one instance did, by sources that count events themselves.
type InstanceCounts struct {
	Instance string
	// N is the number of events; K of them are marked.
	N, K float64
	// Buckets are disjoint, in seconds, sorted; events above them are in N only.
	Buckets    []Bucket
	Sum, SumSq float64
}

// Events is the sample of tallies, buckets cut as those of counters are.
func Events(tallies []InstanceCounts, spec Extraction) (analysis.Sample, error) {
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
func Counts(total, marked []*Series, spec Extraction) (analysis.Sample, error) {
	ts := single(total, spec.Instance)
	ms := single(marked, spec.Instance)
	if !fresh(ts, spec) {
		return analysis.Sample{}, nil
	}
	if err := proven(slices.Concat(ts, ms), spec); err != nil {
		return analysis.Sample{}, err
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

// Rate is the sample of a counter against time: the trials of an instance are those of the
// time in which any of its series was seen to count.
func Rate(events []*Series, spec Extraction) (analysis.Sample, error) {
	ss := single(events, spec.Instance)
	if !fresh(ss, spec) {
		return analysis.Sample{}, nil
	}
	if err := proven(ss, spec); err != nil {
		return analysis.Sample{}, err
	}
	r := findRestarts(ss, spec.Gap)
	by := map[string]*analysis.Sample{}
	for _, s := range ss {
		d, err := s.increase(spec, r)
		if err != nil {
			return analysis.Sample{}, err
		}
		x := at(by, s.instance)
		x.K += d[0]
		x.N = max(x.N, float64(s.seen(spec))/spec.Per*spec.Trials)
	}
	for _, x := range by {
		x.K = min(x.K, x.N)
	}
	return gather(by, spec), nil
}

// Mean is the sample of a deployment's count, sum and sum of squares. The sum
// may fall; the other two may not. Without squares it is made of batches: what one
// series counted from one sample to the next.
func Mean(count, sum, squares []*Series, spec Extraction) (analysis.Sample, error) {
	if len(count) == 0 {
		return analysis.Sample{}, nil
	}
	sums, sqs := byLabels(sum), byLabels(squares)
	var ss []*stream
	for _, c := range count {
		k := c.Labels.key(NameLabel)
		if sums[k] == nil || sqs[k] == nil && !spec.Batches {
			return analysis.Sample{}, fmt.Errorf("series %s has no sum or no sum of squares with the same labels",
				describe(c.Labels))
		}
		parts := []*Series{c, sums[k], sqs[k]}
		if spec.Batches {
			parts = parts[:2]
		}
		s := joint(parts, 0, spec.Instance)
		s.free = 1
		ss = append(ss, s)
	}
	if !fresh(ss, spec) {
		return analysis.Sample{}, nil
	}
	if err := proven(ss, spec); err != nil {
		return analysis.Sample{}, err
	}
	r := findRestarts(ss, spec.Gap)
	by := map[string]*analysis.Sample{}
	for _, s := range ss {
		x := at(by, s.instance)
		err := s.each(spec, r, func(d []float64) {
			x.N += d[0]
			x.Sum += d[1]
			switch {
			case !spec.Batches:
				x.SumSq += d[2]
			case d[0] > 0:
				x.SumSq += d[1] * d[1] / d[0]
				x.Batches++
			}
		})
		if err != nil {
			return analysis.Sample{}, err
		}
	}
	return gather(by, spec), nil
}

// Plain is the value of a selector at To: exactly one series with a fresh
// sample, or all of them folded by max, min, sum or avg.
func Plain(all []*Series, fold string, spec Extraction) (analysis.Sample, error) {
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
func fresh(ss []*stream, spec Extraction) bool {
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
func gather(by map[string]*analysis.Sample, spec Extraction) analysis.Sample {
	out := analysis.Sample{Fresh: true}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		x := *by[name]
		out.N += x.N
		out.K += x.K
		out.Sum += x.Sum
		out.SumSq += x.SumSq
		out.Batches += x.Batches
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
