package policies

import (
	"reflect"
)

// Render writes the policy as it runs: everything it extends merged in, every
// default filled in. With origins, each value says where it came from: a line
// of a file, or the default. What Render writes is a policy that parses to the
// same plan, and rendering that gives the same text (but for the origins).
func (p *Policy) Render(origins bool) string {
	tree := p.tree.Clone()
	tree.Order(reflect.TypeFor[Document]())
	if !origins {
		return tree.Encode(false)
	}
	return "# " + p.Document.Metadata.Name + " as it runs; each value with where it came from.\n" + tree.Encode(true)
}
