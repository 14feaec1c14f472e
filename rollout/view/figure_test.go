package view

import (
	"math"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
)

// The figures of a rollout are written in one way, wherever they are shown.
func TestFigures(t *testing.T) {
	num := func(x float64) *float64 { return &x }
	rate := Guardrail{Unit: "rate", N: 11520, StableN: 90}
	half := &Evidence{Breach: 0.0291, Pass: 0.9999}
	for _, c := range []struct{ got, want string }{
		{Figure(nil, "share"), "–"}, {Figure(num(math.NaN()), "s"), "–"},
		{Figure(num(0.194), "share"), "19.4%"}, {Figure(num(7e-11), "share"), "0%"}, {Figure(num(0.00031), "share"), "0.031%"}, {Figure(num(1), "share"), "100%"},
		{Figure(num(0.0928), "s"), "92.8ms"}, {Figure(num(0.183), "s"), "183ms"}, {Figure(num(1.234), "s"), "1.23s"}, {Figure(num(0.0004), "s"), "0.4ms"},
		{Figure(num(12345.678), "mean"), "1.235e+04"}, {Figure(num(71.2), "value"), "71.2"},
		{Between(&[2]float64{0.085, 0.348}, "share"), "8.5–34.8%"}, {Between(&[2]float64{0.2, 1.2}, "s"), "200ms–1.20s"}, {Between(nil, "s"), "–"},
		{Count(0), "0"}, {Count(999), "999"}, {Count(48210), "48,210"}, {Count(1000), "1,000"}, {Count(1234567.6), "1,234,568"}, {Count(-1), "-1"}, {Count(-0.4), "0"},
		{Count(-12345), "-12,345"}, {Count(math.Inf(1)), "+Inf"}, {Count(1e20), "1e+20"},
		{Span(4200 * time.Millisecond), "4s"}, {Span(125 * time.Second), "2m5s"}, {Span(3*time.Hour + 12*time.Minute), "3h12m"},
		{Span(120 * time.Hour), "5d"}, {Span(-1), "0s"},
		{rate.Size(), "3h12m"}, {rate.StableSize(), "1m30s"}, {Guardrail{N: 48210}.Size(), "48,210"},
		{half.Words(), "2% of the evidence for a breach, 99% of that for a pass"}, {(*Evidence)(nil).Words(), ""},
		{half.Progress(analysis.OutcomeUndecided), "undecided 99%"}, {half.Progress(analysis.OutcomePass), "pass"},
		{(*Evidence)(nil).Progress(analysis.OutcomeUndecided), "undecided"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
