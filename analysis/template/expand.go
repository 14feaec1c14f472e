// Package template puts names into the expressions of metrics, ${…} in a URL, in JSON or in
// KQL, so that they keep their shape whatever a name holds. PromQL has its own package,
// which puts names into what was parsed.
package template

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Lang is the language that an expression is written in.
type Lang string

// The languages of expressions.
const (
	LangKQL Lang = "kql"
	// LangURL is a URL or a path with a query. Its host is never substituted.
	LangURL  Lang = "url"
	LangJSON Lang = "json"
	// LangText is a text in which names stand as they are, and LangRegexp a
	// regular expression in which they mean themselves.
	LangText   Lang = "text"
	LangRegexp Lang = "regexp"
)

// ErrUnsafe: a name cannot be put into an expression without changing its shape.
var ErrUnsafe = errors.New("unsafe substitution")

// VariableNames are the only substitutions that an expression may contain.
var VariableNames = []string{"endpoint", "deployment", "stable", "candidate", "role", "version", "window"}

// Variables lists the names that stand in ${…} in an expression, in order. An
// unfinished ${ is an error.
func Variables(expr string) ([]string, error) {
	var out []string
	for {
		i := strings.Index(expr, "${")
		if i < 0 {
			return out, nil
		}
		j := strings.IndexByte(expr[i:], '}')
		if j < 0 {
			return nil, errors.New("a substitution is not closed: ${")
		}
		out, expr = append(out, expr[i+2:i+j]), expr[i+j+1:]
	}
}

// Expand replaces ${…} in an expression by the values of vars, escaped for the
// place in which they land: a quoted string, a regular expression, a URL's path
// or query, a JSON string. Whatever a value holds, the expression keeps its
// shape; where that cannot be, Expand returns an error that wraps ErrUnsafe.
//
// In KQL names stand inside quotes; only ${window} may stand outside
// of them, as a duration. Values are never empty and hold no control characters.
func Expand(expr string, lang Lang, vars map[string]string) (string, error) {
	if !strings.Contains(expr, "${") {
		return expr, nil
	}
	place, err := placer(lang)
	if err != nil {
		return "", fmt.Errorf("expand expression: %w", err)
	}
	var b strings.Builder
	for rest := expr; ; {
		i := strings.Index(rest, "${")
		if i < 0 {
			b.WriteString(rest)
			break
		}
		j := strings.IndexByte(rest[i:], '}')
		if j < 0 {
			return "", errors.New("expand expression: a substitution is not closed: ${")
		}
		name := rest[i+2 : i+j]
		b.WriteString(rest[:i])
		after := rest[i+j+1:]
		value, err := valueOf(name, vars)
		if err == nil {
			value, err = place(b.String(), after, name, value)
		}
		if err != nil {
			return "", fmt.Errorf("expand ${%s}: %w", name, err)
		}
		b.WriteString(value)
		rest = after
	}
	out := b.String()
	if lang == LangURL && dotSegments(out) != dotSegments(expr) {
		return "", fmt.Errorf("expand expression: %w: a name makes a path of dots", ErrUnsafe)
	}
	return out, nil
}

func placer(lang Lang) (func(before, after, name, value string) (string, error), error) {
	switch lang {
	case LangText:
		return placeText, nil
	case LangRegexp:
		return placeRegexp, nil
	case LangKQL:
		return placeKQL, nil
	case LangURL:
		return placeURL, nil
	case LangJSON:
		return placeJSON, nil
	}
	return nil, fmt.Errorf("unknown language %q", string(lang))
}

// maxValue bounds a substituted value; names of endpoints are far shorter.
const maxValue = 512

func valueOf(name string, vars map[string]string) (string, error) {
	v, ok := vars[name]
	switch {
	case !slices.Contains(VariableNames, name):
		return "", errors.New("there is no such substitution")
	case !ok:
		return "", errors.New("this substitution has no value here")
	case v == "":
		return "", fmt.Errorf("%w: the value is empty", ErrUnsafe)
	case len(v) > maxValue || !utf8.ValidString(v) || strings.ContainsFunc(v, control):
		return "", fmt.Errorf("%w: the value is too long or holds control characters", ErrUnsafe)
	}
	return v, nil
}

// control reports what no name holds: control characters, line separators and
// the byte order mark.
func control(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff' || r == utf8.RuneError
}

var window = regexp.MustCompile(`^([0-9]{1,9}(ms|s|m|h|d))+$`)

// bare places a value outside of quotes: only a window may stand there.
func bare(before, after, name, value string) (string, error) {
	if name != "window" {
		return "", fmt.Errorf("%w: a name stands inside quotes", ErrUnsafe)
	}
	if !window.MatchString(value) {
		return "", fmt.Errorf("%w: the window is not a duration", ErrUnsafe)
	}
	if strings.HasSuffix(before, "${") || endsInWord(before) || beginsWithWord(after) {
		return "", fmt.Errorf("%w: the window is glued to a word", ErrUnsafe)
	}
	return value, nil
}

func endsInWord(s string) bool { return s != "" && wordByte(s[len(s)-1]) }

func beginsWithWord(s string) bool { return s != "" && wordByte(s[0]) || strings.HasPrefix(s, "${") }

func wordByte(c byte) bool {
	return c == '_' || c == ':' || c == '.' || c >= 0x80 ||
		c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// quoted escapes a value for a string in single or double quotes with
// backslash escapes, as KQL and JSON have it.
func quoted(value string, quote byte) string {
	var b strings.Builder
	for i := range len(value) {
		if value[i] == '\\' || value[i] == quote {
			b.WriteByte('\\')
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

// escaped reports whether the text ends in an unfinished backslash escape.
func escaped(s string) bool {
	n := len(s) - len(strings.TrimRight(s, `\`))
	return n%2 == 1
}

// placeURL places a value in the path or the query: everything but unreserved
// characters is percent-encoded.
func placeURL(before, _, _, value string) (string, error) {
	if strings.Contains(before, "#") {
		return "", fmt.Errorf("%w: a fragment is never sent", ErrUnsafe)
	}
	if _, rest, absolute := strings.Cut(before, "://"); absolute && !strings.ContainsAny(rest, "/?") {
		return "", fmt.Errorf("%w: the host of a URL is fixed", ErrUnsafe)
	} else if !absolute && !strings.ContainsAny(before, "/?") {
		return "", fmt.Errorf("%w: a URL begins with a host or a path", ErrUnsafe)
	}
	if strings.HasPrefix(before, "//") && !strings.ContainsAny(before[2:], "/?") || before == "/" && value[0] == '/' {
		return "", fmt.Errorf("%w: the host of a URL is fixed", ErrUnsafe)
	}
	if strings.HasSuffix(before, "%") || len(before) > 1 && before[len(before)-2] == '%' {
		return "", fmt.Errorf("%w: the value continues a percent escape", ErrUnsafe)
	}
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		if c < 0x80 && (c == '-' || c == '.' || c == '_' || c == '~' || c != ':' && wordByte(c)) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String(), nil
}

// dotSegments counts the segments "." and ".." of a URL's path.
func dotSegments(url string) int {
	p, _, _ := strings.Cut(url, "?")
	n := 0
	for seg := range strings.SplitSeq(p, "/") {
		if seg == "." || seg == ".." {
			n++
		}
	}
	return n
}

// placeJSON places a value inside a JSON string.
func placeJSON(before, _, _, value string) (string, error) {
	in := false
	for i := 0; i < len(before); i++ {
		switch {
		case in && before[i] == '\\':
			i++
			if i >= len(before) {
				return "", fmt.Errorf("%w: the value continues an escape", ErrUnsafe)
			}
		case before[i] == '"':
			in = !in
		}
	}
	if !in {
		return "", fmt.Errorf("%w: a value stands inside a JSON string", ErrUnsafe)
	}
	if i := strings.LastIndex(before, `\u`); i >= 0 && len(before)-i < 6 && !escaped(before[:i]) {
		return "", fmt.Errorf("%w: the value continues an escape", ErrUnsafe)
	}
	return quoted(value, '"'), nil
}
