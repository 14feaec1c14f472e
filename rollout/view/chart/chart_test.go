package chart_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/view"
	"github.com/belayd/belay/rollout/view/chart"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// guardrails are those of a picture of a rollout with every kind of row.
func guardrails() []chart.Row {
	num := func(x float64) *float64 { return &x }
	of := func(name, unit, limit string, o analysis.Outcome, p view.Plot) chart.Row {
		p.Unit = unit
		g := view.Guardrail{Name: name, Unit: unit, Limit: limit, Verdict: o, Plot: &p, Candidate: &p.Candidate.Value, Interval: &[2]float64{p.Candidate.Low, p.Candidate.High}}
		if p.Stable != nil {
			g.Stable = &p.Stable.Value
		}
		return chart.RowOf(g)
	}
	return []chart.Row{
		of("failures", "share", "<= 1%", analysis.OutcomePass, view.Plot{Candidate: view.Estimate{Value: 0.0031, Low: 0.0024, High: 0.0039}, Stable: &view.Estimate{Value: 0.0029, Low: 0.0027, High: 0.0031}, Limit: num(0.01)}),
		of("p95", "s", "<= 450ms", analysis.OutcomeUndecided, view.Plot{Candidate: view.Estimate{Value: 0.183, Low: 0.176, High: 0.191}, Stable: &view.Estimate{Value: 0.18, Low: 0.178, High: 0.182}, Limit: num(0.45)}),
		of("watch-through", "share", ">= 0.98x stable", analysis.OutcomeResting, view.Plot{Candidate: view.Estimate{Value: 0.712, Low: 0.692, High: 0.733}, Stable: &view.Estimate{Value: 0.714, Low: 0.71, High: 0.718}, Limit: num(0.7), More: true}),
		of("cpu", "value", "<= 85", analysis.OutcomeBreach, view.Plot{Candidate: view.Estimate{Value: 91, Low: 88, High: 94}, Limit: num(85)}),
		of("revenue", "mean", ">= 0.9x stable", analysis.OutcomeNoData, view.Plot{Candidate: view.Estimate{Value: -3, Low: -5, High: 1}}),
		{Name: "nothing to draw", Verdict: analysis.OutcomeNoData},
	}
}

// The SVG is what a page shows; testdata/chart.svg opens in a browser as it will there,
// but for the page's style sheet.
func TestSVG(t *testing.T) {
	s, ok := chart.New("recs: green 2026.11.3, step quarter", "bar: interval of green, dot: its estimate", guardrails())
	if !ok {
		t.Fatal("there is nothing to draw")
	}
	svg := s.SVG()
	got := strings.Replace(svg, ">\n", ">\n<style>"+chart.Style+"</style>\n", 1)
	file := filepath.Join("testdata", "chart.svg")
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("chart.svg (-want +got; look at the picture and run with -update):\n%s", diff)
	}
	if strings.Contains(svg, "style") || strings.Contains(svg, "#") {
		t.Error("the SVG has colours of its own; a page gives them by class")
	}
}

// Whatever the figures are, every shape is inside the scene.
func TestInside(t *testing.T) {
	huge, nan := math.MaxFloat64, math.NaN()
	for name, p := range map[string]view.Plot{
		"all zero":        {},
		"one point":       {Candidate: view.Estimate{Value: 3, Low: 3, High: 3}},
		"the whole range": {Candidate: view.Estimate{Low: -huge, High: huge}, Limit: &huge},
		"turned around":   {Candidate: view.Estimate{Value: 5, Low: 9, High: 1}},
		"limit at an end": {Candidate: view.Estimate{Value: 5, Low: 4, High: 6}, Limit: new(float64), More: true},
	} {
		s, ok := chart.New("t", "n", []chart.Row{{Name: "g", Plot: &p}})
		if !ok {
			t.Errorf("%s: nothing is drawn", name)
		}
		for _, sh := range s.Shapes {
			inside := sh.X-sh.R >= 0 && sh.Y-sh.R >= 0 && sh.X+sh.R <= s.Width && sh.Y+sh.R <= s.Height
			if sh.Kind == chart.Rect {
				inside = sh.X >= 0 && sh.W >= 0 && sh.X+sh.W <= s.Width && sh.Y >= 0 && sh.H >= 0 && sh.Y+sh.H <= s.Height
			}
			if !inside {
				t.Errorf("%s: %+v is outside of %d x %d", name, sh, s.Width, s.Height)
			}
		}
	}
	for name, p := range map[string]*view.Plot{"none": nil, "not a number": {Limit: &nan}, "infinite": {Candidate: view.Estimate{High: math.Inf(1)}}} {
		if _, ok := chart.New("t", "n", []chart.Row{{Name: "g", Plot: p}}); ok {
			t.Errorf("%s: something is drawn", name)
		}
	}
}

// What a policy or a release calls itself acts as nothing in a page.
func TestHostileText(t *testing.T) {
	evil := "\"><script>alert(1)</script>\x00\u202e&<!--" + strings.Repeat("x", 5000)
	s, _ := chart.New(evil, evil, []chart.Row{{Name: evil, Limit: evil, Verdict: analysis.Outcome(evil), Candidate: evil, Interval: evil, Stable: evil, Plot: &view.Plot{Unit: evil}}})
	svg := s.SVG()
	elements := map[string]bool{}
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the SVG is not well-formed: %v", err)
		}
		if e, ok := tok.(xml.StartElement); ok {
			elements[e.Name.Local] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"svg": true, "rect": true, "circle": true, "text": true}, elements); diff != "" || len(svg) > 20_000 {
		t.Errorf("an SVG of %d bytes; elements (-want +got):\n%s", len(svg), diff)
	}
}
