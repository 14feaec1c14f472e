package policies

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

func (d *decoder) unknownKeys(n *node, path string, fields []field) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	for i, k := range n.keys {
		if d.full() {
			return
		}
		if slices.Contains(names, k.value) {
			continue
		}
		hint := suggest(k.value, names)
		if hint == "" {
			hint = "known here: " + oneOfSorted(names)
		}
		p := d.report(k, join(path, k.value), CodeUnknown, "no such key")
		p.Hint = hint
		d.at[join(path, k.value)] = n.items[i]
	}
}

func (d *decoder) enum(n *node, path string, f field, v reflect.Value) {
	if len(f.enum) == 0 || n.shape != scalar || n.tag == "!!null" {
		return
	}
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.String || slices.Contains(f.enum, v.String()) || v.String() == "" && n.value != "" {
		return
	}
	d.reportGot(n, path, "must be "+oneOf(f.enum)).Hint = suggest(n.value, f.enum)
}

func (d *decoder) oneOf(n *node, path string, fields []field, groups map[string][]string) {
	members := map[string][]string{}
	for _, f := range fields {
		if f.group != "" {
			members[f.group] = append(members[f.group], f.name)
		}
	}
	for _, g := range slices.Sorted(maps.Keys(members)) {
		switch got := groups[g]; {
		case len(got) == 0 && !d.lenient:
			d.report(n, path, CodeMissing, "needs "+oneOf(members[g]))
		case len(got) > 1:
			k, _ := n.entry(got[1])
			d.report(k, path, CodeMeaning, "takes only one of "+strings.Join(members[g], ", ")).Got = strings.Join(got, " and ")
		}
	}
}

// complete fills what is missing from the field's default into n.
func complete(n *node, f field, item *node) *node {
	def, _ := readTree("default", []byte(f.def), MaxNodes) // a default is a constant of this module; a test reads them all
	markDefault(def, n)
	if item == nil {
		n.set(derived(n, f.name, originDefault), def)
		return def
	}
	if item.shape == mapping && def.shape == mapping {
		for i, k := range def.keys {
			if item.child(k.value) == nil {
				item.set(k, def.items[i])
			}
		}
	}
	return item
}

const originDefault = "default"

func markDefault(n, at *node) {
	n.origin, n.src, n.line, n.col = originDefault, at.src, at.line, at.col
	for _, k := range n.keys {
		markDefault(k, at)
	}
	for _, v := range n.items {
		markDefault(v, at)
	}
}

func hintFor(f field) string {
	if len(f.enum) > 0 {
		return f.name + " is " + oneOf(f.enum)
	}
	return ""
}

func oneOfSorted(names []string) string {
	names = slices.Sorted(slices.Values(names))
	return strings.Join(names, ", ")
}
