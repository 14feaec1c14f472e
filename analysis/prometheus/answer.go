package prometheus

import (
	"fmt"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/series"
)

func copies(all []*series.Series) []*series.Series {
	out := make([]*series.Series, len(all))
	for i, s := range all {
		c := *s
		out[i] = &c
	}
	return out
}

// identity is the target that a series was scraped from: one without an
// instance may be an aggregate, whose parts come and go.
func (x *question) identity(l series.Labels) string {
	instance := l.Get("instance")
	if x.instance != "" && x.instance != "instance" {
		instance += "\xff" + l.Get(x.instance)
	}
	if instance == "" || instance == "\xff" {
		return ""
	}
	return instance + "\xff" + l.Get("job")
}

// answer makes the reading of a question from what was fetched.
func (b *batch) answer(q *question) analysis.Reading {
	if q.err != nil {
		return analysis.ErrorReading(q.Query, q.err.Error())
	}
	if q.Metric.Value != nil {
		return q.value()
	}
	from, to, step := b.interval(q)
	r := analysis.Reading{Metric: q.Metric.Name, From: from, To: to, Status: analysis.StatusOK}
	sets, err := q.sets()
	if err != nil {
		return analysis.ErrorReading(q.Query, err.Error())
	}
	if !to.After(from) {
		return r
	}
	spec := series.Spec{
		From: from.UnixMilli(), To: to.UnixMilli(), Instance: q.instance, Cuts: q.Cuts,
		Gap: gap(step).Milliseconds(), Stale: stale(step).Milliseconds(),
	}
	if q.Metric.Histogram != nil {
		spec.Unit = q.Metric.Histogram.Unit
	}
	for _, d := range q.deployments() {
		x, err := q.sample(d, sets, spec)
		if err != nil {
			return analysis.ErrorReading(q.Query, fmt.Sprintf("%s: %v", d, err))
		}
		if q.Metric.Histogram != nil && x.N > 0 && len(x.Buckets) == 0 {
			b.s.layouts.forget(q)
		}
		if d == q.Names.Stable {
			r.Stable = x
		}
		if d == q.Names.Candidate {
			r.Candidate = x
		}
		if !x.Fresh && r.Reason == "" {
			r.Reason = fmt.Sprintf("no series of %s has a sample in the last %s", d, stale(step))
		}
	}
	return r
}

// sets are the series of each group that the question needs, aligned all
// together: the series of one target tell of each other, whatever their names.
// They are copies, because several questions share a group and may see other
// targets in it.
func (x *question) sets() (map[*group][]*series.Series, error) {
	if x.known != nil {
		return x.known, nil
	}
	out := map[*group][]*series.Series{}
	seen := map[*group]bool{}
	var all []*series.Series
	for _, p := range x.parts {
		g := p.group
		if g == nil || seen[g] {
			continue
		}
		seen[g] = true
		for _, k := range x.keys(g) {
			if err := g.errs[k]; err != nil {
				return nil, err
			}
			out[g] = append(out[g], copies(g.series[k])...)
		}
		all = append(all, out[g]...)
	}
	series.Align(all, x.identity)
	x.known = out
	return out, nil
}

// forget drops the sets of groups that are fetched again.
func (x *question) forget(again map[*group]map[string]bool) {
	for g := range x.known {
		for _, k := range x.keys(g) {
			if again[g][k] {
				x.known = nil
				return
			}
		}
	}
}

// sample counts what one deployment's series say.
func (x *question) sample(deployment string, sets map[*group][]*series.Series, spec series.Spec) (analysis.Sample, error) {
	by := map[role][]*series.Series{}
	for _, p := range x.parts {
		if p.deployment != deployment || p.group == nil {
			continue
		}
		for _, s := range sets[p.group] {
			if p.selects(s.Labels, x.label) {
				by[p.role] = append(by[p.role], s)
			}
		}
	}
	switch x.Metric.Kind() {
	case analysis.KindCounts:
		return series.Counts(by[roleTotal], by[roleMarked], spec)
	case analysis.KindHistogram:
		// Classic buckets and a native histogram count the same events.
		if len(by[roleBucket]) > 0 {
			return series.Buckets(by[roleBucket], nil, spec)
		}
		return series.Buckets(nil, by[roleNative], spec)
	case analysis.KindMean:
		return series.Mean(by[roleCount], by[roleSum], by[roleSquares], spec)
	default:
		return analysis.Sample{}, fmt.Errorf("metric %s asks for nothing", x.Metric.Name)
	}
}
