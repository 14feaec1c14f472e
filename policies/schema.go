package policies

import (
	"reflect"

	"github.com/belayd/belay/policies/document"
)

// SchemaID is the identity of the JSON Schema of policies.
const SchemaID = "https://belay.example/schemas/policy.schema.json"

// JSONSchema returns the JSON Schema (2020-12) of policies, generated from the
// types that read them, for completion and hover text in editors. It accepts
// every policy that Parse accepts; Parse refuses more.
func JSONSchema() []byte { return documentSchema(reflect.TypeFor[Document](), "Belay rollout policy") }

// documentSchema describes a type that is the root of a file.
func documentSchema(t reflect.Type, title string) []byte {
	root := document.PartialSchema(t, SchemaID, title, merged...)
	// A base, and a policy that extends one, may leave out what others give.
	required := root["required"]
	delete(root, "required")
	root["if"] = map[string]any{"anyOf": []any{
		map[string]any{"required": []string{"extends"}},
		map[string]any{"properties": map[string]any{"kind": map[string]any{"const": KindBase}}},
	}}
	root["then"] = map[string]any{"required": []string{"apiVersion"}}
	root["else"] = map[string]any{"required": required, "properties": completeParts(t)}
	return document.SchemaText(root)
}

// completeParts demands the required keys of metadata and spec, and of the lists in
// it that merge by name.
func completeParts(t reflect.Type) map[string]any {
	out := map[string]any{}
	for _, f := range document.FieldsOf(t) {
		if f.Type.Kind() == reflect.Struct && f.Required {
			def := map[string]any{"required": document.Required(f.Type)}
			if f.Name == "spec" {
				def["properties"] = map[string]any{
					"guardrails": map[string]any{"minItems": 1, "items": map[string]any{"required": document.Required(
						reflect.TypeFor[Guardrail]())}},
					"approvals": map[string]any{"items": map[string]any{"required": document.Required(
						reflect.TypeFor[Approval]())}},
					"endpoint": map[string]any{"required": document.Required(reflect.TypeFor[Endpoint]())},
				}
			}
			out[f.Name] = def
		}
	}
	return out
}

// merged are the types of which a base may hold a part.
var merged = []reflect.Type{
	reflect.TypeFor[Metadata](), reflect.TypeFor[Spec](), reflect.TypeFor[Endpoint](),
	reflect.TypeFor[Guardrail](), reflect.TypeFor[Approval](),
}
