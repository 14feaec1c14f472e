// Package chart draws the guardrails of a rollout: for each its name, the candidate's
// interval and estimate over stable's, and the limit with what lies beyond it.
//
// The rules of the package:
//   - There is one scene, of plain shapes: a messenger paints it as a picture, a page
//     shows it as SVG. Neither places anything of its own.
//   - A shape has a class that says what it means, and no colour. What a colour says
//     stands beside it in words.
package chart

import (
	"math"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/view"
)

// The measures in pixels.
const (
	Width      = 1000
	headHeight = 56
	rowHeight  = 76
	footHeight = 40
	margin     = 20
	plotLeft   = 230
	plotRight  = 700
	barHeight  = 14
)

// A Row is one guardrail, its figures in words and as a plot.
type Row struct {
	Name      string
	Verdict   analysis.Outcome
	Limit     string
	Candidate string
	Interval  string
	Stable    string
	Plot      *view.Plot
}

// RowOf is the row of a guardrail.
func RowOf(g view.Guardrail) Row {
	return Row{
		Name: g.Name, Verdict: g.Verdict, Limit: g.Limit, Candidate: view.Figure(g.Candidate, g.Unit),
		Interval: view.Between(g.Interval, g.Unit), Stable: view.Figure(g.Stable, g.Unit), Plot: g.Plot,
	}
}

// A Scene is what is to be seen: shapes from back to front, all of them inside.
type Scene struct {
	Title         string
	Width, Height int
	Shapes        []Element
}

// Kind is the kind of a shape.
type Kind int

// The kinds of shapes.
const (
	Rect Kind = iota // from X, Y to X+W, Y+H
	Dot              // a filled circle around X, Y with the radius R
	Text             // with its baseline at Y, at X as Anchor says, at most W wide
)

// Class says what a shape means: its colour, or its name in a style sheet.
type Class string

// The classes. The last four are those of verdicts.
const (
	Ink     Class = "ink"
	Faint   Class = "faint"
	Rule    Class = "rule"
	Beyond  Class = "beyond"
	Limit   Class = "limit"
	Stable  Class = "stable"
	Pass    Class = "pass"
	Breach  Class = "breach"
	Unknown Class = "unknown"
	Resting Class = "resting"
)

// Font is how a text is set.
type Font string

// The fonts: 16, 18 and 13 pixels.
const (
	Plain Font = "plain"
	Bold  Font = "bold"
	Small Font = "small"
)

// Anchor says which end of a text stands at its place.
type Anchor string

// The anchors, in SVG's words.
const (
	Start  Anchor = "start"
	Middle Anchor = "middle"
	End    Anchor = "end"
)

// An Element is a rectangle, a dot or a text.
type Element struct {
	Kind       Kind
	Class      Class
	X, Y, W, H int
	R          int
	// Light: a paler tone of the class.
	Light  bool
	Text   string
	Font   Font
	Anchor Anchor
}

// New is the scene of the rows that have finite figures; false when there is none.
// title stands above them, note below.
func New(title, note string, rows []Row) (Scene, bool) {
	s := Scene{Title: title, Width: Width}
	s.text(Ink, Bold, margin, 36, Width-2*margin, title)
	y := headHeight
	for _, r := range rows {
		if r.Plot != nil && r.Plot.Finite() {
			s.row(y, r)
			y += rowHeight
		}
	}
	s.rect(Rule, margin, y, Width-margin, y+1)
	s.text(Faint, Small, margin, y+24, Width-2*margin, note)
	s.Height = y + footHeight
	return s, y > headHeight
}

// row draws one guardrail into the band that begins at y.
func (s *Scene) row(y int, r Row) {
	s.rect(Rule, margin, y, Width-margin, y+1)
	middle, p, a := y+32, *r.Plot, axisOf(*r.Plot)
	s.text(Ink, Plain, margin, middle-2, plotLeft-2*margin, r.Name)
	s.text(Faint, Small, margin, middle+18, plotLeft-2*margin, "limit "+compared(r.Limit))
	if p.Limit != nil {
		at := a.x(*p.Limit)
		if p.More {
			s.rect(Beyond, plotLeft, y+8, at, y+56)
		} else {
			s.rect(Beyond, at, y+8, plotRight, y+56)
		}
		s.rect(Limit, at-1, y+4, at+2, y+60)
	}
	s.figures(y+71, p, a)
	if p.Stable != nil {
		s.rect(Stable, a.x(p.Stable.Low), middle+6, a.x(p.Stable.High)+1, middle+6+barHeight/2)
		s.dot(Faint, a.x(p.Stable.Value), middle+6+barHeight/4, 4)
	}
	tone := toneOf(r.Verdict)
	s.rect(tone, a.x(p.Candidate.Low), middle-barHeight, a.x(p.Candidate.High)+1, middle)
	s.Shapes[len(s.Shapes)-1].Light = true
	s.dot(tone, a.x(p.Candidate.Value), middle-barHeight/2, 7)
	const right = Width - plotRight - 2*margin
	s.text(tone, Plain, plotRight+margin, middle-2, right, string(r.Verdict)+"  "+r.Candidate)
	s.text(Faint, Small, plotRight+margin, middle+18, right, r.Interval+", stable "+r.Stable)
}

// figures writes what the ends of the axis and the limit stand for; an end makes way
// for the limit.
func (s *Scene) figures(y int, p view.Plot, a axis) {
	const room = 70
	at := plotLeft - room
	if p.Limit != nil {
		at = a.x(*p.Limit)
		s.label(Limit, Middle, min(max(at, plotLeft+room/3), plotRight-room/3), y, view.Figure(p.Limit, p.Unit))
	}
	if at < plotLeft || at-plotLeft > room {
		s.label(Faint, Start, plotLeft, y, view.Figure(&a.low, p.Unit))
	}
	if plotRight-at > room {
		s.label(Faint, End, plotRight, y, view.Figure(&a.high, p.Unit))
	}
}

// toneOf is the class of a verdict.
func toneOf(o analysis.Outcome) Class {
	switch o {
	case analysis.OutcomePass:
		return Pass
	case analysis.OutcomeBreach:
		return Breach
	case analysis.OutcomeResting:
		return Resting
	case analysis.OutcomeUndecided, analysis.OutcomeNoData, analysis.OutcomeError:
	}
	return Unknown
}

// compared writes a limit with the signs that people know.
func compared(limit string) string {
	return strings.NewReplacer("<=", "≤", ">=", "≥").Replace(limit)
}

// An axis maps a guardrail's figures to pixels.
type axis struct{ low, high float64 }

// axisOf is an axis that shows all of a plot's figures.
func axisOf(p view.Plot) axis {
	low, high := math.Inf(1), math.Inf(-1)
	see := func(xs ...float64) {
		for _, x := range xs {
			low, high = min(low, x), max(high, x)
		}
	}
	see(p.Candidate.Value, p.Candidate.Low, p.Candidate.High)
	if p.Stable != nil {
		see(p.Stable.Value, p.Stable.Low, p.Stable.High)
	}
	if p.Limit != nil {
		see(*p.Limit)
	}
	// In halves, because the difference of two large figures may be none.
	half := high/2 - low/2
	if half == 0 {
		half = max(math.Abs(high), 1) / 2
	}
	pad := half / 5
	positive := low >= 0
	low, high = low-pad, high+pad
	if positive {
		low = max(low, 0) // what cannot be negative has no negative end
	}
	return axis{low, high}
}

// x is the place of a figure, inside the plot.
func (a axis) x(v float64) int {
	share := (v/2 - a.low/2) / (a.high/2 - a.low/2)
	if !(share >= 0 && share <= 1) { // also where figures at the end of their range have overflowed
		share = 0.5
	}
	return plotLeft + int(share*(plotRight-plotLeft))
}

func (s *Scene) rect(c Class, x0, y0, x1, y1 int) {
	x0, x1 = min(x0, x1), max(x0, x1)
	s.Shapes = append(s.Shapes, Element{Kind: Rect, Class: c, X: x0, Y: y0, W: x1 - x0, H: y1 - y0})
}

func (s *Scene) dot(c Class, x, y, r int) {
	s.Shapes = append(s.Shapes, Element{Kind: Dot, Class: c, X: x, Y: y, R: r})
}

func (s *Scene) text(c Class, f Font, x, y, w int, text string) {
	s.Shapes = append(s.Shapes, Element{Kind: Text, Class: c, Font: f, Anchor: Start, X: x, Y: y, W: w, Text: text})
}

func (s *Scene) label(c Class, a Anchor, x, y int, text string) {
	const w = plotRight - plotLeft
	s.Shapes = append(s.Shapes, Element{Kind: Text, Class: c, Font: Small, Anchor: a, X: x, Y: y, W: w, Text: text})
}
