package httpjson

import (
	"net/http"
	"testing"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

// No JSON makes a number that is none, whatever of it the paths select.
func FuzzRead(f *testing.F) {
	build := func(c *http.Client) (analysis.Source, error) {
		return New(Config{URL: "https://vendor.example/?to=${toUnix}", Client: c})
	}
	const row = `$.rows[?@.d=="${deployment}"]`
	metrics := map[analysis.Kind]analysis.Metric{
		analysis.KindCounts:    {Name: "failures", Counts: &analysis.Counts{Total: "sum(" + row + ".n)", Bad: "sum(" + row + ".bad)"}},
		analysis.KindHistogram: {Name: "latency", Histogram: &analysis.Histogram{Series: "buckets(" + row + ".b[*], $.le, $.n)", Unit: "ms"}},
		analysis.KindMean:      {Name: "revenue", Mean: &analysis.Mean{Count: row + ".n", Sum: row + ".s", SumOfSquares: row + ".q"}},
		analysis.KindValue:     {Name: "load", Value: &analysis.Value{Query: "max(" + row + "..load)"}},
	}
	analysistest.Hostile(f, build, metrics,
		`{"rows":[{"d":"blue","n":10,"bad":1,"s":3.5,"q":4,"load":[1,2],"b":[{"le":100,"n":4},{"le":"+Inf","n":1}]},{"d":"green","n":"7","bad":null}]}`,
		`{"rows":[{"d":"blue","n":1e308},{"d":"blue","n":1e308}]}`, `{"rows":[{"d":"blue","b":[{"le":5,"n":-1},{"le":5}]}]}`,
		`{"rows":[{"d":"blue","n":1,"bad":2,"s":-1e308,"q":-1}]}`, `[]`, `null`, `{"rows":{"a":{"d":"green","n":true}}}`)
}
