package analysis

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	decisions = flag.String("decisions", "small", "how much TestDecisions simulates: small or full")
	seasons   = flag.Int("seasons", 4, "how many rollouts a cell BenchmarkSeasonTables carries through")
	update    = flag.Bool("update", false, "write the tables of TestDecisions into README.md")
)

// contender is a rule with its name in the tables.
type contender struct {
	name string
	make func(c climate) rule
}

func contenders() []contender {
	return []contender{
		{"**Belay**, three guardrails", func(c climate) rule { return newBelay(simPanel("failures", "absolute", "watched"), c.instances) }},
		{"**Belay**, failures against stable", func(c climate) rule { return newBelay(simPanel("failures"), c.instances) }},
		{"rate[1m] > 1%, first failed look", func(climate) rule { return &fixed{limit: 0.01, failures: 1} }},
		{"rate[1m] > 1%, fifth failed look", func(climate) rule { return &fixed{limit: 0.01, failures: 5} }},
		{"rate since the step began > 1%", func(climate) rule { return &cumulated{limit: 0.01} }},
		{"candidate > 1.5 × stable, fourth failed look", func(climate) rule { return &ratio{factor: 1.5, failures: 4} }},
		{"Mann-Whitney at each step's end", func(climate) rule { return &mannWhitney{} }},
		{"z-test every minute", func(climate) rule { return &zTest{} }},
	}
}

// traffics are the endpoint's requests per second.
var traffics = []float64{5, 50, 500, 5000}

// sizes is how much is simulated.
type sizes struct {
	rollouts, effects, wald, planner, season int
	traffics                                 []float64
}

// healthyClimates are the worlds in which nothing should be rolled back; the
// last is exactly at every limit.
func healthyClimates() []climate {
	return []climate{
		{name: "a constant rate", ratio: 1, watch: 1, rate: 0.005, instances: true},
		{name: "a common drift (sd 35%)", ratio: 1, watch: 1, rate: 0.005, drift: 0.35, instances: true},
		{name: "a common incident (× 5 for two minutes)", ratio: 1, watch: 1, rate: 0.005, incident: true, instances: true},
		{name: "bursts (clusters of 3 failures on average, φ = 5)", ratio: 1, watch: 1, rate: 0.005, burst: 3, instances: true},
		{name: "no instances told apart", ratio: 1, watch: 1, rate: 0.005},
		{name: "exactly at all three limits", ratio: 1.2, watch: 0.98, rate: 0.01 / 1.2, instances: true},
	}
}

// withTraffic sets the climate's traffic.
func (c climate) withTraffic(rps float64) climate {
	c.rps = rps
	return c
}

// simulate carries n releases up the ladder past all contenders.
func simulate(c climate, cs []contender, n int) [][]outcome {
	outs := make([][]outcome, n)
	each(n, func(i int) {
		rules := make([]rule, len(cs))
		for j := range cs {
			rules[j] = cs[j].make(c)
		}
		outs[i] = make([]outcome, len(cs))
		rollOut(c, seed(i), rules, outs[i])
	})
	return outs
}

// each does n pieces of work on all processors.
func each(n int, work func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				work(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// shareOf is the share of rollouts in which the contender's verdict was v.
func shareOf(outs [][]outcome, j int, v string) float64 {
	n := 0
	for i := range outs {
		if outs[i][j].verdict == v {
			n++
		}
	}
	return float64(n) / float64(len(outs))
}

// goal is one promise with the figure that was reached.
type goal struct {
	what    string
	most    float64 // the figure must not be above it
	reached float64
	format  string
}

func (g goal) met() bool { return g.reached <= g.most }

// goals collects the promises; the worst figure of each stands.
type goals []goal

func (g *goals) note(what, format string, most, reached float64) {
	for i := range *g {
		if (*g)[i].what == what {
			(*g)[i].reached = max((*g)[i].reached, reached)
			return
		}
	}
	*g = append(*g, goal{what, most, reached, format})
}

// The benchmark of the decisions: false rollbacks, power, delay, the distance
// from Wald's bound and the planner, beside the rules that people use now.
// Small by default; -decisions=full -update writes the tables into README.md.
func TestDecisions(t *testing.T) {
	size := sizes{rollouts: 150, effects: 100, wald: 250, planner: 60, traffics: []float64{50, 500}}
	if *decisions == "full" {
		size = sizes{rollouts: 5000, effects: 500, wald: 20000, planner: 400, traffics: traffics}
	}
	var doc strings.Builder
	var reached goals
	began := time.Now()
	falseRollbacks(&doc, &reached, size)
	detections(&doc, &reached, size)
	lateOnset(&doc, &reached, size)
	waldTable(&doc, &reached, size)
	plannerTable(&doc, &reached, size)
	historyTable(&doc, size)
	for _, g := range reached {
		most := g.most
		if *decisions != "full" {
			most = g.most*1.15 + 0.02 // few trials waver
		}
		if g.reached > most {
			t.Errorf("%s: got "+g.format+", want at most "+g.format, g.what, g.reached, g.most)
		}
	}
	if testing.Verbose() {
		t.Log("\n" + doc.String())
	}
	t.Logf("%s simulation in %v", *decisions, time.Since(began).Round(time.Second))
	if *update {
		writeTables(t, goalsTable(reached)+doc.String())
	}
}

// goalsTable lists each promise with the figure reached.
func goalsTable(reached goals) string {
	var b strings.Builder
	b.WriteString("### The goals\n\n| goal | at most | reached | |\n|---|---|---|---|\n")
	for _, g := range reached {
		verdict := "met"
		if !g.met() {
			verdict = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | "+g.format+" | "+g.format+" | %s |\n", g.what, g.most, g.reached, verdict)
	}
	return b.String()
}

const (
	tablesBegin = "<!-- tables: begin (written by make bench-decisions) -->\n"
	tablesEnd   = "<!-- tables: end -->\n"
)

// writeTables replaces the tables in README.md.
func writeTables(t *testing.T, tables string) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tablesBegin)
	_, after, closed := strings.Cut(rest, tablesEnd)
	if !found || !closed {
		t.Fatalf("README.md: got no %q and %q, want both", tablesBegin, tablesEnd)
	}
	if err := os.WriteFile("README.md", []byte(before+tablesBegin+tables+tablesEnd+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

// falseRollbacks is the table of healthy releases that are rolled back.
func falseRollbacks(doc *strings.Builder, reached *goals, size sizes) {
	fmt.Fprintf(doc, "\n### (1) Healthy releases rolled back by mistake\n\n"+
		"Share of %d whole rollouts (5 → 25 → 50 → 75%%, ten minutes each; stable fails 0.5%% of requests); in brackets those that were held because stable broke the same limit.\n", size.rollouts)
	cs := contenders()
	for _, c := range healthyClimates() {
		header(doc, "With "+c.name, size.traffics)
		cells := make([][]string, len(cs))
		for _, rps := range size.traffics {
			outs := simulate(c.withTraffic(rps), cs, size.rollouts)
			for j := range cs {
				back, hold := shareOf(outs, j, "rollback"), shareOf(outs, j, "hold")
				cell := figureShare(back)
				if hold > 0 {
					cell += " (" + figureShare(hold) + ")"
				}
				cells[j] = append(cells[j], cell)
				switch {
				case j > 1:
				case strings.HasPrefix(c.name, "exactly"):
					reached.note("false rollbacks exactly at the limit, α = 1%", "%.2f%%", 1, 100*back)
				default:
					reached.note("false rollbacks within the limits, α = 1%", "%.2f%%", 0.3, 100*back)
				}
			}
		}
		rows(doc, cs, cells)
	}
}

// detections is the table of bad releases: how many are found, when, at what
// cost.
func detections(doc *strings.Builder, reached *goals, size sizes) {
	fmt.Fprintf(doc, "\n### (2) Bad releases found\n\n"+
		"Share of %d rollouts in which a candidate that fails more often from the start was stopped; median time until then; failures beyond stable's rate that users met by then, on average.\n", size.effects)
	cs := contenders()
	for _, effect := range []float64{1.5, 2, 3, 5, 10} {
		header(doc, fmt.Sprintf("%v × stable's failures", effect), size.traffics)
		cells := make([][]string, len(cs))
		for _, rps := range size.traffics {
			c := climate{rps: rps, rate: 0.005, ratio: effect, watch: 1, instances: true}
			outs := simulate(c, cs, size.effects)
			for j := range cs {
				found, median, worst, bad := caught(outs, j)
				cell := figureShare(found)
				if found >= 0.5 {
					cell += fmt.Sprintf(" · %s · %s", clock(median), grouped(bad))
				}
				cells[j] = append(cells[j], cell)
				if effect == 10 && rps >= 500 && j == 0 {
					reached.note("intervals to decide 10 × stable's failures at 500 requests/s and more (95%)", "%.0f", 2, worst)
				}
			}
		}
		rows(doc, cs, cells)
	}
}

// caught sums a contender's outcomes up: the share stopped, the median and 95%
// of intervals until then, and the failures that it cost on average.
func caught(outs [][]outcome, j int) (found, median, most, bad float64) {
	var ticks []float64
	for i := range outs {
		if o := outs[i][j]; o.verdict != "" {
			ticks = append(ticks, float64(o.ticks))
			bad += o.bad
		}
	}
	if len(ticks) == 0 {
		return 0, 0, 0, 0
	}
	slices.Sort(ticks)
	n := float64(len(ticks))
	middle := min(len(outs)/2, len(ticks)-1)
	return n / float64(len(outs)), ticks[middle], ticks[int(0.95*(n-1))], bad / n
}

// historyTable is what it would buy to take stable's past in before a rollout.
func historyTable(doc *strings.Builder, size sizes) {
	fmt.Fprintf(doc, "\n### (5) What stable's history would buy\n\n"+
		"Belay starts a rollout without history: the first minutes of the first step teach it stable's rate and dispersion. The same with 40 and 120 intervals (10 and 30 minutes) of stable alone taken in before; "+
		"three guardrails, instances told apart. Bursts: share of %d healthy rollouts rolled back by mistake (clusters of 3 failures on average); otherwise the median time and the failures met by then (%d rollouts).\n", size.rollouts, size.effects)
	header(doc, "History", size.traffics)
	cs := contenders()[:1]
	for _, history := range []int{0, 40, 120} {
		cells := []string{}
		for _, rps := range size.traffics {
			c := climate{ratio: 1, watch: 1, rate: 0.005, burst: 3, instances: true, history: history, rps: rps}
			cells = append(cells, figureShare(shareOf(simulate(c, cs, size.rollouts), 0, "rollback")))
		}
		fmt.Fprintf(doc, "| bursts, %d intervals | %s |\n", history, strings.Join(cells, " | "))
	}
	for _, effect := range []float64{2, 5, 10} {
		for _, history := range []int{0, 40, 120} {
			cells := []string{}
			for _, rps := range size.traffics {
				c := climate{rps: rps, rate: 0.005, ratio: effect, watch: 1, history: history, instances: true}
				cell := "–"
				if found, median, _, bad := caught(simulate(c, cs, size.effects), 0); found >= 0.5 {
					cell = clock(median) + " · " + grouped(bad)
				}
				cells = append(cells, cell)
			}
			fmt.Fprintf(doc, "| %v × stable's failures, %d intervals | %s |\n", effect, history, strings.Join(cells, " | "))
		}
	}
}

func header(doc *strings.Builder, title string, traffics []float64) {
	fmt.Fprintf(doc, "\n%s, at requests per second:\n\n| rule |", title)
	for _, rps := range traffics {
		doc.WriteString(" " + grouped(rps) + " |")
	}
	doc.WriteString("\n|---|" + strings.Repeat("---|", len(traffics)) + "\n")
}

func rows(doc *strings.Builder, cs []contender, cells [][]string) {
	for j := range cs {
		fmt.Fprintf(doc, "| %s | %s |\n", cs[j].name, strings.Join(cells[j], " | "))
	}
}

// figureShare is a share in percent with as many digits as it deserves.
func figureShare(f float64) string {
	switch {
	case f == 0:
		return "0%"
	case f < 0.1:
		return fmt.Sprintf("%.2f%%", 100*f)
	}
	return fmt.Sprintf("%.0f%%", 100*f)
}

// clock is a number of intervals as a time.
func clock(ticks float64) string {
	d := time.Duration(ticks) * simTick
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}
