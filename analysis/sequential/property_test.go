package sequential

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// draw is a random but reproducible interval and test.
type draw struct {
	y           Tally
	kappa, r, p float64
}

func (d draw) String() string {
	return fmt.Sprintf("%+v kappa=%v r=%v P=%v", d.y, d.kappa, d.r, d.p)
}

func draws(seed uint64, n int, f func(draw)) {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible on purpose
	for range n {
		nc, nb := math.Floor(math.Exp(8*r.Float64())), math.Floor(math.Exp(9*r.Float64()))
		f(draw{
			y:     Tally{NC: nc, KC: math.Floor(r.Float64() * (nc + 1)), NB: nb, KB: math.Floor(r.Float64() * (nb + 1))},
			kappa: 0.5 + 2*r.Float64(), r: math.Exp(4*r.Float64() - 2), p: math.Exp(-8*r.Float64()) * 0.45,
		})
	}
}

// Splitting an interval into parts of the same split leaves the Poisson form's
// evidence unchanged.
func TestPropertySplitting(t *testing.T) {
	draws(1, 2000, func(d draw) {
		half := Tally{NC: d.y.NC / 4, KC: math.Floor(d.y.KC / 3), NB: d.y.NB / 4, KB: math.Floor(d.y.KB / 2)}
		rest := Tally{NC: d.y.NC - half.NC, KC: d.y.KC - half.KC, NB: d.y.NB - half.NB, KB: d.y.KB - half.KB}
		near(t, d.String(), Poisson(half, d.kappa, d.r)+Poisson(rest, d.kappa, d.r), Poisson(d.y, d.kappa, d.r), 1e-9)
	})
}

// An alternative that is the limit itself says nothing.
func TestPropertyNoEffect(t *testing.T) {
	draws(2, 2000, func(d draw) {
		near(t, d.String(), TwoSample(d.y, d.kappa, 1, d.p)/(d.y.NC+d.y.NB), 0, 1e-9)
		near(t, d.String()+" Poisson", Poisson(d.y, d.kappa, 1)/(d.y.NC+d.y.NB), 0, 1e-12)
	})
}

// More failures of the candidate are more evidence, more of the baseline less.
func TestPropertyMonotone(t *testing.T) {
	draws(3, 2000, func(d draw) {
		d.r = 1 + d.r
		if d.kappa*d.p >= 0.9 {
			return
		}
		base := TwoSample(d.y, d.kappa, d.r, d.p)
		if up := TwoSample(d.y.Add(Tally{KC: 1}), d.kappa, d.r, d.p); !(up > base) {
			t.Errorf("%v: one more failure of the candidate: got %v after %v, want more", d, up, base)
		}
		if down := TwoSample(d.y.Add(Tally{KB: 1}), d.kappa, d.r, d.p); !(down < base) {
			t.Errorf("%v: one more failure of the baseline: got %v after %v, want less", d, down, base)
		}
	})
}

// For rare events the exact form becomes the Poisson form.
func TestPropertyPoissonLimit(t *testing.T) {
	y := Tally{NC: 190, KC: 3, NB: 560, KB: 2}
	want := Poisson(y, 1.2, 2)
	last := math.Inf(1)
	for _, p := range []float64{1e-2, 1e-3, 1e-4, 1e-5, 1e-6} {
		off := math.Abs(TwoSample(y, 1.2, 2, p) - want)
		if off > last {
			t.Errorf("P=%v: got %v from the Poisson form, want closer than %v", p, off, last)
		}
		last = off
	}
	if last > 1e-5 {
		t.Errorf("P=1e-6: got %v from the Poisson form, want less than 1e-5", last)
	}
}

// Against a boundless baseline the comparison becomes the one-sample test.
func TestPropertyOneSampleLimit(t *testing.T) {
	const p0, kappa, r = 0.012, 1.2, 2.0
	want := OneSample(9, 400, p0, r*p0)
	nb := 1e9
	y := Tally{NC: 400, KC: 9, NB: nb, KB: nb * p0 / kappa}
	near(t, "n_b = 1e9", TwoSample(y, kappa, r, p0/kappa), want, 1e-4)
}

// One interval never adds more than its cap, or than what stands at the dispersion Gross,
// and never more than its increment.
func TestPropertyCap(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5)) //nolint:gosec // reproducible on purpose
	for range 200 {
		var p Process
		p.Start(0.55)
		for i := range 20 {
			if i == 10 {
				p.Start(0.45)
			}
			limit := 0.1 + 5*r.Float64()
			before := p.LogE()
			var d Increments
			for j := range d {
				d[j] = 60 * r.NormFloat64()
			}
			p.Add(d, 1, limit)
			most := max(limit, slices.Max(d[:])/Gross)
			if p.LogE() > before+min(most, max(slices.Max(d[:]), 0))+1e-9 {
				t.Fatalf("got log evidence %v after %v, want at most %v more", p.LogE(), before, most)
			}
		}
	}
}

// exactly is the exact expectation of e^increment.
func exactly(nc, nb, pc, pb float64, s stakes) float64 {
	return math.Exp(nc*math.Log1p(pc*math.Expm1(s.c1)+(1-pc)*math.Expm1(s.c0)) +
		nb*math.Log1p(pb*math.Expm1(s.b1)+(1-pb)*math.Expm1(s.b0)))
}

// The expectation of every e-value under its null is at most 1, over a grid of
// exposures, rates, pilots, limits and effects: what all promises rest on.
func TestExpectationAtMostOne(t *testing.T) {
	worst, at := 0.0, ""
	rates := []float64{1e-6, 1e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99, 0.999, 1}
	pilots := []float64{0.0005, 0.005, 0.05, 0.2, 0.5, 0.8, 0.95, 0.9995}
	for _, kappa := range []float64{0.5, 0.85, 0.98, 1, 1.2, 2, 3} {
		for _, r := range []float64{0.13, 0.5, 0.9, 0.97, 1.05, 1.5, 2, 5, 33} {
			for _, n := range []Tally{{NC: 1, NB: 1}, {NC: 1, NB: 30}, {NC: 12, NB: 20}, {NC: 200, NB: 7}, {NC: 1000, NB: 1000}, {NC: 50, NB: 950}} {
				for _, pb := range rates {
					pc := kappa * pb
					if pc > 1 {
						continue
					}
					check := func(form string, e float64) {
						if e > worst {
							worst, at = e, fmt.Sprintf("%s: %+v kappa=%v r=%v p_b=%v", form, n, kappa, r, pb)
						}
					}
					check("Poisson", exactly(n.NC, n.NB, pc, pb, poissonStakes(n.NC, n.NB, kappa, r)))
					for _, p := range pilots {
						check(fmt.Sprintf("pilot %v", p), exactly(n.NC, n.NB, pc, pb, exactStakes(n.NC, n.NB, kappa, r, p)))
					}
				}
			}
		}
	}
	if worst > 1+1e-12 {
		t.Errorf("got expectation 1%+.3g at %s, want at most 1+1e-12", worst-1, at)
	}
	t.Logf("greatest expectation: 1%+.3g", worst-1)
}

// The same by brute force over every outcome of small intervals, also in the
// inside of the null, where the candidate does better than its limit.
func TestExpectationExhaustive(t *testing.T) {
	worst := 0.0
	for _, n := range [][2]int{{1, 1}, {2, 9}, {12, 20}, {25, 6}} {
		for _, kappa := range []float64{0.9, 1, 1.3} {
			for _, r := range []float64{0.6, 0.95, 1.1, 2.5} {
				for _, p := range []float64{0.01, 0.2, 0.6} {
					for _, pb := range []float64{0, 0.004, 0.07, 0.3, 0.66} {
						for _, inside := range []float64{1, 0.6} {
							pc := kappa * pb * inside
							if r < 1 {
								pc = 1 - (1-kappa*pb)*inside
							}
							worst = math.Max(worst, expectation(n[0], n[1], pc, pb, func(y Tally) float64 { return TwoSample(y, kappa, r, p) }))
						}
					}
				}
			}
		}
	}
	if worst > 1+1e-12 {
		t.Errorf("got expectation 1%+.3g, want at most 1+1e-12", worst-1)
	}
}

// A whole process, with a segment that starts on the way, a cap and a
// dispersion, has an expectation of at most 1 at the limit after every interval.
func TestExpectationOfProcess(t *testing.T) {
	test := Absolute(0.2, 0.4)
	const n = 7
	var walk func(p Process, left int) float64
	walk = func(p Process, left int) float64 {
		if left == 0 {
			return math.Exp(p.LogE())
		}
		if left == 2 {
			p.Start(0.3)
		}
		sum := 0.0
		for k := range n + 1 {
			next := p
			next.Add(test.Breach(Tally{NC: n, KC: float64(k)}, Pilot{}), 1.5, 1.1)
			sum += math.Exp(logBinomial(n, k, 0.2)) * walk(next, left-1)
		}
		return sum
	}
	var p Process
	p.Start(0.55)
	for intervals := 1; intervals <= 4; intervals++ {
		if e := walk(p, intervals); e > 1+1e-12 {
			t.Errorf("after %d intervals: got expectation %v, want at most 1", intervals, e)
		}
	}
}

// Whatever the numbers, evidence stays a number.
func FuzzIncrements(f *testing.F) {
	f.Add(190.0, 3.0, 560.0, 2.0, 1.2, 2.0, 0.005)
	f.Add(0.0, 0.0, 1e15, 1e15, 0.98, 0.95, 0.9999)
	f.Add(1e-300, 0.0, 1e-300, 0.0, 1e-9, 1e-9, 1.0)
	f.Fuzz(func(t *testing.T, nc, kc, nb, kb, limit, detect, p float64) {
		for _, v := range []float64{nc, kc, nb, kb} {
			if !(v >= 0 && v <= 1<<52) {
				return
			}
		}
		if !(limit > 1e-9 && limit < 1e6 && detect > 1e-9 && detect < 1e6 && p >= 0 && p <= 1) || kc > nc || kb > nb {
			return
		}
		y := Tally{NC: nc, KC: kc, NB: nb, KB: kb}
		pilot := Pilot{K: 1000 * p, N: 1000}
		for _, test := range []Hypotheses{Relative(limit, detect, 1), Absolute(limit, detect)} {
			for _, d := range test.Breach(y, pilot) {
				if math.IsNaN(d) || math.IsInf(d, 0) {
					t.Errorf("breach of %+v by %+v: got %v, want a number", y, test, d)
				}
			}
			for _, d := range test.Pass(y, pilot) {
				if math.IsNaN(d) || math.IsInf(d, 0) {
					t.Errorf("pass of %+v by %+v: got %v, want a number", y, test, d)
				}
			}
		}
	})
}

// The dispersion's bound is above the truth in most samples, near it in long
// ones, and 2 while too little is known.
func TestDispersion(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6)) //nolint:gosec // reproducible on purpose
	estimate := func(intervals, cluster int) float64 {
		var d Dispersion
		for range intervals {
			var pods [8]float64
			total := 0.0
			for i := range pods {
				for range 40 {
					if r.Float64() < 0.1 {
						pods[i] += float64(cluster)
						total += float64(cluster)
					}
				}
			}
			spread := d.Interval(total, 8*10000)
			for _, k := range pods {
				spread.Add(k, 10000)
			}
			spread.Done()
		}
		return d.Phi()
	}
	if got := (Dispersion{Freedom: 4, DF: 4, X2: 4}).Phi(); got != Unknown {
		t.Errorf("after 4 degrees of freedom: got %v, want %v", got, Unknown)
	}
	for _, cluster := range []int{1, 4} {
		// 40 draws of 0.1 each vary by 0.9 of what a Poisson number would.
		truth := math.Max(1, 0.9*float64(cluster))
		below := 0
		for range 200 {
			if estimate(10, cluster) < truth {
				below++
			}
		}
		if below > 60 {
			t.Errorf("clusters of %d: got %d of 200 bounds below the truth, want about 40 at most", cluster, below)
		}
		if got := estimate(3000, cluster); math.Abs(got-truth) > 0.1*truth {
			t.Errorf("clusters of %d: got %v after a long time, want about %v", cluster, got, truth)
		}
	}
}
