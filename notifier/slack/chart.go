package slack

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"strings"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/view/chart"
)

// tones are the colours of the classes; each is beside a word that says the same.
var tones = map[chart.Class]color.RGBA{
	chart.Ink:     {0x1d, 0x1c, 0x1d, 0xff},
	chart.Faint:   {0x61, 0x60, 0x61, 0xff},
	chart.Rule:    {0xdd, 0xdd, 0xdd, 0xff},
	chart.Beyond:  {0xfb, 0xe3, 0xe1, 0xff},
	chart.Limit:   {0xc6, 0x28, 0x28, 0xff},
	chart.Stable:  {0x9e, 0xae, 0xbd, 0xff},
	chart.Pass:    {0x2e, 0x7d, 0x32, 0xff},
	chart.Breach:  {0xc6, 0x28, 0x28, 0xff},
	chart.Unknown: {0xb2, 0x6a, 0x00, 0xff},
	chart.Resting: {0x61, 0x60, 0x61, 0xff},
}

// faces are the fonts, parsed once.
var faces = sync.OnceValues(func() (map[chart.Font]font.Face, error) {
	fs := map[chart.Font]font.Face{}
	for _, f := range []struct {
		name chart.Font
		ttf  []byte
		size float64
	}{{chart.Plain, goregular.TTF, 16}, {chart.Bold, gobold.TTF, 18}, {chart.Small, goregular.TTF, 13}} {
		parsed, err := opentype.Parse(f.ttf)
		if err != nil {
			return nil, err
		}
		if fs[f.name], err = opentype.NewFace(parsed, &opentype.FaceOptions{Size: f.size, DPI: 72,
			Hinting: font.HintingFull}); err != nil {
			return nil, err
		}
	}
	return fs, nil
})

// drawing guards the fonts, which one chart at a time may use.
var drawing sync.Mutex

// sceneOf is the chart of n's guardrails; false where there is nothing to draw.
func sceneOf(n notifier.Notice) (chart.Scene, bool) {
	var rows []chart.Row
	for _, g := range n.Rollout.Guardrails {
		if g.Plot == nil || !g.Plot.Finite() || len(rows) == maxGuardrails {
			continue
		}
		rows = append(rows, chart.Row{
			Name: g.Name, Verdict: g.Verdict, Limit: g.Limit,
			Candidate: g.Candidate, Interval: g.Interval, Stable: g.Stable, Plot: g.Plot,
		})
	}
	r := n.Rollout
	return chart.New(
		fmt.Sprintf("%s: %s %s, step %s", r.Endpoint, r.Candidate, r.Version, orElse(r.Step, "none")),
		fmt.Sprintf("bar: interval of %s, dot: its estimate · grey: %s · red line: limit, beyond it shaded · %s",
			r.Candidate, orElse(r.Stable, "stable"), n.At.UTC().Format("2006-01-02 15:04 UTC")),
		rows)
}

// picture paints the guardrails of n that have figures as a PNG. It returns nil where
// there is nothing to draw.
func picture(n notifier.Notice) ([]byte, error) {
	scene, ok := sceneOf(n)
	if !ok {
		return nil, nil
	}
	drawing.Lock()
	defer drawing.Unlock()
	fonts, err := faces()
	if err != nil {
		// Unreachable: the fonts are part of the program.
		return nil, fmt.Errorf("read font: %w", err)
	}
	img := image.NewRGBA(image.Rect(0, 0, scene.Width, scene.Height))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	c := canvas{img, fonts}
	for _, s := range scene.Shapes {
		c.paint(s)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("encode chart: %w", err)
	}
	return b.Bytes(), nil
}

type canvas struct {
	img   *image.RGBA
	fonts map[chart.Font]font.Face
}

func (c canvas) paint(s chart.Element) {
	tone := tones[s.Class]
	if s.Light {
		tone = color.RGBA{tone.R/2 + 127, tone.G/2 + 127, tone.B/2 + 127, 0xff}
	}
	switch s.Kind {
	case chart.Rect:
		draw.Draw(c.img, image.Rect(s.X, s.Y, s.X+s.W, s.Y+s.H), image.NewUniform(tone), image.Point{}, draw.Src)
	case chart.Dot:
		for dy := -s.R; dy <= s.R; dy++ {
			for dx := -s.R; dx <= s.R; dx++ {
				if dx*dx+dy*dy <= s.R*s.R {
					c.img.SetRGBA(s.X+dx, s.Y+dy, tone)
				}
			}
		}
	case chart.Text:
		c.text(s, tone)
	}
}

// text writes a text, cut to its width.
func (c canvas) text(s chart.Element, tone color.RGBA) {
	d := font.Drawer{Dst: c.img, Src: image.NewUniform(tone), Face: c.fonts[s.Font]}
	rs := []rune(strings.TrimSpace(notifier.Line(s.Text, 200)))
	for cutAt := len(rs); cutAt > 0 && d.MeasureString(string(rs)).Ceil() > s.W; {
		cutAt--
		rs = append(rs[:cutAt:cutAt], '…')
	}
	x := s.X
	switch wide := d.MeasureString(string(rs)).Ceil(); s.Anchor {
	case chart.Middle:
		x -= wide / 2
	case chart.End:
		x -= wide
	case chart.Start:
	}
	d.Dot = fixed.P(x, s.Y)
	d.DrawString(string(rs))
}
