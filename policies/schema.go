package policies

import (
	"bytes"
	"encoding"
	"encoding/json"
	"maps"
	"reflect"
	"time"
)

// SchemaID is the identity of the JSON Schema of policies.
const SchemaID = "https://belay.example/schemas/policy.schema.json"

// JSONSchema returns the JSON Schema (2020-12) of policies, generated from the
// types that read them, for completion and hover text in editors. It accepts
// every policy that Parse accepts; Parse refuses more.
func JSONSchema() []byte { return documentSchema(reflect.TypeFor[Document](), "Belay rollout policy") }

// TestSchemaID is the identity of the JSON Schema of policy tests.
const TestSchemaID = "https://belay.example/schemas/policytest.schema.json"

// TestJSONSchema returns the JSON Schema (2020-12) of policy tests.
func TestJSONSchema() []byte {
	return SchemaOf(reflect.TypeFor[TestFile](), TestSchemaID, "Belay policy test")
}

// SchemaOf returns the JSON Schema (2020-12) of a struct that Decode reads whole: of a
// file of which nothing may be left out that it requires.
func SchemaOf(t reflect.Type, id, title string) []byte {
	g := &schemaWriter{defs: map[string]any{}}
	root := g.object(t)
	root["$schema"] = dialect
	root["$id"] = id
	root["title"] = title
	root["$defs"] = g.defs
	return schemaText(root)
}

const dialect = "https://json-schema.org/draft/2020-12/schema"

// documentSchema describes a type that is the root of a file.
func documentSchema(t reflect.Type, title string) []byte {
	g := &schemaWriter{defs: map[string]any{}}
	root := g.object(t)
	root["$schema"] = dialect
	root["$id"] = SchemaID
	root["title"] = title
	root["$defs"] = g.defs
	// A base, and a policy that extends one, may leave out what others give.
	required := root["required"]
	delete(root, "required")
	root["if"] = map[string]any{"anyOf": []any{
		map[string]any{"required": []string{"extends"}},
		map[string]any{"properties": map[string]any{"kind": map[string]any{"const": KindBase}}},
	}}
	root["then"] = map[string]any{"required": []string{"apiVersion"}}
	root["else"] = map[string]any{"required": required, "properties": g.complete(t)}
	return schemaText(root)
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
type schemaWriter struct{ defs map[string]any }

// complete demands the required keys of metadata and spec, and of the lists in
// it that merge by name.
func (g *schemaWriter) complete(t reflect.Type) map[string]any {
	out := map[string]any{}
	for _, f := range fieldsOf(t) {
		if f.typ.Kind() == reflect.Struct && f.required {
			def := map[string]any{"required": required(f.typ)}
			if f.name == "spec" {
				def["properties"] = map[string]any{
					"guardrails": map[string]any{"minItems": 1, "items": map[string]any{"required": required(reflect.TypeFor[Guardrail]())}},
					"approvals":  map[string]any{"items": map[string]any{"required": required(reflect.TypeFor[Approval]())}},
					"endpoint":   map[string]any{"required": required(reflect.TypeFor[Endpoint]())},
				}
			}
			out[f.name] = def
		}
	}
	return out
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

// merged are the types of which a base may hold a part.
var merged = []reflect.Type{
	reflect.TypeFor[Document](), reflect.TypeFor[Metadata](), reflect.TypeFor[Spec](), reflect.TypeFor[Endpoint](),
	reflect.TypeFor[Guardrail](), reflect.TypeFor[Approval](),
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
	partial := false
	for _, m := range merged {
		partial = partial || m == t
	}
	if r := required(t); len(r) > 0 && (!partial || t == reflect.TypeFor[Document]()) {
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
	if s, ok := scalarSchemas[t]; ok {
		return maps.Clone(s)
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
	quantityPattern = `([0-9.]+ ?x stable|` + numberPattern + ` *%|` + durationPattern + `|` + numberPattern + `)`
)

// scalarSchemas describe the values that are written as one word.
var scalarSchemas = map[reflect.Type]map[string]any{
	reflect.TypeFor[time.Duration](): {"type": "string", "pattern": `^` + durationPattern + `$`, "examples": []string{"30m", "15s", "1h30m"}},
	reflect.TypeFor[Patience]():      {"type": "string", "pattern": `^(never|` + durationPattern + `)$`, "examples": []string{"10m", "never"}},
	reflect.TypeFor[Percent]():       {"type": "string", "pattern": `^[0-9]+ *%$`, "examples": []string{"5%", "25%"}},
	reflect.TypeFor[Share]():         {"type": "string", "pattern": `^` + numberPattern + ` *%$`, "examples": []string{"1%", "0.5%"}},
	reflect.TypeFor[Quantile]():      {"type": "string", "pattern": `^p[0-9]+(\.[0-9]+)?$`, "examples": []string{"p95", "p99"}},
	reflect.TypeFor[KofN]():          {"type": "string", "pattern": `^[0-9]{1,4} of [0-9]{1,4}$`, "examples": []string{"3 of 5"}},
	reflect.TypeFor[LimitText]():     {"type": "string", "pattern": `^ *(<=|>=) *` + quantityPattern + ` *$`, "examples": []string{"<= 1%", "<= 450ms", ">= 0.98x stable"}},
	reflect.TypeFor[Instant]():       {"type": "string", "format": "date-time", "examples": []string{"2026-11-24T10:00:00+01:00"}},
	reflect.TypeFor[Series]():        {"type": "string", "examples": []string{"300x60 _x10", "1+2x30"}},
	reflect.TypeFor[When]():          {"type": "string", "examples": []string{"40m", "canary+5m", "asked:product-owner+1m"}},
	reflect.TypeFor[Probability]():   {"type": "string", "pattern": `^P\([a-z-]+\) *(<=|>=) *\S+%$`, "examples": []string{"P(rollback) <= 2%"}},
	reflect.TypeFor[Quantity]():      {"type": []string{"string", "number"}, "pattern": `^ *` + quantityPattern + ` *$`, "examples": []string{"2x stable", "5%", "600ms"}},
}
