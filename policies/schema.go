package policies

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
)

// SchemaOf returns the JSON Schema (2020-12) of a struct that Decode reads whole: of a
// file of which nothing may be left out that it requires.
func SchemaOf(t reflect.Type, id, title string) []byte { return schemaText(schemaOf(t, id, title)) }

const dialect = "https://json-schema.org/draft/2020-12/schema"

// schemaOf is the schema of a file. Of the partial types any key may be left out, as
// another file may give it.
func schemaOf(t reflect.Type, id, title string, partial ...reflect.Type) map[string]any {
	g := &schemaWriter{defs: map[string]any{}, partial: partial}
	root := g.object(t)
	root["$schema"] = dialect
	root["$id"] = id
	root["title"] = title
	root["$defs"] = g.defs
	return root
}

func schemaText(root map[string]any) []byte {
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

// described is implemented by values that are read from one word.
type described interface{ jsonSchema() map[string]any }

// textSchema describes a text by its pattern, with examples.
func textSchema(pattern string, examples ...string) map[string]any {
	return map[string]any{"type": "string", "pattern": pattern, "examples": examples}
}

func required(t reflect.Type) []string {
	var out []string
	for _, f := range fieldsOf(t) {
		if f.required {
			out = append(out, f.name)
		}
	}
	return out
}

func (g *schemaWriter) object(t reflect.Type) map[string]any {
	props := map[string]any{}
	groups := map[string][]any{}
	var order []string
	for _, f := range fieldsOf(t) {
		s := g.schema(f.typ)
		if f.doc != "" {
			s["description"] = f.doc
		}
		if len(f.enum) > 0 {
			s["enum"] = f.enum
		}
		if f.def != "" && f.def != "{}" {
			s["default"] = defaultValue(f)
		}
		props[f.name] = s
		if f.group != "" {
			if groups[f.group] == nil {
				order = append(order, f.group)
			}
			groups[f.group] = append(groups[f.group], map[string]any{"required": []string{f.name}})
		}
	}
	out := map[string]any{"type": "object", "additionalProperties": false, "properties": props}
	if r := required(t); len(r) > 0 && !slices.Contains(g.partial, t) {
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
func defaultValue(f field) any {
	n, _ := readTree("default", []byte(f.def), MaxPolicyNodes) // a constant
	return jsonValue(n)
}

func jsonValue(n *node) any {
	switch n.shape {
	case mapping:
		out := map[string]any{}
		for i, k := range n.keys {
			out[k.value] = jsonValue(n.items[i])
		}
		return out
	case sequence:
		out := []any{}
		for _, item := range n.items {
			out = append(out, jsonValue(item))
		}
		return out
	case scalar:
	}
	if n.tag == "!!int" {
		return json.Number(n.value)
	}
	return n.value
}

// schema describes a type; structs become definitions.
func (g *schemaWriter) schema(t reflect.Type) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == durationType {
		return textSchema("^"+durationPattern+"$", "30m", "15s", "1h30m")
	}
	if d, ok := reflect.TypeAssert[described](reflect.New(t)); ok {
		return d.jsonSchema()
	}
	if t.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		panic("policies: no schema for " + t.String()) // unreachable unless a type's author forgot it; a test generates the schema
	}
	switch t.Kind() {
	case reflect.Struct:
		if _, ok := g.defs[t.Name()]; !ok {
			g.defs[t.Name()] = true // against recursion
			g.defs[t.Name()] = g.object(t)
		}
		ref := map[string]any{"$ref": "#/$defs/" + t.Name()}
		if s, ok := reflect.TypeAssert[shorthand](reflect.New(t)); ok {
			key, _ := fieldNamed(t, s.shorthandKey())
			return map[string]any{"anyOf": []any{ref, g.schema(key.typ)}}
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

func fieldNamed(t reflect.Type, name string) (field, bool) {
	for _, f := range fieldsOf(t) {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

const (
	numberPattern   = `[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?`
	durationPattern = `([0-9]+(\.[0-9]+)?(h|ms|m|s))+`
)
