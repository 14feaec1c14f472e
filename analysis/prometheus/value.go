package prometheus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/promql"
)

// An instant is one expression at one instant; many questions may share it.
type instant struct {
	expr     string
	at       time.Time
	lookback time.Duration
	sample   analysis.Sample
	err      error
}

// values evaluates the expressions of all values, equal ones once.
func (b *batch) values(ctx context.Context) {
	b.instants = map[string]*instant{}
	for _, q := range b.questions {
		if q.err != nil || q.Metric.Value == nil {
			continue
		}
		for i, d := range []string{q.Names.Stable, q.Names.Candidate} {
			in, err := b.instant(q, d)
			if err != nil {
				q.err = analysis.Permanent(fmt.Errorf("metric %s: %w", q.Metric.Name, err))
				break
			}
			q.wants[i] = in
		}
	}
	all := slices.Collect(maps.Values(b.instants))
	b.parallel(len(all), func(i int) {
		in := all[i]
		r, err := b.s.api.query(ctx, in.expr, in.at, in.lookback)
		if in.err = err; err == nil {
			in.sample, in.err = plain(r)
		}
	})
}

func (b *batch) instant(q *question, deployment string) (*instant, error) {
	step := b.s.cfg.ScrapeInterval
	vars := q.Vars(deployment)
	length := q.To.Sub(q.From)
	if step > 0 {
		length = max(length, 4*step)
	} else {
		length = max(length, 4*guess)
	}
	vars["window"] = window(length)
	expr, err := promql.Expand(q.Metric.Value.Query, vars)
	if e, ok := errors.AsType[*promql.Error](err); ok && e.Syntax && b.s.cfg.MetricsQL {
		expr, err = promql.ExpandUnread(q.Metric.Value.Query, vars)
	}
	if err != nil {
		return nil, err
	}
	at := b.valueAt(q)
	key := expr + "\xff" + at.String()
	in := b.instants[key]
	if in == nil {
		in = &instant{expr: expr, at: at}
		if step > 0 {
			in.lookback = stale(step)
		}
		b.instants[key] = in
	}
	return in, nil
}

// valueAt is the instant at which a value is asked for: the newest one for which
// the server's samples, as late as those of its counters were, have come.
func (b *batch) valueAt(q *question) time.Time {
	late := max(b.s.cfg.Lag, b.s.late(b.now)).Truncate(time.Second)
	at := q.To.Add(min(b.now.Sub(q.To).Truncate(time.Second)-late, 0))
	if at.Before(q.From) {
		return q.From
	}
	return at
}

// plain is the one number of a result; none is not fresh.
func plain(r *result) (analysis.Sample, error) {
	v := r.scalar
	switch {
	case r.kind == "scalar":
	case r.kind != "vector":
		return analysis.Sample{}, fmt.Errorf("the expression gives a %s, one number is wanted", r.kind)
	case len(r.series) == 0:
		return analysis.Sample{}, nil
	case len(r.series) > 1:
		return analysis.Sample{}, fmt.Errorf("the expression gives %d series, one is wanted: wrap it in max() or sum()",
			len(r.series))
	case len(r.series[0].Points) != 1 || r.series[0].Points[0].H != nil:
		return analysis.Sample{}, fmt.Errorf("the expression gives a histogram, one number is wanted")
	default:
		v = r.series[0].Points[0].V
	}
	if math.IsNaN(v) {
		return analysis.Sample{}, nil // a division by the traffic that there was not
	}
	if math.IsInf(v, 0) {
		return analysis.Sample{}, fmt.Errorf("the expression gives %v", v)
	}
	return analysis.Sample{Fresh: true, Value: v}, nil
}

// value is the reading of a value: two numbers at the end of the interval.
func (x *question) value() analysis.Reading {
	for _, in := range x.wants {
		if in.err != nil {
			return analysis.FailedReading(x.Query, in.err)
		}
	}
	r := analysis.Reading{
		Metric: x.Metric.Name, From: x.From, To: x.wants[0].at, Status: analysis.StatusOK,
		Stable: x.wants[0].sample, Candidate: x.wants[1].sample,
	}
	for i, d := range []string{x.Names.Stable, x.Names.Candidate} {
		if !x.wants[i].sample.Fresh && r.Reason == "" {
			r.Reason = "no traffic, or no such series: the expression gives no number for " + d
		}
	}
	return r
}
