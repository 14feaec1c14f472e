package analysis

import (
	"math"
	"testing"
	"time"
)

// The forecast of the demonstration says that gross faults are found in time,
// and why where it has no figures.
func TestForecast(t *testing.T) {
	p := demoPanel()
	base := map[string]Baseline{"failures": {PerSecond: 200, Share: 0.001}, "watched": {PerSecond: 200, Share: 0.9},
		"latency": {PerSecond: 200, Sample: lognormal(seeded(1), 10000, 0.06, latencyBounds)}}
	loads := []Load{{Step: 0, Bake: 2 * time.Minute, Stable: 0.95, Candidate: 0.05}, {Step: 3, Bake: time.Minute, Candidate: 1}}
	fs := p.Forecast(loads, base)
	if len(fs) != 6 {
		t.Fatalf("got %d forecasts, want 6", len(fs))
	}
	for _, f := range fs[:3] {
		if f.Reason != "" || f.Median <= 0 || f.T90 < f.Median || f.PassT90 <= 0 || f.Power <= 0 || f.Hold < f.T90 {
			t.Errorf("got %+v, want figures", f)
		}
	}
	if f := fs[5]; f.Reason == "" || f.Grade != "" {
		t.Errorf("at 100%%: got %+v, want watch-through to rest", f)
	}
	if f := p.Forecast(loads[:1], nil)[0]; f.Reason == "" || f.Grade != "" {
		t.Errorf("without a baseline: got %+v, want a reason and no grade", f)
	}
}

// What can be forecast of quantiles and means, and why not where nothing can.
func TestForecastKinds(t *testing.T) {
	r := seeded(2)
	latencies := Baseline{PerSecond: 100, Sample: lognormal(r, 20000, 0.1, classicBounds)}
	short := Baseline{PerSecond: 100, Sample: lognormal(r, 20000, 0.1, classicBounds[:4])}
	money := Baseline{PerSecond: 100, Sample: spend(r, 5000, 10, 0.5), Phi: 1}
	wide := Baseline{PerSecond: 100, Sample: spend(r, 5000, 10, 3), Phi: 1}
	revenue := meanPanel(Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.9)
	absolute := latencyPanel(Limit{Value: 0.25, Text: "<= 250ms"}, 0.5)
	absolute.Guardrails[0].DetectLatency = true
	for _, c := range []struct {
		name    string
		panel   Panel
		base    Baseline
		figures bool
	}{
		{"absolute quantile", absolute, latencies, true},
		{"buckets too short", absolute, short, false},
		{"relative quantile", latencyPanel(Limit{Relative: true, Value: 1.2, Text: "<= 1.2x stable"}, 2), latencies, true},
		{"latencies unknown", latencyPanel(Limit{Relative: true, Value: 1.2, Text: "<= 1.2x stable"}, 2), Baseline{PerSecond: 100}, false},
		{"mean", revenue, money, true},
		{"absolute mean", meanPanel(Limit{Value: 12, Text: "<= 12"}, 14), money, true},
		{"mean of what spreads too widely", revenue, wide, false},
		{"mean unknown", revenue, Baseline{PerSecond: 100}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			load := Load{Step: 0, Bake: time.Hour, Stable: 0.75, Candidate: 0.25}
			f := c.panel.Forecast([]Load{load}, map[string]Baseline{c.panel.Metrics[0].Name: c.base})[0]
			if got := f.Reason == ""; got != c.figures {
				t.Fatalf("got reason %q, want figures %v", f.Reason, c.figures)
			}
			if c.figures && (f.Median <= 0 || f.T90 < f.Median || f.PassT90 <= 0 || f.Power < 0.5 || f.Excess <= 0) {
				t.Errorf("got %+v, want figures", f)
			}
		})
	}
}

// The forecast of a mean agrees with simulation.
func TestForecastMean(t *testing.T) {
	p := meanPanel(Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.9)
	p.Guardrails[0].Steps = []int{0}
	base := Baseline{PerSecond: 800.0 / 15, Sample: spend(seeded(1), 20000, 10, 1)}
	f := p.Forecast([]Load{{Bake: time.Hour, Stable: 0.75, Candidate: 0.25}}, map[string]Baseline{"revenue": base})[0]
	sum := 0.0
	const trials = 60
	for i := range trials {
		r := seeded(seed(i))
		var e Evidence
		var v Verdicts
		n := 0
		for len(v.Breaches) == 0 && n < 400 {
			n++
			x := counted(n, 0, 0, 0, 0)
			x.Metric, x.Candidate, x.Stable = "revenue", spend(r, 200, 9, 1), spend(r, 600, 10, 1)
			e, v = Judge(p, e, moment(n), []Reading{x})
		}
		sum += float64(n) * 15
	}
	if got, want := f.Mean.Seconds(), sum/trials; math.Abs(got-want) > 0.2*want {
		t.Errorf("got a forecast of %.0f s, want the simulated %.0f s within 20%%", got, want)
	}
}
