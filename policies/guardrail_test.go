package policies

import (
	"strings"
	"testing"

	"github.com/belayd/belay/analysis"

	"github.com/belayd/belay/rollout"
)

// The regression that must be caught, where the policy does not say: the looser
// of a usual figure and one beyond the limit.
func TestDefaultDetect(t *testing.T) {
	for _, tt := range []struct {
		limit    string
		kind     analysis.Kind
		quantile float64
		want     string
	}{
		{"<= 1.2x stable", analysis.KindCounts, 0, "2x stable"},
		{"<= 1.5x stable", analysis.KindCounts, 0, "2.5x stable"},
		{">= 0.98x stable", analysis.KindCounts, 0, "0.95x stable"},
		{">= 0.9x stable", analysis.KindCounts, 0, "0.873x stable"},
		{"<= 1%", analysis.KindCounts, 0, "2%"},
		{"<= 80%", analysis.KindCounts, 0, "90%"},
		{">= 99%", analysis.KindCounts, 0, "98%"},
		{">= 20%", analysis.KindCounts, 0, "10%"},
		{"<= 450ms", analysis.KindHistogram, 0.95, "10%"},
		{"<= 450ms", analysis.KindHistogram, 0.99, "2%"},
		{"<= 450ms", analysis.KindHistogram, 0.5, "75%"},
		{"<= 1.2x stable", analysis.KindHistogram, 0.95, "2x stable"},
		{"<= 3x stable", analysis.KindHistogram, 0.95, "2x stable"},
		{"<= 20", analysis.KindMean, 0, "40"},
		{">= 20", analysis.KindMean, 0, "19"},
		{"<= 30ms", analysis.KindMean, 0, "60ms"},
	} {
		var l LimitText
		if err := l.UnmarshalText([]byte(tt.limit)); err != nil {
			t.Fatal(err)
		}
		got, ok := defaultDetect(l, tt.kind, tt.quantile)
		if !ok || got.Text != tt.want {
			t.Errorf("%s of a %s: got %q, want %q", tt.limit, tt.kind, got.Text, tt.want)
		}
		if why := got.suits(l, tt.kind, tt.quantile); why != "" {
			t.Errorf("%s of a %s: the default %s is refused: %s", tt.limit, tt.kind, got.Text, why)
		}
	}
	var l LimitText
	if err := l.UnmarshalText([]byte("<= 0")); err != nil {
		t.Fatal(err)
	}
	if got, ok := defaultDetect(l, analysis.KindMean, 0); ok {
		t.Errorf("got %q for a mean at most 0, want none", got.Text)
	}
}

func TestQuantities(t *testing.T) {
	for in, want := range map[string]Quantity{
		"1%":           {Value: 0.01, Unit: UnitShare, Text: "1%"},
		"0.5 %":        {Value: 0.005, Unit: UnitShare, Text: "0.5 %"},
		"450ms":        {Value: 0.45, Unit: UnitSeconds, Text: "450ms"},
		"1.5s":         {Value: 1.5, Unit: UnitSeconds, Text: "1.5s"},
		"0.98x stable": {Value: 0.98, Unit: UnitStable, Text: "0.98x stable"},
		"2 x stable":   {Value: 2, Unit: UnitStable, Text: "2 x stable"},
		"-85":          {Value: -85, Unit: UnitNumber, Text: "-85"},
	} {
		var got Quantity
		if err := got.UnmarshalText([]byte(in)); err != nil || got != want {
			t.Errorf("%q: got %+v, error %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x stable", "0x stable", "1e999", "NaN", "Inf", "0x10", "1_000", "3 of 5", "1..2x stable", "% 1", "99999x stable"} {
		var got Quantity
		if err := got.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q: got %+v, want an error", in, got)
		}
	}
	for _, in := range []string{"30", "-5m", "1d", "1w", "5 m", "1h30", "", "1e3s", "9000h"} {
		if d, err := parseDuration(in); err == nil {
			t.Errorf("%q: got %s, want an error", in, d)
		}
	}
}

// A version that a cooldown would not know again is refused, wherever it comes from.
func TestVersionsAreExact(t *testing.T) {
	p, _ := parse(t, smallest, config())
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
		text := strings.Replace(clean, "    cpu: {source: prom", "    "+metric+"\n    cpu: {source: prom", 1)
		return strings.Replace(text, "  guardrails:\n", "  guardrails:\n    - {name: restarts, metric: restarts, "+guardrail+"}\n", 1)
	}
	for limit, want := range map[string]analysis.Guardrail{
		`limit: "<= 2"`:              {Limit: analysis.Limit{Value: 2 / analysis.Trials, Text: "<= 2"}, Detect: 4 / analysis.Trials, Test: analysis.TestSequential},
		`limit: "<= 2", detect: "3"`: {Limit: analysis.Limit{Value: 2 / analysis.Trials, Text: "<= 2"}, Detect: 3 / analysis.Trials, Test: analysis.TestSequential},
		`limit: "<= 1.5x stable"`:    {Limit: analysis.Limit{Relative: true, Value: 1.5, Text: "<= 1.5x stable"}, Detect: 2.5, Test: analysis.TestSequential},
		`limit: "<= 0"`:              {Limit: analysis.Limit{Text: "<= 0"}, Test: analysis.TestThreshold, BreachAfter: analysis.KofN{K: 1, N: 1}},
	} {
		p, ps := parse(t, write(metric, limit), config())
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
		{metric, `limit: "<= 0.001"`, "choose per so that"},
		{metric, `limit: "<= 0", test: sequential`, "is test: threshold"},
		{strings.Replace(metric, "1h", "1ms", 1), `limit: "<= 2"`, "from 1s to 720h"},
		{strings.Replace(metric, "source: prom", "source: azure", 1), `limit: "<= 2"`, "no data and not 0"},
		{strings.Replace(metric, "per:", "total: a, per:", 1), `limit: "<= 2"`, "total"},
	} {
		if _, ps := parse(t, write(c.metric, c.guardrail), config()); !ps.HasErrors() || !strings.Contains(ps.Text(), c.want) {
			t.Errorf("%s %s: got %q, want %q", c.metric, c.guardrail, ps.Text(), c.want)
		}
	}
	budget := strings.Replace(write(metric, `limit: "<= 2"`), "  bake:", "  budget: {metric: restarts, atMost: 5}\n  bake:", 1)
	if _, ps := parse(t, budget, config()); !strings.Contains(ps.Text(), "this one is a rate") {
		t.Errorf("a budget of a rate: got %q", ps.Text())
	}
}
