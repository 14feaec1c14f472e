package scrape

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/series"
	"github.com/belayd/belay/analysis/promql"
)

// An ask is a question with its expressions parsed.
type ask struct {
	q   analysis.Query
	err error
	// selectors are in the order that the metric's kind defines; ${…} stands in
	// them, because ${deployment} differs.
	selectors []promql.Selector
	// label names the deployment, where series say it; instance the instance.
	label, instance string
	// fold is max, min, sum, avg or nothing, for a value.
	fold string
}

func newAsk(q analysis.Query) ask {
	a := ask{q: q, instance: "instance"}
	var texts []string
	m := q.Metric
	switch {
	case m.Counts != nil:
		texts = []string{m.Counts.Total, m.Counts.Marked()}
		if m.Rate() {
			texts = texts[1:]
		}
		a.label, a.instance = m.Counts.Deployment, orInstance(m.Counts.Instance)
	case m.Histogram != nil:
		texts = []string{m.Histogram.Series}
		a.label, a.instance = m.Histogram.Deployment, orInstance(m.Histogram.Instance)
	case m.Mean != nil:
		texts = []string{m.Mean.Count, m.Mean.Sum}
		if m.Mean.SumOfSquares != "" {
			texts = append(texts, m.Mean.SumOfSquares)
		}
		a.label, a.instance = m.Mean.Deployment, orInstance(m.Mean.Instance)
	case m.Value != nil:
		var text string
		a.fold, text = promql.Fold(m.Value.Query)
		texts = []string{text}
	default:
		a.err = analysis.Permanent(fmt.Errorf("metric %s asks for nothing", m.Name))
	}
	for _, text := range texts {
		sel, err := promql.ParseSelector(text)
		if err == nil {
			_, err = sel.Expand(a.vars(q.Names.Stable))
		}
		if err != nil {
			a.err = analysis.Permanent(fmt.Errorf("metric %s: %w", m.Name, err))
			return a
		}
		if m.Histogram != nil {
			sel.Name = strings.TrimSuffix(sel.Name, "_bucket")
		}
		a.selectors = append(a.selectors, sel)
	}
	return a
}

// orInstance: a series that does not name its instance is given its target's
// address under the label "instance", as Prometheus does.
func orInstance(label string) string {
	if label == "" {
		return "instance"
	}
	return label
}

func (a *ask) vars(deployment string) map[string]string {
	vars := a.q.Named().Vars(a.named(deployment))
	vars["window"] = a.q.To.Sub(a.q.From).Round(time.Second).String()
	return vars
}

// named is what series call a deployment; its targets are listed under its own name.
func (a *ask) named(deployment string) string {
	return cmp.Or(a.q.Metric.Deployments[deployment], deployment)
}

// deployments are the two that are asked about; one where they are the same.
func (a *ask) deployments() []string {
	if a.err != nil {
		return nil
	}
	return slices.Compact([]string{a.q.Names.Stable, a.q.Names.Candidate})
}

// names are the metrics whose samples the answer needs.
func (a *ask) names() []string {
	var out []string
	for _, s := range a.selectors {
		out = append(out, s.Name)
		if a.counters() {
			out = append(out, otherName(s.Name))
		}
		if a.q.Metric.Histogram != nil {
			out = append(out, s.Name+"_bucket")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sets are the series of the deployment that each selector selects, of a histogram its
// buckets, too.
func (a *ask) sets(deployment string, snaps []snapshot) ([][]*series.Series, error) {
	sets := make([][]*series.Series, 0, len(a.selectors))
	for _, sel := range a.selectors {
		x, err := sel.Expand(a.vars(deployment))
		if err != nil {
			return nil, err
		}
		sets = append(sets, a.pick(x, deployment, snaps))
		if a.q.Metric.Histogram != nil {
			sets = append(sets, a.pick(x.Suffixed("_bucket"), deployment, snaps))
		}
	}
	return sets, nil
}

// sample counts what the targets of a deployment gave in the interval.
func (a *ask) sample(sets [][]*series.Series, snaps []snapshot, from, to time.Time) (analysis.Sample, error) {
	spec := series.Extraction{
		From: from.UnixMilli(), To: to.UnixMilli(), Gap: keep.Milliseconds(),
		Stale: 1, Instance: a.instance, Cuts: a.q.Cuts,
	}
	for _, x := range snaps {
		spec.Stale = max(spec.Stale, spec.To-x.lastBy(spec.To)+1)
	}
	switch a.q.Metric.Kind() {
	case analysis.KindCounts:
		if c := a.q.Metric.Counts; a.q.Metric.Rate() {
			spec.Per, spec.Trials = float64(c.Per.Milliseconds()), analysis.Trials
			return series.Rate(sets[0], spec)
		}
		return series.Counts(sets[0], sets[1], spec)
	case analysis.KindHistogram:
		spec.Unit = a.q.Metric.Histogram.Unit
		return series.Buckets(sets[1], sets[0], spec)
	case analysis.KindMean:
		if spec.Batches = len(sets) == 2; spec.Batches {
			return series.Mean(sets[0], sets[1], nil, spec)
		}
		return series.Mean(sets[0], sets[1], sets[2], spec)
	case analysis.KindValue:
		return series.Plain(sets[0], a.fold, spec)
	}
	return analysis.Sample{}, fmt.Errorf("metric %s asks for nothing", a.q.Metric.Name)
}

// counters says whether the selectors are of plain counters, whose names end in _total in
// one library and not in another.
func (a *ask) counters() bool { return a.q.Metric.Counts != nil }

// otherName is a counter's name with _total, or without it.
func otherName(name string) string {
	if base, has := strings.CutSuffix(name, "_total"); has {
		return base
	}
	return name + "_total"
}

// pick is the series of the deployment that the selector selects. One that names another
// deployment is not among them.
func (a *ask) pick(sel promql.Selector, deployment string, snaps []snapshot) []*series.Series {
	given := func(x snapshot) bool { return len(x.series[sel.Name]) > 0 }
	if a.counters() && !slices.ContainsFunc(snaps, given) {
		sel.Name = otherName(sel.Name)
	}
	var out []*series.Series
	for _, x := range snaps {
		for _, s := range x.series[sel.Name] {
			d := ""
			if a.label != "" {
				d = s.Labels.Get(a.label)
			}
			if (d == "" || d == a.named(deployment)) && sel.Matches(s.Labels.Get) {
				out = append(out, s)
			}
		}
	}
	return out
}
