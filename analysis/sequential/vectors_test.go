package sequential

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
)

// near fails unless got agrees with want to the given relative precision.
func near(t *testing.T, what string, got, want, precision float64) {
	t.Helper()
	if !(math.Abs(got-want) <= precision*math.Max(1, math.Abs(want))) {
		t.Errorf("%s: got %.10g, want %.10g", what, got, want)
	}
}

// The one-sample mixture against figures computed with 40 digits.
func TestVectorsOneSample(t *testing.T) {
	for _, c := range []struct{ k, n, want float64 }{
		{0, 100, -0.6762210263},
		{3, 100, 1.335501233},
		{10, 1000, 0.6486183722},
		{30, 2000, 6.97060541},
		{100, 10000, 10.48603764},
		{250, 10000, 164.0740121},
		{2500, 250000, 278.3856891},
	} {
		// The vector's own grid: the powers 1, ½, 2.5 and 5 of the design effect.
		got := math.Inf(-1)
		for j, w := range []float64{1. / 2, 1. / 6, 1. / 6, 1. / 6} {
			q := 0.006 * math.Pow(0.01/0.006, []float64{1, 0.5, 2.5, 5}[j])
			got = LogSum(got, math.Log(w)+OneSample(c.k, c.n, 0.006, q))
		}
		near(t, fmt.Sprintf("k=%v n=%v", c.k, c.n), got, c.want, 1e-9)
	}
}

// The two-sample increments, their projections and their Poisson limits.
func TestVectorsTwoSample(t *testing.T) {
	for _, c := range []struct{ kc, nc, kb, nb, r, kappa, p, x, pc1, loge, poisson float64 }{
		{3, 190, 2, 560, 2 / 1.2, 1.2, 0.005, 0.005965290346, 0.01, 0.6554917103, 0.6505679443},
		{0, 190, 3, 560, 2 / 1.2, 1.2, 0.005, 0.005965290346, 0.01, -0.5335148697, -0.5291453562},
		{20, 3750, 40, 71250, 2 / 1.2, 1.2, 0.005, 0.005198214645, 0.01, 7.92340849, 7.886122476},
		{30, 187, 20, 562, 1.9, 1, 0.05, 0.06123497997, 0.095, 9.817942064, 9.120837135},
		{95, 187, 330, 562, 0.95 / 0.98, 0.98, 0.6, 0.5955815928, 0.57, 0.6112887349, 0.2577152429},
		{400, 700, 140, 230, 0.95 / 0.98, 0.98, 0.6, 0.5863417638, 0.57, 0.213567085, 0.0877942276},
		{700, 750, 10, 250, 30, 1.2, 0.05, 0.7298650126, 0.98, 262.3685313, 133.4811463},
	} {
		y := Tally{NC: c.nc, KC: c.kc, NB: c.nb, KB: c.kb}
		x, q := projection(c.nc, c.nb, c.kappa, c.r, c.p)
		what := fmt.Sprintf("%+v kappa=%v r=%v P=%v", y, c.kappa, c.r, c.p)
		near(t, what+" x", x/c.x, 1, 1e-9)
		near(t, what+" pc1", q/c.pc1, 1, 1e-9)
		near(t, what, TwoSample(y, c.kappa, c.r, c.p), c.loge, 1e-9)
		near(t, what+" Poisson", Poisson(y, c.kappa, c.r), c.poisson, 1e-9)
	}
}

// Two segments, one of which starts between intervals, with the cap at work.
func TestVectorsRestart(t *testing.T) {
	// The vector has two effects of weights .7 and .3, this package others: each
	// effect is followed by a process of its own, and their weighted sum compared.
	effects := []struct{ q, w float64 }{{0.02, 0.7}, {0.05, 0.3}}
	processes := make([]Process, len(effects))
	for i := range processes {
		processes[i].Start(0.6)
	}
	want := []float64{-0.2434015289, -0.5998057893, 2.400194211, 5.246344662}
	for i, y := range []Tally{{KC: 2, NC: 150}, {KC: 1, NC: 160}, {KC: 9, NC: 170}, {KC: 6, NC: 140}} {
		got := math.Inf(-1)
		for j, e := range effects {
			if i == 2 {
				processes[j].Start(0.4)
			}
			inc := OneSample(y.KC, y.NC, 0.01, e.q)
			processes[j].Add(Increments{inc, inc, inc, inc, inc, inc}, 1, 3.0)
			got = LogSum(got, math.Log(e.w)+processes[j].LogE())
		}
		near(t, fmt.Sprintf("after interval %d", i+1), got, want[i], 1e-9)
	}
}

// The exact expectation of the two-sample e-value under its null, by summing
// over all outcomes.
func TestVectorsExpectation(t *testing.T) {
	for _, c := range []struct{ r, kappa, p, pb, want, poisson float64 }{
		{2, 1.2, 0.1, 0.01, 0.9431962447, 0.9997681336},
		{2, 1.2, 0.1, 0.071343286, 0.98341739, 0.9883550473},
		{2, 1.2, 0.1, 0.14268657, 1.0, 0.9545891008},
		{2, 1.2, 0.1, 0.3, 0.9243704736, 0.8168035027},
		{2, 1.2, 0.1, 0.5, 0.6718321675, 0.5744804577},
		{2, 1.2, 0.1, 0.8, 0.265504202, 0.2455787147},
		{0.9, 0.98, 0.6, 0.01, 0.934592223, 0.9999960566},
		{0.9, 0.98, 0.6, 0.28908018, 0.982479358, 0.9966939474},
		{0.9, 0.98, 0.6, 0.57816036, 1.0, 0.9867717555},
		{0.9, 0.98, 0.6, 0.3, 0.9837611703, 0.9964392195},
		{0.9, 0.98, 0.6, 0.5, 0.9986985488, 0.9901043702},
		{0.9, 0.98, 0.6, 0.8, 0.9894356535, 0.9747207028},
	} {
		what := fmt.Sprintf("%+v", c)
		exact := func(y Tally) float64 { return TwoSample(y, c.kappa, c.r, c.p) }
		poisson := func(y Tally) float64 { return Poisson(y, c.kappa, c.r) }
		near(t, what, expectation(12, 20, c.kappa*c.pb, c.pb, exact), c.want, 2e-9)
		near(t, what+" Poisson", expectation(12, 20, c.kappa*c.pb, c.pb, poisson), c.poisson, 2e-9)
	}
}

// expectation is E[exp(inc)] when nc candidates fail with rate pc and nb
// baselines with rate pb.
func expectation(nc, nb int, pc, pb float64, inc func(Tally) float64) float64 {
	sum := 0.0
	for kc := range nc + 1 {
		for kb := range nb + 1 {
			y := Tally{NC: float64(nc), KC: float64(kc), NB: float64(nb), KB: float64(kb)}
			sum += math.Exp(logBinomial(nc, kc, pc) + logBinomial(nb, kb, pb) + inc(y))
		}
	}
	return sum
}

func logBinomial(n, k int, p float64) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	l := a - b - c
	if k > 0 {
		l += float64(k) * math.Log(p)
	}
	if n > k {
		l += float64(n-k) * math.Log1p(-p)
	}
	return l
}

// The interval of a rate, against quadrature.
func TestVectorsInterval(t *testing.T) {
	for _, c := range []struct{ k, n, low, high float64 }{
		{0, 200, 0.0, 0.030611099},
		{5, 1000, 0.00053930417, 0.018003859},
		{12, 1000, 0.0033577336, 0.0291978},
		{60, 1000, 0.036402545, 0.091383736},
		{600, 1000, 0.54269174, 0.65553524},
	} {
		low, high := Interval(c.k, c.n, 0.05)
		what := fmt.Sprintf("k=%v n=%v", c.k, c.n)
		near(t, what+" low", low, c.low, 1e-8)
		near(t, what+" high", high, c.high, 1e-8)
		near(t, what+" at high", LogBeta(c.k, c.n, c.high), 2.9957323, 1e-6)
	}
}

// The closed form of the one-sided Gaussian mixture.
func TestVectorsHalfNormal(t *testing.T) {
	for _, c := range []struct{ u, v, tau, want float64 }{
		{-30, 100, 0.2, 3.484776385},
		{0, 100, 0.2, -0.8047189562},
		{10, 100, 0.2, -1.396020534},
		{-200, 5000, 0.05, 3.092252963},
		{-800, 5000, 0.05, 58.6510616},
	} {
		near(t, fmt.Sprintf("u=%v v=%v tau=%v", c.u, c.v, c.tau), HalfNormal(c.u, c.v, c.tau), c.want, 1e-9)
	}
}

// The chance of a first passage.
func TestVectorsFirstPassage(t *testing.T) {
	for _, c := range []struct{ a, mu, s2, n, want float64 }{
		{5.298317, 0.001944, 0.0048, 2000, 0.43514643},
		{5.298317, 0.001944, 0.0048, 4000, 0.81815489},
		{4.60517, 0.05, 0.2, 60, 0.4622148},
	} {
		w := EvidenceDrift{Distance: c.a, Mean: c.mu, Variance: c.s2}
		near(t, fmt.Sprintf("%+v n=%v", w, c.n), w.Crossed(c.n), c.want, 1e-8)
		near(t, fmt.Sprintf("%+v quantile", w), w.Quantile(c.want)/c.n, 1, 1e-6)
	}
}

// The rates at which the best possible evidence grows.
func TestVectorsInformation(t *testing.T) {
	near(t, "KL(.01||.006)", Divergence(0.01, 0.006)/0.001116315345, 1, 1e-9)
	near(t, "KL(.01||.005)", Divergence(0.01, 0.005)/0.001944055716, 1, 1e-9)
	for _, c := range []struct{ w, pc, pb, kappa, x, rate, wald float64 }{
		{0.05, 0.01, 0.005, 1.2, 0.0051982146, 5.1878963e-5, 88767.583},
		{0.25, 0.01, 0.005, 1.2, 0.0059531965, 0.00018872613, 24401.338},
		{0.05, 0.0706, 0.05, 1.0, 0.05103, 0.00018802871, 24491.846},
		{0.25, 0.57, 0.6, 0.98, 0.59557561, 0.00012626777, 36471.461},
	} {
		rate, x := Information(c.w, c.pc, c.pb, c.kappa)
		what := fmt.Sprintf("%+v", c)
		near(t, what+" x", x/c.x, 1, 1e-8)
		near(t, what+" rate", rate/c.rate, 1, 1e-7)
		near(t, what+" Wald", math.Log(100)/rate/c.wald, 1, 1e-7)
	}
}

// The weights of the effects sum to 1, whatever their number.
func TestPriors(t *testing.T) {
	for _, prior := range [][]float64{logPrior[:], passLogPrior[:]} {
		sum := 0.0
		for _, l := range prior {
			sum += math.Exp(l)
		}
		near(t, "sum of the weights", sum, 1, 1e-12)
	}
}

// Evidence that was stored with fewer effects goes on: what it has stays, and the effects
// that it did not know begin where every effect begins.
func TestProcessOfFewerEffects(t *testing.T) {
	var p Process
	if err := json.Unmarshal([]byte(`{"log":[0.5,-1,2,-3],"started":0.25,"newest":0.01}`), &p); err != nil {
		t.Fatal(err)
	}
	begun := math.Log(0.25)
	if want := (Process{Log: Increments{0.5, -1, 2, -3, begun, begun}, Started: 0.25, Newest: 0.01}); p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
	if err := json.Unmarshal([]byte(`{"log":[0,0],"started":1}`), &p); err == nil {
		t.Error("two effects: got no error")
	}
}
