package scrape

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/belayd/belay/analysis/internal/series"
)

const (
	// maxNative bounds the buckets of one native histogram.
	maxNative = 10_000
	// maxFamily and maxMetric bound one metric family and one of its metrics, in
	// bytes on the wire.
	maxFamily = 16 << 20
	maxMetric = 256 << 10
)

// The fields of a MetricFamily that are read.
const (
	fieldName   protowire.Number = 1
	fieldMetric protowire.Number = 4
)

// parseProto reads delimited protobuf. Who writes it is not trusted: a length is
// what it says and no more, memory grows with what has come, and only metrics
// that are asked for are taken apart.
func parseProto(r io.Reader, f filter) ([]sample, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	var flat []sample
	var family bytes.Buffer
	for {
		size, err := binary.ReadUvarint(in)
		switch {
		case errors.Is(err, io.EOF):
			return flat, nil
		case err != nil:
			return nil, fmt.Errorf("read its protobuf: %w", err)
		case size > maxFamily:
			return nil, fmt.Errorf("read its protobuf: a metric family of %d bytes, more than %d", size, maxFamily)
		}
		family.Reset()
		if _, err := io.CopyN(&family, in, int64(size)); err != nil { //nolint:gosec // bounded just above
			return nil, errors.New("read its protobuf: it ends in the middle")
		}
		if flat, err = parseFamily(family.Bytes(), flat, f); err != nil {
			return nil, err
		}
	}
}

// parseFamily adds the samples of one metric family, unless none of its names is
// asked for.
func parseFamily(in []byte, flat []sample, f filter) ([]sample, error) {
	var name string
	err := fields(in, func(n protowire.Number, value []byte) error {
		if n == fieldName {
			name = string(value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc([]string{"", "_bucket", "_count", "_sum"},
		func(suffix string) bool { return f.keeps(name + suffix) }) {
		return flat, nil
	}
	metrics := 0
	err = fields(in, func(n protowire.Number, value []byte) error {
		if n != fieldMetric {
			return nil
		}
		if metrics++; metrics > f.most {
			return fmt.Errorf("%s: more than %d metrics", name, f.most)
		}
		if len(value) > maxMetric {
			return fmt.Errorf("%s: a metric of %d bytes, more than %d", name, len(value), maxMetric)
		}
		var m dto.Metric
		if err := proto.Unmarshal(value, &m); err != nil {
			return fmt.Errorf("%s: read its protobuf: %w", name, err)
		}
		var err error
		if flat, err = spread(flat, name, &m, f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	return flat, err
}

// fields calls visit with every field of a message that has a length.
func fields(in []byte, visit func(n protowire.Number, value []byte) error) error {
	for len(in) > 0 {
		num, kind, n := protowire.ConsumeTag(in)
		if n < 0 {
			return errors.New("read its protobuf: no message")
		}
		in = in[n:]
		var value []byte
		if kind == protowire.BytesType {
			value, n = protowire.ConsumeBytes(in)
		} else {
			n = protowire.ConsumeFieldValue(num, kind, in)
		}
		if n < 0 {
			return errors.New("read its protobuf: no message")
		}
		in = in[n:]
		if kind == protowire.BytesType {
			if err := visit(num, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// spread adds the samples of one metric.
func spread(flat []sample, name string, m *dto.Metric, f filter) ([]sample, error) {
	var err error
	gauge := m.GetGauge() != nil
	add := func(name string, value float64, created *timestamppb.Timestamp, le string) {
		if err != nil || !f.keeps(name) {
			return
		}
		flat, err = f.add(flat, sample{labels: labels(name, m, le), value: value, created: millis(created),
			at: m.GetTimestampMs(), gauge: gauge})
	}
	switch {
	case m.GetCounter() != nil:
		add(name, m.GetCounter().GetValue(), m.GetCounter().GetCreatedTimestamp(), "")
	case gauge:
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
			if err != nil {
				return nil, err
			}
			return spreadNative(flat, name, m, f)
		}
		for _, b := range h.GetBucket() {
			if !math.IsInf(b.GetUpperBound(), 1) {
				le := strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)
				add(name+"_bucket", either(b.GetCumulativeCountFloat(), b.GetCumulativeCount()),
					h.GetCreatedTimestamp(), le)
			}
		}
		add(name+"_bucket", n, h.GetCreatedTimestamp(), "+Inf")
	}
	return flat, err
}

func spreadNative(flat []sample, name string, m *dto.Metric, f filter) ([]sample, error) {
	if !f.keeps(name) {
		return flat, nil
	}
	h := m.GetHistogram()
	native, err := fromProto(h)
	if err != nil {
		return nil, err
	}
	return f.add(flat, sample{
		labels: labels(name, m, ""), native: native, value: native.Count, created: millis(h.GetCreatedTimestamp()),
		at: m.GetTimestampMs(),
	})
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
	return len(h.GetPositiveSpan()) > 0 || len(h.GetNegativeSpan()) > 0 || h.GetZeroThreshold() > 0 ||
		h.GetZeroCount() > 0
}

func fromProto(h *dto.Histogram) (*series.Histogram, error) {
	out := &series.Histogram{Count: either(h.GetSampleCountFloat(), h.GetSampleCount()), Sum: h.GetSampleSum(),
		Schema: int(h.GetSchema())}
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
