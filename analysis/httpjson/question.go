package httpjson

import (
	"errors"
	"fmt"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/series"
	"github.com/belayd/belay/analysis/jsonpath"
)

// A question is a query with its expressions parsed.
type question struct {
	analysis.Query
	err      error
	from, to time.Time
	// terms are by deployment, stable first, in the order of the kind's roles.
	terms [2][]term
}

// A term is an expression and the call that answers it.
type term struct {
	expr jsonpath.Expr
	call *call
}

// question takes a query apart and notes the calls that it needs.
func (a *asker) question(q analysis.Query) *question {
	q = q.Named()
	x := &question{Query: q}
	x.from, x.to = a.s.bounds(q.From, q.To, a.now)
	var texts []string
	m := q.Metric
	switch {
	case m.Counts != nil:
		texts = []string{m.Counts.Total, m.Counts.Marked()}
		if m.Rate() {
			texts = texts[1:]
		}
	case m.Histogram != nil:
		texts = []string{m.Histogram.Series}
	case m.Mean != nil:
		texts = []string{m.Mean.Count, m.Mean.Sum, m.Mean.SumOfSquares}
	case m.Value != nil:
		texts = []string{m.Value.Query}
	default:
		x.err = analysis.Permanent(fmt.Errorf("metric %s asks for nothing", m.Name))
	}
	for i, d := range []string{q.Names.Stable, q.Names.Candidate} {
		for _, text := range texts {
			t, err := a.term(x, text, d)
			if err != nil {
				x.err = analysis.Permanent(fmt.Errorf("metric %s: %w", m.Name, err))
				return x
			}
			x.terms[i] = append(x.terms[i], t)
		}
	}
	return x
}

func (a *asker) term(x *question, text, deployment string) (term, error) {
	vars := x.Vars(deployment)
	vars["window"] = fmt.Sprintf("%ds", int(x.to.Sub(x.from).Seconds()))
	interval(vars, x.from, x.to)
	e, err := jsonpath.ParseExpr(text, a.s.cfg.Query, vars)
	if err != nil {
		return term{}, err
	}
	if (x.Metric.Histogram != nil) != (e.Fold == "buckets") {
		return term{}, errors.New("buckets(…) is for histograms, and histograms are by buckets(…)")
	}
	if !x.to.After(x.from) {
		return term{expr: e}, nil
	}
	vars["query"] = e.Query
	c, err := a.call(vars)
	return term{e, c}, err
}

// interval puts the bounds of the interval among the names. They are chosen so
// that colons and plus signs, which some escape and others do not, stay away.
func interval(vars map[string]string, from, to time.Time) {
	vars["from"], vars["to"] = from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339)
	vars["fromUnix"], vars["toUnix"] = fmt.Sprint(from.Unix()), fmt.Sprint(to.Unix())
	vars["fromMillis"], vars["toMillis"] = fmt.Sprint(from.UnixMilli()), fmt.Sprint(to.UnixMilli())
}

// answer makes the reading of a question from its calls.
func (x *question) answer() analysis.Reading {
	if x.err != nil {
		return analysis.FailedReading(x.Query, x.err)
	}
	r := analysis.Reading{Metric: x.Metric.Name, From: x.from, To: x.to, Status: analysis.StatusOK}
	if !x.to.After(x.from) {
		return r
	}
	for i, d := range []string{x.Names.Stable, x.Names.Candidate} {
		s, err := x.sample(x.terms[i])
		if err != nil {
			return analysis.FailedReading(x.Query, fmt.Errorf("%s: %w", d, err))
		}
		if i == 0 {
			r.Stable = s
		} else {
			r.Candidate = s
		}
		if !s.Fresh && r.Reason == "" {
			r.Reason = "the answer holds nothing for " + d
		}
	}
	return r
}

// sample takes a deployment's numbers out of the answers.
func (x *question) sample(terms []term) (analysis.Sample, error) {
	for _, t := range terms {
		if t.call.err != nil {
			return analysis.Sample{}, t.call.err
		}
	}
	spec := series.Extraction{Cuts: x.Cuts}
	if h := x.Metric.Histogram; h != nil {
		bs, ok, err := histogram(terms[0].expr, terms[0].call.doc, h.Unit)
		if err != nil || !ok {
			return analysis.Sample{}, err
		}
		t := series.InstanceCounts{Buckets: bs}
		for _, b := range bs {
			t.N += b.Count
		}
		return series.Events([]series.InstanceCounts{t}, spec)
	}
	var xs []float64
	for i, t := range terms {
		v, ok, err := number(t.expr, t.call.doc)
		if err != nil {
			return analysis.Sample{}, err
		}
		if !ok && i == 0 {
			return analysis.Sample{}, nil
		}
		if !ok && x.Metric.Mean != nil {
			return analysis.Sample{}, errors.New("there is a count and no sum or no sum of squares")
		}
		xs = append(xs, v)
	}
	switch x.Metric.Kind() {
	case analysis.KindCounts:
		if x.Metric.Rate() {
			n := x.Metric.Counts.TrialsIn(x.to.Sub(x.from))
			return series.Events([]series.InstanceCounts{{N: n, K: xs[0]}}, spec)
		}
		return series.Events([]series.InstanceCounts{{N: xs[0], K: xs[1]}}, spec)
	case analysis.KindMean:
		return series.Events([]series.InstanceCounts{{N: xs[0], Sum: xs[1], SumSq: xs[2]}}, spec)
	case analysis.KindHistogram, analysis.KindValue: // buckets were read above
	}
	return analysis.Sample{Fresh: true, Value: xs[0]}, nil
}
