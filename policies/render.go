package policies

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Render writes the policy as it runs: everything it extends merged in, every
// default filled in. With origins, each value says where it came from: a line
// of a file, or the default. What Render writes is a policy that parses to the
// same plan, and rendering that gives the same text (but for the origins).
func (p *Policy) Render(origins bool) string {
	tree := p.tree.clone()
	tree.order(reflect.TypeFor[Document]())
	if !origins {
		return tree.encode(false)
	}
	return "# " + p.Document.Metadata.Name + " as it runs; each value with where it came from.\n" + tree.encode(true)
}

// encode writes a tree as YAML text; with origins, each value says where it came from.
func (n *node) encode(origins bool) string {
	w := &writer{origins: origins}
	switch n.shape {
	case mapping:
		w.mapping(n, 0)
	case sequence:
		w.sequence(n, 0)
	case scalar:
		w.b.WriteString(plain(n) + "\n")
	}
	return w.b.String()
}

// order sorts the keys of a tree as the fields of a type stand.
func (n *node) order(t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case n.shape == sequence && t.Kind() == reflect.Slice:
		for _, item := range n.items {
			item.order(t.Elem())
		}
	case n.shape == mapping && t.Kind() == reflect.Map:
		for _, item := range n.items {
			item.order(t.Elem())
		}
	case n.shape == mapping && t.Kind() == reflect.Struct:
		fields := fieldsOf(t)
		old := *n
		n.keys, n.items = nil, nil
		for _, f := range fields {
			if k, v := old.entry(f.name); k != nil {
				v.order(f.typ)
				n.keys, n.items = append(n.keys, k), append(n.items, v)
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

func (w *writer) mapping(n *node, indent int) {
	for i, k := range n.keys {
		if !w.atItem {
			w.b.WriteString(strings.Repeat("  ", indent))
		}
		w.atItem = false
		w.b.WriteString(plain(&node{tag: "!!str", value: k.value}) + ":")
		w.value(n.items[i], indent)
	}
}

func (w *writer) value(n *node, indent int) {
	switch {
	case n.shape == scalar:
		w.line(" "+plain(n), n)
	case len(n.items) == 0 && n.shape == mapping:
		w.line(" {}", n)
	case n.shape == mapping:
		w.b.WriteString("\n")
		w.mapping(n, indent+1)
	case flat(n):
		words := make([]string, len(n.items))
		for i, item := range n.items {
			words[i] = plain(item)
		}
		w.line(" ["+strings.Join(words, ", ")+"]", n)
	default:
		w.b.WriteString("\n")
		w.sequence(n, indent+1)
	}
}

func (w *writer) sequence(n *node, indent int) {
	for _, item := range n.items {
		w.b.WriteString(strings.Repeat("  ", indent) + "-")
		if item.shape == mapping && len(item.items) > 0 {
			w.b.WriteString(" ")
			w.atItem = true
			w.mapping(item, indent+1)
			continue
		}
		w.value(item, indent)
	}
}

// flat reports whether a list fits on a line.
func flat(n *node) bool {
	return !slices.ContainsFunc(n.items, func(item *node) bool { return item.shape != scalar })
}

// line ends a line, with the origin of its value.
func (w *writer) line(text string, n *node) {
	w.b.WriteString(text)
	if w.origins {
		w.b.WriteString("  # " + n.from())
	}
	w.b.WriteString("\n")
}

// from says where a value came from.
func (n *node) from() string {
	switch {
	case n.origin != "":
		return n.origin
	case n.src == nil:
		return originDefault
	}
	return fmt.Sprintf("%s:%d", n.src.name, n.line)
}

var plainSafe = regexp.MustCompile(`^[A-Za-z0-9_./%$+-]([A-Za-z0-9_./%$ +-]*[A-Za-z0-9_./%$+-])?$`)

// plain writes a scalar, in quotes where YAML would read it as something else.
func plain(n *node) string {
	if n.tag != "!!str" && n.tag != "" {
		return n.value
	}
	y := yaml.Node{Kind: yaml.ScalarNode, Value: n.value}
	switch strings.ToLower(n.value) {
	case "yes", "no", "on", "off", "y", "n": // other readers of YAML take them for booleans
		return strconv.Quote(n.value)
	}
	if plainSafe.MatchString(n.value) && y.ShortTag() == "!!str" && n.value[0] != '-' && n.value[0] != '%' {
		return n.value
	}
	return strconv.Quote(n.value)
}
