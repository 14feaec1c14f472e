package forecast

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/policies/policiestest"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/realtest/goldentest"
)

// The forecast of the full example says when each step starts, what can be
// detected by when, and at 20 requests a second plainly what cannot.
func TestForecast(t *testing.T) {
	p, ps := policies.Parse(os.DirFS("../examples"), "recommendations.yaml", policiestest.Config())
	if p == nil {
		t.Fatal(ps.Text())
	}
	plan, err := p.Compile(rollout.Release{Candidate: "green"}, "r")
	if err != nil {
		t.Fatal(err)
	}
	for _, rps := range []float64{0, 20, 2000} {
		o := New(p, plan, Inputs{
			Start: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), PerSecond: rps, Instances: 2, Concurrency: 8,
			Rollback: "az ml online-endpoint update --name recs --traffic blue=100",
		})
		var b strings.Builder
		if err := o.Text(&b); err != nil {
			t.Fatal(err)
		}
		goldentest.Check(t, fmt.Sprintf("testdata/forecast-%g.txt", rps), b.String())
	}
}

// What the source tells replaces what is assumed.
func TestForecastFromReadings(t *testing.T) {
	p := policiestest.MustParse(t, policiestest.Smallest)
	plan, err := p.Compile(rollout.Release{Candidate: "green"}, "r")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	r := analysis.Reading{From: at, To: at.Add(10 * time.Minute), Status: analysis.StatusOK, Stable: analysis.Sample{Fresh: true, N: 60_000, K: 60}}
	var failures analysis.Metric
	for _, m := range plan.Panel.Metrics {
		if m.Name == "failures" {
			failures = m
		}
	}
	b, ok := BaselineOf(failures, r)
	if !ok || b.PerSecond != 100 || b.Share != 0.001 {
		t.Fatalf("got %+v, %v, want 100 requests/s with 0.001 bad", b, ok)
	}
	o := New(p, plan, Inputs{Start: at, PerSecond: 100, Baselines: map[string]analysis.Baseline{"failures": b}})
	for _, a := range o.Assumed {
		if strings.Contains(a, "failures") {
			t.Errorf("got assumption %q, want none about failures", a)
		}
	}
	if _, ok := BaselineOf(failures, analysis.Reading{Status: analysis.StatusError}); ok {
		t.Error("got a baseline from a failed reading")
	}
}

// Nothing passes while a new weight settles, and latencies and means are not
// judged at all then: the plan of a policy that settles for ten minutes says the
// times from the step's start, not from the moment at which judging begins.
func TestForecastCountsSettling(t *testing.T) {
	p := policiestest.MustParse(t, strings.Replace(policiestest.Smallest, "  bake: 30m\n", "  bake: 30m\n  settle: 10m\n", 1))
	plan, err := p.Compile(rollout.Release{Candidate: "green"}, "r")
	if err != nil {
		t.Fatal(err)
	}
	if plan.Settle != 10*time.Minute {
		t.Fatalf("got settle %s, want 10m", plan.Settle)
	}
	o := New(p, plan, Inputs{Start: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), PerSecond: 2000})
	judged := 0
	for _, s := range o.Steps {
		for _, j := range s.Guardrails {
			if j.Reason != "" {
				continue
			}
			judged++
			if j.Pass >= 0 && j.Pass <= document.Span(plan.Settle) {
				t.Errorf("step %s: got %s passing in %s, want later than settle %s", s.Name, j.Guardrail, j.Pass, plan.Settle)
			}
			if late := j.Guardrail == "p95"; late != (j.Median > document.Span(plan.Settle)) {
				t.Errorf("step %s: got %s detected in %s, want beyond settle %s only for latencies", s.Name, j.Guardrail, j.Median, plan.Settle)
			}
		}
	}
	if judged == 0 {
		t.Error("got no judged guardrail, want some")
	}
}

// Where the source tells instances apart, the rollout learns that events do not
// cluster: what can be detected is found sooner than where that is assumed for good.
func TestBaselineTellsInstances(t *testing.T) {
	m := analysis.Metric{Name: "failures", Counts: &analysis.Counts{Total: "t", Bad: "b", Deployment: "d", Instance: "i"}}
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	r := analysis.Reading{Status: analysis.StatusOK, From: at, To: at.Add(time.Minute), Stable: analysis.Sample{Fresh: true, N: 600, K: 3}}
	if b, ok := BaselineOf(m, r); !ok || b.Instances != 0 || b.Phi != 0 {
		t.Errorf("no instances: got %+v, want the dispersion unknown", b)
	}
	r.Stable.Instances = []analysis.Instance{{Name: "1"}, {Name: "2"}, {Name: "3"}}
	if b, ok := BaselineOf(m, r); !ok || b.Instances != 3 || b.Phi != 1 {
		t.Errorf("three instances: got %+v, want them, and no clusters", b)
	}
}

// What a plan was able to check ahead it says, with the remedy of what would
// refuse the release; what sends requests waits for the rollout.
func TestForecastChecks(t *testing.T) {
	p, ps := policies.Parse(os.DirFS("../examples"), "recommendations.yaml", policiestest.Config())
	if p == nil {
		t.Fatal(ps.Text())
	}
	plan, err := p.Compile(rollout.Release{Candidate: "green"}, "r")
	if err != nil {
		t.Fatal(err)
	}
	o := New(p, plan, Inputs{Start: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), PerSecond: 2000, Checks: []check.Result{
		{Check: "ready", OK: true, Found: "green is ready"},
		{Check: "capacity", Found: "green takes 8", Expected: "at least 16", Remedy: "Scale green out."},
		{Check: "fresh-metrics", Found: "prom did not answer", Expected: "samples", Remedy: "See that it answers.", Transient: true},
	}})
	var b strings.Builder
	if err := o.Text(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"     ready            OK     green is ready\n",
		"     capacity         FAILS  green takes 8\n",
		"     fresh-metrics    ?      prom did not answer\n",
		"     invoke           -      invoke (POST, status 200 within 450ms, as its schema says): made when the rollout starts\n",
		"     mirror           -      mirror: made when the rollout starts\n",
		"! Check capacity would refuse the release now: found green takes 8, want at least 16. Scale green out.\n",
		"! Check fresh-metrics could not be made now: found prom did not answer, want samples. See that it answers.\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got:\n%swant %q in it", b.String(), want)
		}
	}
}

// How late readings come is a part of when a regression is detected and of what it costs,
// as it was read, or as the source is by itself.
func TestForecastCountsLateness(t *testing.T) {
	p, ps := policiestest.Parse(t, policiestest.Clean, policiestest.Config())
	if p == nil {
		t.Fatal(ps.Text())
	}
	plan, err := p.Compile(rollout.Release{Policy: "recommendations", Candidate: "green", Version: "17"}, "r1")
	if err != nil {
		t.Fatal(err)
	}
	judge := func(facts Inputs) Guardrail {
		facts.PerSecond = 200
		return New(p, plan, facts).Steps[0].Guardrails[0]
	}
	const lag = 10 * time.Minute
	soon, late := judge(Inputs{}), judge(Inputs{Lags: map[string]time.Duration{"failures": lag}})
	if late.Guardrail != "failures" || time.Duration(late.Median-soon.Median) != lag || time.Duration(late.T90-soon.T90) != lag || time.Duration(late.Pass-soon.Pass) != lag {
		t.Errorf("got %+v and, ten minutes late, %+v, want each time ten minutes later", soon, late)
	}
	if want := soon.Excess * float64(late.Median) / float64(soon.Median); math.Abs(late.Excess-want) > 2 || late.Grade != soon.Grade || late.hold != soon.hold {
		t.Errorf("got an excess of %v, grade %s and a bake of %s, want %v and otherwise what %+v has", late.Excess, late.Grade, late.hold, want, soon)
	}
}

// A limit that stable itself breaks is said, by what was read of stable and not by what is
// assumed; and nobody is told that a candidate turns requests away whose capacity nobody told.
func TestForecastTellsWhatStableBreaks(t *testing.T) {
	p, ps := policiestest.Parse(t, policiestest.Clean, policiestest.Config())
	if p == nil {
		t.Fatal(ps.Text())
	}
	plan, err := p.Compile(rollout.Release{Policy: "recommendations", Candidate: "green", Version: "17"}, "r1")
	if err != nil {
		t.Fatal(err)
	}
	const says = "Stable itself breaks failures: "
	for _, test := range []struct {
		share float64
		known bool
		want  bool
	}{{0.2, true, true}, {0.0001, true, false}, {0, false, false}} {
		facts := Inputs{PerSecond: 2000, Instances: 1}
		if test.known {
			facts.Baselines = map[string]analysis.Baseline{"failures": {PerSecond: 2000, Share: test.share}}
		}
		advice := strings.Join(New(p, plan, facts).Advice, "\n")
		if strings.Contains(advice, says) != test.want {
			t.Errorf("stable at %g (known: %t): got %q, want %q in it: %t", test.share, test.known, advice, says, test.want)
		}
		if strings.Contains(advice, "No release as good") {
			t.Errorf("stable at %g: got %q, want no word of what nothing can pass", test.share, advice)
		}
		if strings.Contains(advice, "turn requests away") {
			t.Errorf("got %q, want no word of a capacity that nobody told", advice)
		}
	}
}

// A limit between the bounds of stable's own buckets that no release as good as it could pass
// is said, with the cure.
func TestForecastTellsWhatNothingPasses(t *testing.T) {
	p := policiestest.MustParse(t, strings.Replace(policiestest.Smallest, "<= 450ms", "<= 200ms", 1))
	plan, err := p.Compile(rollout.Release{Policy: "recommendations", Candidate: "green", Version: "17"}, "r1")
	if err != nil {
		t.Fatal(err)
	}
	x := analysis.Sample{Fresh: true, N: 1000, Buckets: []analysis.Bucket{{Upper: 0.1, Count: 700}, {Upper: 0.25, Count: 290}, {Upper: 0.5, Count: 10}}}
	facts := Inputs{PerSecond: 200, Baselines: map[string]analysis.Baseline{"latency": {PerSecond: 200, Sample: x}}}
	const want = "No release as good as stable can pass p95 (<= 200ms): 30.0% of stable's are slower than 100 ms, the bucket bound at which a pass is judged. Put the limit on a bucket bound, like 250 ms, or add one."
	if advice := New(p, plan, facts).Advice; !slices.Contains(advice, want) {
		t.Errorf("got %q, want %q among it", advice, want)
	}
}
