package document

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// DecodeTree reads a tree into out, a pointer to a struct, as Decode does, and
// completes the tree with the defaults. Lenient: missing keys are no problem; others
// complete the document.
func DecodeTree(tree *Node, out any, lenient bool) (Index, Problems) {
	d := &decoder{at: Index{}, lenient: lenient}
	d.value(tree, "", reflect.ValueOf(out).Elem())
	return d.at, d.problems
}

// A Validator checks a value once it was decoded without problems. It reports
// at paths relative to itself ("" is the value itself).
type Validator interface {
	Validate(report func(path, why string))
}

// Raw keeps a part of the document as YAML text, for decoders of others. It
// holds no anchors, aliases or tags.
type Raw string

// Shorthand is implemented by structs that may be written as a single value:
// the value of the key that it names.
type Shorthand interface{ ShorthandKey() string }

type decoder struct {
	at       Index
	problems Problems
	lenient  bool
}

func (d *decoder) report(n *Node, path, code, why string) *Problem {
	if d.full() {
		return &Problem{}
	}
	d.problems = append(d.problems, ProblemAt(n, path, code, why))
	return &d.problems[len(d.problems)-1]
}

// full: more problems than these would not be shown.
func (d *decoder) full() bool { return len(d.problems) > MaxProblems }

func (d *decoder) reportGot(n *Node, path, why string) *Problem {
	p := d.report(n, path, CodeValue, why)
	p.Got = Shorten(n.Text())
	return p
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	rawType      = reflect.TypeFor[Raw]()
)

// value decodes n into v and completes n with defaults.
func (d *decoder) value(n *Node, path string, v reflect.Value) {
	d.at[path] = n
	if v.Type() == rawType {
		v.SetString(n.Encode(false))
		return
	}
	if n.Shape == Scalar && n.Tag == "!!null" {
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

func (d *decoder) expect(n *Node, path string, want NodeKind) bool {
	if n.Shape == want {
		return true
	}
	d.reportGot(n, path, "must be "+want.String())
	return false
}

func (d *decoder) text(n *Node, path string, u encoding.TextUnmarshaler) {
	if !d.expect(n, path, Scalar) {
		return
	}
	if err := u.UnmarshalText([]byte(n.Value)); err != nil {
		d.reportGot(n, path, err.Error())
	}
}

func (d *decoder) slice(n *Node, path string, v reflect.Value) {
	if !d.expect(n, path, Sequence) {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items)))
	for i, item := range n.Items {
		at := fmt.Sprintf("%s[%d]", path, i)
		if v.Index(i).CanAddr() {
			if s, ok := reflect.TypeAssert[Shorthand](v.Index(i).Addr()); ok && item.Shape == Scalar &&
				item.Tag != "!!null" {
				item = longhand(item, s.ShorthandKey())
				n.Items[i] = item
			}
		}
		d.value(item, at, v.Index(i))
	}
}

// longhand turns a single value into a mapping of one key.
func longhand(n *Node, key string) *Node {
	k := *n
	k.Value, k.Tag = key, "!!str"
	return &Node{Shape: Mapping, Keys: []*Node{&k}, Items: []*Node{n}, src: n.src, Line: n.Line, Col: n.Col}
}

func (d *decoder) mapping(n *Node, path string, v reflect.Value) {
	if !d.expect(n, path, Mapping) {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i, k := range n.Keys {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(n.Items[i], Join(path, k.Value), item)
		v.SetMapIndex(reflect.ValueOf(k.Value).Convert(v.Type().Key()), item)
	}
}

func (d *decoder) structure(n *Node, path string, v reflect.Value) {
	if !d.expect(n, path, Mapping) {
		return
	}
	before := len(d.problems)
	fields := FieldsOf(v.Type())
	d.unknownKeys(n, path, fields)
	groups := map[string][]string{}
	for _, f := range fields {
		item := n.Child(f.Name)
		if item != nil && f.Group != "" {
			groups[f.Group] = append(groups[f.Group], f.Name)
		}
		if f.Default != "" {
			item = complete(n, f, item)
		}
		if item == nil {
			if f.Required && !d.lenient {
				d.report(n, Join(path, f.Name), CodeMissing, "is required and missing").Hint = hintFor(f)
			}
			continue
		}
		target := v.FieldByIndex(f.index)
		d.value(item, Join(path, f.Name), target)
		d.enum(item, Join(path, f.Name), f, target)
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
			d.report(d.at.Nearest(at), at, CodeMeaning, why)
		})
	}
}

func (d *decoder) scalar(n *Node, path string, v reflect.Value) {
	if !d.expect(n, path, Scalar) {
		return
	}
	switch {
	case v.Type() == durationType:
		dur, err := ParseDuration(n.Value)
		if err != nil {
			d.reportGot(n, path, err.Error())
			return
		}
		v.SetInt(int64(dur))
	case v.Kind() == reflect.String:
		if n.Tag != "!!str" && n.Tag != "!!timestamp" {
			d.reportGot(n, path, "must be text").Hint = "put it into quotes: " + strconv.Quote(Shorten(n.Value))
			return
		}
		v.SetString(n.Value)
	case v.Kind() == reflect.Bool:
		if n.Tag != "!!bool" {
			d.reportGot(n, path, "must be true or false")
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case v.CanInt():
		i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		if err != nil {
			d.reportGot(n, path, "must be a whole number")
			return
		}
		v.SetInt(i)
	case v.CanFloat():
		x, err := ParseNumber(n.Value)
		if err != nil {
			d.reportGot(n, path, err.Error())
			return
		}
		v.SetFloat(x)
	default:
		// unreachable unless a struct's author chose an unsupported type
		panic("policies: decode into " + v.Type().String())
	}
}
