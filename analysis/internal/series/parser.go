package series

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

type parser struct{ rest string }

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *parser) take(text string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, text)
	p.rest = rest
	return ok
}

func (p *parser) selector() (Selector, error) {
	s := Selector{Name: p.word(true)}
	if p.take("{") {
		if err := p.matchers(&s); err != nil {
			return Selector{}, err
		}
	}
	if p.space(); p.rest != "" {
		return Selector{}, fmt.Errorf("a plain selector is wanted, got %q after it", clip(p.rest))
	}
	if s.Name == "" {
		return Selector{}, errors.New("it names no metric")
	}
	return s, nil
}

// matchers parses up to and with the closing brace.
func (p *parser) matchers(s *Selector) error {
	for {
		if p.take("}") {
			return nil
		}
		label, quoted, err := p.label()
		if err != nil {
			return err
		}
		op, ok := p.op()
		switch {
		case !ok && quoted && s.Name == "":
			s.Name = label
		case !ok:
			return fmt.Errorf("after %q one of = != =~ !~ is wanted", label)
		default:
			if err := p.condition(s, label, op); err != nil {
				return err
			}
		}
		if !p.take(",") && !strings.HasPrefix(p.rest, "}") {
			return fmt.Errorf("a comma or } is wanted, got %q", clip(p.rest))
		}
	}
}

func (p *parser) condition(s *Selector, label string, op Op) error {
	value, err := p.text()
	if err != nil {
		return fmt.Errorf("value of %s: %w", label, err)
	}
	if label == NameLabel {
		if op != Equal || s.Name != "" {
			return errors.New("one metric name, by =, is wanted")
		}
		s.Name = value
		return nil
	}
	m, err := NewMatcher(label, op, value)
	if err != nil {
		return err
	}
	s.Matchers = append(s.Matchers, m)
	return nil
}

func (p *parser) label() (name string, quoted bool, err error) {
	p.space()
	if p.rest != "" && strings.ContainsRune("\"'`", rune(p.rest[0])) {
		name, err = p.text()
		return name, true, err
	}
	if name = p.word(false); name == "" {
		return "", false, fmt.Errorf("a label is wanted, got %q", clip(p.rest))
	}
	return name, false, nil
}

func (p *parser) op() (Op, bool) {
	for _, op := range []Op{Like, NotLike, NotEqual, Equal} {
		if p.take(string(op)) {
			return op, true
		}
	}
	return "", false
}

// text parses a quoted text: "…", '…' or `…`.
func (p *parser) text() (string, error) {
	p.space()
	if p.rest == "" {
		return "", errors.New("a quoted text is wanted, got the end")
	}
	quote := p.rest[0]
	if quote == '`' {
		v, rest, ok := strings.Cut(p.rest[1:], "`")
		if !ok {
			return "", errors.New("unterminated `")
		}
		p.rest = rest
		return v, nil
	}
	if quote != '"' && quote != '\'' {
		return "", fmt.Errorf("a quoted text is wanted, got %q", clip(p.rest))
	}
	var out []byte
	rest := p.rest[1:]
	for rest != "" && rest[0] != quote {
		r, multibyte, tail, err := strconv.UnquoteChar(rest, quote)
		if err != nil {
			return "", fmt.Errorf("escape at %q: %w", clip(rest), err)
		}
		if multibyte {
			out = append(out, string(r)...)
		} else {
			out = append(out, byte(r))
		}
		rest = tail
	}
	if rest == "" {
		return "", errors.New("unterminated text")
	}
	p.rest = rest[1:]
	return string(out), nil
}

func (p *parser) word(colons bool) string {
	p.space()
	i := 0
	for i < len(p.rest) && nameByte(p.rest[i], i == 0, colons) {
		i++
	}
	w := p.rest[:i]
	p.rest = p.rest[i:]
	return w
}

func nameByte(c byte, first, colons bool) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		return true
	case c >= '0' && c <= '9':
		return !first
	}
	return c == ':' && colons
}

func clip(s string) string {
	const most = 24
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
