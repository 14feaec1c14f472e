package httpjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A path selects values in a JSON document:
//
//	$.rows[0].n                          a member, an element (from the end: [-1])
//	$["a name"].*[*]                     a quoted member, all members, all elements
//	$.rows[?deployment=="green"].n       the elements whose member is this text or number
//	$.rows[?tags.d=="green"].points[*][1]
//
// A member that is not there selects nothing, which is not an error.
type path []step

// A step goes from one value to some of those in it.
type step struct {
	kind  stepKind
	name  string
	index int
	// where are the members from an element to what is compared with value.
	where []string
	value string
}

type stepKind int

const (
	stepMember stepKind = iota
	stepElement
	stepAll
	stepWhere
)

const (
	maxPath   = 4096
	maxValues = 100_000
)

// parsePath parses a path. ${…} may stand in quoted texts; vars replaces it,
// literally.
func parsePath(text string, vars map[string]string) (path, error) {
	p := pathParser{rest: strings.TrimSpace(text), vars: vars}
	if len(text) > maxPath {
		return nil, fmt.Errorf("path: longer than %d bytes", maxPath)
	}
	if !p.take("$") {
		return nil, fmt.Errorf("path %q: it does not begin with $", text)
	}
	var out path
	for p.rest != "" {
		s, err := p.step()
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", text, err)
		}
		out = append(out, s)
	}
	return out, nil
}

type pathParser struct {
	rest string
	vars map[string]string
}

func (p *pathParser) take(s string) bool {
	rest, ok := strings.CutPrefix(p.rest, s)
	p.rest = rest
	return ok
}

func (p *pathParser) step() (step, error) {
	switch {
	case p.take(".*"), p.take("[*]"):
		return step{kind: stepAll}, nil
	case p.take("."):
		name := p.word()
		if name == "" {
			return step{}, errors.New("a name is wanted after the point")
		}
		return step{kind: stepMember, name: name}, nil
	case p.take("[?"):
		return p.condition()
	case p.take("["):
		return p.brackets()
	}
	return step{}, fmt.Errorf("got %q, a point or a bracket is wanted", p.rest)
}

func (p *pathParser) brackets() (step, error) {
	var s step
	if strings.HasPrefix(p.rest, `"`) {
		name, err := p.text()
		if err != nil {
			return step{}, err
		}
		s = step{kind: stepMember, name: name}
	} else {
		end := strings.IndexByte(p.rest, ']')
		if end < 0 {
			return step{}, errors.New("a bracket is not closed")
		}
		n, err := strconv.Atoi(p.rest[:end])
		if err != nil {
			return step{}, fmt.Errorf("got [%s], an index, a quoted name or * is wanted", p.rest[:end])
		}
		p.rest = p.rest[end:]
		s = step{kind: stepElement, index: n}
	}
	if !p.take("]") {
		return step{}, errors.New("a bracket is not closed")
	}
	return s, nil
}

// condition parses name.name=="text"] or name==number].
func (p *pathParser) condition() (step, error) {
	s := step{kind: stepWhere}
	for {
		name := p.word()
		if name == "" {
			return step{}, errors.New("a name is wanted after [?")
		}
		s.where = append(s.where, name)
		if !p.take(".") {
			break
		}
	}
	if !p.take("==") {
		return step{}, errors.New("== is wanted in a condition")
	}
	var err error
	if strings.HasPrefix(p.rest, `"`) {
		s.value, err = p.text()
	} else {
		s.value = p.word()
		_, err = strconv.ParseFloat(s.value, 64)
	}
	if err != nil {
		return step{}, fmt.Errorf("a quoted text or a number is wanted after ==: %w", err)
	}
	if !p.take("]") {
		return step{}, errors.New("a condition is not closed")
	}
	return s, nil
}

func (p *pathParser) word() string {
	i := 0
	for i < len(p.rest) && (p.rest[i] == '_' || p.rest[i] == '-' || p.rest[i] >= 0x80 ||
		(p.rest[i]|0x20 >= 'a' && p.rest[i]|0x20 <= 'z') || (p.rest[i] >= '0' && p.rest[i] <= '9')) {
		i++
	}
	w := p.rest[:i]
	p.rest = p.rest[i:]
	return w
}

// text parses a quoted text and then replaces ${…} in it: a value that holds a
// quote does not end it.
func (p *pathParser) text() (string, error) {
	quoted, err := strconv.QuotedPrefix(p.rest)
	if err != nil {
		return "", errors.New("a text is not closed")
	}
	p.rest = p.rest[len(quoted):]
	s, err := strconv.Unquote(quoted)
	if err != nil {
		return "", err
	}
	return replace(s, p.vars, func(_, v string) (string, error) { return v, nil })
}

// values are what the path selects in the document.
func (p path) values(doc any) ([]any, error) {
	at := []any{doc}
	for _, s := range p {
		var next []any
		for _, v := range at {
			next = s.from(next, v)
			if len(next) > maxValues {
				return nil, fmt.Errorf("the path selects more than %d values", maxValues)
			}
		}
		at = next
	}
	return at, nil
}

func (s step) from(out []any, v any) []any {
	object, _ := v.(map[string]any)
	array, _ := v.([]any)
	switch s.kind {
	case stepMember:
		if x, ok := object[s.name]; ok {
			return append(out, x)
		}
	case stepElement:
		i := s.index
		if i < 0 {
			i += len(array)
		}
		if i >= 0 && i < len(array) {
			return append(out, array[i])
		}
	case stepAll:
		out = append(out, array...)
		for _, k := range sortedKeys(object) {
			out = append(out, object[k])
		}
	case stepWhere:
		for _, x := range array {
			if s.holds(x) {
				out = append(out, x)
			}
		}
	}
	return out
}

func (s step) holds(v any) bool {
	for _, name := range s.where {
		object, _ := v.(map[string]any)
		x, ok := object[name]
		if !ok {
			return false
		}
		v = x
	}
	switch x := v.(type) {
	case string:
		return x == s.value
	case json.Number:
		a, err1 := x.Float64()
		b, err2 := strconv.ParseFloat(s.value, 64)
		return err1 == nil && err2 == nil && a == b
	case bool:
		return strconv.FormatBool(x) == s.value
	}
	return false
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// number is a JSON number, or one in a text, as warehouses write large ones;
// null is none.
func number(v any) (x float64, ok bool, err error) {
	var text string
	switch y := v.(type) {
	case nil:
		return 0, false, nil
	case json.Number:
		text = y.String()
	case string:
		text = y
	default:
		return 0, false, fmt.Errorf("it selects a %T, a number is wanted", v)
	}
	x, err = strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, false, fmt.Errorf("it selects %.40q, a number is wanted", text)
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, false, fmt.Errorf("it selects %v", x)
	}
	return x, true, nil
}
