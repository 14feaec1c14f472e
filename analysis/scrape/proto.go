package scrape

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/belayd/belay/analysis/internal/series"
)

// maxNative bounds the buckets of one native histogram.
const maxNative = 10_000

// parseProto reads delimited protobuf.
func parseProto(r io.Reader, keeps func(string) bool) ([]sample, error) {
	// UTF-8 names are legal since Prometheus 3; what is in nobody's selector
	// need not be refused.
	dec := expfmt.NewDecoder(r, expfmt.Format(`application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8`))
	var flat []sample
	for {
		var f dto.MetricFamily
		err := dec.Decode(&f)
		if errors.Is(err, io.EOF) {
			return flat, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read its protobuf: %w", err)
		}
		for _, m := range f.GetMetric() {
			if flat, err = spread(flat, f.GetName(), m, keeps); err != nil {
				return nil, fmt.Errorf("%s: %w", f.GetName(), err)
			}
		}
	}
}

// spread adds the samples of one metric.
func spread(flat []sample, name string, m *dto.Metric, keeps func(string) bool) ([]sample, error) {
	add := func(name string, value float64, created *timestamppb.Timestamp, le string) {
		if !keeps(name) {
			return
		}
		flat = append(flat, sample{labels: labels(name, m, le), value: value, created: millis(created)})
	}
	switch {
	case m.GetCounter() != nil:
		add(name, m.GetCounter().GetValue(), m.GetCounter().GetCreatedTimestamp(), "")
	case m.GetGauge() != nil:
		add(name, m.GetGauge().GetValue(), nil, "")
	case m.GetUntyped() != nil:
		add(name, m.GetUntyped().GetValue(), nil, "")
	case m.GetSummary() != nil:
		s := m.GetSummary()
		add(name+"_count", float64(s.GetSampleCount()), s.GetCreatedTimestamp(), "")
		add(name+"_sum", s.GetSampleSum(), s.GetCreatedTimestamp(), "")
	case m.GetHistogram() != nil:
		h := m.GetHistogram()
		n := either(h.GetSampleCountFloat(), h.GetSampleCount())
		add(name+"_count", n, h.GetCreatedTimestamp(), "")
		add(name+"_sum", h.GetSampleSum(), h.GetCreatedTimestamp(), "")
		// The classic buckets beside a native histogram count the same events.
		if isNative(h) {
			return spreadNative(flat, name, m, keeps)
		}
		for _, b := range h.GetBucket() {
			if !math.IsInf(b.GetUpperBound(), 1) {
				le := strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)
				add(name+"_bucket", either(b.GetCumulativeCountFloat(), b.GetCumulativeCount()), h.GetCreatedTimestamp(), le)
			}
		}
		add(name+"_bucket", n, h.GetCreatedTimestamp(), "+Inf")
	}
	return flat, nil
}

func spreadNative(flat []sample, name string, m *dto.Metric, keeps func(string) bool) ([]sample, error) {
	if !keeps(name) {
		return flat, nil
	}
	h := m.GetHistogram()
	native, err := fromProto(h)
	if err != nil {
		return nil, err
	}
	return append(flat, sample{
		labels: labels(name, m, ""), native: native, value: native.Count, created: millis(h.GetCreatedTimestamp()),
	}), nil
}

// millis is the timestamp in Unix milliseconds; 0 where there is none.
func millis(t *timestamppb.Timestamp) int64 {
	if !t.IsValid() || t.AsTime().Unix() <= 0 {
		return 0
	}
	return t.AsTime().UnixMilli()
}

func labels(name string, m *dto.Metric, le string) series.Labels {
	ls := series.Labels{{Name: series.NameLabel, Value: name}}
	for _, l := range m.GetLabel() {
		if l.GetValue() != "" {
			ls = append(ls, series.Label{Name: l.GetName(), Value: l.GetValue()})
		}
	}
	if le != "" {
		ls = append(ls, series.Label{Name: "le", Value: le})
	}
	return ls
}

// either is the count of a float histogram or of an integer one.
func either(f float64, n uint64) float64 {
	if f > 0 {
		return f
	}
	return float64(n)
}

// isNative follows the definition of the exposition: a span, even an empty one,
// or a zero bucket.
func isNative(h *dto.Histogram) bool {
	return len(h.GetPositiveSpan()) > 0 || len(h.GetNegativeSpan()) > 0 || h.GetZeroThreshold() > 0 || h.GetZeroCount() > 0
}

func fromProto(h *dto.Histogram) (*series.Histogram, error) {
	out := &series.Histogram{Count: either(h.GetSampleCountFloat(), h.GetSampleCount()), Sum: h.GetSampleSum(), Schema: int(h.GetSchema())}
	if out.Schema < -4 || out.Schema > 8 {
		return nil, fmt.Errorf("a native histogram of the schema %d", out.Schema)
	}
	neg, err := unroll(h.GetNegativeSpan(), h.GetNegativeDelta(), h.GetNegativeCount())
	if err != nil {
		return nil, err
	}
	for _, b := range slices.Backward(neg) {
		out.Buckets = append(out.Buckets, series.Bucket{
			Lower: -series.Bound(out.Schema, b.index), Upper: -series.Bound(out.Schema, b.index-1), Count: b.count,
		})
	}
	if z := either(h.GetZeroCountFloat(), h.GetZeroCount()); z > 0 {
		// What is exactly zero counts as at most the least bound.
		t := h.GetZeroThreshold()
		out.Buckets = append(out.Buckets, series.Bucket{Lower: math.Nextafter(-t, math.Inf(-1)), Upper: t, Count: z})
	}
	pos, err := unroll(h.GetPositiveSpan(), h.GetPositiveDelta(), h.GetPositiveCount())
	if err != nil {
		return nil, err
	}
	for _, b := range pos {
		out.Buckets = append(out.Buckets, series.Bucket{
			Lower: series.Bound(out.Schema, b.index-1), Upper: series.Bound(out.Schema, b.index), Count: b.count,
		})
	}
	return out, nil
}

type indexed struct {
	index int
	count float64
}

// unroll makes buckets of spans and either differences or counts.
func unroll(spans []*dto.BucketSpan, deltas []int64, counts []float64) ([]indexed, error) {
	var out []indexed
	index, n, i := 0, int64(0), 0
	for _, s := range spans {
		index += int(s.GetOffset())
		for range s.GetLength() {
			var c float64
			switch {
			case i < len(counts):
				c = counts[i]
			case i < len(deltas):
				n += deltas[i]
				c = float64(n)
			default:
				return nil, errors.New("a native histogram whose spans are longer than its buckets")
			}
			if i++; i > maxNative {
				return nil, fmt.Errorf("a native histogram of more than %d buckets", maxNative)
			}
			if c != 0 {
				out = append(out, indexed{index, c})
			}
			index++
		}
	}
	return out, nil
}
