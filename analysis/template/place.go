package template

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A literal is the string that an expression is inside of at its end.
type literal struct {
	// open is the text that opened it, close the one that will; open is empty
	// outside of strings, and "#" or "//" in a comment.
	open, close string
	// head is the expression before the literal, body the literal so far.
	head, body string
	// raw: backslashes mean nothing in it.
	raw bool
}

// A quoting is one way in which a language opens a string.
type quoting struct {
	open, close string
	raw         bool
}

var kqlQuotes = []quoting{
	{"```", "```", true}, {"~~~", "~~~", true}, {`@"`, `"`, true}, {`@'`, `'`, true},
	{`"`, `"`, false}, {`'`, `'`, false}, {"//", "\n", true},
}

// lex finds out what the end of s is inside of.
func lex(s string, quotes []quoting) literal {
	for i := 0; i < len(s); {
		q := slices.IndexFunc(quotes, func(q quoting) bool { return strings.HasPrefix(s[i:], q.open) })
		if q < 0 {
			i++
			continue
		}
		quote := quotes[q]
		start := i + len(quote.open)
		end := endOf(s, start, quote)
		if end < 0 {
			return literal{open: quote.open, close: quote.close, head: s[:i], body: s[start:], raw: quote.raw}
		}
		i = end
	}
	return literal{head: s}
}

// endOf is the index after the literal that began before start, or -1.
func endOf(s string, start int, q quoting) int {
	for i := start; i < len(s); i++ {
		if !q.raw && s[i] == '\\' {
			i++
			continue
		}
		if strings.HasPrefix(s[i:], q.close) {
			return i + len(q.close)
		}
	}
	return -1
}

// placeText leaves a value as it is.
func placeText(_, _, _, value string) (string, error) { return value, nil }

// placeRegexp makes a value mean itself in a regular expression.
func placeRegexp(before, after, _, value string) (string, error) {
	if escaped(before) || inNumericEscape(before) {
		return "", fmt.Errorf("%w: the value continues an escape", ErrUnsafe)
	}
	if why := regexPlace(before); why != "" {
		return "", fmt.Errorf("%w: %s", ErrUnsafe, why)
	}
	value = regexp.QuoteMeta(value)
	if after != "" && strings.ContainsRune("*+?{", rune(after[0])) {
		value = "(?:" + value + ")"
	}
	return value, nil
}

func placeKQL(before, after, name, value string) (string, error) {
	l := lex(before, kqlQuotes)
	switch l.open {
	case "":
		return bare(before, after, name, value)
	case "//":
		return value, nil
	case "```", "~~~":
		if strings.ContainsAny(value, "`~") {
			return "", fmt.Errorf("%w: the value would end the string", ErrUnsafe)
		}
	}
	if kqlRegexCall.MatchString(l.head) && !plainName.MatchString(value) {
		return "", fmt.Errorf("%w: functions of regular expressions take plain names only", ErrUnsafe)
	}
	return l.place(value, after, kqlRegex.MatchString(l.head))
}

// plainName matches names that mean themselves in regular expressions and in
// what replaces their matches.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// kqlRegex matches what stands before a string that is a regular expression, and
// kqlRegexCall what stands before one that may be.
var (
	kqlRegex     = regexp.MustCompile(`(?i)\bregex\s*h?$`)
	kqlRegexCall = regexp.MustCompile(
		`(?i)\b(extract|extract_all|replace_regex|split_regex|countof|parse_regex|parse|parse-where)\b[^|]*$`)
)

// place escapes a value for the literal.
func (l literal) place(value, after string, isRegex bool) (string, error) {
	if !l.raw && escaped(l.body) || strings.HasSuffix(l.body, `\`) {
		return "", fmt.Errorf("%w: the value continues an escape", ErrUnsafe)
	}
	if !l.raw && inNumericEscape(l.body) {
		return "", fmt.Errorf("%w: the value continues an escape", ErrUnsafe)
	}
	if isRegex {
		var err error
		if value, err = placeRegexp(l.body, after, "", value); err != nil {
			return "", err
		}
	}
	switch {
	case !l.raw:
		return quoted(value, l.close[0]), nil
	case strings.HasPrefix(l.open, "@"):
		return strings.ReplaceAll(value, l.close, l.close+l.close), nil
	case strings.Contains(value, l.close):
		return "", fmt.Errorf("%w: the value would end the string", ErrUnsafe)
	}
	return value, nil
}

var numericEscape = regexp.MustCompile(`\\(x[0-9A-Fa-f]?|u[0-9A-Fa-f]{0,3}|U[0-9A-Fa-f]{0,7}|[0-7]{1,2})$`)

// inNumericEscape reports whether the body ends within \x41, \u0041 or \101.
func inNumericEscape(body string) bool {
	at := numericEscape.FindStringIndex(body)
	return at != nil && !escaped(body[:at[0]])
}

// regexPlace says why nothing may be put at the end of a regular expression.
func regexPlace(body string) string {
	inClass, braces, header := false, false, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '\\':
			i++
		case inClass:
			inClass = c != ']'
		case c == '[':
			inClass = true
		case c == '{':
			braces = true
		case c == '}':
			braces = false
		case c == '(':
			header = i+1 < len(body) && body[i+1] == '?'
		case c == ':' || c == ')' || c == '>':
			header = false
		}
	}
	switch {
	case inClass:
		return "a character class takes no names"
	case braces:
		return "a repetition takes no names"
	case header:
		return "the head of a group takes no names"
	}
	return ""
}
