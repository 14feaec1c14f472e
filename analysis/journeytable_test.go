package analysis

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A row is a season under a policy, with what is promised of it.
type row struct {
	season
	policy string
	panel  Panel
	ladder seasonLadder
	// back, asks and missed are the greatest shares in percent that may be rolled back, or
	// ask people, or be promoted although they should not; negative where nothing is
	// promised.
	back, asks, missed float64
}

// policyPanels are the four policies that the tables speak of.
func policyPanel(l seasonLadder, name string) (p Panel) {
	defer func() {
		for i := range p.Guardrails {
			if g := &p.Guardrails[i]; g.Limit.Relative && !g.Limit.AtLeast {
				g.PassFloor = 0.01 // as policies have it by default
			}
		}
	}()
	switch name {
	case "A":
		return seasonPanel(l, "absolute", "p95", "watched")
	case "B":
		return seasonPanel(l, "absolute", "p95")
	case "C":
		return seasonPanel(l, "failures", "p95")
	}
	return seasonPanel(l, "failures", "p95", "watched")
}

// arms gives the season the usual instances.
func (c season) arms() season {
	if c.stable == 0 {
		c.stable, c.cand = 6, 3
	}
	return c
}

// healthyRows are worlds in which the candidate is as good as stable.
func healthyRows() []row {
	var rows []row
	add := func(policy string, back float64, c season) {
		for _, base := range []float64{0.0002, 0.003, 0.02, 0.12} {
			for _, rps := range []float64{20, 200, 5000} {
				if strings.ContainsAny(policy, "AB") && base >= 0.01 {
					continue // stable breaks the limit itself
				}
				c.rps, c.base = rps, base
				rows = append(rows, row{season: c.arms(), policy: policy, panel: policyPanel(longLadder, policy), ladder: longLadder, back: back, asks: -1, missed: -1})
			}
		}
	}
	add("D", 0.3, season{name: "constant"})
	add("A", 0.3, season{name: "constant, absolute limit"})
	add("D", 0.3, season{name: "common incidents × 10, one in 2 h", common: 0.5, times: 10})
	add("A", 0.3, season{name: "common incidents × 10, one in 2 h, absolute limit", common: 0.5, times: 10})
	add("D", 0.3, season{name: "local incidents × 20, one in 8 h", local: 1. / 8, times: 20})
	add("D", 1, season{name: "local incidents × 20, one in 2 h", local: 0.5, times: 20})
	add("D", 0.3, season{name: "one candidate instance against twenty, κ = 1000", stable: 20, cand: 1, kappa: 1000})
	add("D", 0.3, season{name: "one candidate instance against twenty, κ = 100", stable: 20, cand: 1, kappa: 100})
	add("D", 0.3, season{name: "load and failures up and down in 2 h", swing: 0.7})
	add("C", 0.3, season{name: "no label tells instances apart", unlabelled: true})
	add("D", 0.3, season{name: "instances unlike each other, κ = 30", kappa: 30})
	add("C", 1, season{name: "sticky clients, instance = bucket", sticky: 1753, buckets: true})
	add("C", -1, season{name: "sticky clients, which no label tells (no promise)", sticky: 1753})
	return rows
}

// budgetRows are healthy worlds with a budget.
func budgetRows() []row {
	var rows []row
	for _, c := range []season{
		{name: "budget of 500, constant"},
		{name: "budget of 500, everybody + 20% in the last step", jump: 1.2},
		{name: "budget of 500, load and failures up and down", swing: 0.3},
	} {
		for _, base := range []float64{0.003, 0.02} {
			for _, rps := range []float64{50, 5000} {
				c.rps, c.base = rps, base
				p := seasonPanel(fullLadder, "failures")
				p.Budget = &Budget{Metric: "failures", AtMost: 500}
				rows = append(rows, row{season: c.arms(), policy: "budget", panel: p, ladder: fullLadder, back: 0.3, asks: -1, missed: -1})
			}
		}
	}
	return rows
}

// run carries n releases through the row's season.
func (r row) run(n int) []journey {
	js := make([]journey, n)
	each(n, func(i int) { js[i] = travel(r.panel, r.ladder, r.season, seed(i)) })
	return js
}

// part is the share of journeys of which is so, in percent.
func part(js []journey, is func(journey) bool) float64 {
	n := 0
	for _, j := range js {
		if is(j) {
			n++
		}
	}
	return 100 * float64(n) / float64(max(1, len(js)))
}

func backed(j journey) bool   { return j.end == endBack }
func asked(j journey) bool    { return j.end == endAsks }
func promoted(j journey) bool { return j.end == endPromoted }
func flipped(j journey) bool  { return j.flip }

// seasonTables are whole rollouts in worlds that are not calm, pooled over base rates and
// loads.
func seasonTables(doc *strings.Builder, reached *goals, size sizes) {
	fmt.Fprintf(doc, "\n### (6) Whole rollouts of healthy releases in worlds that are not calm\n\n"+
		"%d rollouts a cell, pooled over base rates of 0.02, 0.3, 2 and 12%% (absolute limits: 0.02 and 0.3%%) and 20, 200 and 5,000 requests/s; 5 → 25 → 60 → 95 → 100%%, "+
		"30 minutes each, extended by up to an hour; nobody answers. A: failures <= 1%%, p95, watch-through; C: failures <= 1.2x stable, p95; D: C with watch-through. "+
		"Incidents last 30 to 120 s.\n\n| world | policy | rolled back | asks people | promoted | shared holds that ended by themselves | that flipped |\n|---|---|---|---|---|---|---|\n", size.season)
	rows := append(healthyRows(), budgetRows()...)
	for i := 0; i < len(rows); {
		var pooled []journey
		first := rows[i]
		for ; i < len(rows) && rows[i].name == first.name && rows[i].policy == first.policy; i++ {
			pooled = append(pooled, rows[i].run(size.season)...)
		}
		back, shared := part(pooled, backed), 0
		for _, j := range pooled {
			shared += j.shared
		}
		fmt.Fprintf(doc, "| %s | %s | %.2f%% | %.1f%% | %.1f%% | %d | %.2f%% |\n", first.name, first.policy, back,
			part(pooled, asked), part(pooled, promoted), shared, part(pooled, flipped))
		if first.back >= 0 {
			reached.note(fmt.Sprintf("false rollbacks, %s (%s)", first.name, first.policy), "%.2f%%", first.back, back)
		}
		reached.note("shared holds that flip", "%.2f%%", 0, part(pooled, flipped))
	}
}

// practicalTable is how long a healthy release takes, and how often a person is asked.
func practicalTable(doc *strings.Builder, reached *goals, size sizes) {
	loads := []float64{5, 50, 500}
	fmt.Fprintf(doc, "\n### (7) How long a healthy release takes, and how often a person is asked\n\n"+
		"%d rollouts a cell; share promoted without a person within 1.5 × the nominal %v, mean time of those promoted. B: failures <= 1%%, p95.\n\n| policy | failures |", size.season, nominal(longLadder))
	for _, rps := range loads {
		fmt.Fprintf(doc, " %s/s |", grouped(rps))
	}
	doc.WriteString("\n|---|---|" + strings.Repeat("---|", len(loads)) + "\n")
	for _, policy := range []string{"A", "B", "C", "D"} {
		for _, base := range []float64{0.001, 0.005, 0.02} {
			if strings.ContainsAny(policy, "AB") && base > 0.01 {
				continue
			}
			fmt.Fprintf(doc, "| %s | %s |", policy, percent(base))
			for _, rps := range loads {
				r := row{season: season{rps: rps, base: base}.arms(), panel: policyPanel(longLadder, policy), ladder: longLadder}
				js := r.run(size.season)
				swift := part(js, func(j journey) bool { return promoted(j) && j.took <= nominal(longLadder)*3/2 })
				fmt.Fprintf(doc, " %.0f%% · %.1f h |", swift, meanTook(js).Hours())
				if rps == 5 {
					most := map[string]float64{"A": 25, "B": 10, "C": 10, "D": 25}[policy]
					if base > 0.005 && policy == "D" {
						continue
					}
					reached.note("at 5 requests/s not promoted in time, policy "+policy, "%.0f%%", most, 100-swift)
				}
			}
			doc.WriteString("\n")
		}
	}
	slips := 0.0
	for _, from := range []int{0, 2} {
		r := row{season: season{rps: 5, base: 0.01, ratio: 2, least: 0.02, from: from}.arms(), panel: policyPanel(longLadder, "C"), ladder: longLadder}
		slips = max(slips, part(r.run(size.season), promoted))
	}
	fmt.Fprintf(doc, "\nA release that fails twice as often, and at least 2%% of requests, slips through at 5 requests/s in %.1f%%.\n", slips)
	reached.note("twice as bad and at least 2% slips through at 5 requests/s", "%.1f%%", 2, slips)
	for _, rps := range []float64{50, 500} {
		r := row{season: season{rps: rps, base: 0.005, ratio: 2}.arms(), panel: policyPanel(longLadder, "C"), ladder: longLadder}
		reached.note("misses at detect from 50 requests/s", "%.1f%%", 5, part(r.run(size.season), promoted))
	}
}

func nominal(l seasonLadder) time.Duration { return time.Duration(len(l.weights)) * l.bake }

func meanTook(js []journey) (mean time.Duration) {
	n := 0
	for _, j := range js {
		if promoted(j) {
			mean += j.took
			n++
		}
	}
	return mean / time.Duration(max(1, n))
}

// A short selection of the tables, with mutants: the judge without one of its conditions
// has to be caught by the worlds that the condition is there for.
func TestSeasons(t *testing.T) {
	incidents := season{name: "common incidents", rps: 50, base: 0.002, common: 2, times: 10}.arms()
	bad := season{name: "bad minutes of one instance", rps: 200, base: 0.02, local: 1. / 4, times: 20}.arms()
	costly := season{name: "budget", rps: 5000, base: 0.02}.arms()
	short := seasonLadder{weights: []int{5, 25, 60, 95}, bake: 15 * time.Minute, extend: 30 * time.Minute}
	budget := seasonPanel(short, "failures")
	budget.Budget = &Budget{Metric: "failures", AtMost: 500}
	for _, c := range []struct {
		season
		panel  Panel
		n      int
		most   int
		mutant func(e *Evidence)
	}{
		{incidents, seasonPanel(short, "absolute"), 40, 0, func(e *Evidence) { e.Standings[0].Alone = true }},
		{bad, seasonPanel(short, "failures"), 40, 1, func(e *Evidence) { e.Standings[0].Apart = nil }},
		{costly, budget, 12, 0, func(e *Evidence) {
			if e.Spending != nil {
				e.Spending.Variance = 0
			}
		}},
	} {
		count := func() (back int) {
			for _, j := range (row{season: c.season, panel: c.panel, ladder: short}).run(c.n) {
				if backed(j) || flipped(j) {
					back++
				}
			}
			return back
		}
		if back := count(); back > c.most {
			t.Errorf("%s: got %d of %d healthy releases rolled back, want at most %d", c.name, back, c.n, c.most)
		}
		mutate = c.mutant
		if back := count(); back <= c.most {
			t.Errorf("%s: the mutant rolled only %d of %d back: it was not caught", c.name, back, c.n)
		}
		mutate = nil
	}
}

// The tables of whole rollouts, which are shown and not asserted: a goal that is missed
// says so. TestSeasons asserts a short selection.
func BenchmarkSeasonTables(b *testing.B) {
	var doc strings.Builder
	var reached goals
	size := sizes{season: *seasons}
	seasonTables(&doc, &reached, size)
	practicalTable(&doc, &reached, size)
	fmt.Println("\n" + goalsTable(reached) + doc.String()) // a benchmark's log is cut
}
