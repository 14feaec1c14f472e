package analysis

import (
	"fmt"
	"math"
	"strings"

	"github.com/belayd/belay/analysis/sequential"
)

// A waldGuardrail is a relative guardrail whose requests to a rollback are compared with
// Wald's bound.
type waldGuardrail struct {
	name                string
	base, limit, detect float64 // stable's share, and the ratios to it
	effects             []float64
}

// waldGuardrails are failures, a business ratio and a tail of latencies.
var waldGuardrails = []waldGuardrail{
	{"failures <= 1.2x stable's 0.5%, detect 2x", 0.005, 1.2, 2, []float64{1.35, 1.5, 2, 3, 5, 10}},
	{"watched through >= 0.98x stable's 70%, detect 0.95x", 0.7, 0.98, 0.95, []float64{0.97, 0.95, 0.9, 0.8, 0.5}},
	{"slower than stable's p95 <= 1x stable's 5%, detect 2x", 0.05, 1, 2, []float64{1.5, 2, 3}},
}

// waldCase is one effect of a guardrail.
type waldCase struct {
	waldGuardrail
	weight float64 // the candidate's share of the requests
	effect float64 // its figure as a multiple of stable's
}

// bound is Wald's bound: the mean number of requests of both arms that the best
// possible test of level 1% needs.
func (c waldCase) bound() float64 {
	rate, _ := sequential.Information(c.weight, c.base*c.effect, c.base, c.limit)
	return math.Log(100) / rate
}

// run is the mean number of requests until the evidence decides: for one
// guardrail alone on one step, or as one of three on four steps.
func (c waldCase) run(trials int, full bool) float64 {
	share, segment := 0.01, 1.0
	if full {
		share, segment = 0.01/3, sequential.RestartWeight(sequential.StepWeight(4, 0), 0)
	}
	test := sequential.Relative(c.limit, c.detect, 1)
	// Intervals of a fortieth of the bound, but large enough not to be merged.
	per := math.Max(c.bound()/40, math.Max(5/c.weight, 20/(1-c.weight)))
	nc, nb := math.Round(per*c.weight), math.Round(per*(1-c.weight))
	total := 0.0
	for i := range trials {
		r := seeded(seed(i)*7919 + 13)
		pilot := sequential.Pilot{K: 10000 * c.base, N: 10000}
		var e sequential.Process
		e.Start(segment)
		limit := math.Inf(1)
		if full {
			limit = sequential.Cap(share, segment)
		}
		for e.LogE() < math.Log(1/share) {
			y := sequential.Tally{NC: nc, KC: binom(r, nc, c.base*c.effect), NB: nb, KB: binom(r, nb, c.base)}
			e.Add(test.Breach(y, pilot), 1, limit)
			pilot.Learn(y.KB, y.NB)
			total += nc + nb
		}
	}
	return total / float64(trials)
}

// waldTable is the table of ratios to Wald's bound.
func waldTable(doc *strings.Builder, reached *goals, size sizes) {
	fmt.Fprintf(doc, "\n### (3) Requests to a rollback, as a multiple of Wald's bound\n\n"+
		"Mean of %d runs. One guardrail alone, and the full default: one of three guardrails on a ladder of four steps, with restarts and cap.\n\n"+
		"| guardrail | candidate's share | effect | Wald's bound | one guardrail | full default |\n|---|---|---|---|---|---|\n", size.wald)
	var cases []waldCase
	for _, g := range waldGuardrails {
		for _, w := range []float64{0.05, 0.25, 0.5} {
			for _, effect := range g.effects {
				cases = append(cases, waldCase{g, w, effect})
			}
		}
	}
	results := make([][2]float64, len(cases))
	each(len(cases), func(i int) {
		c := cases[i]
		results[i] = [2]float64{c.run(size.wald, false) / c.bound(), c.run(size.wald, true) / c.bound()}
	})
	for i, c := range cases {
		one, full := results[i][0], results[i][1]
		fmt.Fprintf(doc, "| %s | %.0f%% | %v × | %s | %.2f | %.2f |\n", c.name, 100*c.weight, c.effect, grouped(c.bound()), one, full)
		switch failures := c.base < 0.01; {
		case failures && c.effect == 1.35:
			reached.note("a release at 1.35 × stable under a limit of 1.2 ×, × Wald's bound", "%.2f", 2, one)
			continue
		case c.effect == 0.5:
			reached.note("a halved watch-through, × Wald's bound", "%.2f", 2.6, one)
			continue
		case !failures:
			continue
		case c.effect == 2:
			reached.note("one guardrail at the design effect, × Wald's bound", "%.2f", 1.25, one)
			reached.note("full default at the design effect, × Wald's bound", "%.2f", 1.7, full)
		}
		reached.note("one guardrail at 1.5–10 × stable's rate, × Wald's bound", "%.2f", 1.6, one)
		reached.note("full default at 1.5–10 × stable's rate, × Wald's bound", "%.2f", 2.0, full)
	}
}

// lateOnset compares how long a regression takes to be found that starts with
// the third step with the same in a rollout that starts there.
func lateOnset(doc *strings.Builder, reached *goals, size sizes) {
	fmt.Fprintf(doc, "\nA candidate that fails twice as often from the third step (50%%) on: mean time to the rollback after two healthy steps, when the rollout starts there, and when the third step itself was healthy for ten minutes first (%d rollouts each).\n\n"+
		"| requests/s | after two healthy steps | started there | ratio | in the middle of the step |\n|---|---|---|---|---|\n", size.effects)
	for _, rps := range size.traffics {
		if rps < 50 {
			continue // nothing is found within the step
		}
		late := meanDelay(climate{rps: rps, rate: 0.005, ratio: 2, watch: 1, from: 2, instances: true}, size.effects, false, 0)
		fresh := meanDelay(climate{rps: rps, rate: 0.005, ratio: 2, watch: 1, from: 2, instances: true}, size.effects, true, 0)
		middle := meanDelay(climate{rps: rps, rate: 0.005, ratio: 2, watch: 1, from: 2, instances: true}, size.effects, false, simTicks)
		fmt.Fprintf(doc, "| %s | %.0f s | %.0f s | %.2f | %.0f s |\n", grouped(rps), late, fresh, late/fresh, middle)
		reached.note("delay of a regression that starts with a later step, × a test started there", "%.2f", 1.5, late/fresh)
	}
}

// meanDelay is the mean number of seconds from the third step's start to the
// rollback by the failures guardrail, without the step's first good intervals, in
// which the candidate is healthy; steps last as long as it takes.
func meanDelay(c climate, trials int, fresh bool, good int) float64 {
	delays := make([]float64, trials)
	each(trials, func(i int) {
		p := simPanel("failures", "absolute", "watched")
		if fresh {
			for j := range p.Guardrails {
				p.Guardrails[j].Steps = []int{2, 3} // the whole ladder of a rollout that starts here
			}
		}
		b, s := newBelay(p, true), newSky(c, seed(i))
		for range c.history {
			x := s.next(-1, 0, 0)
			b.learn(&x)
		}
		for step := range 2 {
			for j := 0; j < simTicks && !fresh; j++ {
				x := s.next(step, j, ladder[step])
				b.see(&x)
			}
		}
		for j := range good {
			x := s.next(1, j, ladder[2])
			x.step = 2
			b.see(&x)
		}
		for j := range 4000 {
			x := s.next(2, good+j, ladder[2])
			b.see(&x)
			delays[i] = float64(j+1) * simTick.Seconds()
			if b.e.Standings[0].Breach.LogE() >= math.Log(1/b.panel.share()) {
				return
			}
		}
	})
	sum := 0.0
	for _, d := range delays {
		sum += d
	}
	return sum / float64(trials)
}
