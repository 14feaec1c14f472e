package sequential

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The looks that a walk needs, against walks that were walked.
func TestLooks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // reproducible on purpose
	for _, w := range []EvidenceDrift{
		{Distance: 6, Mean: 0.1, Variance: 0.2},
		{Distance: 6, Mean: 0.5, Variance: 1},
		{Distance: 8, Mean: 3, Variance: 0.5},
		{Distance: 8, Mean: 4.1, Variance: 0.01},
	} {
		const trials = 4000
		looks := make([]float64, trials)
		sum := 0.0
		for i := range looks {
			for at := 0.0; at < w.Distance; {
				at += w.Mean + math.Sqrt(w.Variance)*r.NormFloat64()
				looks[i]++
			}
			sum += looks[i]
		}
		slices.Sort(looks)
		what := fmt.Sprintf("%+v", w)
		near(t, what+" mean", w.MeanLooks()/(sum/trials), 1, 0.04)
		for _, q := range []float64{0.5, 0.9} {
			want := looks[int(q*trials)]
			if got := w.Looks(q); math.Abs(got-want) > max(1, 0.05*want) {
				t.Errorf("%s: %v quantile: got %v looks, want %v", what, q, got, want)
			}
		}
		middle := int(looks[trials/2])
		within, _ := slices.BinarySearch(looks, float64(middle)+0.5)
		// Where two or three looks decide, the forecast may promise less, never more.
		if got, want := w.Look(middle), float64(within)/trials; got > want+0.05 || got < want-0.12 {
			t.Errorf("%s: got a chance of %v within %d looks, want about %v", what, got, middle, want)
		}
	}
}

// A walk that goes nowhere never arrives.
func TestLooksNever(t *testing.T) {
	w := EvidenceDrift{Distance: 3, Mean: -0.1, Variance: 1}
	if !math.IsInf(w.Looks(0.9), 1) || !math.IsInf(w.MeanLooks(), 1) {
		t.Errorf("got %v and %v looks, want never", w.Looks(0.9), w.MeanLooks())
	}
	if got := w.Crossed(1e9); math.Abs(got-math.Exp(-0.6)) > 1e-9 {
		t.Errorf("got a chance of %v, want e^(2μA/σ²) = %v", got, math.Exp(-0.6))
	}
	if got := (EvidenceDrift{Distance: 1, Mean: 0.5}).Crossed(2); got != 1 {
		t.Errorf("without variance: got %v, want 1 when the mean arrives", got)
	}
}

// What a capped increment amounts to, against drawn ones.
func TestCapped(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // reproducible on purpose
	for _, c := range [][3]float64{{1, 1, 2}, {5, 4, 3}, {0.1, 9, 1}} {
		var sum, squares float64
		const trials = 200000
		for range trials {
			v := math.Min(c[0]+math.Sqrt(c[1])*r.NormFloat64(), c[2])
			sum += v
			squares += v * v
		}
		m, v := capped(c[0], c[1], c[2])
		near(t, fmt.Sprintf("mean of %v", c), m, sum/trials, 0.02)
		near(t, fmt.Sprintf("variance of %v", c), v, squares/trials-sum*sum/trials/trials, 0.03)
	}
}

// The weights of all steps, and of all restarts of a step, sum to one.
func TestWeights(t *testing.T) {
	for n := 1; n < 7; n++ {
		sum := 0.0
		for i := range n {
			sum += StepWeight(n, i)
		}
		near(t, fmt.Sprintf("%d steps", n), sum, 1, 1e-12)
	}
	sum := 0.0
	for i := range 100000 {
		sum += RestartWeight(0.3, i)
	}
	near(t, "restarts", sum, 0.3, 1e-5)
}

// However strong an interval is, it takes two of them to decide, and two of the
// strongest do; unless the evidence would stand even at the dispersion Gross, and the
// dispersion that was learnt is not beyond that.
func TestCapTakesTwo(t *testing.T) {
	for _, share := range []float64{0.01, 0.01 / 3, 0.05 / 8} {
		for _, weight := range []float64{1, 0.4125, 0.1125} {
			var p Process
			p.Start(weight)
			fresh := p
			flood := Increments{50, 50, 50, 50}
			fresh.Add(Increments{1e3, 1e3, 1e3, 1e3}, 1, Cap(share, weight))
			if fresh.LogE() < math.Log(1/share) {
				t.Errorf("share %v, weight %v: got %v after one gross interval, want at least %v", share, weight, fresh.LogE(), math.Log(1/share))
			}
			fresh = p
			fresh.Add(Increments{1e3, 1e3, 1e3, 1e3}, Gross+1, Cap(share, weight))
			if fresh.LogE() >= math.Log(1/share) {
				t.Errorf("share %v, weight %v: got %v after one interval at a dispersion beyond Gross, want less than %v",
					share, weight, fresh.LogE(), math.Log(1/share))
			}
			p.Add(flood, 1, Cap(share, weight))
			if p.LogE() >= math.Log(1/share) {
				t.Errorf("share %v, weight %v: got %v after one interval, want less than %v", share, weight, p.LogE(), math.Log(1/share))
			}
			p.Add(flood, 1, Cap(share, weight))
			if p.LogE() < math.Log(1/share) {
				t.Errorf("share %v, weight %v: got %v after two intervals, want at least %v", share, weight, p.LogE(), math.Log(1/share))
			}
		}
	}
}

// The Gaussian increment has an expectation of 1 at the limit, whatever the
// effect it is made for, and the closed form follows its grid.
func TestMeanIncrementExpectation(t *testing.T) {
	const v, steps = 0.3, 4000
	for _, drift := range []float64{0.05, 0.4, 1} {
		sum := 0.0
		for i := range steps {
			z := -10 + 20*(float64(i)+0.5)/steps
			sum += math.Exp(-z*z/2) / math.Sqrt(2*math.Pi) * 20 / steps * math.Exp(MeanIncrement(z*math.Sqrt(v), v, drift))
		}
		near(t, fmt.Sprintf("drift %v", drift), sum, 1, 1e-9)
	}
	if got := MeanIncrement(1, 0, 1); got != 0 {
		t.Errorf("without variance: got %v, want 0", got)
	}
	// The half-normal prior is the mixture of such increments over λ.
	const u, sumV, tau = -12.0, 40.0, 0.3
	mixture := 0.0
	for i := range 20000 {
		lambda := 3 * (float64(i) + 0.5) / 20000
		prior := 2 / (tau * math.Sqrt(2*math.Pi)) * math.Exp(-lambda*lambda/(2*tau*tau))
		mixture += prior * 3 / 20000 * math.Exp(-lambda*u-lambda*lambda*sumV/2)
	}
	near(t, "half-normal", HalfNormal(u, sumV, tau), math.Log(mixture), 1e-6)
}

// The mean's interval holds the truth at all moments at once.
func TestMeanHalfWidth(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8)) //nolint:gosec // reproducible on purpose
	missed := 0
	const trials = 300
	for range trials {
		sum, squares := 0.0, 0.0
		for n := 1.0; n <= 3000; n++ {
			x := r.ExpFloat64()
			sum += x
			squares += x * x
			m := sum / n
			if n >= 100 && math.Abs(m-1) > MeanHalfWidth(n, squares/n-m*m, 0.05) {
				missed++
				break
			}
		}
	}
	if missed > 27 {
		t.Errorf("got %d of %d sequences that left their interval, want at most about 5%%", missed, trials)
	}
}

// Grades by the chance to detect.
func TestGradeOf(t *testing.T) {
	for power, want := range map[float64]Grade{1: GradeOK, 0.9: GradeOK, 0.89: GradeWeak, 0.5: GradeWeak, 0.49: GradeBlind, 0: GradeBlind} {
		if got := GradeOf(power); got != want {
			t.Errorf("power %v: got %s, want %s", power, got, want)
		}
	}
}

// While the dispersion is learnt, evidence is divided by more than it will be: the
// first step by the assumption, then by an upper bound that narrows. A walk at that
// pace is later than one whose dispersion is known, and no later than one that
// keeps the assumption.
func TestLearning(t *testing.T) {
	for _, freedom := range []float64{0.3, 1, 7, 40} {
		p := Learning(freedom, 1)
		if p[0] != Unknown || p[len(p)-1] < 1 || p[len(p)-1] > 1.3 {
			t.Errorf("freedom %g: got %g at first and %g at last, want %g and about 1", freedom, p[0], p[len(p)-1], Unknown)
		}
		for i := 1; i < len(p); i++ {
			if p[i] > p[i-1]+0.2 || p[i] < 1 { // from the assumption to a bound on five degrees it may rise a little
				t.Fatalf("freedom %g: got %g after %g at step %d, want it to narrow", freedom, p[i], p[i-1], i)
			}
		}
		known := EvidenceDrift{Distance: 8, Mean: 0.2, Variance: 0.4}
		step := func(phi float64) (m, v float64) { return known.Mean / phi, known.Variance / (phi * phi) }
		m, v := step(Unknown)
		assumed := EvidenceDrift{Distance: known.Distance, Mean: m, Variance: v}
		learnt := known.paced(p, step)
		for what, at := range map[string]func(EvidenceDrift) float64{
			"mean": EvidenceDrift.MeanLooks, "90%": func(w EvidenceDrift) float64 { return w.Looks(0.9) }, "median": func(w EvidenceDrift) float64 { return w.Looks(0.5) },
		} {
			if a, b, c := at(known), at(learnt), at(assumed); a > b || b > c*1.01 {
				t.Errorf("freedom %g, %s: got %g looks, want %g to %g", freedom, what, b, a, c)
			}
		}
	}
	if got := (EvidenceDrift{Distance: 3, Mean: 1}).paced(nil, nil); got.begin != nil {
		t.Errorf("no pace: got %+v, want the walk as it is", got)
	}
	if p := Learning(7, 5); p[0] != Unknown/5 || p[20] < 1 {
		t.Errorf("clusters of 5: got %g at first and %g then, want less than 1, as they are not known, and more", p[0], p[20])
	}
}
