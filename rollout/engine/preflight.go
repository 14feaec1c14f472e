package engine

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/deployment"
	"github.com/belayd/belay/rollout/preflight"
	"github.com/belayd/belay/rollout/traffic"
)

// A Preflight makes the checks of a plan; preflight.Run is the real one.
type Preflight func(ctx context.Context, r preflight.Request) []check.Result

// preflight reads the split and makes the checks of the plan.
func (l *runner) preflight(ctx context.Context) (rollout.Event, bool) {
	ev := rollout.Event{Kind: rollout.EventPreflighted}
	r := l.e.routers[l.plan.Endpoint.Router]
	if r == nil {
		ev.Reason = noRouter(l.plan.Endpoint).Failure.Message
		return ev, true
	}
	if !acquire(ctx, r.checks) {
		return rollout.Event{}, false
	}
	defer func() { <-r.checks }()
	call, cancel := context.WithTimeout(ctx, l.e.cfg.PreflightTimeout)
	defer cancel()
	split, err := l.split(call, r)
	if err != nil {
		ev.Reason = err.Error()
		return ev, ctx.Err() == nil
	}
	ev.Split = &split
	// A split that no rollout may start from is the core's to refuse.
	stable, err := split.Stable(l.plan.Stable, l.plan.Release.Candidate)
	if err != nil {
		stable = ""
	}
	d, err := l.describe(call, r)
	if d.ManualRollback != nil && stable != "" {
		ev.Manual = d.ManualRollback(stable)
	}
	ev.Versions = versions(d)
	if err == nil {
		ev.Deployments = factsOf(d)
	}
	ev.Checks = l.e.cfg.Preflight(call, preflight.Request{
		Plan: l.plan, Stable: stable, Router: r.Router, Description: d, DescribeErr: err,
		Metrics: func(ctx context.Context, from, to time.Time) []analysis.Reading {
			return l.panel(ctx, l.names(stable, ev.Versions), from, to)
		},
	})
	return ev, ctx.Err() == nil
}

// versions are those that the router tells of the endpoint's deployments; nil when
// it tells none.
func versions(d traffic.Description) map[string]string {
	var out map[string]string
	for name, deployment := range d.Deployments {
		if deployment.Version != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = deployment.Version
		}
	}
	return out
}

// names are what may stand in expressions. The release says the candidate's
// version where the router does not.
func (l *runner) names(stable string, versions map[string]string) analysis.Names {
	r := l.plan.Release
	return analysis.Names{
		Endpoint: l.plan.Endpoint.Name, Stable: stable, Candidate: r.Candidate,
		StableVersion: versions[stable], CandidateVersion: cmp.Or(versions[r.Candidate], r.Version),
	}
}

// factsOf is what a description tells of the deployments, without what it does not.
func factsOf(d traffic.Description) map[string]deployment.Fact {
	facts := make(map[string]deployment.Fact, len(d.Deployments))
	told := func(name, field string) bool {
		return !slices.Contains(d.Unknown, "deployments") && !slices.Contains(d.Unknown, "deployments."+name) &&
			!slices.Contains(d.Unknown, "deployments."+name+"."+field)
	}
	for name, x := range d.Deployments {
		f := deployment.Fact{}
		if told(name, "ready") {
			if f.Ready = deployment.Ready; !x.Ready {
				f.Ready, f.Reason = deployment.NotReady, notifier.Truncate(x.Reason, 200)
			}
		}
		if told(name, "instances") {
			f.Instances = &x.Instances
		}
		if told(name, "version") {
			f.Version = notifier.Truncate(x.Version, 200)
		}
		facts[name] = f
	}
	return facts
}

// describe asks the router for what the checks need.
func (l *runner) describe(ctx context.Context, r *router) (traffic.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, l.e.cfg.RouterTimeout)
	defer cancel()
	d, err := r.Describe(ctx, l.plan.Endpoint.Name)
	l.e.metrics.routerCall(r.name, err)
	return d, err
}

// panel reads every metric of the plan once, source by source at the same time.
func (l *runner) panel(ctx context.Context, names analysis.Names, from, to time.Time) []analysis.Reading {
	metrics := l.plan.Panel.Metrics
	out := make([]analysis.Reading, len(metrics))
	bySource := map[string][]int{}
	for i, m := range metrics {
		bySource[m.Source] = append(bySource[m.Source], i)
	}
	var wg sync.WaitGroup
	for source, at := range bySource {
		qs := make([]analysis.Query, len(at))
		for n, i := range at {
			qs[n] = analysis.Query{Metric: metrics[i], From: from, To: to, Names: names}
		}
		wg.Go(func() {
			for n, r := range slices.All(l.e.ask(ctx, source, qs)) {
				out[at[n]] = r
			}
		})
	}
	wg.Wait()
	return out
}
