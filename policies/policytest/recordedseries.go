package policytest

import (
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
)

// A recordedSeries collects one series: what was read, by cell.
type recordedSeries struct {
	values map[int]float64
	gone   map[int]bool
	// level: the values are levels and not increments.
	level bool
}

// reading spreads one reading over the cells that it covers.
func (r *regression) reading(x analysis.Reading) {
	i := slices.IndexFunc(r.plan.Panel.Metrics, func(m analysis.Metric) bool { return m.Name == x.Metric })
	if i < 0 || x.Status != analysis.StatusOK || !x.To.After(x.From) {
		return
	}
	m := r.plan.Panel.Metrics[i]
	for _, arm := range []struct {
		name string
		s    analysis.Sample
	}{{"stable", x.Stable}, {"candidate", x.Candidate}} {
		add := func(part string, v float64, level bool) {
			r.spread(m.Name+"/"+part+"@"+arm.name, x.From, x.To, v, level, !arm.s.Fresh)
		}
		switch m.Kind() {
		case analysis.KindCounts:
			if !m.Rate() {
				add("total", arm.s.N, false)
			}
			add(countedPart(m.Counts), arm.s.K, false)
		case analysis.KindHistogram:
			add("count", arm.s.N, false)
			add("p95", p95Of(arm.s)*1000, true)
		case analysis.KindMean:
			add("count", arm.s.N, false)
			mean := arm.s.Sum / math.Max(arm.s.N, 1)
			add("mean", mean, true)
			add("deviation", arm.s.Deviation(), true)
		case analysis.KindValue:
			add("value", arm.s.Value, true)
		}
	}
}

// p95Of interpolates the 95th percentile of a histogram.
func p95Of(s analysis.Sample) float64 {
	want, below, lower := 0.95*s.N, 0.0, 0.0
	for _, b := range s.Buckets {
		if below+b.Count >= want && b.Count > 0 {
			return lower + (b.Upper-lower)*(want-below)/b.Count
		}
		below, lower = below+b.Count, b.Upper
	}
	return lower * 1.2
}

func (r *regression) spread(name string, from, to time.Time, v float64, level, gone bool) {
	t := r.series[name]
	if t == nil {
		t = &recordedSeries{values: map[int]float64{}, gone: map[int]bool{}, level: level}
		r.series[name] = t
	}
	first, lastCell := r.cell(from.Add(1)), r.cell(to)
	for c := max(first, 0); c <= lastCell; c++ {
		begin, end := r.start.Add(time.Duration(c)*r.every), r.start.Add(time.Duration(c+1)*r.every)
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		part := float64(end.Sub(begin)) / float64(to.Sub(from))
		r.highest = max(r.highest, c)
		switch {
		case gone:
			t.gone[c] = true
		case level:
			t.values[c] = v
		default:
			t.values[c] += v * part
		}
	}
}

// cell is the index of the cell (start + i·every, start + (i+1)·every] of t.
func (r *regression) cell(t time.Time) int {
	return int((t.Sub(r.start)+r.every-1)/r.every) - 1
}

// fill turns a track into a series: whole numbers whose sums keep to what was
// read, and the neighbour's value where nothing was.
func (t *recordedSeries) fill(length int) Series {
	out := make(Series, length)
	before, known := 0.0, false
	for c := range length {
		v, read := t.values[c]
		switch {
		case t.gone[c]:
			out[c] = math.NaN()
			continue
		case read:
			before, known = v, true
		case !known:
			before = t.next(c, length)
		}
		out[c] = before
	}
	if t.level {
		for c := range out {
			out[c] = math.Round(out[c]*1000) / 1000
		}
		return out
	}
	carry := 0.0
	for c := range out {
		if math.IsNaN(out[c]) {
			continue
		}
		whole := math.Floor(out[c] + carry + 1e-9)
		carry += out[c] - whole
		out[c] = whole
	}
	return out
}

func (t *recordedSeries) next(c, length int) float64 {
	for ; c < length; c++ {
		if v, ok := t.values[c]; ok {
			return v
		}
	}
	return 0
}
