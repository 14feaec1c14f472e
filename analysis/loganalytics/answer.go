package loganalytics

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/series"
)

// A response is an answer of the query API. It may hold tables and an error:
// then the tables are a part.
type response struct {
	Tables []struct {
		Name    string
		Columns []struct{ Name, Type string }
		Rows    [][]any
	}
	Error *struct{ Code string }
}

// A table is the answer's one table.
type table struct {
	columns map[string]int
	types   []string
	rows    [][]any
}

// maxRows is the service's bound on rows; an answer that reaches it was cut.
const maxRows = 500_000

var code = regexp.MustCompile(`^[A-Za-z]{1,64}$`)

func (r *response) table() (*table, error) {
	if r.Error != nil {
		if !code.MatchString(r.Error.Code) {
			return nil, errors.New("the answer is partial")
		}
		return nil, fmt.Errorf("the answer is partial: %s", r.Error.Code)
	}
	for _, t := range r.Tables {
		if t.Name != "PrimaryResult" && len(r.Tables) > 1 {
			continue
		}
		if len(t.Rows) >= maxRows {
			return nil, fmt.Errorf("the answer has %d rows, as many as fit: it was cut off", len(t.Rows))
		}
		out := &table{columns: map[string]int{}, rows: t.Rows}
		for i, c := range t.Columns {
			out.columns[c.Name] = i
			out.types = append(out.types, c.Type)
		}
		for _, row := range t.Rows {
			if len(row) != len(t.Columns) {
				return nil, errors.New("a row of the answer is not as long as its columns")
			}
		}
		return out, nil
	}
	return nil, errors.New("the answer has no table")
}

// text is a cell as text; an absent column is empty.
func (t *table) text(row []any, column string) string {
	i, ok := t.columns[column]
	if !ok {
		return ""
	}
	s, _ := row[i].(string)
	return s
}

// number is a cell as a number that is one.
func (t *table) number(row []any, column string) (float64, error) {
	i, ok := t.columns[column]
	if !ok {
		return 0, fmt.Errorf("the answer has no column %s", column)
	}
	return number(row[i])
}

func number(cell any) (float64, error) {
	var text string
	switch v := cell.(type) {
	case json.Number:
		text = v.String()
	case string: // reals that JSON cannot write come as texts: "NaN"
		text = v
	default:
		return 0, errors.New("the answer holds nothing where a number is wanted")
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, fmt.Errorf("the answer holds %.20q where a number is wanted", text)
	}
	return x, nil
}

// answer makes the reading of a question.
func (x *question) answer() analysis.Reading {
	if x.err != nil {
		return analysis.FailedReading(x.Query, x.err)
	}
	r := analysis.Reading{Metric: x.Metric.Name, From: x.from, To: x.to, Status: analysis.StatusOK}
	if !x.to.After(x.from) {
		return r
	}
	for i, d := range []string{x.Names.Stable, x.Names.Candidate} {
		var s analysis.Sample
		var err error
		if x.Metric.Value != nil {
			s, err = x.pairs[i].plain()
		} else {
			s, err = x.sample(d)
		}
		if err != nil {
			return analysis.FailedReading(x.Query, err)
		}
		if i == 0 {
			r.Stable = s
		} else {
			r.Candidate = s
		}
		if !s.Fresh && r.Reason == "" {
			r.Reason = "no row of " + d + " has arrived lately"
		}
	}
	return r
}

// plain is the one number of a value's query.
func (p *part) plain() (analysis.Sample, error) {
	if p.err != nil {
		return analysis.Sample{}, p.err
	}
	rows := p.table.rows
	switch {
	case len(rows) == 0:
		return analysis.Sample{}, nil
	case len(rows) > 1 || len(rows[0]) != 1:
		return analysis.Sample{}, fmt.Errorf("the query gives %d rows of %d columns, one number is wanted", len(rows),
			len(rows[0]))
	case rows[0][0] == nil:
		return analysis.Sample{}, nil
	}
	v, err := number(rows[0][0])
	return analysis.Sample{Fresh: err == nil, Value: v}, err
}

// sample sums the rows of one deployment up.
func (x *question) sample(deployment string) (analysis.Sample, error) {
	if x.part.err != nil {
		return analysis.Sample{}, x.part.err
	}
	t := x.part.table
	by := map[string]*series.InstanceCounts{}
	for _, row := range t.rows {
		if !x.mine(row, deployment) {
			continue
		}
		name := t.text(row, "belay_instance")
		if by[name] == nil {
			by[name] = &series.InstanceCounts{Instance: name}
		}
		if err := x.count(by[name], row); err != nil {
			return analysis.Sample{}, fmt.Errorf("%s: %w", deployment, err)
		}
	}
	if len(by) == 0 {
		return analysis.Sample{}, nil
	}
	var tallies []series.InstanceCounts
	for _, name := range slices.Sorted(maps.Keys(by)) {
		b := by[name]
		b.Buckets = disjoint(b.Buckets)
		tallies = append(tallies, *b)
	}
	return series.Events(tallies, series.Extraction{Instance: x.instance, Cuts: x.Cuts})
}

// disjoint sorts buckets and adds those of one bound up: rows whose names differ
// in case alone come apart.
func disjoint(bs []series.Bucket) []series.Bucket {
	slices.SortFunc(bs, func(p, q series.Bucket) int { return cmp.Compare(p.Upper, q.Upper) })
	var out []series.Bucket
	for _, b := range bs {
		if n := len(out); n > 0 && out[n-1].Upper == b.Upper {
			out[n-1].Count += b.Count
			continue
		}
		out = append(out, b)
	}
	return out
}

// mine says whether the row is the question's endpoint's and the deployment's.
func (x *question) mine(row []any, deployment string) bool {
	t := x.part.table
	if !strings.EqualFold(t.text(row, "belay_deployment"), deployment) {
		return false
	}
	if x.rows.column == "" {
		return true
	}
	e := t.text(row, "belay_endpoint")
	return e == x.Names.Endpoint || (!x.rows.exact && strings.EqualFold(e, x.Names.Endpoint))
}

// count adds a row to an instance's tally.
func (x *question) count(to *series.InstanceCounts, row []any) error {
	var cells []float64
	for _, c := range x.aggregates() {
		v, err := x.part.table.number(row, x.part.query.names[c])
		if err != nil {
			return err
		}
		cells = append(cells, v)
	}
	to.N += cells[0]
	switch x.Metric.Kind() {
	case analysis.KindCounts:
		to.K += cells[1]
	case analysis.KindMean:
		to.Sum += cells[1]
		to.SumSq += cells[2]
	case analysis.KindHistogram:
		return x.buckets(to, row, cells)
	case analysis.KindValue:
	}
	if x.Metric.Mean != nil && cells[3] > 0 {
		return fmt.Errorf("%v rows have no number", cells[3])
	}
	return nil
}

// buckets adds what the row says of latencies: how many were up to each cut, or
// one bucket of the spectrum.
func (x *question) buckets(to *series.InstanceCounts, row []any, cells []float64) error {
	if null := cells[len(cells)-1]; null > 0 {
		return fmt.Errorf("%v rows have no latency", null)
	}
	if len(x.Cuts) == 0 {
		le, err := x.part.table.number(row, "belay_le")
		if err != nil {
			return err
		}
		if x.Metric.Histogram.Unit == "ms" {
			le /= 1000
		}
		b := series.Bucket{Lower: le / math.Exp2(1.0/perDoubling), Upper: le, Count: cells[0]}
		if le <= 0 {
			b.Lower = math.Inf(-1)
		}
		to.Buckets = append(to.Buckets, b)
		return nil
	}
	type step struct{ at, n float64 }
	var steps []step
	for i, c := range x.Cuts {
		steps = append(steps, step{c, cells[1+i]})
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	before, lower := 0.0, math.Inf(-1)
	for _, s := range slices.CompactFunc(steps, func(a, b step) bool { return a.at == b.at }) {
		to.Buckets = append(to.Buckets, series.Bucket{Lower: lower, Upper: s.at, Count: s.n - before})
		before, lower = s.n, s.at
	}
	return nil
}
