package analysis

import (
	"math"
	"math/rand/v2"
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
