package sequential

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A regression of the size that must be excluded crosses the falling boundary before the
// end in a share beta of cases, and a release as good as stable oftener than it reaches
// the boundary that holds for ever. Mutant: a boundary that falls by all that is due
// twice lets the regression pass.
func TestClosing(t *testing.T) {
	const looks, trials = 300, 4000
	r := rand.New(rand.NewPCG(1, 2))
	cross := func(drift, planned float64, need []float64) float64 {
		n := 0
		step := planned / looks
		for range trials {
			l := 0.0
			for i := range looks {
				l += drift*step + math.Sqrt(2*step)*r.NormFloat64()
				if l >= need[i] {
					n++
					break
				}
			}
		}
		return float64(n) / trials
	}
	for _, beta := range []float64{0.05, 0.1, 0.3} {
		forever := math.Log(1 / beta)
		for _, planned := range []float64{0.6 * forever, forever, 2.5 * forever} {
			closing, always, mutant := make([]float64, looks), make([]float64, looks), make([]float64, looks)
			for i := range looks { // the boundary is the same in every trial
				due := planned / looks * float64(i+1)
				need, ok := Closing(due, planned, beta)
				if !ok {
					need = math.Inf(1)
				}
				closing[i], always[i], mutant[i] = need, forever, need-2*due
			}
			if got := cross(-1, planned, closing); got > 1.15*beta || got < 0.6*beta {
				t.Errorf("beta %v, %v planned: got a false pass in %.3f, want about beta", beta, planned, got)
			}
			good, before := cross(1, planned, closing), cross(1, planned, always)
			if good < before {
				t.Errorf("beta %v, %v planned: got a pass in %.2f, want more than %.2f", beta, planned, good, before)
			}
			if got := cross(-1, planned, mutant); got <= 1.15*beta {
				t.Errorf("beta %v, %v planned: the mutant was not caught: %.3f", beta, planned, got)
			}
		}
		for _, planned := range []float64{0, 0.4 * forever, 4 * forever} {
			if need, ok := Closing(planned/2, planned, beta); ok {
				t.Errorf("beta %v, %v planned: got %v, want the boundary that holds for ever", beta, planned, need)
			}
		}
	}
}
