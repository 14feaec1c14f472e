package analysis

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis/sequential"
)

// plannerCase is one guardrail in one step with one traffic.
type plannerCase struct {
	guardrail string
	step      int
	rps       float64
	instances bool
	bake      time.Duration
}

// plannerRun compares the forecast with n simulated rollouts in which the
// regression that must be caught is there from the step's start.
type plannerRun struct {
	plannerCase
	forecast           Detection
	mean, t90, power   float64
	undetected, trials int
}

func (c plannerCase) climate() climate {
	k := climate{rps: c.rps, rate: 0.005, ratio: 2, watch: 1, instances: c.instances}
	switch c.guardrail {
	case "absolute":
		k.ratio = 4
	case "watched":
		k.ratio, k.watch = 1, 0.95
	}
	return k
}

// run simulates the case; detections are followed for up to ten bakes.
func (c plannerCase) run(n int) plannerRun {
	p := simPanel("failures", "absolute", "watched")
	w := ladder[c.step]
	phi, instances := 0.0, 0
	if c.instances {
		phi, instances = 1, simStable
	}
	baseline := map[string]Baseline{
		"failures": {PerSecond: c.rps, Share: 0.005, Phi: phi, Instances: instances},
		"watched":  {PerSecond: c.rps, Share: 0.6},
	}
	r := plannerRun{plannerCase: c, trials: n}
	for _, f := range p.Forecast([]Load{{Step: c.step, Bake: c.bake, Stable: 1 - w, Candidate: w}}, baseline) {
		if f.Guardrail == c.guardrail {
			r.forecast = f
		}
	}
	which := slices.IndexFunc(p.Guardrails, func(g Guardrail) bool { return g.Name == c.guardrail })
	limit := int(10 * max(c.bake, 10*time.Minute) / simTick)
	var times []float64
	within := 0
	for i := range n {
		ticks := c.detect(p, which, seed(i), limit)
		if ticks == 0 {
			r.undetected++
			continue
		}
		s := float64(ticks) * simTick.Seconds()
		times = append(times, s)
		if s <= c.bake.Seconds() {
			within++
		}
	}
	slices.Sort(times)
	for _, s := range times {
		r.mean += s / float64(len(times))
	}
	if q := int(math.Ceil(0.9*float64(n))) - 1; q < len(times) {
		r.t90 = times[q]
	}
	r.power = float64(within) / float64(n)
	return r
}

// detect is how many intervals the guardrail alone takes to cross its own part
// of α; 0 when it does not within the limit.
func (c plannerCase) detect(p Panel, which int, seed uint64, limit int) int {
	b, s := newBelay(p, c.instances), newSky(c.climate(), seed)
	need := math.Log(1 / p.share())
	for i := range limit {
		x := s.next(c.step, i, ladder[c.step])
		b.see(&x)
		if b.e.Standings[which].Breach.LogE() >= need {
			return i + 1
		}
	}
	return 0
}

// plannerTable is the table of forecasts against simulation.
func plannerTable(doc *strings.Builder, reached *goals, size sizes) {
	fmt.Fprintf(doc, "\n### (4) The planner against simulation\n\n"+
		"The regression that must be caught, from a step's start, in a policy with three guardrails; bake 30 minutes; forecast / simulated (%d runs). φ = 2: the source does not tell instances apart. "+
		"φ = 1: they do, and φ is learnt from the rollout's first interval on, which the planner reckons with.\n\n"+
		"| guardrail | step | requests/s | φ | mean | 90%% | found in the bake | grade |\n|---|---|---|---|---|---|---|---|\n", size.planner)
	var cases []plannerCase
	for _, g := range []string{"failures", "absolute", "watched"} {
		for _, step := range []int{0, 2} {
			for _, rps := range size.traffics {
				for _, instances := range []bool{true, false} {
					if g != "watched" || !instances {
						cases = append(cases, plannerCase{g, step, rps, instances, 30 * time.Minute})
					}
				}
			}
		}
	}
	runs := make([]plannerRun, len(cases))
	each(len(cases), func(i int) { runs[i] = cases[i].run(size.planner) })
	for _, r := range runs {
		phi := "2"
		if r.instances {
			phi = "1"
		}
		f := r.forecast
		mean, t90 := fmt.Sprintf("%.0f s / –", f.Mean.Seconds()), fmt.Sprintf("%.0f s / –", f.T90.Seconds())
		if r.undetected == 0 {
			mean, t90 = fmt.Sprintf("%.0f / %.0f s", f.Mean.Seconds(), r.mean), fmt.Sprintf("%.0f / %.0f s", f.T90.Seconds(), r.t90)
			reached.note("the planner's mean, off the simulated one by", "%.0f%%", 20, 100*off(f.Mean.Seconds(), r.mean))
			reached.note("the planner's 90% time, off the simulated one by (beyond one interval)", "%.0f%%", 20, 100*offBeyond(f.T90.Seconds(), r.t90))
		}
		if f.Grade == sequential.GradeOK {
			reached.note("share missed within the bake where the planner says OK", "%.0f%%", 15, 100*(1-r.power))
		}
		fmt.Fprintf(doc, "| %s | %.0f%% | %s | %s | %s | %s | %.0f / %.0f%% | %s |\n", r.guardrail, 100*ladder[r.step], grouped(r.rps), phi, mean, t90, 100*f.Power, 100*r.power, f.Grade)
	}
}

// off is by how much a forecast differs from what came, as a share of it.
func off(forecast, came float64) float64 { return math.Abs(forecast-came) / came }

// offBeyond is off where they differ by more than the interval between looks.
func offBeyond(forecast, came float64) float64 {
	if math.Abs(forecast-came) <= simTick.Seconds()+1e-9 {
		return 0
	}
	return off(forecast, came)
}
