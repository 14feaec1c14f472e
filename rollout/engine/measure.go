package engine

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/batch"
	"github.com/belayd/belay/rollout"
)

// A source is an analysis.Source with its share of concurrent reads.
type source struct {
	analysis.Source
	slots chan struct{}
}

// ask makes the call; whatever goes wrong stands in the readings.
func (e *Engine) ask(ctx context.Context, name string, qs []analysis.Query) []analysis.Reading {
	fail := func(why string) []analysis.Reading {
		rs := make([]analysis.Reading, len(qs))
		for i, q := range qs {
			rs[i] = analysis.ErrorReading(q, why)
		}
		e.metrics.sourceRead(name, "error")
		return rs
	}
	from := e.sources[name]
	if from == nil {
		return fail(fmt.Sprintf("Source %q is not configured.", name))
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.ReadTimeout)
	defer cancel()
	if !acquire(ctx, from.slots) {
		return fail(fmt.Sprintf("Source %s was busy for %s.", name, e.cfg.ReadTimeout))
	}
	defer func() { <-from.slots }()
	e.metrics.sourceAsked(name, len(qs))
	rs, err := from.Read(ctx, qs)
	switch {
	case err != nil:
		return fail(fmt.Sprintf("Source %s could not be asked: %v.", name, err))
	case len(rs) != len(qs):
		return fail(fmt.Sprintf("Source %s gave %d answers to %d questions.", name, len(rs), len(qs)))
	}
	outcome := "ok"
	for i := range rs {
		if !finite(rs[i].Stable) || !finite(rs[i].Candidate) {
			rs[i] = analysis.ErrorReading(qs[i], fmt.Sprintf("Source %s answered with something that is no number.", name))
		}
		if rs[i].Status != analysis.StatusOK {
			outcome = "partial"
		}
	}
	e.metrics.sourceRead(name, outcome)
	return rs
}

// finite reports whether every number of a sample is one.
func finite(s analysis.Sample) bool {
	ok := true
	for _, x := range []float64{s.N, s.K, s.Sum, s.SumSq, s.Batches, s.Value} {
		ok = ok && !math.IsNaN(x) && !math.IsInf(x, 0)
	}
	for _, b := range s.Buckets {
		ok = ok && !math.IsNaN(b.Upper+b.Count) && !math.IsInf(b.Upper, 0) && !math.IsInf(b.Count, 0)
	}
	for _, i := range s.Instances {
		ok = ok && finite(i.Sample)
	}
	return ok
}

// measure asks the sources of an effect's metrics, with the lock held; the job is
// finished when the last one has answered.
func (l *runner) measure(j *job, s rollout.State) {
	names := slices.Sorted(maps.Keys(j.effect.Since))
	at := j.effect.NotBefore
	if at.IsZero() {
		at = l.now()
	}
	behind := l.clock.Behind()
	bySource := map[string][]int{}
	queries := make([]analysis.Query, len(names))
	readings := make([]analysis.Reading, len(names))
	for i, name := range names {
		m, ok := l.metric(name)
		from, to := behind.Asked(j.effect.Since[name], at)
		queries[i] = analysis.Query{Metric: m, From: from, To: to, Cuts: l.plan.Panel.Cuts(name, s.Evidence),
			Names: l.names(s.Stable, s.Versions)}
		if !ok {
			q := analysis.Query{Metric: analysis.Metric{Name: name}, From: j.effect.Since[name], To: at}
			readings[i] = analysis.ErrorReading(q, "The plan has no such metric.")
			continue
		}
		bySource[m.Source] = append(bySource[m.Source], i)
	}
	var mu sync.Mutex
	left := len(bySource)
	finish := func(received time.Time) {
		l.measured(j, readings, received)
	}
	if left == 0 {
		if !l.e.spawn(func(context.Context) { finish(time.Now()) }) {
			j.cancel(errStopping)
			delete(l.jobs, j.key)
		}
		return
	}
	for source, mine := range bySource {
		a := &batch.Ask{Ctx: j.ctx}
		for _, i := range mine {
			a.Queries = append(a.Queries, queries[i])
		}
		a.Answer = func(rs []analysis.Reading, received time.Time) {
			mu.Lock()
			for n, i := range mine {
				readings[i] = behind.Told(rs[n])
			}
			left--
			last := left == 0
			mu.Unlock()
			if last {
				finish(received)
			}
		}
		l.e.reader.Add(source, a.Queries[0].To, l.until(at), a)
	}
}

// measured folds what all sources answered.
func (l *runner) measured(j *job, rs []analysis.Reading, received time.Time) {
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return
	}
	if !slices.ContainsFunc(l.s.Outbox, isRollback) {
		l.received = received
	}
	l.mu.Unlock()
	l.clock.Answered(rs)
	l.finish(j, rollout.Event{Kind: rollout.EventMeasured, Readings: rs}, true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.ContainsFunc(l.s.Outbox, isRollback) {
		l.received = time.Time{}
	}
	j.cancel(nil)
}

// metric returns the plan's metric of that name.
func (l *runner) metric(name string) (analysis.Metric, bool) {
	for _, m := range l.plan.Panel.Metrics {
		if m.Name == name {
			return m, true
		}
	}
	return analysis.Metric{}, false
}
