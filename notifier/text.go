package notifier

import (
	"net/url"
	"strings"
	"unicode"
)

// Line is s as one line of valid UTF-8 without control characters, at most n ≥ 1
// characters (runes) long; what is cut ends in "…". Texts of a notice come from
// labels, commands and metric systems, and may hold anything, at any length.
func Line(s string, n int) string {
	return tidy(s, n, func(s string) string { return strings.Join(strings.Fields(strings.Map(visible, s)), " ") })
}

// Lines is Line for a text whose line breaks and tabs matter, such as a command.
func Lines(s string, n int) string {
	return tidy(s, n, func(s string) string {
		return strings.TrimSpace(strings.Map(func(r rune) rune {
			if r == '\n' || r == '\t' {
				return r
			}
			return visible(r)
		}, strings.ReplaceAll(s, "\r\n", "\n")))
	})
}

// tidy applies f to as much of s as can matter, and cuts what comes out.
func tidy(s string, n int, f func(string) string) string {
	enough := 16*n + 64
	whole := len(s) <= enough
	if !whole {
		s = s[:enough]
	}
	out := Truncate(f(strings.ToValidUTF8(s, "?")), n)
	if !whole && !strings.HasSuffix(out, "…") {
		out = Truncate(out+"…", n)
	}
	return out
}

// visible replaces what would act on a terminal or turn a text around: control
// characters, and the marks that change its direction.
func visible(r rune) rune {
	if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
		return ' '
	}
	return r
}

// Truncate cuts s to at most n ≥ 1 characters (runes); what is cut ends in "…".
func Truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	seen := 0
	cut := 0
	for i := range s {
		if seen == n-1 {
			cut = i
		}
		seen++
		if seen > n {
			return s[:cut] + "…"
		}
	}
	return s
}

// WebAddress reports whether s can be shown as a link: an absolute http or https
// address of at most 2,000 bytes.
func WebAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && len(s) <= 2000 && Line(s,
		len(s)+1) == s && !strings.ContainsAny(s, " <>|\"`")
}
