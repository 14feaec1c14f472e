package sequential

import (
	"math"
	"testing"
)

// One interval of one relative guardrail: four effects for the breach, three
// for the pass, and both sums.
func BenchmarkIntervalRelative(b *testing.B) {
	test := Relative(1.2, 2, 1)
	y := Tally{NC: 190, KC: 1, NB: 3560, KB: 18}
	pilot := Pilot{K: 500, N: 100000}
	var p Process
	p.Start(0.55)
	var q Promotion
	b.ReportAllocs()
	for b.Loop() {
		p.Add(test.Breach(y, pilot), 1, 3)
		q.Add(test.Pass(y, pilot), 1)
		if p.LogE()+q.LogE() > math.MaxFloat64 {
			b.Fatal("got infinite evidence")
		}
	}
}

// One interval of one absolute guardrail.
func BenchmarkIntervalAbsolute(b *testing.B) {
	test := Absolute(0.01, 0.02)
	y := Tally{NC: 190, KC: 1}
	var p Process
	p.Start(0.55)
	var q Promotion
	b.ReportAllocs()
	for b.Loop() {
		p.Add(test.Breach(y, Pilot{}), 1, 3)
		q.Add(test.Pass(y, Pilot{}), 1)
		if p.LogE()+q.LogE() > math.MaxFloat64 {
			b.Fatal("got infinite evidence")
		}
	}
}
