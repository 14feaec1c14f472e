package chart_test

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/view"
	"github.com/belayd/belay/rollout/view/chart"
)

// guardrails are those of a picture of a rollout with every kind of row.
func guardrails() []chart.Row {
	num := func(x float64) *float64 { return &x }
	est := func(value, low, high float64) *view.Estimate {
		return &view.Estimate{Value: value, Low: low, High: high}
	}
	of := func(name, unit, limit string, o analysis.Outcome, candidate, stable *view.Estimate, at *float64) chart.Row {
		g := view.Guardrail{
			Name: name, Unit: unit, Limit: limit, Verdict: o,
			Candidate: &candidate.Value, Interval: &[2]float64{candidate.Low, candidate.High},
			Plot: &view.Plot{Candidate: *candidate, Stable: stable, Limit: at, More: strings.HasPrefix(limit, ">="), Unit: unit},
		}
		if stable != nil {
			g.Stable = &stable.Value
		}
		return chart.RowOf(g)
	}
	return []chart.Row{
		of("failures", "share", "<= 1%", analysis.OutcomePass, est(0.0031, 0.0024, 0.0039), est(0.0029, 0.0027, 0.0031), num(0.01)),
		of("p95", "s", "<= 450ms", analysis.OutcomeUndecided, est(0.183, 0.176, 0.191), est(0.18, 0.178, 0.182), num(0.45)),
		of("watch-through", "share", ">= 0.98x stable", analysis.OutcomeResting, est(0.712, 0.692, 0.733), est(0.714, 0.71, 0.718), num(0.7)),
		of("cpu", "value", "<= 85", analysis.OutcomeBreach, est(91, 88, 94), nil, num(85)),
		of("revenue", "mean", ">= 0.9x stable", analysis.OutcomeNoData, est(-3, -5, 1), nil, nil),
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
	goldentest.Check(t, file, got)
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
