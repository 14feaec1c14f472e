package sim_test

import (
	"fmt"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/calendar"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

// model is how a deployment behaves.
func model(r *sim.Random, bad bool) sim.Model {
	m := sim.Model{Rates: map[string]float64{"failures": 0.002, "watched": 0.9}, P95: 0.15, Sigma: 0.4, Value: 0.5}
	if !bad {
		return m
	}
	switch r.IntN(5) {
	case 0:
		m.Rates["failures"] = 0.3
	case 1:
		m.P95 = 1
	case 2:
		m.Rates["watched"] = 0.5
	case 3:
		m.Gone = true
	case 4:
		m.Value = 0.95
	}
	return m
}

// plan is a random policy, resolved.
func plan(r *sim.Random, n int) *rollout.Plan {
	bake := time.Duration(1+r.IntN(8)) * time.Minute
	p := &rollout.Plan{SchemaVersion: 1, ID: fmt.Sprintf("r%d", n), Policy: rollout.PolicyRef{Name: "p", Owner: "o"},
		Release:  rollout.Release{Candidate: "green", Version: fmt.Sprintf("v%d", n), Requester: person.Person{ID: "ci"}},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Stable: "auto",
		OnForeignChange: pick(r, rollout.ForeignHold, rollout.ForeignAdopt, rollout.ForeignRestore, rollout.ForeignRollback),
		Concurrency:     pick(r, rollout.ConcurrencyQueue, rollout.ConcurrencyRefuse, rollout.ConcurrencySupersede),
		Interval:        time.Duration(5+5*r.IntN(4)) * time.Second, Settle: time.Duration(r.IntN(3)) * 20 * time.Second,
		MaxExtend:     time.Duration(1+r.IntN(10)) * time.Minute,
		OnUndecided:   pick(r, rollout.UndecidedHold, rollout.UndecidedRollback, rollout.UndecidedPromote),
		OnNoData:      missingPolicy(r),
		OnSourceError: missingPolicy(r),
		Rollback:      rollout.RollbackPolicy{VerifyWithin: 2 * time.Minute, Cooldown: time.Hour},
		Page:          []string{"oncall", "backup"}, Notify: []string{"slack"},
	}
	weights := pick(r, []int{5, 25, 60, 100}, []int{10, 50, 100}, []int{1, 5, 10, 20, 50}, []int{100})
	if r.Chance(0.2) {
		p.Steps = append(p.Steps, rollout.Step{Name: "shadow", Share: split.Share{Mirror: 10}, Bake: bake})
	}
	for _, w := range weights {
		p.Steps = append(p.Steps, rollout.Step{Name: fmt.Sprint(w), Share: split.Share{Weight: w}, Bake: bake})
	}
	for _, gate := range []string{"owner", "operator"} {
		if !r.Chance(0.35) {
			continue
		}
		st := &p.Steps[r.IntN(len(p.Steps))]
		st.Requires = append(st.Requires, gate)
		p.Approvals = append(p.Approvals, approval.Approval{Name: gate, Notifier: "slack", Quorum: 1 + r.IntN(2), NotByRequester: true,
			Expires: time.Duration(5+r.IntN(60)) * time.Minute, OnExpiry: pick(r, approval.ExpiryHold, approval.ExpiryRollback)})
	}
	if r.Chance(0.1) {
		p.Schedule = &calendar.Schedule{Cron: "*/7 * * * *"}
	}
	if r.Chance(0.1) {
		p.Windows = &calendar.Windows{Timezone: "Europe/Berlin", Open: []calendar.Window{{Cron: "0 * * * *", For: 30 * time.Minute}}}
	}
	p.Panel = panel(r, p)
	return p
}

// missingPolicy is what happens when readings are missing.
func missingPolicy(r *sim.Random) sight.MissingPolicy {
	return sight.MissingPolicy{After: time.Duration(30+30*r.IntN(4)) * time.Second, RollbackAfter: pick(r, 0, 3*time.Minute),
		Then: pick(r, analysis.ActionHold, analysis.ActionHold, analysis.ActionPage, analysis.ActionRollback)}
}

// panel is what is judged: the three usual guardrails, at times a plain value, and
// at times several groups on one metric.
func panel(r *sim.Random, p *rollout.Plan) analysis.Panel {
	var all []int
	for i := range p.Steps {
		all = append(all, i)
	}
	action := pick(r, analysis.ActionRollback, analysis.ActionRollback, analysis.ActionHold, analysis.ActionPage)
	pn := analysis.Panel{Alpha: 0.01, Beta: 0.05, Steps: len(p.Steps), Interval: p.Interval, OnSharedBreach: analysis.ActionHold,
		Metrics: []analysis.Metric{
			{Name: "failures", Source: "sim", Counts: &analysis.Counts{Total: "t", Bad: "b", Deployment: "d"}},
			{Name: "latency", Source: "sim", Histogram: &analysis.Histogram{Series: "h", Unit: "s", Deployment: "d"}},
			{Name: "watched", Source: "sim", Counts: &analysis.Counts{Total: "t", Good: "g", Deployment: "d"}},
		},
		Guardrails: []analysis.Guardrail{
			{Name: "failures", Metric: "failures", Limit: analysis.Limit{Value: 0.02, Text: "<= 2%"}, Detect: 0.06, OnBreach: analysis.ActionRollback},
			{Name: "p95", Metric: "latency", Quantile: 0.95, Limit: analysis.Limit{Value: 0.3, Text: "<= 300ms"}, Detect: 0.10, OnBreach: action},
			{Name: "watched", Metric: "watched", Limit: analysis.Limit{AtLeast: true, Relative: true, Value: 0.95, Text: ">= 0.95x stable"}, Detect: 0.85, OnBreach: action},
		}}
	if r.Chance(0.4) {
		pn.Metrics = append(pn.Metrics, analysis.Metric{Name: "cpu", Source: "sim", Value: &analysis.Value{Query: "q"}})
		pn.Guardrails = append(pn.Guardrails, analysis.Guardrail{Name: "cpu", Metric: "cpu", OnBreach: action,
			Limit: analysis.Limit{Value: 0.85, Text: "<= 0.85"}})
	}
	if r.Chance(0.2) {
		for _, a := range []analysis.Action{analysis.ActionHold, analysis.ActionPage, analysis.ActionNote} {
			pn.Guardrails = append(pn.Guardrails, analysis.Guardrail{Name: "failures-" + string(a), Metric: "failures",
				Limit: analysis.Limit{Value: 0.015, Text: "<= 1.5%"}, Detect: 0.05, OnBreach: a})
		}
	}
	for i := range pn.Guardrails {
		pn.Guardrails[i].Evidence = pick(r, analysis.EvidenceRequired, analysis.EvidenceOptional)
		pn.Guardrails[i].Test, pn.Guardrails[i].Steps = analysis.TestSequential, all
		if pn.Guardrails[i].Metric == "cpu" {
			pn.Guardrails[i].Test, pn.Guardrails[i].BreachAfter = analysis.TestThreshold, analysis.KofN{K: 3, N: 5}
		}
	}
	if r.Chance(0.3) {
		pn.Budget = &analysis.Budget{Metric: "failures", AtMost: float64(10 + r.IntN(400))}
	}
	return pn
}
