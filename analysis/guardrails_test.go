package analysis

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// meanPanel has one guardrail on a mean.
func meanPanel(limit Limit, detect float64) Panel {
	p := errorsPanel(limit, detect)
	p.Metrics = []Metric{{Name: "revenue", Mean: &Mean{Count: "c", Sum: "s", SumOfSquares: "q"}}}
	p.Guardrails[0].Name, p.Guardrails[0].Metric = "revenue", "revenue"
	return p
}

// spend is n purchases with the mean and the coefficient of variation.
func spend(r *rand.Rand, n int, mean, cv float64) Sample {
	x := Sample{Fresh: true, N: float64(n)}
	shape := 1 / (cv * cv)
	for range n {
		v := gamma(r, shape) * mean / shape
		x.Sum += v
		x.SumSq += v * v
	}
	return x
}

// gamma is a gamma number of the shape (Marsaglia and Tsang).
func gamma(r *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gamma(r, shape+1) * math.Pow(r.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		z := r.NormFloat64()
		v := 1 + c*z
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(r.Float64()) < z*z/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// Means: a healthy release passes, one that earns less is rolled back, and
// values that spread too widely are not judged.
func TestMean(t *testing.T) {
	relative := meanPanel(Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.9)
	absolute := meanPanel(Limit{Value: 12, Text: "<= 12"}, 14)
	for _, c := range []struct {
		name         string
		panel        Panel
		stable, cand float64
		cv           float64
		breach, pass bool
		cause        Cause
	}{
		{"relative, healthy", relative, 10, 10, 0.5, false, true, ""},
		{"relative, less", relative, 10, 8, 0.5, true, false, CauseCandidate},
		{"relative, spread too widely", relative, 10, 8, 3, false, false, ""},
		{"absolute, healthy", absolute, 10, 10, 0.5, false, true, ""},
		{"absolute, more", absolute, 10, 15, 0.5, true, false, CauseCandidate},
		{"absolute, shared", absolute, 15, 15, 0.5, true, false, CauseShared},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := seeded(3)
			var e Evidence
			var v Verdicts
			breach, pass := false, false
			for i := 1; i <= 60 && !breach; i++ {
				x := counted(i, 0, 0, 0, 0)
				x.Metric, x.Candidate, x.Stable = "revenue", spend(r, 200, c.cand, c.cv), spend(r, 800, c.stable, c.cv)
				e, v = Judge(c.panel, e, moment(i), []Reading{x})
				pass, breach = pass || v.MayEnd, len(v.Breaches) > 0
			}
			if breach != c.breach || pass != c.pass || v.Each[0].Cause != c.cause {
				t.Errorf("got breach %v pass %v cause %q, want %v %v %q: %s", breach, pass, v.Each[0].Cause, c.breach, c.pass, c.cause, v.Each[0].Sentence)
			}
			roundTrip(t, e)
		})
	}
}

// A release whose mean is exactly at the limit is rolled back no more often
// than about α: the test is asymptotic.
func TestMeanAtLimit(t *testing.T) {
	p := meanPanel(Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.9)
	back := 0
	const trials = 150
	for seed := range uint64(trials) {
		r := seeded(seed)
		var e Evidence
		var v Verdicts
		for i := 1; i <= 60 && len(v.Breaches) == 0; i++ {
			x := counted(i, 0, 0, 0, 0)
			x.Metric, x.Candidate, x.Stable = "revenue", spend(r, 120, 9.8, 1), spend(r, 480, 10, 1)
			e, v = Judge(p, e, moment(i), []Reading{x})
		}
		if len(v.Breaches) > 0 {
			back++
		}
	}
	if back > 5 {
		t.Errorf("got %d of %d rolled back at the limit, want at most 5", back, trials)
	}
}

// A threshold breaks when k of the last n readings are beyond it, and passes
// while the last is within; it does not latch.
func TestThresholdRule(t *testing.T) {
	p := errorsPanel(Limit{Value: 0.85, Text: "<= 85%"}, 0)
	p.Metrics = []Metric{{Name: "cpu", Value: &Value{Query: "q"}}}
	g := &p.Guardrails[0]
	g.Name, g.Metric, g.Test, g.BreachAfter = "cpu", "cpu", TestThreshold, KofN{K: 3, N: 5}
	const hot, cool = 0.9, 0.5
	for _, c := range []struct {
		name   string
		values []float64
		stable float64
		want   []Outcome
		cause  Cause
	}{
		{"three of five", []float64{cool, hot, cool, hot, hot}, cool, []Outcome{OutcomePass, OutcomeUndecided, OutcomePass, OutcomeUndecided, OutcomeBreach}, CauseCandidate},
		{"spread out", []float64{hot, hot, cool, cool, cool, hot}, cool, []Outcome{OutcomeUndecided, OutcomeUndecided, OutcomePass, OutcomePass, OutcomePass, OutcomeUndecided}, ""},
		{"stable too", []float64{hot, hot, hot}, hot, []Outcome{OutcomeUndecided, OutcomeUndecided, OutcomeBreach}, CauseShared},
		{"not a number", []float64{math.NaN(), math.Inf(1)}, cool, []Outcome{OutcomeError, OutcomeError}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e Evidence
			var v Verdicts
			for i, f := range c.values {
				x := counted(i+1, 0, 0, 0, 0)
				if c.want[i] == OutcomeError {
					x = counted(1, 0, 0, 0, 0) // what is not counted is asked again
				}
				x.Metric, x.Candidate.Value, x.Stable.Value = "cpu", f, c.stable
				e, v = Judge(p, e, moment(i+1), []Reading{x})
				if got := v.Each[0]; got.Outcome != c.want[i] {
					t.Errorf("reading %d (%v): got %s, want %s: %s", i+1, f, got.Outcome, c.want[i], got.Sentence)
				}
			}
			if v.Each[0].Cause != c.cause {
				t.Errorf("got cause %q, want %q", v.Each[0].Cause, c.cause)
			}
			roundTrip(t, e)
		})
	}
}

// withInstances divides the candidate's counts over instances.
func withInstances(x Reading, parts ...[2]float64) Reading {
	x.Candidate.N, x.Candidate.K = 0, 0
	for i, p := range parts {
		x.Candidate.N += p[0]
		x.Candidate.K += p[1]
		x.Candidate.Instances = append(x.Candidate.Instances, Instance{Name: fmt.Sprintf("pod-%d", i), Sample: Sample{Fresh: true, N: p[0], K: p[1]}})
	}
	return x
}

// One bad instance of several is a bad node rather than a bad release: it is
// held and named. Two instances cannot tell.
func TestSingleInstance(t *testing.T) {
	for _, c := range []struct {
		name   string
		parts  [][2]float64
		action Action
		cause  Cause
		pod    string
	}{
		{"one of four", [][2]float64{{250, 1}, {250, 60}, {250, 0}, {250, 2}}, ActionHold, CauseSingleInstance, "pod-1"},
		{"all four", [][2]float64{{250, 20}, {250, 18}, {250, 22}, {250, 17}}, ActionRollback, CauseCandidate, ""},
		{"one of two", [][2]float64{{500, 1}, {500, 60}}, ActionRollback, CauseCandidate, ""},
	} {
		for _, limit := range []struct {
			Limit
			detect float64
		}{{atMost1, 0.02}, {atMost12x, 2}} {
			t.Run(c.name+" "+limit.Text, func(t *testing.T) {
				p := errorsPanel(limit.Limit, limit.detect)
				var e Evidence
				var v Verdicts
				for i := 1; i < 20 && len(v.Breaches) == 0; i++ {
					e, v = Judge(p, e, moment(i), []Reading{withInstances(counted(i, 0, 0, 19000, 80), c.parts...)})
				}
				if len(v.Breaches) != 1 {
					t.Fatalf("got breaches %+v, want one", v.Breaches)
				}
				got := v.Breaches[0]
				if got.Action != c.action || got.Cause != c.cause || v.Each[0].Instance != c.pod {
					t.Errorf("got %+v by %q, want %s for %s by %q", got, v.Each[0].Instance, c.action, c.cause, c.pod)
				}
				if c.pod != "" && !strings.Contains(got.Sentence, c.pod) {
					t.Errorf("got sentence %q, want %s in it", got.Sentence, c.pod)
				}
				roundTrip(t, e)
			})
		}
	}
}

// The budget counts failures in excess of stable's rate, not those of mirrored
// requests, and rolls back when it is spent.
func TestBudget(t *testing.T) {
	p := errorsPanel(Limit{Value: 0.5, Text: "<= 50%"}, 0.9)
	p.Budget = &Budget{Metric: "failures", AtMost: 100}
	var e Evidence
	mirror := moment(1)
	mirror.CandidateWeight, mirror.StableWeight, mirror.Mirror = 0, 100, 10
	e, v := Judge(p, e, mirror, []Reading{counted(1, 1000, 500, 10000, 100)})
	if v.Spent != 0 {
		t.Errorf("mirrored: got %v spent, want 0", v.Spent)
	}
	for i := 2; i <= 6; i++ {
		e, v = Judge(p, e, moment(i), []Reading{counted(i, 1000, 35, 10000, 100)})
		if want := 25 * float64(i-1); math.Abs(v.Spent-want) > 1e-9 {
			t.Errorf("after interval %d: got %v spent, want %v", i, v.Spent, want)
		}
		if spent := len(v.Breaches) == 1 && v.Breaches[0].Budget; spent != (i == 6) {
			t.Errorf("after interval %d: got breaches %+v, want one for the budget at 6 only", i, v.Breaches)
		}
	}
	roundTrip(t, e)
}

// Guardrails of one onBreach share their α by averaging; another group has its
// own. Blame falls on who carries the evidence.
func TestGroups(t *testing.T) {
	p := errorsPanel(atMost1, 0.02)
	p.Metrics = append(p.Metrics, Metric{Name: "plays", Counts: &Counts{Total: "t", Bad: "b"}})
	second, third := p.Guardrails[0], p.Guardrails[0]
	second.Name, second.Metric = "plays", "plays"
	third.Name, third.Metric, third.OnBreach = "plays-hold", "plays", ActionHold
	p.Guardrails = append(p.Guardrails, second, third)
	reading := func(i int, metric string, k float64) Reading {
		x := counted(i, 1000, k, 19000, 20)
		x.Metric = metric
		return x
	}
	var e Evidence
	var v Verdicts
	n := 0
	for len(v.Breaches) == 0 && n < 30 {
		n++
		e, v = Judge(p, e, moment(n), []Reading{reading(n, "failures", 1), reading(n, "plays", 60)})
	}
	if len(v.Breaches) != 2 || v.Breaches[0].Action != ActionRollback || v.Breaches[0].Guardrail != "plays" ||
		v.Breaches[1].Action != ActionHold || v.Breaches[1].Guardrail != "plays-hold" {
		t.Fatalf("got breaches %+v, want plays to roll back and plays-hold to hold", v.Breaches)
	}
	if got, want := v.Each[0].LogEThreshold, math.Log(300); math.Abs(got-want) > 1e-9 {
		t.Errorf("got a threshold of %v, want log(3/α) = %v", got, want)
	}
	// Overriding the hold leaves the other group's evidence alone.
	e = e.Restart(p, ActionHold, moment(n))
	_, v = Judge(p, e, moment(n), nil)
	if len(v.Breaches) != 1 || v.Breaches[0].Group != ActionRollback {
		t.Errorf("after the override: got breaches %+v, want the rollback's only", v.Breaches)
	}
}

// Evidence of whatever age adds up to a mass of one: over steps and restarts
// every 15 minutes no more than the whole weight is ever started.
func TestSegmentsSumToOne(t *testing.T) {
	p := errorsPanel(atMost1, 0.02)
	p.Guardrails[0].Steps = []int{0, 1, 2, 3}
	var e Evidence
	n := 0
	for step := range 4 {
		start := moment(n).At
		for range 60 * 4 * 5 {
			n++
			at := moment(n)
			at.Step, at.StepStart = step, start
			e, _ = Judge(p, e, at, []Reading{counted(n, 20, 0, 380, 0)})
		}
		s := e.Standings[0]
		if s.Restarts != 19 {
			t.Errorf("step %d: got %d restarts in five hours, want 19", step, s.Restarts)
		}
		if s.Breach.Started > 1 || step == 3 && s.Breach.Started < 0.98 {
			t.Errorf("step %d: got a mass of %v started, want at most 1 and nearly all in the end", step, s.Breach.Started)
		}
	}
}

// What was learnt of stable before the rollout is used from the first interval
// on, and is no evidence.
func TestLearn(t *testing.T) {
	p := errorsPanel(atMost12x, 2)
	var rs []Reading
	for i := -40; i < 0; i++ {
		x := counted(i, 0, 0, 4000, 20)
		x.Candidate = Sample{}
		for j := range 8 {
			x.Stable.Instances = append(x.Stable.Instances, Instance{Name: fmt.Sprint(j), Sample: Sample{Fresh: true, N: 500, K: float64(2 + (i+j)&1)}})
		}
		rs = append(rs, x)
	}
	e := Evidence{}.Learn(p, rs)
	s := e.Standings[0]
	if rate, ok := s.Pilot.Rate(); !ok || math.Abs(rate-0.005) > 1e-4 {
		t.Errorf("got a pilot of %v, want 0.5%%", rate)
	}
	if phi := s.Dispersion.Phi(); phi != 1 {
		t.Errorf("got a dispersion of %v, want 1", phi)
	}
	if !e.Cursor("failures").Equal(rs[len(rs)-1].To) {
		t.Errorf("got the cursor at %v, want the end of what was learnt", e.Cursor("failures"))
	}
	if again := e.Learn(p, rs); again.Standings[0].Pilot != s.Pilot {
		t.Error("learning the same again changed the pilot")
	}
	_, v := Judge(p, e, moment(0), nil)
	if math.Abs(v.Each[0].LogE)+math.Abs(v.Each[0].LogEPass) > 1e-12 {
		t.Errorf("got evidence %v and %v, want none", v.Each[0].LogE, v.Each[0].LogEPass)
	}
}

// The evidence of five guardrails with instances fits the store's records.
func TestEvidenceIsSmall(t *testing.T) {
	p := errorsPanel(atMost12x, 2)
	p.Metrics = append(p.Metrics, Metric{Name: "latency", Histogram: &Histogram{Series: "l", Unit: "s"}})
	absolute, quantile, tail, hold := p.Guardrails[0], p.Guardrails[0], p.Guardrails[0], p.Guardrails[0]
	absolute.Name, absolute.Limit, absolute.Detect = "absolute", atMost1, 0.02
	quantile.Name, quantile.Metric, quantile.Quantile, quantile.Limit, quantile.Detect = "p95", "latency", 0.95, Limit{Value: 0.45, Text: "<= 450ms"}, 0.1
	tail.Name, tail.Metric, tail.Quantile, tail.Limit = "tail", "latency", 0.99, Limit{Relative: true, Value: 1.2, Text: "<= 1.2x stable"}
	hold.Name, hold.OnBreach = "hold", ActionHold
	p.Guardrails = append(p.Guardrails, absolute, quantile, tail, hold)
	p.Budget = &Budget{Metric: "failures", AtMost: 500}
	r := seeded(1)
	var e Evidence
	for i := 1; i <= 40; i++ {
		x := counted(i, 0, 0, 9000, 43)
		var parts [][2]float64
		for range 12 {
			parts = append(parts, [2]float64{80 + pois(r, 5), pois(r, 0.5)})
		}
		x = withInstances(x, parts...)
		l := counted(i, 0, 0, 0, 0)
		l.Metric, l.Candidate, l.Stable = "latency", lognormal(r, 1000, 0.1, nativeBounds(3)), lognormal(r, 9000, 0.1, nativeBounds(3))
		e, _ = Judge(p, e, moment(i), []Reading{x, l})
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("five guardrails: %d bytes", len(b))
	if len(b) > 8192 {
		t.Errorf("got %d bytes of evidence, want at most 8192", len(b))
	}
	roundTrip(t, e)
}

// The metrics of a step are those of its guardrails and the budget's.
func TestAsked(t *testing.T) {
	p := demoPanel()
	p.Guardrails[2].Steps = []int{2, 3}
	p.Budget = &Budget{Metric: "failures"}
	p.Guardrails[0].Steps = []int{3}
	for step, want := range []string{"failures latency", "failures latency", "failures latency watched", "failures latency watched"} {
		if got := strings.Join(p.Asked(step), " "); got != want {
			t.Errorf("step %d: got %q, want %q", step, got, want)
		}
	}
}

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

// A guardrail that is judged from the second step on takes nothing of the first
// into its evidence, although its metric's first reading begins there.
func TestFromLaterStep(t *testing.T) {
	p := errorsPanel(atMost1, 0.02)
	p.Guardrails[0].Steps = []int{1}
	at := moment(41)
	at.Step, at.StepStart = 1, moment(40).At.Add(time.Second)
	long := counted(41, 2000, 1000, 38000, 38)
	long.From = epoch
	e, v := Judge(p, Evidence{}, at, []Reading{long})
	if v.Each[0].Outcome != OutcomeUndecided || e.Standings[0].Step.NC != 0 || e.Standings[0].Breach.LogE() > 1e-9 {
		t.Errorf("got %+v, want nothing judged", v.Each[0])
	}
	if s := e.Standings[0]; s.Pilot.N == 0 || !e.Cursor("failures").Equal(long.To) {
		t.Errorf("got pilot %+v and cursor %v, want stable's part learnt and the reading consumed", s.Pilot, e.Cursor("failures"))
	}
}

// A cursor only ever moves forward, and a step begins once.
func TestSkipAndBeginStep(t *testing.T) {
	e := Evidence{}.Skip("failures", epoch.Add(time.Hour))
	if same := e.Skip("failures", epoch); !same.Cursor("failures").Equal(epoch.Add(time.Hour)) {
		t.Errorf("got the cursor moved back to %v", same.Cursor("failures"))
	}
	p := errorsPanel(atMost1, 0.02)
	begun := e.BeginStep(p, moment(1))
	if len(e.Standings) != 0 || begun.Standings[0].Breach.Started == 0 {
		t.Errorf("got standings %+v, want one begun in a copy", begun.Standings)
	}
	if again := begun.BeginStep(p, moment(2)); again.Standings[0].Breach != begun.Standings[0].Breach {
		t.Error("beginning the same step again changed the evidence")
	}
}

// Restarting keeps what was learnt, and begins anew with the whole weight.
func TestRestartKeepsWhatWasLearnt(t *testing.T) {
	p := meanPanel(Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.9)
	p.Guardrails[0].Steps = []int{0, 1, 2, 3}
	r := seeded(3)
	var e Evidence
	for i := 1; i <= 10; i++ {
		x := counted(i, 0, 0, 0, 0)
		x.Metric, x.Candidate, x.Stable = "revenue", spend(r, 200, 7, 0.5), spend(r, 800, 10, 0.5)
		e, _ = Judge(p, e, moment(i), []Reading{x})
	}
	fresh := e.Restart(p, ActionRollback, moment(10)).Standings[0]
	if fresh.Moments == nil || fresh.Moments.PastStable != e.Standings[0].Moments.PastStable || fresh.Moments.WaitCandidate.N != 0 {
		t.Errorf("got moments %+v, want the past kept and nothing waiting", fresh.Moments)
	}
	if math.Abs(fresh.Breach.LogE()) > 1e-12 || math.Abs(fresh.Breach.Started-0.4125) > 1e-12 {
		t.Errorf("got %+v, want fresh evidence on a ladder of four", fresh.Breach)
	}
	if other := e.Restart(p, ActionHold, moment(10)).Standings[0]; other.Breach != e.Standings[0].Breach {
		t.Error("restarting another group changed this one")
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
