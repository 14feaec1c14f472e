package cli

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A filter is what belay prints to. Whatever a server, a router or a file says,
// it passes on no control character but line feeds, tabs and belay's own colours,
// and shows marks that turn the order of letters round.
type filter struct{ to io.Writer }

// filtered is w as a filter.
func filtered(w io.Writer) io.Writer {
	if t, ok := w.(filter); ok {
		return t
	}
	return filter{w}
}

// unfiltered is what a filter prints to, for whoever moves the cursor.
func unfiltered(w io.Writer) io.Writer {
	if t, ok := w.(filter); ok {
		return t.to
	}
	return w
}

// Write implements io.Writer; n counts the bytes of b.
func (t filter) Write(b []byte) (n int, err error) {
	if _, err := io.WriteString(t.to, visible(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// ownColor is a colour as paint writes it.
var ownColor = regexp.MustCompile(`^\x1b\[(?:0|1|2|31|32|33|34)m`)

// visible is text as a terminal may get it.
func visible(s string) string {
	if !strings.ContainsFunc(s, hostile) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch own := ownColor.FindString(s); {
		case own != "":
			size = len(own)
			b.WriteString(own)
		case r == '\n' || r == '\t' || !hostile(r):
			b.WriteRune(r) // U+FFFD of what is no UTF-8
		default:
			fmt.Fprintf(&b, "<U+%04X>", r)
		}
		s = s[size:]
	}
	return b.String()
}

// hostile reports whether a terminal acts on a character, or shows others
// differently because of it.
func hostile(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}

// safe is text from outside within a line: what a terminal would act on is a blank,
// and what turns letters round is shown.
func safe(s string) string {
	return visible(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s))
}

// escaped is JSON in whose texts what a terminal must not get is written as an
// escape sequence: the same texts to whoever reads it.
func escaped(json []byte) []byte {
	if !strings.ContainsFunc(string(json), func(r rune) bool { return r >= 0x7f && hostile(r) }) {
		return json
	}
	var b strings.Builder
	for _, r := range string(json) {
		if r >= 0x7f && hostile(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return []byte(b.String())
}
