package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
)

// linger is how long a read waits for the other rollouts that ask the same source
// about the same instant.
const linger = 10 * time.Millisecond

// A source is an analysis.Source with its share of concurrent reads.
type source struct {
	analysis.Source
	slots chan struct{}
}

// A reader merges what all rollouts ask of a source at one instant into one Read.
type reader struct {
	e *Engine

	mu     sync.Mutex
	rounds map[roundKey]*round
}

// roundKey is one source and one instant.
type roundKey struct {
	source string
	at     int64
}

// A round is one Read to come.
type round struct {
	asks []*ask
}

// An ask is what one rollout wants to know of one source.
type ask struct {
	ctx     context.Context
	queries []analysis.Query
	// answer is called once, with one reading per query.
	answer func(rs []analysis.Reading, received time.Time)
}

func newReader(e *Engine) *reader {
	return &reader{e: e, rounds: map[roundKey]*round{}}
}

// add asks a source about an instant that comes in a while.
func (r *reader) add(source string, at time.Time, in time.Duration, a *ask) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := roundKey{source, at.UnixNano()}
	if ro := r.rounds[k]; ro != nil {
		ro.asks = append(ro.asks, a)
		return
	}
	r.rounds[k] = &round{asks: []*ask{a}}
	time.AfterFunc(max(0, in)+linger, func() {
		r.mu.Lock()
		ro := r.rounds[k]
		delete(r.rounds, k)
		r.mu.Unlock()
		r.e.spawn(func(ctx context.Context) { r.read(ctx, source, ro.asks) })
	})
}

// read asks a source once for everybody and hands out the answers.
func (r *reader) read(ctx context.Context, name string, asks []*ask) {
	asks = slices.DeleteFunc(asks, func(a *ask) bool { return a.ctx.Err() != nil })
	if len(asks) == 0 {
		return
	}
	index := map[string]int{}
	var qs []analysis.Query
	where := make([][]int, len(asks))
	for i, a := range asks {
		for _, q := range a.queries {
			k := queryKey(q)
			n, ok := index[k]
			if !ok {
				n = len(qs)
				index[k], qs = n, append(qs, q)
			}
			where[i] = append(where[i], n)
		}
	}
	rs := r.ask(ctx, name, qs)
	received := time.Now()
	// Judging is what takes time here: all processors share it, so that a breach
	// does not wait for its turn among thousands.
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(asks))
	for n := range workers {
		wg.Go(func() {
			for i := n; i < len(asks); i += workers {
				mine := make([]analysis.Reading, len(asks[i].queries))
				for j, at := range where[i] {
					mine[j] = rs[at]
					mine[j].Metric = asks[i].queries[j].Metric.Name
				}
				asks[i].answer(mine, received)
				if r.e.hurry.Load() > 0 {
					runtime.Gosched()
				}
			}
		})
	}
	wg.Wait()
}

// queryKey is equal for questions that have the same answer.
func queryKey(q analysis.Query) string {
	name := q.Metric.Name
	q.Metric.Name = ""
	b, err := json.Marshal(q)
	if err != nil {
		// Unreachable unless a cut is no number: then nobody shares the question.
		return name + fmt.Sprintf("%v", q)
	}
	return string(b)
}

// ask makes the call; whatever goes wrong stands in the readings.
func (r *reader) ask(ctx context.Context, name string, qs []analysis.Query) []analysis.Reading {
	fail := func(why string) []analysis.Reading {
		rs := make([]analysis.Reading, len(qs))
		for i, q := range qs {
			rs[i] = analysis.ErrorReading(q, why)
		}
		r.e.metrics.sourceRead(name, "error")
		return rs
	}
	from := r.e.reach.Load().sources[name]
	if from == nil {
		return fail(fmt.Sprintf("Source %q is not configured.", name))
	}
	ctx, cancel := context.WithTimeout(ctx, r.e.cfg.ReadTimeout)
	defer cancel()
	if !acquire(ctx, from.slots) {
		return fail(fmt.Sprintf("Source %s was busy for %s.", name, r.e.cfg.ReadTimeout))
	}
	defer func() { <-from.slots }()
	if from = r.e.reach.Load().sources[name]; from == nil { // It went while this waited.
		return fail(fmt.Sprintf("Source %q is not configured.", name))
	}
	r.e.metrics.sourceAsked(name, len(qs))
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
	r.e.metrics.sourceRead(name, outcome)
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
func (l *live) measure(j *job, s rollout.State) {
	names := slices.Sorted(maps.Keys(j.effect.Since))
	at := j.effect.NotBefore
	if at.IsZero() {
		at = l.now()
	}
	behind := l.clock.behind()
	bySource := map[string][]int{}
	queries := make([]analysis.Query, len(names))
	readings := make([]analysis.Reading, len(names))
	for i, name := range names {
		m, ok := l.metric(name)
		from, to := behind.asked(j.effect.Since[name], at)
		queries[i] = analysis.Query{Metric: m, From: from, To: to, Cuts: l.plan.Panel.Cuts(name, s.Evidence),
			Names: l.names(s.Stable, s.Versions)}
		if !ok {
			readings[i] = analysis.ErrorReading(analysis.Query{Metric: analysis.Metric{Name: name}, From: j.effect.Since[name], To: at}, "The plan has no such metric.")
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
		a := &ask{ctx: j.ctx}
		for _, i := range mine {
			a.queries = append(a.queries, queries[i])
		}
		a.answer = func(rs []analysis.Reading, received time.Time) {
			mu.Lock()
			for n, i := range mine {
				readings[i] = behind.told(rs[n])
			}
			left--
			last := left == 0
			mu.Unlock()
			if last {
				finish(received)
			}
		}
		l.e.reader.add(source, a.queries[0].To, l.until(at), a)
	}
}

// measured folds what all sources answered.
func (l *live) measured(j *job, rs []analysis.Reading, received time.Time) {
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return
	}
	if !slices.ContainsFunc(l.s.Outbox, isRollback) {
		l.received = received
	}
	l.mu.Unlock()
	l.clock.answered(rs)
	l.finish(j, rollout.Event{Kind: rollout.EventMeasured, Readings: rs}, true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.ContainsFunc(l.s.Outbox, isRollback) {
		l.received = time.Time{}
	}
	j.cancel(nil)
}

// metric returns the plan's metric of that name.
func (l *live) metric(name string) (analysis.Metric, bool) {
	for _, m := range l.plan.Panel.Metrics {
		if m.Name == name {
			return m, true
		}
	}
	return analysis.Metric{}, false
}
