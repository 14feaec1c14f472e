package policies

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Decode reads one YAML document into out, a pointer to a struct, as strictly
// as policies are read; belayd's config uses it. Fields are described by tags:
//
//	yaml:"name"       the key; a field without it is left alone
//	required:"true"   the key must stand there
//	default:"15s"     YAML for the value when the key is missing; the keys of a
//	                  mapping here also complete a mapping that stands there
//	enum:"a,b"        the values that a string may have
//	oneof:"group"     exactly one of the fields with the same group must stand there
//	doc:"…"           what it means, for the JSON Schema
//
// Of what stands in the document its problems show places, names of fields and
// reasons, never a line or a value: it may hold secrets.
//
// Fields may be structs (also embedded), pointers, slices, maps with string
// keys, strings, booleans, whole numbers, floats, time.Duration (the unit is
// needed), Raw, and what implements encoding.TextUnmarshaler. Values that
// implement Validator check themselves.
func Decode(file string, data []byte, out any) Problems {
	tree, ps := readTree(file, data, MaxNodes)
	if tree == nil {
		return ps.discreet()
	}
	_, more := decodeTree(tree, out, false)
	return append(ps, more...).sorted().discreet()
}

// An index finds the node of a path, to report problems of meaning at.
type index map[string]*node

// nearest is the node of the path or of the closest one above it; nil when there is
// not even a root.
func (x index) nearest(path string) *node {
	for {
		if n, ok := x[path]; ok {
			return n
		}
		if path == "" {
			return nil
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// decodeTree reads a tree into out, a pointer to a struct, as Decode does, and
// completes the tree with the defaults. Lenient: missing keys are no problem; others
// complete the document.
func decodeTree(tree *node, out any, lenient bool) (index, Problems) {
	d := &decoder{at: index{}, lenient: lenient}
	d.value(tree, "", reflect.ValueOf(out).Elem())
	return d.at, d.problems
}

// quoted is what the YAML parser quotes of a text, but for single signs.
var quoted = regexp.MustCompile("'[^'\\s]{4,}'|\"[^\"\\s]{4,}\"|`[^`\\s]{4,}`")

// discreet takes out whatever may be a secret, written in the wrong place: the line
// itself, values, and keys that resemble none that is known. Where it stands and
// what would be right is left.
func (ps Problems) discreet() Problems {
	for i := range ps {
		p := &ps[i]
		p.excerpt, p.Got = "", ""
		switch p.Code {
		case CodeSyntax:
			p.Why = quoted.ReplaceAllString(p.Why, "…")
		case CodeRefused:
			p.Hint = ""
		case CodeValue:
			p.Hint, _, _ = strings.Cut(p.Hint, ": ")
		case CodeUnknown:
			if !strings.HasPrefix(p.Hint, "did you mean ") {
				p.Path = p.Path[:max(strings.LastIndexAny(p.Path, ".["), 0)]
			}
		}
	}
	return ps
}

// A Validator checks a value once it was decoded without problems. It reports
// at paths relative to itself ("" is the value itself).
type Validator interface {
	Validate(report func(path, why string))
}

// Raw keeps a part of the document as YAML text, for decoders of others. It
// holds no anchors, aliases or tags.
type Raw string

// shorthand is implemented by structs that may be written as a single value:
// the value of the key that it names.
type shorthand interface{ shorthandKey() string }

type decoder struct {
	at       index
	problems Problems
	lenient  bool
}

func (d *decoder) report(n *node, path, code, why string) *Problem {
	if d.full() {
		return &Problem{}
	}
	d.problems = append(d.problems, problemAt(n, path, code, why))
	return &d.problems[len(d.problems)-1]
}

// full: more problems than these would not be shown.
func (d *decoder) full() bool { return len(d.problems) > MaxProblems }

func (d *decoder) reportGot(n *node, path, why string) *Problem {
	p := d.report(n, path, CodeValue, why)
	p.Got = shorten(n.text())
	return p
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	rawType      = reflect.TypeFor[Raw]()
)

// value decodes n into v and completes n with defaults.
func (d *decoder) value(n *node, path string, v reflect.Value) {
	d.at[path] = n
	if v.Type() == rawType {
		v.SetString(n.encode(false))
		return
	}
	if n.shape == scalar && n.tag == "!!null" {
		d.report(n, path, CodeValue, "has no value").Hint = "give it a value or remove the key"
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, path, v.Elem())
		return
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		d.text(n, path, u)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, path, v)
	case reflect.Slice:
		d.slice(n, path, v)
	case reflect.Map:
		d.mapping(n, path, v)
	default:
		d.scalar(n, path, v)
	}
}

func (d *decoder) expect(n *node, path string, want shape) bool {
	if n.shape == want {
		return true
	}
	d.reportGot(n, path, "must be "+want.String())
	return false
}

func (d *decoder) text(n *node, path string, u encoding.TextUnmarshaler) {
	if !d.expect(n, path, scalar) {
		return
	}
	if err := u.UnmarshalText([]byte(n.value)); err != nil {
		d.reportGot(n, path, err.Error())
	}
}

func (d *decoder) slice(n *node, path string, v reflect.Value) {
	if !d.expect(n, path, sequence) {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	for i, item := range n.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		if v.Index(i).CanAddr() {
			if s, ok := reflect.TypeAssert[shorthand](v.Index(i).Addr()); ok && item.shape == scalar && item.tag != "!!null" {
				item = longhand(item, s.shorthandKey())
				n.items[i] = item
			}
		}
		d.value(item, at, v.Index(i))
	}
}

// longhand turns a single value into a mapping of one key.
func longhand(n *node, key string) *node {
	k := *n
	k.value, k.tag = key, "!!str"
	return &node{shape: mapping, keys: []*node{&k}, items: []*node{n}, src: n.src, line: n.line, col: n.col}
}

func (d *decoder) mapping(n *node, path string, v reflect.Value) {
	if !d.expect(n, path, mapping) {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i, k := range n.keys {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(n.items[i], join(path, k.value), item)
		v.SetMapIndex(reflect.ValueOf(k.value).Convert(v.Type().Key()), item)
	}
}

func (d *decoder) structure(n *node, path string, v reflect.Value) {
	if !d.expect(n, path, mapping) {
		return
	}
	before := len(d.problems)
	fields := fieldsOf(v.Type())
	d.unknownKeys(n, path, fields)
	groups := map[string][]string{}
	for _, f := range fields {
		item := n.child(f.name)
		if item != nil && f.group != "" {
			groups[f.group] = append(groups[f.group], f.name)
		}
		if f.def != "" {
			item = complete(n, f, item)
		}
		if item == nil {
			if f.required && !d.lenient {
				d.report(n, join(path, f.name), CodeMissing, "is required and missing").Hint = hintFor(f)
			}
			continue
		}
		target := v.FieldByIndex(f.index)
		d.value(item, join(path, f.name), target)
		d.enum(item, join(path, f.name), f, target)
	}
	d.oneOf(n, path, fields, groups)
	if len(d.problems) > before {
		return
	}
	if val, ok := reflect.TypeAssert[Validator](v.Addr()); ok {
		val.Validate(func(rel, why string) {
			at := path
			if rel != "" {
				at = strings.TrimPrefix(path+"."+rel, ".")
			}
			d.report(d.at.nearest(at), at, CodeMeaning, why)
		})
	}
}

func (d *decoder) scalar(n *node, path string, v reflect.Value) {
	if !d.expect(n, path, scalar) {
		return
	}
	switch {
	case v.Type() == durationType:
		dur, err := parseDuration(n.value)
		if err != nil {
			d.reportGot(n, path, err.Error())
			return
		}
		v.SetInt(int64(dur))
	case v.Kind() == reflect.String:
		if n.tag != "!!str" && n.tag != "!!timestamp" {
			d.reportGot(n, path, "must be text").Hint = "put it into quotes: " + strconv.Quote(shorten(n.value))
			return
		}
		v.SetString(n.value)
	case v.Kind() == reflect.Bool:
		if n.tag != "!!bool" {
			d.reportGot(n, path, "must be true or false")
			return
		}
		v.SetBool(strings.EqualFold(n.value, "true"))
	case v.CanInt():
		i, err := strconv.ParseInt(n.value, 10, v.Type().Bits())
		if err != nil {
			d.reportGot(n, path, "must be a whole number")
			return
		}
		v.SetInt(i)
	case v.CanFloat():
		x, err := parseNumber(n.value)
		if err != nil {
			d.reportGot(n, path, err.Error())
			return
		}
		v.SetFloat(x)
	default:
		panic("policies: decode into " + v.Type().String()) // unreachable unless a struct's author chose an unsupported type
	}
}
