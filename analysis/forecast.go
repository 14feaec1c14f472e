package analysis

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis/sequential"
)

// A Load is the traffic of one step as it is expected.
type Load struct {
	// Step is the step's index; Bake how long it lasts, with what it may be
	// extended by if the answer should count that.
	Step int
	Bake time.Duration
	// Stable and Candidate are the parts of the endpoint's events that reach
	// either, from 0 to 1; mirrored ones count for both.
	Stable    float64
	Candidate float64
}

// A Baseline is how stable does in a metric, as far as is known.
type Baseline struct {
	// PerSecond is how many events a second the endpoint has, both deployments
	// together.
	PerSecond float64
	// Share is the share of events that a metric of counts counts.
	Share float64
	// Sample is a past of stable, for histograms (N, Buckets) and means (N, Sum,
	// SumSq).
	Sample Sample
	// Lag is how old the source's readings are when they come.
	Lag time.Duration
	// Phi is the dispersion; 0 when it is not known and cannot be learnt.
	Phi float64
	// Instances is how many of stable's instances the source tells apart. With
	// several the rollout learns the dispersion anew, and its first intervals count
	// for less; with 0 it is taken to be known from the start.
	Instances int
}

// A Detection says what one guardrail can detect in one step, before anything
// has moved. Times count from the step's start to when the reading comes, which the
// source's lag is a part of.
type Detection struct {
	Guardrail string
	Step      int
	// Median and T90 are when a regression of the size that must be caught is
	// detected with chance ½ and 0.9; Mean is the average. They are negative when
	// it never is.
	Median, T90, Mean time.Duration
	// Power is the chance that it is detected before the bake is over.
	Power float64
	// PassT90 is when a release as good as stable passes with chance 0.9;
	// negative when it never does.
	PassT90 time.Duration
	// Excess is how many bad events beyond the limit the regression costs until
	// the median detection.
	Excess float64
	Grade  sequential.Grade
	// Hold is the bake that would do: long enough to detect and to pass.
	Hold time.Duration
	// Reason says why there are no figures, where there are none.
	Reason string
}

// never stands for a time that does not come.
const never = time.Duration(-1)

// Forecast says, for every step's load and every guardrail that is judged in
// it, what can be detected by when. A metric without a baseline, and thresholds,
// get a reason instead of figures. It is pure.
func (p Panel) Forecast(loads []Load, base map[string]Baseline) []Detection {
	var fs []Detection
	for _, l := range loads {
		for i := range p.Guardrails {
			if g := &p.Guardrails[i]; slices.Contains(g.Steps, l.Step) {
				b, known := base[g.Metric]
				fs = append(fs, p.forecast(g, l, b, known))
			}
		}
	}
	return fs
}

func (p *Panel) forecast(g *Guardrail, l Load, b Baseline, known bool) Detection {
	f := Detection{Guardrail: g.Name, Step: l.Step, Median: never, T90: never, Mean: never, PassT90: never, Hold: never,
		Grade: sequential.GradeBlind}
	m := p.metric(g.Metric)
	switch {
	case m == nil:
		f.Reason = "its metric is not defined"
	case g.method(m) == methodThreshold:
		f.Reason, f.Grade = "a threshold decides by each reading", ""
	case m.Rate():
		f.Reason, f.Grade = "a rate takes instances' time, and how many there will be is not known", ""
	case g.Limit.Relative && l.Stable <= 0:
		f.Reason, f.Grade = "it rests: stable has no traffic to compare with", ""
	case !known || b.PerSecond <= 0:
		f.Reason, f.Grade = "stable's traffic is not known", ""
	case l.Candidate <= 0:
		f.Reason, f.Grade = "the candidate gets no traffic", ""
	}
	if f.Reason != "" {
		return f
	}
	x := p.outlook(g, m, l, b)
	if x.reason != "" {
		f.Reason = x.reason
		return f
	}
	at := slices.Index(g.Steps, l.Step)
	segment := sequential.RestartWeight(sequential.StepWeight(len(g.Steps), at), 0)
	breach := sequential.BreachWalk(x.breach, p.share(), segment, x.pace)
	pass := sequential.PassWalk(x.pass, p.beta(g, l.Step), x.pace)
	looks := int(l.Bake / x.every)
	f.Power = breach.Look(looks)
	f.Median, f.T90 = after(breach.Looks(0.5), x.every), after(breach.Looks(0.9), x.every)
	f.Mean = after(breach.MeanLooks(), x.every)
	looksToPass := pass.Looks(0.9)
	if g.PassFloor > 0 {
		floor := sequential.PassWalk(x.floor, p.beta(g, l.Step)/2, x.pace)
		looksToPass = math.Min(sequential.PassWalk(x.pass, p.beta(g, l.Step)/2, x.pace).Looks(0.9), floor.Looks(0.9))
	}
	f.PassT90 = after(looksToPass, x.every)
	f.Grade = sequential.GradeOf(f.Power)
	if f.T90 != never && f.PassT90 != never {
		f.Hold = max(f.T90, f.PassT90) // of watched time, which late readings count all the same
	}
	for _, d := range []*time.Duration{&f.Median, &f.T90, &f.Mean, &f.PassT90} {
		if *d != never {
			*d += b.Lag
		}
	}
	if f.Median != never {
		f.Excess = x.excess * f.Median.Seconds()
	}
	return f
}

// after is the time of a number of looks.
func after(looks float64, every time.Duration) time.Duration {
	if s := looks * every.Seconds(); s < 1e9 {
		return time.Duration(s * float64(time.Second))
	}
	return never
}

// An outlook is what one guardrail expects of a step's intervals.
type outlook struct {
	every  time.Duration // how long an interval is after merging
	breach sequential.Drift[sequential.Increments]
	pass   sequential.Drift[[sequential.PassPoints]float64]
	floor  sequential.Drift[[sequential.PassPoints]float64] // of PassFloor
	pace   sequential.DispersionRamp
	excess float64 // bad events beyond the limit, a second
	reason string
}

// outlook expects the regression that must be caught for the breach, and a
// release as good as stable for the pass.
func (p *Panel) outlook(g *Guardrail, m *Metric, l Load, b Baseline) outlook {
	every := max(p.Interval, time.Second)
	perC, perB := b.PerSecond*l.Candidate*every.Seconds(), b.PerSecond*l.Stable*every.Seconds()
	wantC, wantB := 0.0, 0.0
	switch how := g.method(m); {
	case how == methodMean && g.Limit.Relative:
		wantC, wantB = meanEvents, meanEvents
	case how == methodMean:
		wantC = meanEvents
	case g.Limit.Relative:
		wantC, wantB = 5, 20
	}
	merge := math.Ceil(math.Max(1, wantC/perC))
	if wantB > 0 {
		merge = math.Max(merge, math.Ceil(wantB/perB))
	}
	phi := b.Phi
	if phi <= 0 {
		phi = sequential.Unknown
	}
	x := sequential.Expected{NC: perC * merge, NB: perB * merge, Phi: phi, Dispersion: 1}
	if b.Phi > 0 {
		x.Dispersion = b.Phi
	}
	o := outlook{every: time.Duration(merge) * every}
	if g.method(m) == methodMean {
		o.pace = b.pace(merge, math.Inf(1))
		o.means(g, g.passing(100*l.Candidate).Detect, x, b)
		return o
	}
	test, healthy, stable, why := g.expectation(m, b)
	if why != "" {
		o.reason = why
		return o
	}
	o.pace = b.pace(merge, perB*stable)
	bad, good := x, x
	bad.PB, good.PB = stable, stable
	limit := test.Limit
	if test.Relative {
		limit *= stable
		bad.PC, good.PC = math.Min(1, test.Limit*test.Grid[0]*stable), math.Min(1, healthy*stable)
		if bad.PC >= 1 {
			o.reason = "the regression that must be caught cannot happen: stable's share is too high"
			return o
		}
	} else {
		bad.PC, good.PC = test.Limit*test.Grid[0], healthy
	}
	o.breach = test.BreachDrift(bad)
	excluded, _, _, _ := g.passing(100*l.Candidate).expectation(m, b)
	if o.pass = excluded.PassDrift(good); g.PassFloor > 0 {
		o.floor = g.passing(100 * l.Candidate).passFloorTest().PassDrift(good)
	}
	o.excess = math.Abs(bad.PC-limit) * perC / every.Seconds()
	return o
}

// pace is how fast evidence grows while the dispersion is learnt; events is how many
// counted ones stable is expected to have in an interval: one without any teaches
// nothing.
func (b Baseline) pace(merge, events float64) sequential.DispersionRamp {
	if b.Instances < 2 || b.Phi <= 0 {
		return nil
	}
	return sequential.Learning(float64(b.Instances-1)*merge*-math.Expm1(-events), b.Phi)
}

// expectation is the test of a guardrail on counted events with the rates of
// a good release: relative to stable's rate, or by itself.
func (g *Guardrail) expectation(
	m *Metric, b Baseline,
) (test sequential.Hypotheses, healthy, stable float64, why string) {
	if g.method(m) == methodCounts {
		test, stable, healthy = g.countsTest(), b.Share, 1
		if !test.Relative {
			if g.missing() {
				stable = 1 - stable
			}
			healthy = stable
		}
		return test, healthy, stable, ""
	}
	if b.Sample.N <= 0 {
		return test, 0, 0, "stable's latencies are not known"
	}
	if !g.Limit.Relative {
		pass := g.Limit.Value
		if g.DetectLatency {
			pass = g.Detect
		}
		above, below := b.Sample.bound(g.Limit.Value, !g.Limit.AtLeast), b.Sample.bound(pass, g.Limit.AtLeast)
		if math.IsInf(above, 1) || math.IsInf(below, 1) {
			return test, 0, 0, fmt.Sprintf("the histogram's last bucket ends at %s, below the limit", latency(b.Sample.last()))
		}
		return g.quantileTest(), g.beyond(&b.Sample, below) / b.Sample.N, g.beyond(&b.Sample, above) / b.Sample.N, ""
	}
	t := &TailTest{}
	t.learn(g, &b.Sample)
	if t.Aim = t.aim(g); t.Aim == nil {
		return test, 0, 0, "stable's latencies are too few, or its buckets too coarse around its " + quantileName(g.Quantile)
	}
	test, pilot := t.test(g)
	return test, t.Aim.Healthy, pilot.K / pilot.N, ""
}

// means expects a difference of means, of which a pass excludes another.
func (o *outlook) means(g *Guardrail, excluded float64, x sequential.Expected, b Baseline) {
	past := sumsOf(&b.Sample)
	if !past.known() {
		o.reason = "stable's mean is not known"
		return
	}
	level, variance := past.mean(), past.variance()
	if variance > widest*widest*level*level {
		o.reason = "the values spread too widely for a mean: use a histogram or a ratio"
		return
	}
	limit, scale, healthy := g.Limit.Value, 1.0, g.Limit.Value
	v := func(float64) float64 { return variance / x.NC }
	if g.Limit.Relative {
		scale, healthy = level, 1
		v = func(f float64) float64 { return variance/x.NC + f*f*variance/x.NB }
	}
	design := math.Abs(limit-g.Detect) * scale
	for j, f := range meanGrid {
		o.breach.Mean[j], o.breach.Variance[j] = gaussian(design, f*design, v(limit), x)
	}
	off := math.Abs(healthy-excluded) * scale
	good := off
	if !g.Limit.Relative {
		good = math.Abs(level - excluded)
	}
	for j, f := range meanPassGrid {
		o.pass.Mean[j], o.pass.Variance[j] = gaussian(good, f*off, v(excluded), x)
	}
	o.excess = design * x.NC / o.every.Seconds()
}

// gaussian are the moments of a mean's increment, designed for one difference,
// when the difference is another.
func gaussian(difference, design, v float64, x sequential.Expected) (mean, variance float64) {
	lambda := design / v
	return (lambda*difference - lambda*lambda*v/2) / x.Phi, lambda * lambda * v * x.Dispersion / (x.Phi * x.Phi)
}
