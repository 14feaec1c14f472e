package analysis

import (
	"fmt"
	"testing"
)

// Instances that are alike never break a guardrail against each other; one that
// fails more than the others does, and is named.
func TestPlacebo(t *testing.T) {
	p := errorsPanel(atMost12x, 2)
	for _, c := range []struct {
		name string
		odd  float64
		want []string
	}{{"alike", 0.005, nil}, {"one is odd", 0.05, []string{"stable-3"}}} {
		t.Run(c.name, func(t *testing.T) {
			r := seeded(4)
			var rs []Reading
			for i := 1; i <= 80; i++ {
				x := counted(i, 0, 0, 0, 0)
				x.Candidate = Sample{}
				for j := range 6 {
					rate := 0.005
					if j == 3 {
						rate = c.odd
					}
					n := pois(r, 400)
					in := Sample{Fresh: true, N: n, K: binom(r, n, rate)}
					x.Stable.join(&in)
					x.Stable.Instances = append(x.Stable.Instances, Instance{Name: fmt.Sprintf("stable-%d", j), Sample: in})
				}
				rs = append(rs, x)
			}
			got := p.AATest(rs)
			if got.Trials != 6 || fmt.Sprint(got.Broken) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, want %v broken in 6 trials", got, c.want)
			}
			if clusters := got.Phi > 2; clusters != (c.want != nil) || got.Phi < 1 {
				t.Errorf("got a dispersion of %v, want it far above 1: %t", got.Phi, c.want != nil)
			}
			if want := float64(len(c.want)) / 6; got.Rate() != want {
				t.Errorf("got a rate of %v, want %v", got.Rate(), want)
			}
		})
	}
	if got := p.AATest(nil); got.Trials != 0 || got.Rate() != 0 {
		t.Errorf("of nothing: got %+v, want no trials", got)
	}
}
