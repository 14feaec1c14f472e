package policytest

import (
	"reflect"

	"github.com/belayd/belay/policies/document"
)

// SchemaID is the identity of the JSON Schema of policy tests.
const SchemaID = "https://belay.example/schemas/policytest.schema.json"

// JSONSchema returns the JSON Schema (2020-12) of policy tests.
func JSONSchema() []byte {
	return document.SchemaOf(reflect.TypeFor[File](), SchemaID, "Belay policy test")
}
