package analysis

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

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
			// The metric may give 85 where the limit means 0.85: the figure shows which.
			if got := v.Each[0]; c.name == "three of five" && (got.Unit != "share" || !strings.Contains(got.Sentence, "<= 85%: 90.0%, stable 50.0%;")) {
				t.Errorf("got unit %q and %q, want a plain number in the limit's percent", got.Unit, got.Sentence)
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

// One bad instance of several is a bad node rather than a bad release: when that lasts,
// it is held and named. Two instances cannot tell.
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
				for i := 1; i < 60 && len(v.Breaches) == 0; i++ {
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
	before := 0.0
	for i := 2; i <= 20 && len(v.Breaches) == 0; i++ {
		e, v = Judge(p, e, moment(i), []Reading{counted(i, 1000, 35, 10000, 100)})
		if excess := 25 * float64(i-1); v.Spent > excess || v.Spent < before {
			t.Errorf("after interval %d: got %v spent, want no less than %v before and no more than the excess of %v", i, v.Spent, before, excess)
		}
		if before = v.Spent; (len(v.Breaches) > 0) != (v.Spent > 100) {
			t.Errorf("after interval %d: got %v spent and breaches %+v, want one beyond 100", i, v.Spent, v.Breaches)
		}
	}
	if len(v.Breaches) != 1 || !v.Breaches[0].Budget {
		t.Errorf("got breaches %+v, want one for the budget", v.Breaches)
	}
	roundTrip(t, e)
	// Without stable's traffic, or its figures, there is nothing that was cost.
	full := moment(21)
	full.StableWeight, full.CandidateWeight = 0, 100
	_, after := Judge(p, e, full, []Reading{counted(21, 1000, 900, 0, 0)})
	if after.Spent != v.Spent {
		t.Errorf("at 100%%: got %v spent, want %v still", after.Spent, v.Spent)
	}
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

// A ratio that is nearly always kept leaves little room above: a healthy
// release passes and a worse one is found all the same.
func TestNearlyPerfectRatio(t *testing.T) {
	p := errorsPanel(Limit{Relative: true, AtLeast: true, Value: 0.995, Text: ">= 0.995x stable"}, 0.99)
	p.Metrics[0].Counts = &Counts{Total: "t", Good: "g"}
	for _, c := range []struct {
		rate         float64
		breach, pass bool
	}{{0.999, false, true}, {0.98, true, false}} {
		r := seeded(5)
		var e Evidence
		var v Verdicts
		breach, pass := false, false
		for i := 1; i <= 60 && !breach; i++ {
			x := counted(i, 1000, binom(r, 1000, c.rate), 19000, binom(r, 19000, 0.999))
			e, v = Judge(p, e, moment(i), []Reading{x})
			breach, pass = len(v.Breaches) > 0, pass || v.MayEnd
		}
		if breach != c.breach || pass != c.pass {
			t.Errorf("rate %v: got breach %v pass %v, want %v %v: %s", c.rate, breach, pass, c.breach, c.pass, v.Each[0].Sentence)
		}
	}
}

// Where neither deployment had a failure there is nothing to compare: it is said, with
// the limit that passes without, and one failure of stable is enough to say it no more.
func TestNothingToCompare(t *testing.T) {
	const nothing = "an absolute limit passes without"
	for _, c := range []struct {
		limit  Limit
		detect float64
		first  float64 // stable's failures in the first interval
		needed bool
		pass   bool
	}{{atMost12x, 1.5, 0, true, false}, {atMost12x, 1.5, 3, false, false}, {atMost1, 0.02, 0, false, true}} {
		var e Evidence
		var v Verdicts
		pass := false
		for i := range 60 {
			failures := 0.0
			if i == 0 {
				failures = c.first
			}
			e, v = Judge(errorsPanel(c.limit, c.detect), e, moment(i+1), []Reading{counted(i+1, 100, 0, 1900, failures)})
			pass = pass || v.MayEnd
		}
		if got := strings.Contains(v.Each[0].Needed, nothing); got != c.needed || pass != c.pass {
			t.Errorf("%s, %v failures of stable: got needed %q, pass %v; want it said: %v, pass %v", c.limit.Text, c.first, v.Each[0].Needed, pass, c.needed, c.pass)
		}
	}
}

// Bad minutes of one instance after another are no bad release, though they add up to what
// no single one carries. Mutant: evidence in which the whole time is one stretch leaves
// out only one of them.
func TestBadMinutesOfOneAfterAnother(t *testing.T) {
	run := func(mutant bool) string {
		p := errorsPanel(atMost12x, 2)
		var e Evidence
		var v Verdicts
		for n := 1; n <= 240; n++ {
			x := counted(n, 0, 0, 0, 0)
			for i := range 6 {
				x.Stable.Instances = append(x.Stable.Instances, Instance{Name: fmt.Sprint(i), Sample: Sample{Fresh: true, N: 200, K: float64(3 + (i+n)%3)}})
				x.Stable.N, x.Stable.K = x.Stable.N+200, x.Stable.K+x.Stable.Instances[i].K
			}
			for i := range 3 {
				k := float64(3 + (i+n)%3)
				if from := 20 + 24*i; n >= from && n < from+8 { // two minutes, four after the one before
					k *= 6
				}
				x.Candidate.Instances = append(x.Candidate.Instances, Instance{Name: fmt.Sprint("c", i), Sample: Sample{Fresh: true, N: 200, K: k}})
				x.Candidate.N, x.Candidate.K = x.Candidate.N+200, x.Candidate.K+k
			}
			at := moment(n)
			at.StableWeight, at.CandidateWeight = 67, 33
			if e, v = Judge(p, e, at, []Reading{x}); len(v.Breaches) > 0 {
				return string(v.Breaches[0].Cause)
			}
			if mutant && e.Standings[0].Apart != nil {
				e.Standings[0].Apart.Seen = 0
			}
			roundTrip(t, e)
		}
		return ""
	}
	if got := run(false); got == string(CauseCandidate) {
		t.Errorf("got the release blamed, want it kept")
	}
	if got := run(true); got != string(CauseCandidate) {
		t.Errorf("the mutant was not caught: got %q", got)
	}
}
