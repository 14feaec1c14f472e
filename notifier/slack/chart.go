package slack

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"strings"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/view"
)

// The chart's measures in pixels.
const (
	chartWidth = 1000
	headHeight = 56
	rowHeight  = 64
	footHeight = 40
	plotLeft   = 230
	plotRight  = 700
	barHeight  = 14
)

// The chart's colours; each is beside a word that says the same.
var (
	ink     = color.RGBA{0x1d, 0x1c, 0x1d, 0xff}
	faint   = color.RGBA{0x61, 0x60, 0x61, 0xff}
	rule    = color.RGBA{0xdd, 0xdd, 0xdd, 0xff}
	beyond  = color.RGBA{0xfb, 0xe3, 0xe1, 0xff}
	limit   = color.RGBA{0xc6, 0x28, 0x28, 0xff}
	stable  = color.RGBA{0x9e, 0xae, 0xbd, 0xff}
	pass    = color.RGBA{0x2e, 0x7d, 0x32, 0xff}
	breach  = color.RGBA{0xc6, 0x28, 0x28, 0xff}
	unknown = color.RGBA{0xb2, 0x6a, 0x00, 0xff}
)

// faces are the fonts, parsed once.
var faces = sync.OnceValues(func() (struct{ text, bold, small font.Face }, error) {
	var fs struct{ text, bold, small font.Face }
	for _, f := range []struct {
		face *font.Face
		ttf  []byte
		size float64
	}{{&fs.text, goregular.TTF, 16}, {&fs.bold, gobold.TTF, 18}, {&fs.small, goregular.TTF, 13}} {
		parsed, err := opentype.Parse(f.ttf)
		if err != nil {
			return fs, err
		}
		if *f.face, err = opentype.NewFace(parsed, &opentype.FaceOptions{Size: f.size, DPI: 72, Hinting: font.HintingFull}); err != nil {
			return fs, err
		}
	}
	return fs, nil
})

// drawing guards the fonts, which one chart at a time may use.
var drawing sync.Mutex

// chart draws the guardrails of n that have figures: for each its name, the
// candidate's interval and estimate over stable's, and the limit with what lies
// beyond it. It returns nil where there is nothing to draw.
func chart(n notifier.Notice) ([]byte, error) {
	var rows []notifier.Guardrail
	for _, g := range n.Rollout.Guardrails {
		if g.Plot != nil && g.Plot.Finite() && len(rows) < maxGuardrails {
			rows = append(rows, g)
		}
	}
	if len(rows) == 0 {
		return nil, nil
	}
	drawing.Lock()
	defer drawing.Unlock()
	fs, err := faces()
	if err != nil {
		// Unreachable: the fonts are part of the program.
		return nil, fmt.Errorf("read font: %w", err)
	}
	img := image.NewRGBA(image.Rect(0, 0, chartWidth, headHeight+len(rows)*rowHeight+footHeight))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	c := canvas{img}
	r := n.Rollout
	c.text(fs.bold, ink, 20, 36, chartWidth-40, fmt.Sprintf("%s: %s %s, step %s", r.Endpoint, r.Candidate, r.Version, orElse(r.Step, "none")))
	for i, g := range rows {
		c.row(headHeight+i*rowHeight, g, fs.text, fs.small)
	}
	y := headHeight + len(rows)*rowHeight
	c.fill(20, y, chartWidth-20, y+1, rule)
	c.text(fs.small, faint, 20, y+24, chartWidth-40, fmt.Sprintf("bar: interval of %s, dot: its estimate · grey: %s · red line: limit, beyond it shaded · %s",
		r.Candidate, orElse(r.Stable, "stable"), n.At.UTC().Format("2006-01-02 15:04 UTC")))
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("encode chart: %w", err)
	}
	return b.Bytes(), nil
}

type canvas struct{ img *image.RGBA }

// row draws one guardrail into the band that begins at y.
func (c canvas) row(y int, g notifier.Guardrail, text, small font.Face) {
	c.fill(20, y, chartWidth-20, y+1, rule)
	middle := y + rowHeight/2
	c.text(text, ink, 20, middle-2, plotLeft-40, g.Name)
	c.text(small, faint, 20, middle+18, plotLeft-40, "limit "+g.Limit)
	p := *g.Plot
	x := scale(p)
	if p.Limit != nil {
		at := x(*p.Limit)
		if p.More {
			c.fill(plotLeft, y+8, at, y+rowHeight-8, beyond)
		} else {
			c.fill(at, y+8, plotRight, y+rowHeight-8, beyond)
		}
		c.fill(at-1, y+4, at+2, y+rowHeight-4, limit)
	}
	if p.Stable != nil {
		c.fill(x(p.Stable.Low), middle+6, x(p.Stable.High)+1, middle+6+barHeight/2, stable)
		c.dot(x(p.Stable.Value), middle+6+barHeight/4, 4, faint)
	}
	tone := toneOf(g.Verdict)
	c.fill(x(p.Candidate.Low), middle-barHeight, x(p.Candidate.High)+1, middle, color.RGBA{tone.R/2 + 127, tone.G/2 + 127, tone.B/2 + 127, 0xff})
	c.dot(x(p.Candidate.Value), middle-barHeight/2, 7, tone)
	c.text(text, tone, plotRight+20, middle-2, chartWidth-plotRight-40, g.Verdict+"  "+g.Candidate)
	c.text(small, faint, plotRight+20, middle+18, chartWidth-plotRight-40, g.Interval+", stable "+g.Stable)
}

func toneOf(verdict string) color.RGBA {
	switch verdict {
	case "pass":
		return pass
	case "breach":
		return breach
	case "resting":
		return faint
	default:
		return unknown
	}
}

// scale maps a guardrail's figures to pixels, all of them inside the plot.
func scale(p view.Plot) func(float64) int {
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
	low, high = low-pad, high+pad
	return func(v float64) int {
		share := (v/2 - low/2) / (high/2 - low/2)
		if !(share >= 0 && share <= 1) { // also where figures at the end of their range have overflowed
			share = 0.5
		}
		return plotLeft + int(share*(plotRight-plotLeft))
	}
}

func (c canvas) fill(x0, y0, x1, y1 int, col color.Color) {
	draw.Draw(c.img, image.Rect(x0, y0, x1, y1), image.NewUniform(col), image.Point{}, draw.Src)
}

// dot draws a filled circle.
func (c canvas) dot(x, y, radius int, col color.RGBA) {
	for dy := -radius; dy <= radius; dy++ {
		for dx := -radius; dx <= radius; dx++ {
			if dx*dx+dy*dy <= radius*radius {
				c.img.SetRGBA(x+dx, y+dy, col)
			}
		}
	}
}

// text writes s with its baseline at y, cut to the width.
func (c canvas) text(face font.Face, col color.Color, x, y, width int, s string) {
	d := font.Drawer{Dst: c.img, Src: image.NewUniform(col), Face: face, Dot: fixed.P(x, y)}
	rs := []rune(strings.TrimSpace(notifier.Line(s, 200)))
	for cutAt := len(rs); cutAt > 0 && d.MeasureString(string(rs)).Ceil() > width; {
		cutAt--
		rs = append(rs[:cutAt:cutAt], '…')
	}
	d.DrawString(string(rs))
}
