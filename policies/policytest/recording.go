package policytest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

// A Recording is what a source answered about a span of the past: readings of
// the plan's metrics, one an interval, that tile it.
type Recording struct {
	Interval time.Duration
	From, To time.Time
	// Readings are by metric, in time order.
	Readings map[string][]analysis.Reading
}

// maxRecorded bounds a recording: at one reading in 15 s, two weeks.
const maxRecorded = 80_640

// Record asks a source about the past. names say which deployments are stable
// and candidate. The readings that failed are part of the recording; an error
// is returned only when nothing could be asked.
func Record(ctx context.Context, source func(name string) (analysis.Source, bool), plan *rollout.Plan,
	names analysis.Names, from, to time.Time) (Recording, error) {
	every := plan.Interval
	from = from.Truncate(every)
	rec := Recording{Interval: every, From: from, To: to, Readings: map[string][]analysis.Reading{}}
	if !to.After(from) {
		return rec, fmt.Errorf("record metrics: the end, %s, must come after the beginning, %s",
			to.Format(time.RFC3339), from.Format(time.RFC3339))
	}
	if n := to.Sub(from) / every; n <= 0 || n > maxRecorded {
		return rec, fmt.Errorf("record metrics: from %s to %s are %d intervals of %s; at least 1, at most %d",
			from.Format(time.RFC3339), to.Format(time.RFC3339), n, every, maxRecorded)
	}
	bySource := map[string][]analysis.Metric{}
	for _, m := range plan.Panel.Metrics {
		bySource[m.Source] = append(bySource[m.Source], m)
	}
	for _, name := range slices.Sorted(maps.Keys(bySource)) {
		s, ok := source(name)
		if !ok {
			return rec, fmt.Errorf("record metrics: there is no source %s", name)
		}
		for t := from; !t.Add(every).After(to); t = t.Add(every) {
			var qs []analysis.Query
			for _, m := range bySource[name] {
				qs = append(qs, analysis.Query{Metric: m, Names: names, From: t, To: t.Add(every)})
			}
			rs, err := s.Read(ctx, qs)
			if err != nil {
				return rec, fmt.Errorf("record metrics of %s at %s: %w", name, t.Format(time.RFC3339), err)
			}
			for i, r := range rs {
				rec.Readings[qs[i].Metric.Name] = append(rec.Readings[qs[i].Metric.Name], r)
			}
		}
	}
	return rec, nil
}

// unread says why nothing at all could be read; "" when something was.
func (r Recording) unread() string {
	why := ""
	for _, name := range slices.Sorted(maps.Keys(r.Readings)) {
		for _, x := range r.Readings[name] {
			if x.Status == analysis.StatusOK {
				return ""
			}
			why = cmp.Or(why, x.Reason)
		}
	}
	return cmp.Or(why, "there is none")
}

// instances are the names of stable's instances, as one metric tells them apart.
func (r Recording) instances(metric string) []string {
	seen := map[string]bool{}
	for _, x := range r.Readings[metric] {
		for _, i := range x.Stable.Instances {
			seen[i.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// trial follows one rollout.
func (r Recording) trial(p *policies.Policy, plan *rollout.Plan, start time.Time, instance string) Trial {
	out := Trial{Start: start, Instance: instance}
	w := sim.New(sim.Config{Start: start, Split: split.Split{Weights: map[string]int{stableOf(p): 100}},
		Source: &recordingSource{r, instance}})
	w.Watch = func(w *sim.World, run *sim.Run, l sim.Line) {
		for _, d := range l.Decisions {
			switch d.Kind { //nolint:exhaustive // the others turn nothing
			case decision.Ask:
				w.At(w.Now.Add(time.Minute), func(w *sim.World) { approveAll(w, run, d.Gate) })
			case decision.Breach, decision.Hold, decision.Rollback:
				if out.Sentence == "" || d.Kind == decision.Breach {
					out.Step, out.Guardrail, out.Sentence = d.Step, d.Guardrail, d.Sentence
				}
			}
		}
	}
	copied := *plan
	copied.Release.Candidate = candidateOf(p)
	run := w.Begin(&copied)
	w.Run(r.To)
	out.Phase, out.Took = run.State.Phase, document.Span(run.State.At.Sub(start))
	if out.Phase == rollout.PhasePromoted {
		out.Step, out.Guardrail, out.Sentence = "", "", ""
	}
	return out
}

// A recordingSource answers from a recording; with an instance, that one of stable's is
// the candidate.
type recordingSource struct {
	rec      Recording
	instance string
}

// Read sums the recorded readings that end in (From, To].
func (p *recordingSource) Read(_ *sim.World, _ *sim.Run, q analysis.Query) analysis.Reading {
	out := analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.From, Status: analysis.StatusOK}
	rs := p.rec.Readings[q.Metric.Name]
	first := int(q.From.Sub(p.rec.From) / p.rec.Interval)
	for i := max(first-1, 0); i < len(rs); i++ {
		end := p.rec.From.Add(time.Duration(i+1) * p.rec.Interval)
		if !end.After(q.From) {
			continue
		}
		if end.After(q.To) {
			break
		}
		if rs[i].Status != analysis.StatusOK {
			return analysis.ErrorReading(q, rs[i].Reason)
		}
		stable, candidate := rs[i].Stable, rs[i].Candidate
		if p.instance != "" {
			stable, candidate = setAside(rs[i].Stable, p.instance)
		}
		out.Stable, out.Candidate, out.To = addSamples(out.Stable, stable), addSamples(out.Candidate, candidate), end
	}
	return out
}

// setAside takes one instance out of a sample.
func setAside(s analysis.Sample, instance string) (rest, one analysis.Sample) {
	fresh := false
	for _, i := range s.Instances {
		x := i.Sample
		x.Instances = []analysis.Instance{i}
		if i.Name == instance {
			one = x
			continue
		}
		fresh = fresh || x.Fresh
		rest = addSamples(rest, x)
	}
	rest.Fresh = fresh
	return rest, one
}

// addSamples adds the increments of two samples; whether the sum is fresh is what
// the second one says.
func addSamples(a, b analysis.Sample) analysis.Sample {
	out := analysis.Sample{Fresh: b.Fresh, N: a.N + b.N, K: a.K + b.K, Sum: a.Sum + b.Sum, SumSq: a.SumSq + b.SumSq,
		Batches: a.Batches + b.Batches, Value: b.Value}
	counts := map[float64]float64{}
	for _, x := range slices.Concat(a.Buckets, b.Buckets) {
		counts[x.Upper] += x.Count
	}
	for _, upper := range slices.Sorted(maps.Keys(counts)) {
		out.Buckets = append(out.Buckets, analysis.Bucket{Upper: upper, Count: counts[upper]})
	}
	byName := map[string]analysis.Sample{}
	for _, i := range slices.Concat(a.Instances, b.Instances) {
		s := i.Sample
		s.Instances = nil
		if old, ok := byName[i.Name]; ok {
			s = addSamples(old, s)
		}
		byName[i.Name] = s
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out.Instances = append(out.Instances, analysis.Instance{Name: name, Sample: byName[name]})
	}
	return out
}
