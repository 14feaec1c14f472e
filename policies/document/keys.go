package document

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

func (d *decoder) unknownKeys(n *Node, path string, fields []Field) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	for i, k := range n.Keys {
		if d.full() {
			return
		}
		if slices.Contains(names, k.Value) {
			continue
		}
		hint := Suggest(k.Value, names)
		if hint == "" {
			hint = "known here: " + oneOfSorted(names)
		}
		p := d.report(k, Join(path, k.Value), CodeUnknown, "no such key")
		p.Hint = hint
		d.at[Join(path, k.Value)] = n.Items[i]
	}
}

func (d *decoder) enum(n *Node, path string, f Field, v reflect.Value) {
	if len(f.Enum) == 0 || n.Shape != Scalar || n.Tag == "!!null" {
		return
	}
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.String || slices.Contains(f.Enum, v.String()) || v.String() == "" && n.Value != "" {
		return
	}
	d.reportGot(n, path, "must be "+OneOf(f.Enum)).Hint = Suggest(n.Value, f.Enum)
}

func (d *decoder) oneOf(n *Node, path string, fields []Field, groups map[string][]string) {
	members := map[string][]string{}
	for _, f := range fields {
		if f.Group != "" {
			members[f.Group] = append(members[f.Group], f.Name)
		}
	}
	for _, g := range slices.Sorted(maps.Keys(members)) {
		switch got := groups[g]; {
		case len(got) == 0 && !d.lenient:
			d.report(n, path, CodeMissing, "needs "+OneOf(members[g]))
		case len(got) > 1:
			k, _ := n.Entry(got[1])
			d.report(k, path, CodeMeaning, "takes only one of "+strings.Join(members[g], ", ")).Got = strings.Join(got,
				" and ")
		}
	}
}

// complete fills what is missing from the field's default into n.
func complete(n *Node, f Field, item *Node) *Node {
	// a default is a constant of this module; a test reads them all
	def, _ := Read("default", []byte(f.Default), MaxNodes)
	markDefault(def, n)
	if item == nil {
		n.Set(Derived(n, f.Name, OriginDefault), def)
		return def
	}
	if item.Shape == Mapping && def.Shape == Mapping {
		for i, k := range def.Keys {
			if item.Child(k.Value) == nil {
				item.Set(k, def.Items[i])
			}
		}
	}
	return item
}

const OriginDefault = "default"

func markDefault(n, at *Node) {
	n.Origin, n.src, n.Line, n.Col = OriginDefault, at.src, at.Line, at.Col
	for _, k := range n.Keys {
		markDefault(k, at)
	}
	for _, v := range n.Items {
		markDefault(v, at)
	}
}

func hintFor(f Field) string {
	if len(f.Enum) > 0 {
		return f.Name + " is " + OneOf(f.Enum)
	}
	return ""
}
