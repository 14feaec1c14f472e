package analysistest

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Exposition is the samples of one instant as /metrics would show them, in the text form
// that promise 0.0.4 made, with the labels endpoint and, unless bare, deployment and instance.
// The metrics are http_requests_total{code}, latency_seconds (a histogram),
// plays_total, revenue_sum, revenue_sum_of_squares and load (a gauge: 1).
func Exposition(samples []Sample, bare bool) string {
	var b strings.Builder
	for _, s := range samples {
		for _, l := range Lines(s, bare) {
			b.WriteString(l.Name)
			b.WriteByte('{')
			for i, x := range l.Labels {
				if i > 0 {
					b.WriteByte(',')
				}
				b.WriteString(x[0] + `="` + x[1] + `"`)
			}
			b.WriteString("} " + Number(l.Value) + "\n")
		}
	}
	return b.String()
}

// A Line is one series of a sample.
type Line struct {
	Name   string
	Labels [][2]string
	Value  float64
}

// Lines are the series of a sample. A code that never happened has none.
func Lines(s Sample, bare bool) []Line {
	base := [][2]string{{"endpoint", s.Endpoint}}
	if !bare {
		base = append(base, [2]string{"deployment", s.Deployment}, [2]string{"instance", s.Instance})
	}
	with := func(k, v string) [][2]string { return append(slices.Clone(base), [2]string{k, v}) }
	c := s.Counts
	out := []Line{{"http_requests_total", with("code", "200"), c.OK}}
	if c.Bad > 0 {
		out = append(out, Line{"http_requests_total", with("code", "503"), c.Bad})
	}
	var sum float64
	for i, n := range c.Slow {
		sum += n
		le := "+Inf"
		if i < len(Bounds) {
			le = Number(Bounds[i])
		}
		out = append(out, Line{"latency_seconds_bucket", with("le", le), sum})
	}
	return append(out,
		Line{"latency_seconds_count", base, sum},
		Line{"plays_total", base, c.Plays},
		Line{"revenue_sum", base, c.Sum},
		Line{"revenue_sum_of_squares", base, c.SumSq},
		Line{"load", base, 1})
}

// Number writes a number as expositions do.
func Number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
