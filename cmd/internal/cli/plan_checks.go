package cli

import (
	"context"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/cmd/internal/probe"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/preflight"
	"github.com/belayd/belay/rollout/traffic"
)

// checkAhead makes the plan's preflight checks as they would turn out now. Those
// that send the candidate a request are left to the rollout.
func (p *planner) checkAhead(ctx context.Context, d traffic.Description) {
	plan := *p.plan
	plan.Preflight = slices.DeleteFunc(slices.Clone(plan.Preflight), func(c check.Check) bool {
		return c.Kind == "invoke" || c.Kind == "refuses-anonymous"
	})
	p.facts.Checks = preflight.Run(ctx, preflight.Request{
		Plan: &plan, Stable: p.stable, Description: d,
		Metrics: func(ctx context.Context, from, to time.Time) []analysis.Reading {
			names := p.names()
			var qs []analysis.Query
			for _, m := range plan.Panel.Metrics {
				qs = append(qs, analysis.Query{Metric: m, Names: names, From: from, To: to})
			}
			rs := probe.Ask(ctx, p.source, qs)
			p.askAlone(ctx, qs, rs)
			return rs
		},
	})
}
