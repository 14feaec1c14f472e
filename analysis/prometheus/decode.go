package prometheus

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/belayd/belay/analysis/internal/fetch"
	"github.com/belayd/belay/analysis/internal/series"
)

// A result is what a query gave.
type result struct {
	// kind is matrix, vector or scalar.
	kind   string
	series []*series.Series
	// scalar is a scalar's value.
	scalar float64
}

// An apiError is an answer that says why there is none.
type apiError struct{ kind, text string }

// Error implements error.
func (e *apiError) Error() string {
	if e.text == "" {
		return e.kind
	}
	return e.kind + ": " + e.text
}

// errPartial: the server warned; what it gave may be a part of what there is.
var errPartial = errors.New("the answer may be partial")

// decode reads an answer of the query API. Warnings are errors: Thanos, Mimir and
// their like answer with a part and a warning. Infos are remarks on the query.
func decode(in []byte, most int) (*result, error) {
	d := decoder{lexer: lexer{in: in, seen: map[string]string{}}, most: most}
	var r result
	var status, warning string
	var fault apiError
	d.object(func(key string) {
		switch key {
		case "status":
			status = d.intern()
		case "errorType":
			fault.kind = d.intern()
		case "error":
			fault.text = d.intern()
		case "warnings":
			d.texts(&warning)
		case "data":
			d.data(&r)
		case "isPartial": // VictoriaMetrics' cluster says it in this way
			if d.peek() == 't' {
				warning = cmp.Or(warning, "isPartial, a storage node did not answer")
			}
			d.skip(0)
		default:
			d.skip(0)
		}
	})
	if d.err == nil && d.peek() != 0 {
		d.unexpected("the end")
	}
	switch {
	case d.err != nil:
		return nil, d.err
	case status == "error":
		return nil, &fault
	case status != "success":
		return nil, errors.New("the answer has no status")
	case strings.HasPrefix(warning, promqlWarning):
		return nil, fmt.Errorf("the server warns of the query: %w",
			fetch.Bare(errors.New(strings.TrimPrefix(warning, promqlWarning))))
	case warning != "":
		return nil, fmt.Errorf("%w: %w", errPartial, fetch.Bare(errors.New(warning)))
	case r.kind == "":
		return nil, errors.New("the answer has no data")
	}
	return &r, nil
}

type decoder struct {
	lexer
	most int
}

// What Prometheus 2.48 to 2.53, and Thanos with it, put before the words of a
// remark on the query, and of a warning about it, among the warnings of an answer.
const promqlInfo, promqlWarning = "PromQL info: ", "PromQL warning: "

// texts reads a list of warnings, or null, and keeps the first that is none of the
// query's: what is missing is worse. Remarks are passed over.
func (d *decoder) texts(first *string) {
	if d.peek() == 'n' {
		d.word("null")
		return
	}
	d.array(func() {
		s := cmp.Or(d.intern(), "a warning without words")
		switch {
		case strings.HasPrefix(s, promqlInfo):
		case *first == "", strings.HasPrefix(*first, promqlWarning) && !strings.HasPrefix(s, promqlWarning):
			*first = s
		}
	})
}

// data reads the type and the result, in whichever order.
func (d *decoder) data(r *result) {
	if d.peek() == 'n' {
		d.word("null")
		return
	}
	d.object(func(key string) {
		switch key {
		case "resultType":
			r.kind = d.intern()
		case "result":
			d.result(r)
		default:
			d.skip(0)
		}
	})
}

// result reads a list of series, or a scalar's pair.
func (d *decoder) result(r *result) {
	if d.peek() == 'n' {
		d.word("null")
		return
	}
	scalar := 0
	d.array(func() {
		if c := d.peek(); c == '{' {
			if len(r.series) == d.most {
				d.fail(fmt.Errorf("%w: more than %d series", fetch.ErrTooLarge, d.most))
				return
			}
			r.series = append(r.series, d.one())
			return
		}
		if scalar++; scalar == 1 {
			d.plain(d.number())
			return
		}
		r.scalar = d.float(d.text())
	})
}

// one reads one series.
func (d *decoder) one() *series.Series {
	s := &series.Series{}
	ranged := false
	d.object(func(key string) {
		switch key {
		case "metric":
			d.object(func(name string) {
				s.Labels = append(s.Labels, series.Label{Name: name, Value: d.intern()})
			})
		case "values":
			d.array(func() { s.Points = append(s.Points, d.point(false)) })
			ranged = true
		case "value":
			s.Points = append(s.Points, d.point(false))
		case "histograms":
			d.array(func() { s.Points = append(s.Points, d.point(true)) })
		case "histogram":
			s.Points = append(s.Points, d.point(true))
		default:
			d.skip(0)
		}
	})
	s.Labels.Sort()
	d.inOrder(s)
	if ranged {
		endings(s)
	}
	return s
}

// endings takes the staleness markers out that VictoriaMetrics before 1.107 shows as
// NaN among raw samples: one between two samples, or at the end. What is NaN more
// often is no marker.
func endings(s *series.Series) {
	isNaN := func(i int) bool {
		return i >= 0 && i < len(s.Points) && s.Points[i].H == nil && math.IsNaN(s.Points[i].V)
	}
	kept := s.Points[:0:0]
	for i, p := range s.Points {
		if !isNaN(i) || isNaN(i-1) || isNaN(i+1) {
			if kept != nil {
				kept = append(kept, p)
			}
			continue
		}
		if kept == nil {
			kept = append(make([]series.Point, 0, len(s.Points)), s.Points[:i]...)
		}
		s.Ended = i == len(s.Points)-1
	}
	if kept != nil {
		s.Points = kept
	}
}

// inOrder makes sure of what series needs: timestamps that increase.
func (d *decoder) inOrder(s *series.Series) {
	sorted := slices.IsSortedFunc(s.Points, func(a, b series.Point) int { return cmp.Compare(a.T, b.T) })
	if !sorted {
		slices.SortStableFunc(s.Points, func(a, b series.Point) int { return cmp.Compare(a.T, b.T) })
	}
	for i := 1; i < len(s.Points); i++ {
		if s.Points[i].T == s.Points[i-1].T {
			d.fail(errors.New("a series has two samples of one instant"))
			return
		}
	}
}

// point reads a pair of a timestamp in seconds and a value.
func (d *decoder) point(native bool) series.Point {
	var p series.Point
	i := 0
	d.array(func() {
		switch i++; {
		case i == 1:
			p.T = d.millis()
		case i > 2:
			d.unexpected("the end of a pair")
		case native:
			p.H = d.histogram()
		default:
			p.V = d.float(d.text())
		}
	})
	if i != 2 && d.err == nil {
		d.unexpected("a pair")
	}
	return p
}

// millis reads seconds with up to three digits behind the point, exactly.
func (d *decoder) millis() int64 {
	b := d.number()
	var whole, part int64
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9' && i < 15; i++ {
		whole = whole*10 + int64(b[i]-'0')
	}
	if i > 1 && b[0] == '0' {
		i = 0 // no JSON number; the slow way says so
	}
	if i == len(b) && i > 0 {
		return whole * 1000
	}
	if i > 0 && i < len(b) && b[i] == '.' && len(b)-i > 1 && len(b)-i <= 4 {
		scale := int64(100)
		for i++; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
			part += int64(b[i]-'0') * scale
			scale /= 10
		}
		if i == len(b) {
			return whole*1000 + part
		}
	}
	v := d.plain(b) * 1000
	if math.IsNaN(v) || math.Abs(v) > 1e15 {
		d.fail(fmt.Errorf("the answer holds the timestamp %q", b))
		return 0
	}
	return int64(math.Round(v))
}

// histogram reads a native histogram. Only buckets that hold something are
// given; their rule says which of the two bounds belongs to them, which for
// latencies, that are no whole powers of two, makes no difference.
func (d *decoder) histogram() *series.Histogram {
	h := &series.Histogram{}
	d.object(func(key string) {
		switch key {
		case "count":
			h.Count = d.float(d.text())
		case "sum":
			h.Sum = d.float(d.text())
		case "buckets":
			d.array(func() { h.Buckets = append(h.Buckets, d.bucket()) })
		default:
			d.skip(0)
		}
	})
	slices.SortFunc(h.Buckets, func(a, b series.Bucket) int { return cmp.Compare(a.Upper, b.Upper) })
	h.Schema = series.InferSchema(h.Buckets)
	return h
}

func (d *decoder) bucket() series.Bucket {
	var b series.Bucket
	i := 0
	d.array(func() {
		switch i++; i {
		case 1:
			d.plain(d.number())
		case 2:
			b.Lower = d.float(d.text())
		case 3:
			b.Upper = d.float(d.text())
		case 4:
			b.Count = d.float(d.text())
		default:
			d.unexpected("the end of a bucket")
		}
	})
	return b
}
