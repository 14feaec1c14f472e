package document

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Encode writes a tree as YAML text; with origins, each value says where it came from.
func (n *Node) Encode(origins bool) string {
	w := &writer{origins: origins}
	switch n.Shape {
	case Mapping:
		w.mapping(n, 0)
	case Sequence:
		w.sequence(n, 0)
	case Scalar:
		w.b.WriteString(plain(n) + "\n")
	}
	return w.b.String()
}

// Order sorts the keys of a tree as the fields of a type stand.
func (n *Node) Order(t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case n.Shape == Sequence && t.Kind() == reflect.Slice:
		for _, item := range n.Items {
			item.Order(t.Elem())
		}
	case n.Shape == Mapping && t.Kind() == reflect.Map:
		for _, item := range n.Items {
			item.Order(t.Elem())
		}
	case n.Shape == Mapping && t.Kind() == reflect.Struct:
		fields := FieldsOf(t)
		old := *n
		n.Keys, n.Items = nil, nil
		for _, f := range fields {
			if k, v := old.Entry(f.Name); k != nil {
				v.Order(f.Type)
				n.Keys, n.Items = append(n.Keys, k), append(n.Items, v)
			}
		}
	}
}

// A writer writes trees as YAML.
type writer struct {
	b       strings.Builder
	origins bool
	// atItem: the line so far is the dash of a list.
	atItem bool
}

func (w *writer) mapping(n *Node, indent int) {
	for i, k := range n.Keys {
		if !w.atItem {
			w.b.WriteString(strings.Repeat("  ", indent))
		}
		w.atItem = false
		w.b.WriteString(plain(&Node{Tag: "!!str", Value: k.Value}) + ":")
		w.value(n.Items[i], indent)
	}
}

func (w *writer) value(n *Node, indent int) {
	switch {
	case n.Shape == Scalar:
		w.line(" "+plain(n), n)
	case len(n.Items) == 0 && n.Shape == Mapping:
		w.line(" {}", n)
	case n.Shape == Mapping:
		w.b.WriteString("\n")
		w.mapping(n, indent+1)
	case flat(n):
		words := make([]string, len(n.Items))
		for i, item := range n.Items {
			words[i] = plain(item)
		}
		w.line(" ["+strings.Join(words, ", ")+"]", n)
	default:
		w.b.WriteString("\n")
		w.sequence(n, indent+1)
	}
}

func (w *writer) sequence(n *Node, indent int) {
	for _, item := range n.Items {
		w.b.WriteString(strings.Repeat("  ", indent) + "-")
		if item.Shape == Mapping && len(item.Items) > 0 {
			w.b.WriteString(" ")
			w.atItem = true
			w.mapping(item, indent+1)
			continue
		}
		w.value(item, indent)
	}
}

// flat reports whether a list fits on a line.
func flat(n *Node) bool {
	return !slices.ContainsFunc(n.Items, func(item *Node) bool { return item.Shape != Scalar })
}

// line ends a line, with the origin of its value.
func (w *writer) line(text string, n *Node) {
	w.b.WriteString(text)
	if w.origins {
		w.b.WriteString("  # " + n.from())
	}
	w.b.WriteString("\n")
}

// from says where a value came from.
func (n *Node) from() string {
	switch {
	case n.Origin != "":
		return n.Origin
	case n.src == nil:
		return OriginDefault
	}
	return fmt.Sprintf("%s:%d", n.src.name, n.Line)
}

var plainSafe = regexp.MustCompile(`^[A-Za-z0-9_./%$+-]([A-Za-z0-9_./%$ +-]*[A-Za-z0-9_./%$+-])?$`)

// plain writes a scalar, in quotes where YAML would read it as something else.
func plain(n *Node) string {
	if n.Tag != "!!str" && n.Tag != "" {
		return n.Value
	}
	y := yaml.Node{Kind: yaml.ScalarNode, Value: n.Value}
	switch strings.ToLower(n.Value) {
	case "yes", "no", "on", "off", "y", "n": // other readers of YAML take them for booleans
		return strconv.Quote(n.Value)
	}
	if plainSafe.MatchString(n.Value) && y.ShortTag() == "!!str" && n.Value[0] != '-' && n.Value[0] != '%' {
		return n.Value
	}
	return strconv.Quote(n.Value)
}
