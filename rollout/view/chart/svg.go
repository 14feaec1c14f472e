package chart

import (
	"fmt"
	"html"
	"strings"
	"unicode"
)

// Style gives the classes of an SVG the colours of the picture. A page has a style
// sheet of its own, for light and dark; nothing in the SVG says a colour.
const Style = `.belay-chart { background: #fff; font-family: sans-serif }
.belay-chart .plain { font-size: 16px }
.belay-chart .bold { font-size: 18px; font-weight: bold }
.belay-chart .small { font-size: 13px }
.belay-chart .ink { fill: #1d1c1d }
.belay-chart .faint, .belay-chart .resting { fill: #616061 }
.belay-chart .rule { fill: #ddd }
.belay-chart .beyond { fill: #fbe3e1 }
.belay-chart .limit, .belay-chart .breach { fill: #c62828 }
.belay-chart .stable { fill: #9eaebd }
.belay-chart .pass { fill: #2e7d32 }
.belay-chart .unknown { fill: #b26a00 }
.belay-chart .light { fill-opacity: .5 }
`

// SVG is the scene as an element for a page. It has classes and no style, and whatever
// its texts hold, they act as nothing.
func (s Scene) SVG() string {
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" class="belay-chart" role="img"`)
	fmt.Fprintf(&b, ` viewBox="0 0 %d %d" aria-label="%s">`+"\n", s.Width, s.Height, escaped(s.Title))
	for _, sh := range s.Shapes {
		class := string(sh.Class)
		if sh.Light {
			class += " light"
		}
		switch sh.Kind {
		case Rect:
			fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d"/>`+"\n", class, sh.X, sh.Y, sh.W, sh.H)
		case Dot:
			fmt.Fprintf(&b, `<circle class="%s" cx="%d" cy="%d" r="%d"/>`+"\n", class, sh.X, sh.Y, sh.R)
		case Text:
			fmt.Fprintf(&b, `<text class="%s %s" x="%d" y="%d" text-anchor="%s">%s</text>`+"\n",
				class, sh.Font, sh.X, sh.Y, sh.Anchor, escaped(fitting(sh.Text, sh.W, sh.Font)))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// fitting cuts a text to a width, by what letters take on average: the page's font is
// not known here.
func fitting(s string, width int, f Font) string {
	letter := map[Font]int{Plain: 8, Bold: 10, Small: 7}[f]
	r := []rune(s)
	if n := width / letter; len(r) > n {
		return string(r[:max(n-1, 0)]) + "…"
	}
	return s
}

// escaped is a text that an element or an attribute may hold.
func escaped(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s))
}
