package policies

import "reflect"

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

// documentSchema describes a type that is the root of a file.
func documentSchema(t reflect.Type, title string) []byte {
	root := schemaOf(t, SchemaID, title, merged...)
	// A base, and a policy that extends one, may leave out what others give.
	required := root["required"]
	delete(root, "required")
	root["if"] = map[string]any{"anyOf": []any{
		map[string]any{"required": []string{"extends"}},
		map[string]any{"properties": map[string]any{"kind": map[string]any{"const": KindBase}}},
	}}
	root["then"] = map[string]any{"required": []string{"apiVersion"}}
	root["else"] = map[string]any{"required": required, "properties": completeParts(t)}
	return schemaText(root)
}

// completeParts demands the required keys of metadata and spec, and of the lists in
// it that merge by name.
func completeParts(t reflect.Type) map[string]any {
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

// merged are the types of which a base may hold a part.
var merged = []reflect.Type{
	reflect.TypeFor[Metadata](), reflect.TypeFor[Spec](), reflect.TypeFor[Endpoint](),
	reflect.TypeFor[Guardrail](), reflect.TypeFor[Approval](),
}
