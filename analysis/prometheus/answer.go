package prometheus

import (
	"fmt"
	"time"

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
		return analysis.FailedReading(q.Query, q.err)
	}
	if q.Metric.Value != nil {
		return q.value()
	}
	pic, err := b.picture(q)
	if err != nil {
		return analysis.FailedReading(q.Query, err)
	}
	from, to, step := q.from, pic.to, pic.step
	r := analysis.Reading{Metric: q.Metric.Name, From: from, To: to, Status: analysis.StatusOK, Next: b.next(pic)}
	r.Ahead = q.ahead(pic)
	if !to.After(from) {
		b.remember(q)
		return r
	}
	spec := series.Extraction{
		From: from.UnixMilli(), To: to.UnixMilli(), Instance: q.instance, Cuts: q.Cuts,
		Gap: gap(step).Milliseconds(), Stale: b.patience(q, step).Milliseconds(),
	}
	if q.Metric.Histogram != nil {
		spec.Unit = q.Metric.Histogram.Unit
	}
	spec.Batches = q.Metric.Mean != nil && q.Metric.Mean.SumOfSquares == ""
	if err := q.apart(pic); err != nil {
		return analysis.FailedReading(q.Query, err)
	}
	for _, d := range q.deployments() {
		x, err := q.sample(pic.by[d], spec)
		if err != nil {
			return analysis.FailedReading(q.Query, fmt.Errorf("%s: %w", d, err))
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
			r.Reason = fmt.Sprintf("no series of %s has a sample in the last %s", d, b.patience(q, step))
		}
	}
	b.remember(q)
	return r
}

// ahead is what the candidate's counters have counted beyond the end of the reading.
func (x *question) ahead(pic *picture) analysis.Sample {
	spec := series.Extraction{From: pic.to.UnixMilli(), To: pic.reached.Head, Gap: gap(pic.step).Milliseconds(),
		Stale: gap(pic.step).Milliseconds()}
	if x.Metric.Counts == nil || x.Metric.Rate() || spec.To <= spec.From {
		return analysis.Sample{}
	}
	s, err := x.sample(pic.by[x.Names.Candidate], spec)
	if err != nil {
		return analysis.Sample{} // the reading itself will say so when its end has come so far
	}
	return analysis.Sample{Fresh: s.Fresh && s.N > 0, N: s.N, K: s.K}
}

// apart refuses series that count for both deployments. Where a label names the
// deployment, none can.
func (x *question) apart(pic *picture) error {
	if x.label != "" {
		return nil
	}
	stable, candidate := pic.by[x.Names.Stable], pic.by[x.Names.Candidate]
	for _, p := range x.parts {
		if err := series.Shared(stable[p.role], candidate[p.role],
			[2]string{x.Names.Stable, x.Names.Candidate}); err != nil {
			return err
		}
	}
	return nil
}

// forget drops the picture if series of it are fetched again.
func (x *question) forget(again map[*group]map[string]time.Duration) {
	if x.known == nil {
		return
	}
	for g := range x.known.sets {
		for _, k := range x.keys(g) {
			if again[g][k] > 0 {
				x.known = nil
				return
			}
		}
	}
}

// sample counts what one deployment's series say.
func (x *question) sample(by map[role][]*series.Series, spec series.Extraction) (analysis.Sample, error) {
	switch x.Metric.Kind() {
	case analysis.KindCounts:
		if c := x.Metric.Counts; x.Metric.Rate() {
			spec.Per, spec.Trials = float64(c.Per.Milliseconds()), analysis.Trials
			return series.Rate(by[roleTotal], spec)
		}
		return series.Counts(by[roleTotal], by[roleMarked], spec)
	case analysis.KindHistogram:
		// Classic buckets and a native histogram count the same events.
		if len(by[roleBucket]) > 0 {
			return series.Buckets(by[roleBucket], nil, spec)
		}
		return series.Buckets(nil, by[roleNative], spec)
	case analysis.KindMean:
		return series.Mean(by[roleCount], by[roleSum], by[roleSquares], spec)
	case analysis.KindValue: // asked otherwise
	}
	return analysis.Sample{}, fmt.Errorf("metric %s asks for nothing", x.Metric.Name)
}
