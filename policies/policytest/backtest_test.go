package policytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/policies/policiestest"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/sim"
)

// past is a source that made up its history: stable has three instances, the
// candidate one, with their rates of failures.
type past struct{ stable, candidate float64 }

func (p past) Read(_ context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	out := make([]analysis.Reading, len(qs))
	for i, q := range qs {
		r := sim.NewRandom(sim.NewRandom(uint64(q.To.Unix())).Uint64()) //nolint:gosec // a seed
		out[i] = analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK}
		draw := func(n, rate float64) analysis.Sample {
			n = r.Poisson(n)
			return analysis.Sample{Fresh: true, N: n, K: r.Binomial(n, rate)}
		}
		for k := range 3 {
			out[i].Stable.Instances = append(out[i].Stable.Instances, analysis.Instance{Name: fmt.Sprintf("blue-%d", k), Sample: draw(1500, p.stable)})
		}
		for _, x := range out[i].Stable.Instances {
			out[i].Stable.N, out[i].Stable.K, out[i].Stable.Fresh = out[i].Stable.N+x.N, out[i].Stable.K+x.K, true
		}
		out[i].Candidate = draw(1500, p.candidate)
	}
	return out, nil
}

const backtested = `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recommendations, owner: team-recommendations}
spec:
  endpoint: {router: azureml-prod, name: recs}
  steps: [5%, 50%, {weight: 100%, requires: [po]}]
  bake: 20m
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1.2x stable"}
    - {name: ceiling, metric: failures, limit: "<= 2%"}
  approvals: [{name: po, from: {notifier: slack, groups: [owners]}, quorum: 2}]
  windows: {open: [{cron: "0 9 1 1 *", for: 1h}]}
`

func recorded(t *testing.T, s analysis.Source) (*policies.Policy, *rollout.Plan, Recording) {
	t.Helper()
	p := policiestest.MustParse(t, backtested)
	plan, err := p.Compile(rollout.Release{Candidate: "green"}, "r")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 11, 20, 8, 0, 7, 0, time.UTC)
	rec, err := Record(t.Context(), func(string) (analysis.Source, bool) { return s, true }, plan, analysis.Names{Stable: "blue", Candidate: "green"}, from, from.Add(6*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return p, plan, rec
}

// Stable split by its instances is a healthy release: the policy lets it pass.
func TestBacktestHealthy(t *testing.T) {
	p, plan, rec := recorded(t, past{stable: 0.003, candidate: 0.003})
	rep, err := Backtest(p, plan, rec, BacktestInstances, 30*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if rep.RolledBack != 0 || rep.Promoted < 8 || len(rep.Trials) != 12 {
		t.Errorf("got:\n%swant 12 rollouts, none rolled back", rep.Text())
	}
	if !strings.Contains(rep.Text(), "Every one was healthy: 0% of those that ended were rolled back.") || rep.Trials[1].Instance == rep.Trials[0].Instance {
		t.Errorf("got:\n%s", rep.Text())
	}
}

// Two deployments that really ran: the bad one would have been rolled back.
func TestBacktestBad(t *testing.T) {
	p, plan, rec := recorded(t, past{stable: 0.003, candidate: 0.009})
	rep, err := Backtest(p, plan, rec, BacktestDeployments, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Promoted != 0 || rep.RolledBack != len(rep.Trials) || rep.Trials[0].Guardrail != "failures" || rep.Trials[0].Took > document.Span(20*time.Minute) {
		t.Errorf("got:\n%swant every rollout rolled back", rep.Text())
	}
}

// failing is a source that cannot be asked.
type failing struct{}

func (failing) Read(context.Context, []analysis.Query) ([]analysis.Reading, error) {
	return nil, errors.New("gone")
}

func TestBacktestProblems(t *testing.T) {
	p, plan, rec := recorded(t, past{stable: 0.003, candidate: 0.003})
	for _, rs := range rec.Readings {
		for i := range rs {
			rs[i].Stable.Instances = nil
		}
	}
	if _, err := Backtest(p, plan, rec, BacktestInstances, time.Hour); !errors.Is(err, ErrNoInstances) {
		t.Errorf("got error %v, want ErrNoInstances", err)
	}
	from := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	if _, err := Record(t.Context(), func(string) (analysis.Source, bool) { return failing{}, true }, plan, analysis.Names{}, from, from.Add(time.Hour)); err == nil {
		t.Error("got no error, want one: the source is gone")
	}
	if _, err := Record(t.Context(), func(string) (analysis.Source, bool) { return nil, false }, plan, analysis.Names{}, from, from.Add(time.Hour)); err == nil {
		t.Error("got no error, want one: there is no such source")
	}
	if _, err := Record(t.Context(), nil, plan, analysis.Names{}, from, from); err == nil {
		t.Error("got no error, want one: the span is empty")
	}
}

// Where stable is as bad as the candidate its rollouts are held for a person,
// and counted so.
func TestBacktestHeld(t *testing.T) {
	p, plan, rec := recorded(t, past{stable: 0.2, candidate: 0.2})
	rep, err := Backtest(p, plan, rec, BacktestDeployments, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, x := range rep.Trials {
		if x.Phase == rollout.PhaseHeld {
			held++
		}
	}
	if want := fmt.Sprintf("%d held, ", held); held == 0 || !strings.Contains(rep.Text(), want) {
		t.Errorf("got:\n%swant %q, and some", rep.Text(), want)
	}
}

// A plain value knows no instances. Its guardrail cannot be played by one, and
// without its answers no healthy release is said to be rolled back.
func TestBacktestLeavesOutWhatKnowsNoInstances(t *testing.T) {
	p := policiestest.MustParse(t, strings.Replace(backtested, "  approvals:", "    - {name: cpu, metric: cpu, limit: \"<= 85%\"}\n  metrics:\n    cpu: {source: prom, value: {query: 'cpu{d=\"${deployment}\"}'}}\n  approvals:", 1))
	plan, err := p.Compile(rollout.Release{Candidate: "green"}, "r")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	rec, err := Record(t.Context(), func(string) (analysis.Source, bool) { return past{stable: 0.003, candidate: 0.003}, true }, plan, analysis.Names{Stable: "blue", Candidate: "green"}, from, from.Add(6*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for i := range rec.Readings["cpu"] {
		rec.Readings["cpu"][i].Stable = analysis.Sample{Fresh: true, Value: 0.4}
	}
	rep, err := Backtest(p, plan, rec, BacktestInstances, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if rep.RolledBack != 0 || rep.Promoted == 0 || !strings.Contains(rep.Text(), "untested guardrails (their metrics do not tell instances apart): cpu\n") {
		t.Errorf("got:\n%swant promotions, and cpu untested", rep.Text())
	}
}

// silent is a source that answers nothing but errors.
type silent struct{}

func (silent) Read(_ context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	out := make([]analysis.Reading, len(qs))
	for i, q := range qs {
		out[i] = analysis.ErrorReading(q, "connection refused")
	}
	return out, nil
}

// Where the source was away all the time, that is what is said: not that no
// instance was found, nor that the release would have been held.
func TestBacktestOfNothing(t *testing.T) {
	p, plan, _ := recorded(t, past{})
	from := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	rec, err := Record(t.Context(), func(string) (analysis.Source, bool) { return silent{}, true }, plan, analysis.Names{Stable: "blue", Candidate: "green"}, from, from.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []BacktestMode{BacktestInstances, BacktestDeployments} {
		if rep, err := Backtest(p, plan, rec, mode, time.Hour); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("mode %s: got error %v and\n%swant the source's", mode, err, rep.Text())
		}
	}
}
