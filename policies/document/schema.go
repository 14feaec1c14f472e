package document

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
)

// SchemaOf returns the JSON Schema (2020-12) of a struct that Decode reads whole: of a
// file of which nothing may be left out that it requires.
func SchemaOf(t reflect.Type, id, title string) []byte {
	return SchemaText(PartialSchema(t, id, title))
}

const dialect = "https://json-schema.org/draft/2020-12/schema"

// PartialSchema is the schema of a file. Of the partial types any key may be left out, as
// another file may give it.
func PartialSchema(t reflect.Type, id, title string, partial ...reflect.Type) map[string]any {
	g := &schemaWriter{defs: map[string]any{}, partial: partial}
	root := g.object(t)
	root["$schema"] = dialect
	root["$id"] = id
	root["title"] = title
	root["$defs"] = g.defs
	return root
}

func SchemaText(root map[string]any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		panic(err) // unreachable: maps, slices and strings
	}
	return b.Bytes()
}

// A schemaWriter collects the definitions of structs.
type schemaWriter struct {
	defs    map[string]any
	partial []reflect.Type
}

// Described is implemented by values that are read from one word.
type Described interface{ JSONSchema() map[string]any }

// TextSchema describes a text by its pattern, with examples.
func TextSchema(pattern string, examples ...string) map[string]any {
	return map[string]any{"type": "string", "pattern": pattern, "examples": examples}
}

func Required(t reflect.Type) []string {
	var out []string
	for _, f := range FieldsOf(t) {
		if f.Required {
			out = append(out, f.Name)
		}
	}
	return out
}

func (g *schemaWriter) object(t reflect.Type) map[string]any {
	props := map[string]any{}
	groups := map[string][]any{}
	var order []string
	for _, f := range FieldsOf(t) {
		s := g.schema(f.Type)
		if f.Doc != "" {
			s["description"] = f.Doc
		}
		if len(f.Enum) > 0 {
			s["enum"] = f.Enum
		}
		if f.Default != "" && f.Default != "{}" {
			s["default"] = defaultValue(f)
		}
		props[f.Name] = s
		if f.Group != "" {
			if groups[f.Group] == nil {
				order = append(order, f.Group)
			}
			groups[f.Group] = append(groups[f.Group], map[string]any{"required": []string{f.Name}})
		}
	}
	out := map[string]any{"type": "object", "additionalProperties": false, "properties": props}
	if r := Required(t); len(r) > 0 && !slices.Contains(g.partial, t) {
		out["required"] = r
	}
	var all []any
	for _, name := range order {
		all = append(all, map[string]any{"oneOf": groups[name]})
	}
	if len(all) > 0 {
		out["allOf"] = all
	}
	return out
}

// defaultValue is the default as an editor shows it.
func defaultValue(f Field) any {
	n, _ := Read("default", []byte(f.Default), MaxNodes) // a constant
	return jsonValue(n)
}

func jsonValue(n *Node) any {
	switch n.Shape {
	case Mapping:
		out := map[string]any{}
		for i, k := range n.Keys {
			out[k.Value] = jsonValue(n.Items[i])
		}
		return out
	case Sequence:
		out := []any{}
		for _, item := range n.Items {
			out = append(out, jsonValue(item))
		}
		return out
	case Scalar:
	}
	if n.Tag == "!!int" {
		return json.Number(n.Value)
	}
	return n.Value
}

// schema describes a type; structs become definitions.
func (g *schemaWriter) schema(t reflect.Type) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == durationType {
		return TextSchema("^"+DurationPattern+"$", "30m", "15s", "1h30m")
	}
	if d, ok := reflect.TypeAssert[Described](reflect.New(t)); ok {
		return d.JSONSchema()
	}
	if t.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		// unreachable unless a type's author forgot it; a test generates the schema
		panic("policies: no schema for " + t.String())
	}
	switch t.Kind() {
	case reflect.Struct:
		if _, ok := g.defs[t.Name()]; !ok {
			g.defs[t.Name()] = true // against recursion
			g.defs[t.Name()] = g.object(t)
		}
		ref := map[string]any{"$ref": "#/$defs/" + t.Name()}
		if s, ok := reflect.TypeAssert[Shorthand](reflect.New(t)); ok {
			key, _ := FieldNamed(t, s.ShorthandKey())
			return map[string]any{"anyOf": []any{ref, g.schema(key.Type)}}
		}
		return ref
	case reflect.Slice:
		return map[string]any{"type": "array", "items": g.schema(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.schema(t.Elem())}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	default:
		return map[string]any{"type": "string"}
	}
}

func FieldNamed(t reflect.Type, name string) (Field, bool) {
	for _, f := range FieldsOf(t) {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

const (
	NumberPattern   = `[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?`
	DurationPattern = `([0-9]+(\.[0-9]+)?(h|ms|m|s))+`
)
