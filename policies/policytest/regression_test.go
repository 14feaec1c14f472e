package policytest

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/policiestest"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

const journalled = `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recommendations, owner: team-recommendations}
spec:
  endpoint: {router: azureml-prod, name: recs}
  steps: [{name: canary, weight: 5%}, {name: half, weight: 50%, requires: [po]}, {name: full, weight: 100%}]
  bake: 20m
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%"}
    - {name: p95, metric: latency, quantile: p95, limit: "<= 450ms"}
  approvals: [{name: po, from: {notifier: slack, groups: [owners]}}]
  page: [oncall]
`

// outage fails every reading in a span of time.
type outage struct {
	sim.Fine
	from, to time.Time
}

func (o outage) Read(w *sim.World, _ *sim.Run, q analysis.Query) *analysis.Reading {
	if w.Now.Before(o.from) || !w.Now.Before(o.to) {
		return nil
	}
	r := analysis.ErrorReading(q, "the source did not answer")
	return &r
}

// lived plays a rollout in a random world and returns its journal.
func lived(t *testing.T, p *policies.Policy, bad func(step int) sim.Model, faults sim.Faults, script func(w *sim.World, r *sim.Run)) (*rollout.Plan, []journal.Entry, rollout.State) {
	t.Helper()
	plan, err := p.Compile(rollout.Release{Candidate: "v2", Version: "2", Requester: person.Person{ID: "ci"}}, "rollout-7")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 11, 20, 8, 0, 7, 500_000_000, time.UTC)
	var run *sim.Run
	good := sim.Model{Rates: map[string]float64{"failures": 0.001}, P95: 0.2, Sigma: 0.5}
	var entries []journal.Entry
	w := sim.New(sim.Config{Start: start, Split: split.Split{Weights: map[string]int{"v1": 100}}, Faults: faults, Source: &sim.Traffic{
		Seed: 5, RPS: sim.Steady(200), Bounds: []float64{0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 1, 2}, Cell: plan.Interval,
		Model: func(d string, _ time.Time, _ int) sim.Model {
			if d == "v2" && run != nil && bad != nil {
				return bad(run.State.Step)
			}
			return good
		},
	}})
	w.Watch = func(w *sim.World, r *sim.Run, l sim.Line) {
		run = r
		entries = append(entries, journal.Entry{At: l.Event.At, Events: []rollout.Event{l.Event}, Decisions: l.Decisions})
		for _, d := range l.Decisions {
			if d.Kind == decision.Ask {
				w.At(w.Now.Add(3*time.Minute), func(w *sim.World) { approveAll(w, r, d.Gate) })
			}
		}
	}
	run = w.Begin(plan)
	if script != nil {
		script(w, run)
	}
	w.Run(start.Add(6 * time.Hour))
	return plan, entries, run.State
}

// A regression test written out of a rollout plays the same turns again.
func TestRegressionTest(t *testing.T) {
	model := func(rate, p95 float64) sim.Model {
		return sim.Model{Rates: map[string]float64{"failures": rate}, P95: p95, Sigma: 0.5}
	}
	start := time.Date(2026, 11, 20, 8, 0, 7, 500_000_000, time.UTC)
	for _, tt := range []struct {
		name   string
		bad    func(step int) sim.Model
		faults sim.Faults
		script func(w *sim.World, r *sim.Run)
		phase  rollout.Phase
	}{
		{"a healthy release", nil, nil, nil, rollout.PhasePromoted},
		{"failures at half", func(step int) sim.Model { return model([]float64{0.001, 0.001, 0.03, 0.03}[step+1], 0.2) }, nil, nil, rollout.PhaseRolledBack},
		{"slow from the start", func(int) sim.Model { return model(0.001, 0.9) }, nil, nil, rollout.PhaseRolledBack},
		{"an outage of the source", nil, outage{from: start.Add(8 * time.Minute), to: start.Add(15 * time.Minute)}, nil, rollout.PhasePromoted},
		{"somebody else's traffic", nil, nil, func(w *sim.World, _ *sim.Run) {
			w.At(w.Now.Add(10*time.Minute), func(w *sim.World) { w.Write(split.Split{Weights: map[string]int{"v1": 70, "v2": 30}}) })
		}, rollout.PhaseHeld},
		{"somebody turns the traffic off", nil, nil, func(w *sim.World, _ *sim.Run) {
			w.At(w.Now.Add(10*time.Minute), func(w *sim.World) { w.Write(split.Split{Weights: map[string]int{}}) })
		}, rollout.PhaseHeld},
		{"a person rolls back", nil, nil, func(w *sim.World, r *sim.Run) {
			w.At(w.Now.Add(10*time.Minute), func(w *sim.World) {
				w.Fold(r, rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "ada"}, Reason: "complaints"})
			})
		}, rollout.PhaseStopped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := policiestest.MustParse(t, journalled)
			plan, entries, last := lived(t, p, tt.bad, tt.faults, tt.script)
			if last.Phase != tt.phase {
				t.Fatalf("got a rollout that ended %s (%s), want %s", last.Phase, last.Sentence, tt.phase)
			}
			// Whoever reads the journal over HTTP knows no more of the end than this.
			last = rollout.State{Phase: last.Phase, Stable: last.Stable, Confirmed: last.Confirmed}
			text, err := Regression(plan, entries, last, "p.yaml")
			if err != nil {
				t.Fatal(err)
			}
			report, ps := Run(fstest.MapFS{"p.yaml": {Data: []byte(journalled)}, "r.test.yaml": {Data: []byte(text)}}, "r.test.yaml", nil, nil)
			if report == nil {
				t.Fatalf("got problems:\n%s\n%s", ps.Text(), text)
			}
			var b strings.Builder
			if err := report.Text(&b); err != nil {
				t.Fatal(err)
			}
			if !report.Passed() {
				t.Errorf("got:\n%s\nfrom:\n%s", b.String(), text)
			}
		})
	}
}

func TestRegressionTestProblems(t *testing.T) {
	p := policiestest.MustParse(t, journalled)
	plan, entries, last := lived(t, p, nil, nil, nil)
	if _, err := Regression(plan, nil, last, "p.yaml"); err == nil {
		t.Error("got no error for an empty journal")
	}
	if _, err := Regression(plan, entries[:2], last, "p.yaml"); err == nil {
		t.Error("got no error for a journal without readings")
	}
}
