package policies_test

import (
	"strings"
	"testing"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/policies/policiestest"
	"github.com/belayd/belay/rollout"
)

func TestQuantities(t *testing.T) {
	for in, want := range map[string]policies.Quantity{
		"1%":           {Value: 0.01, Unit: policies.UnitShare, Text: "1%"},
		"0.5 %":        {Value: 0.005, Unit: policies.UnitShare, Text: "0.5 %"},
		"450ms":        {Value: 0.45, Unit: policies.UnitSeconds, Text: "450ms"},
		"1.5s":         {Value: 1.5, Unit: policies.UnitSeconds, Text: "1.5s"},
		"0.98x stable": {Value: 0.98, Unit: policies.UnitStable, Text: "0.98x stable"},
		"2 x stable":   {Value: 2, Unit: policies.UnitStable, Text: "2 x stable"},
		"-85":          {Value: -85, Unit: policies.UnitNumber, Text: "-85"},
	} {
		var got policies.Quantity
		if err := got.UnmarshalText([]byte(in)); err != nil || got != want {
			t.Errorf("%q: got %+v, error %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x stable", "0x stable", "1e999", "NaN", "Inf", "0x10", "1_000", "3 of 5", "1..2x stable", "% 1", "99999x stable"} {
		var got policies.Quantity
		if err := got.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q: got %+v, want an error", in, got)
		}
	}
	for _, in := range []string{"30", "-5m", "1d", "1w", "5 m", "1h30", "", "1e3s", "9000h"} {
		if d, err := document.ParseDuration(in); err == nil {
			t.Errorf("%q: got %s, want an error", in, d)
		}
	}
}

// A version that a cooldown would not know again is refused, wherever it comes from.
func TestVersionsAreExact(t *testing.T) {
	p, _ := policiestest.Parse(t, policiestest.Smallest, policiestest.Config())
	for _, version := range []string{"v1 ", " v1", "v1\n", "v1\x07"} {
		if _, err := p.Compile(rollout.Release{Candidate: "green", Version: version}, "r"); err == nil || !strings.Contains(err.Error(), "cooldown") {
			t.Errorf("%q: got %v, want it refused", version, err)
		}
	}
	if _, err := p.Compile(rollout.Release{Candidate: "green", Version: "v1 (hotfix)"}, "r"); err != nil {
		t.Errorf("got %v, want a blank within taken", err)
	}
}

// A counter against time is limited by a number of events, which the judge takes as a
// share of moments; none at all is a threshold that one event breaks.
func TestRate(t *testing.T) {
	const metric = `restarts: {source: prom, counts: {bad: 'restarts_total{pod=~"${deployment}-.*"}', per: 1h, deployment: "", instance: pod}}`
	write := func(metric, guardrail string) string {
		text := strings.Replace(policiestest.Clean, "    cpu: {source: prom", "    "+metric+"\n    cpu: {source: prom", 1)
		return strings.Replace(text, "  guardrails:\n", "  guardrails:\n    - {name: restarts, metric: restarts, "+guardrail+"}\n", 1)
	}
	for limit, want := range map[string]analysis.Guardrail{
		`limit: "<= 2"`:              {Limit: analysis.Limit{Value: 2 / analysis.Trials, Text: "<= 2"}, Detect: 4 / analysis.Trials, Test: analysis.TestSequential},
		`limit: "<= 2", detect: "3"`: {Limit: analysis.Limit{Value: 2 / analysis.Trials, Text: "<= 2"}, Detect: 3 / analysis.Trials, Test: analysis.TestSequential},
		`limit: "<= 1.5x stable"`:    {Limit: analysis.Limit{Relative: true, Value: 1.5, Text: "<= 1.5x stable"}, Detect: 2.5, Test: analysis.TestSequential},
		`limit: "<= 0"`:              {Limit: analysis.Limit{Text: "<= 0"}, Test: analysis.TestThreshold, BreachAfter: analysis.KofN{K: 1, N: 1}},
	} {
		p, ps := policiestest.Parse(t, write(metric, limit), policiestest.Config())
		if p == nil || len(ps) > 0 {
			t.Errorf("%s: got problems:\n%s", limit, ps.Text())
			continue
		}
		plan, err := p.Compile(rollout.Release{Policy: "recommendations", Candidate: "green", Version: "17"}, "r1")
		if err != nil {
			t.Fatal(err)
		}
		g := plan.Panel.Guardrails[0]
		if g.Limit != want.Limit || g.Detect != want.Detect || g.Test != want.Test || g.BreachAfter != want.BreachAfter {
			t.Errorf("%s: got %+v, want %+v", limit, g, want)
		}
	}
	for _, c := range []struct{ metric, guardrail, want string }{
		{metric, `limit: "<= 1%"`, "limited by a number of events"},
		{metric, `limit: ">= 2"`, "limited from above"},
		{metric, `limit: "<= 2x stable or 1%"`, "a counter against time has none of"},
		{metric, `limit: "<= 0.001"`, "choose per so that"},
		{metric, `limit: "<= 0", test: sequential`, "is test: threshold"},
		{strings.Replace(metric, "1h", "1ms", 1), `limit: "<= 2"`, "from 1s to 720h"},
		{strings.Replace(metric, "source: prom", "source: azure", 1), `limit: "<= 2"`, "no data and not 0"},
		{strings.Replace(metric, "per:", "total: a, per:", 1), `limit: "<= 2"`, "total"},
	} {
		if _, ps := policiestest.Parse(t, write(c.metric, c.guardrail), policiestest.Config()); !ps.HasErrors() || !strings.Contains(ps.Text(), c.want) {
			t.Errorf("%s %s: got %q, want %q", c.metric, c.guardrail, ps.Text(), c.want)
		}
	}
	budget := strings.Replace(write(metric, `limit: "<= 2"`), "  bake:", "  budget: {metric: restarts, atMost: 5}\n  bake:", 1)
	if _, ps := policiestest.Parse(t, budget, policiestest.Config()); !strings.Contains(ps.Text(), "this one is a rate") {
		t.Errorf("a budget of a rate: got %q", ps.Text())
	}
}
