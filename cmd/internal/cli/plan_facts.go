package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/probe"
	"github.com/belayd/belay/policies/forecast"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/view"
)

const (
	// factsTimeout bounds what a plan asks routers and sources.
	factsTimeout = 30 * time.Second
	// loadPast is how far back the present load is read, and loadNow where that has
	// at least loadEnough events: series that are younger than what is asked for
	// would make it look smaller than it is.
	loadPast   = 15 * time.Minute
	loadNow    = 2 * time.Minute
	loadEnough = 100
)

// A planner finds out what a plan should know.
type planner struct {
	plan  *rollout.Plan
	facts *forecast.Inputs
	// stable is the deployment that serves; "" when unknown.
	stable string
	// source finds the source of a metric.
	source func(name string) (config.Source, bool)
	// past is how far back stable's figures are read.
	past time.Duration
	// lags are how old the sources' youngest readings always are, as the config says.
	lags map[string]time.Duration
	// described is what the router told of the endpoint; nil when it told nothing.
	described *traffic.Description
}

// fromConfig asks the config's routers and sources. What they do not tell is
// said on standard error and assumed.
func (e *env) fromConfig(ctx context.Context, p *planner, config string) {
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	a, err := probe.OpenAdapters(config)
	if err != nil {
		fmt.Fprintf(e.stderr, "the config's routers and sources cannot be asked from here: %s\n", safe(err.Error()))
		return
	}
	if err := p.askRouter(ctx, a); err != nil {
		fmt.Fprintln(e.stderr, safe(err.Error()))
	}
	if p.source == nil {
		p.source, p.lags = a.Source, a.Environment.Lags
	}
	if p.stable == "" {
		fmt.Fprintln(e.stderr, "stable is not known, so no source was asked; name it with --stable")
		return
	}
	if err := p.askSources(ctx, e); err != nil {
		fmt.Fprintln(e.stderr, safe(err.Error()))
	}
	if p.described != nil {
		p.checkAhead(ctx, *p.described)
	}
}

// askRouter takes over who serves, the candidate's capacity and the command that
// rolls back by hand.
func (p *planner) askRouter(ctx context.Context, a *probe.Adapters) error {
	name := p.plan.Release.Candidate
	s, err := a.ServingAt(ctx, p.plan.Endpoint, cmp.Or(p.stable, p.plan.Stable), name)
	p.stable = s.Stable
	if err != nil {
		return err
	}
	p.described = &s.Description
	at := p.plan.Endpoint.Router + "/" + p.plan.Endpoint.Name
	weights := make([]string, 0, len(s.Split.Weights))
	for _, d := range slices.Sorted(maps.Keys(s.Split.Weights)) {
		weights = append(weights, fmt.Sprintf("%s %d%%", d, s.Split.Weights[d]))
	}
	text := at + " shows " + strings.Join(weights, ", ")
	told := func(field string) bool {
		return !slices.Contains(s.Description.Unknown, "deployments") && !slices.Contains(s.Description.Unknown,
			"deployments."+name+field)
	}
	d, there := s.Description.Deployments[name]
	switch {
	case !there && told(""):
		text += "; it has no deployment " + name + " yet"
	case there && d.Instances > 0 && told(".instances"):
		p.facts.Instances = cmp.Or(p.facts.Instances, d.Instances)
		text += fmt.Sprintf("; %s has %s", name, plural(d.Instances, "instance"))
		if d.Concurrency > 0 && told(".concurrency") {
			p.facts.Concurrency = cmp.Or(p.facts.Concurrency, d.Concurrency)
			text += fmt.Sprintf(" for %s at a time each", plural(d.Concurrency, "request"))
		}
	}
	p.facts.Known = append(p.facts.Known, text)
	if by := s.Description.ManualRollback; by != nil {
		if command := by(s.Stable); command != "" {
			p.facts.Rollback = "belay rollback ID --reason WHY\n  # without belayd:\n  " + strings.ReplaceAll(command,
				"\n", "\n  ")
		}
	}
	return nil
}

// names are what may stand in expressions; the release says the candidate's version
// where the router does not.
func (p *planner) names() analysis.Names {
	n := analysis.Names{Endpoint: p.plan.Endpoint.Name, Stable: p.stable, Candidate: p.plan.Release.Candidate,
		CandidateVersion: p.plan.Release.Version}
	if p.described != nil {
		n.StableVersion = p.described.Deployments[n.Stable].Version
		n.CandidateVersion = cmp.Or(p.described.Deployments[n.Candidate].Version, n.CandidateVersion)
	}
	return n
}

// askSources reads how stable does and how much traffic there is. A load that was
// given scales the rates that were read.
func (p *planner) askSources(ctx context.Context, e *env) error {
	to := e.now().Truncate(time.Second)
	names := p.names()
	var qs []analysis.Query
	spans := []time.Duration{p.past, loadPast, loadNow}
	for _, m := range p.plan.Panel.Metrics {
		for _, past := range spans {
			qs = append(qs, analysis.Query{Metric: m, Names: names, From: to.Add(-past), To: to})
		}
	}
	// A source may know stable and fail over a candidate that is not there yet.
	rs := probe.Ask(ctx, p.source, qs)
	p.askAlone(ctx, qs, rs)
	p.facts.Baselines, p.facts.Lags = map[string]analysis.Baseline{}, map[string]time.Duration{}
	given, load := p.facts.PerSecond, 0.0
	var telling []string
	for i, m := range p.plan.Panel.Metrics {
		of := rs[len(spans)*i : len(spans)*(i+1)]
		long := of[0]
		source, _ := p.source(m.Source)
		if lag := max(probe.Lateness(source, m, long, to), p.lags[m.Source]); lag > 0 {
			p.facts.Lags[m.Name] = lag
			p.facts.Known = append(p.facts.Known, fmt.Sprintf("readings of %s are %s old when they come", m.Name, lag))
		}
		b, ok := forecast.BaselineOf(m, long)
		if !ok {
			if m.Kind() != analysis.KindValue && !m.Rate() || long.Status != analysis.StatusOK {
				fmt.Fprintf(e.stderr, "%s: nothing is known of %s: %s\n", m.Name, p.stable,
					safe(cmp.Or(long.Reason, "it had no events")))
			}
			continue
		}
		now := of[2]
		if rate(now, loadEnough) == 0 {
			now = of[1]
		}
		if rate(now, 0) == 0 {
			now = long
		}
		b.PerSecond = view.Significant(rate(now, 0), 4)
		if load == 0 {
			load = b.PerSecond
			telling = append(telling, fmt.Sprintf("the load of %s is %s/s over the last %s, by %s",
				p.plan.Endpoint.Name, quantity(load), now.To.Sub(now.From).Round(time.Second), m.Name))
		}
		p.facts.Baselines[m.Name] = b
		telling = append(telling, figuresOf(m, b, long))
	}
	if len(telling) == 0 {
		return errors.New("the sources told nothing of " + p.stable)
	}
	p.facts.Known = append(p.facts.Known, telling...)
	if p.facts.PerSecond = cmp.Or(given, load); given > 0 && load > 0 {
		for name, b := range p.facts.Baselines {
			b.PerSecond *= given / load
			p.facts.Baselines[name] = b
		}
	}
	return nil
}

// askAlone asks again, of stable alone, where both deployments could not be read.
func (p *planner) askAlone(ctx context.Context, qs []analysis.Query, rs []analysis.Reading) {
	var again []analysis.Query
	var at []int
	for i := range rs {
		if rs[i].Status != analysis.StatusOK {
			q := qs[i]
			q.Names.Candidate = q.Names.Stable
			again, at = append(again, q), append(at, i)
		}
	}
	for i, r := range probe.Ask(ctx, p.source, again) {
		r.Candidate = analysis.Sample{}
		rs[at[i]] = r
	}
}

// rate is the endpoint's events a second; 0 when nothing is known, or there were
// too few.
func rate(r analysis.Reading, enough float64) float64 {
	seconds := r.To.Sub(r.From).Seconds()
	if r.Status != analysis.StatusOK || seconds <= 0 {
		return 0
	}
	n := 0.0
	for _, x := range []analysis.Sample{r.Stable, r.Candidate} {
		if x.Fresh {
			n += x.N
		}
	}
	if n < enough {
		return 0
	}
	return n / seconds
}

// figuresOf says how stable does, and over which time.
func figuresOf(m analysis.Metric, b analysis.Baseline, r analysis.Reading) string {
	text := fmt.Sprintf("stable's %s: ", m.Name)
	switch m.Kind() {
	case analysis.KindCounts:
		text += view.Figure(&b.Share, "share") + " of "
	case analysis.KindMean:
		mean := b.Sample.Sum / b.Sample.N
		text += "mean " + view.Figure(&mean, "mean") + " of "
	case analysis.KindHistogram:
		text += plural(len(b.Sample.Buckets), "bucket") + " of "
	case analysis.KindValue:
	}
	span := r.To.Sub(r.From).Round(time.Second)
	text += fmt.Sprintf("%s events in %s", quantity(b.Sample.N), span)
	if b.Instances > 1 {
		text += fmt.Sprintf(", on %d instances, taken to be without bursts", b.Instances)
	}
	if span < time.Minute {
		text += ", too short a time to rely on"
	}
	return text
}
