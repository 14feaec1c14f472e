package prometheus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// A lexer takes a JSON document apart. Its first error stays, and everything
// after it is empty: callers look once, at the end. Answers have millions of
// numbers in few shapes, for which encoding/json is several times too slow.
type lexer struct {
	in  []byte
	pos int
	err error
	// buf holds a text with escapes.
	buf []byte
	// seen holds texts that come again and again: label names and values.
	seen map[string]string
	// keys are those of the objects that are open.
	keys []string
}

var errCut = errors.New("the answer ends in the middle")

func (l *lexer) fail(err error) {
	if l.err == nil {
		l.err = err
	}
	l.pos = len(l.in)
}

func (l *lexer) unexpected(want string) {
	if l.pos >= len(l.in) {
		l.fail(errCut)
		return
	}
	l.fail(fmt.Errorf("the answer is no JSON that was asked for: byte %d is %q, not %s", l.pos, l.in[l.pos], want))
}

// peek is the next byte that is not space; 0 at the end.
func (l *lexer) peek() byte {
	for l.pos < len(l.in) {
		switch c := l.in[l.pos]; c {
		case ' ', '\t', '\n', '\r':
			l.pos++
		default:
			return c
		}
	}
	return 0
}

func (l *lexer) expect(c byte) {
	if l.peek() != c {
		l.unexpected(strconv.QuoteRune(rune(c)))
		return
	}
	l.pos++
}

// each calls f before every element of an array or member of an object.
func (l *lexer) each(open, closing byte, f func()) {
	l.expect(open)
	if l.peek() == closing {
		l.pos++
		return
	}
	for l.err == nil {
		f()
		if l.err != nil {
			return
		}
		switch l.peek() {
		case ',':
			l.pos++
		case closing:
			l.pos++
			return
		default:
			l.unexpected("a comma or its end")
		}
	}
}

// object calls f with every key, standing before its value. A key that stands twice
// in it is an error: of "value" and "value", who is to say which was meant.
func (l *lexer) object(f func(key string)) {
	first := len(l.keys)
	l.each('{', '}', func() {
		k := l.intern()
		if slices.Contains(l.keys[first:], k) {
			l.fail(fmt.Errorf("the answer is ambiguous: field %.60q stands there twice", k))
		}
		if l.keys = append(l.keys, k); len(l.keys) > maxKeys {
			l.fail(fmt.Errorf("an object of the answer has more than %d fields", maxKeys))
		}
		l.expect(':')
		if l.err == nil {
			f(k)
		}
	})
	l.keys = l.keys[:first]
}

func (l *lexer) array(f func()) { l.each('[', ']', f) }

// text is the bytes of a string; they are good until the next call.
func (l *lexer) text() []byte {
	l.expect('"')
	if l.err != nil {
		return nil
	}
	start := l.pos
	for i := start; i < len(l.in); i++ {
		switch c := l.in[i]; {
		case c == '"':
			l.pos = i + 1
			return l.in[start:i]
		case c == '\\':
			return l.escaped(start)
		case c < ' ':
			l.pos = i
			l.unexpected("a text without control characters")
			return nil
		}
	}
	l.fail(errCut)
	return nil
}

// escaped unquotes a string that holds a backslash.
func (l *lexer) escaped(start int) []byte {
	l.buf = l.buf[:0]
	for i := start; i < len(l.in); i++ {
		c := l.in[i]
		switch {
		case c == '"':
			l.pos = i + 1
			return l.buf
		case c != '\\':
			l.buf = append(l.buf, c)
			continue
		}
		i++
		if i >= len(l.in) {
			break
		}
		switch c := l.in[i]; c {
		case '"', '\\', '/':
			l.buf = append(l.buf, c)
		case 'b', 'f', 'n', 'r', 't':
			l.buf = append(l.buf, "\b\f\n\r\t"[bytes.IndexByte([]byte("bfnrt"), c)])
		case 'u':
			r, n := l.unicode(i + 1)
			if n == 0 {
				l.pos = i
				l.unexpected("an escape")
				return nil
			}
			l.buf = utf8.AppendRune(l.buf, r)
			i += n
		default:
			l.pos = i
			l.unexpected("an escape")
			return nil
		}
	}
	l.fail(errCut)
	return nil
}

// unicode reads the four digits at i, or the twelve characters of a pair.
func (l *lexer) unicode(i int) (rune, int) {
	hex := func(i int) (rune, bool) {
		if i+4 > len(l.in) {
			return 0, false
		}
		n, err := strconv.ParseUint(string(l.in[i:i+4]), 16, 32)
		return rune(n), err == nil
	}
	r, ok := hex(i)
	if !ok {
		return 0, 0
	}
	if r >= 0xd800 && r < 0xdc00 && i+6 <= len(l.in) && l.in[i+4] == '\\' && l.in[i+5] == 'u' {
		if low, ok := hex(i + 6); ok && low >= 0xdc00 && low < 0xe000 {
			return (r-0xd800)<<10 + (low - 0xdc00) + 0x10000, 10
		}
	}
	if r >= 0xd800 && r < 0xe000 {
		r = utf8.RuneError
	}
	return r, 4
}

// intern is a string that shares its memory with equal ones.
func (l *lexer) intern() string {
	b := l.text()
	if s, ok := l.seen[string(b)]; ok {
		return s
	}
	s := string(b)
	l.seen[s] = s
	return s
}

// number is the text of a number.
func (l *lexer) number() []byte {
	l.peek()
	start := l.pos
	for l.pos < len(l.in) && bytes.IndexByte([]byte("+-.0123456789eE"), l.in[l.pos]) >= 0 {
		l.pos++
	}
	if l.pos == start {
		l.unexpected("a number")
	}
	return l.in[start:l.pos]
}

// plain parses a number that is not in a string, by JSON's rules.
func (l *lexer) plain(b []byte) float64 {
	if l.err == nil && !json.Valid(b) {
		l.fail(fmt.Errorf("the answer holds %q for a number", b))
	}
	return l.float(b)
}

// float parses the text of a number; Prometheus writes NaN and +Inf in strings.
func (l *lexer) float(b []byte) float64 {
	if l.err != nil {
		return 0
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		l.fail(fmt.Errorf("the answer holds %q for a number", b))
	}
	return v
}

// maxKeys bounds the keys of the objects that are open at a time: labels, mostly.
const maxKeys = 512

// maxDepth bounds how deep a value that nobody wants may nest.
const maxDepth = 64

// skip passes over a value.
func (l *lexer) skip(depth int) {
	if depth > maxDepth {
		l.fail(errors.New("the answer nests too deep"))
		return
	}
	switch l.peek() {
	case '{':
		l.object(func(string) { l.skip(depth + 1) })
	case '[':
		l.array(func() { l.skip(depth + 1) })
	case '"':
		l.text()
	case 't':
		l.word("true")
	case 'f':
		l.word("false")
	case 'n':
		l.word("null")
	default:
		l.plain(l.number())
	}
}

func (l *lexer) word(w string) {
	if !bytes.HasPrefix(l.in[l.pos:], []byte(w)) {
		l.unexpected(w)
		return
	}
	l.pos += len(w)
}
