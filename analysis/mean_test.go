package analysis

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
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

// The candidate's values may spread more than stable's: a mean that is the same is no
// breach, in either direction of the limit.
func TestMeanOfOtherSpread(t *testing.T) {
	for _, c := range []struct {
		limit  Limit
		detect float64
	}{
		{Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.95},
		{Limit{Relative: true, Value: 1.05, Text: "<= 1.05x stable"}, 1.15},
	} {
		p := meanPanel(c.limit, c.detect)
		broken, worst := 0, 0
		const trials = 60
		for seed := range uint64(trials) {
			r := seeded(seed)
			var e, mutant Evidence
			var v, w Verdicts
			for i := 1; i <= 120 && len(v.Breaches) == 0; i++ {
				x := counted(i, 0, 0, 0, 0)
				x.Metric, x.Candidate, x.Stable = "revenue", spend(r, 200, 10, 1.2), spend(r, 800, 10, 0.3)
				e, v = Judge(p, e, moment(i), []Reading{x})
				x.Candidate.SumSq = x.Candidate.Sum * x.Candidate.Sum / x.Candidate.N * 1.01 // the mutant does not see the spread
				if mutant, w = Judge(p, mutant, moment(i), []Reading{x}); len(w.Breaches) > 0 {
					worst++
					mutant = Evidence{Cursors: mutant.Cursors}
				}
			}
			broken += len(v.Breaches)
		}
		if broken > 2 {
			t.Errorf("%s: got %d of %d equal means rolled back, want at most 2", c.limit.Text, broken, trials)
		}
		if worst == 0 {
			t.Errorf("%s: a judge that knows stable's spread alone was not caught: %d of %d", c.limit.Text, worst, trials)
		}
	}
}

// A share of a mean that is not positive is no limit: it is an error with the way out.
func TestMeanOfNothing(t *testing.T) {
	p := meanPanel(Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.95)
	var e Evidence
	var v Verdicts
	for i := 1; i <= 4; i++ {
		x := counted(i, 0, 0, 0, 0)
		loss := Sample{Fresh: true, N: 500, Sum: -5000, SumSq: 51000}
		x.Metric, x.Candidate, x.Stable = "revenue", loss, loss
		e, v = Judge(p, e, moment(i), []Reading{x})
	}
	if got := v.Each[0]; got.Outcome != OutcomeError || !strings.Contains(got.Sentence, "write an absolute one") || v.MayEnd {
		t.Errorf("got %s: %s, want an error with the way out", got.Outcome, got.Sentence)
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

// batched is what spend gives, out of so many batches whose squares nobody counted.
func batched(r *rand.Rand, batches, n int, mean, cv float64) Sample {
	x := Sample{Fresh: true}
	for range batches {
		y := spend(r, n/batches, mean, cv)
		y.SumSq, y.Batches = y.Sum*y.Sum/y.N, 1
		x.N, x.Sum, x.SumSq, x.Batches = x.N+y.N, x.Sum+y.Sum, x.SumSq+y.SumSq, x.Batches+1
		x.Instances = append(x.Instances, Instance{Name: string(rune('a' + len(x.Instances))), Sample: y})
	}
	return x
}

// Without squares the spread is told from how batches differ: a healthy release
// passes, one that earns less is rolled back, and the verdict says how sure the
// spread is. A single instance gives a batch a scrape, and needs more of them.
func TestMeanWithoutSquares(t *testing.T) {
	p := meanPanel(Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.9)
	p.Metrics[0].Mean.SumOfSquares = ""
	for _, c := range []struct {
		name         string
		batches      int
		cand         float64
		breach, pass bool
	}{
		{"healthy", 4, 10, false, true},
		{"less", 4, 8, true, false},
		{"healthy, one instance", 1, 10, false, true},
		{"less, one instance", 1, 8, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := seeded(3)
			var e Evidence
			var v Verdicts
			breach, pass, first := false, false, ""
			for i := 1; i <= 90 && !breach; i++ {
				x := counted(i, 0, 0, 0, 0)
				x.Metric, x.Candidate, x.Stable = "revenue", batched(r, c.batches, 200, c.cand, 0.5), batched(r, c.batches, 800, 10, 0.5)
				e, v = Judge(p, e, moment(i), []Reading{x})
				pass, breach = pass || v.MayEnd, len(v.Breaches) > 0
				if i == 1 {
					first = v.Each[0].Needed
				}
			}
			if breach != c.breach || pass != c.pass {
				t.Errorf("got breach %v pass %v, want %v %v: %s", breach, pass, c.breach, c.pass, v.Each[0].Sentence)
			}
			if !strings.Contains(v.Each[0].Effective, "batches, to within") || !strings.Contains(first, "batches of stable's events") {
				t.Errorf("got %q at the end and %q at first, want how sure the spread is, and what it takes", v.Each[0].Effective, first)
			}
			roundTrip(t, e)
		})
	}
}

// Exactly at the limit, the estimated spread rolls back no more often than the
// counted one may.
func TestMeanWithoutSquaresAtLimit(t *testing.T) {
	p := meanPanel(Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.9)
	p.Metrics[0].Mean.SumOfSquares = ""
	back := 0
	const trials = 150
	for seed := range uint64(trials) {
		r := seeded(seed)
		var e Evidence
		var v Verdicts
		for i := 1; i <= 60 && len(v.Breaches) == 0; i++ {
			x := counted(i, 0, 0, 0, 0)
			x.Metric, x.Candidate, x.Stable = "revenue", batched(r, 2, 120, 9.8, 1), batched(r, 2, 480, 10, 1)
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
