package document

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Reference writes a JSON Schema that this package made as a page in Markdown: the
// file's own fields, then each type in the order in which a reader meets it.
func Reference(schema []byte, intro string) ([]byte, error) {
	var root schemaPart
	if err := json.Unmarshal(schema, &root); err != nil {
		return nil, fmt.Errorf("write reference: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", root.Title, strings.TrimSpace(intro))
	required := map[string][]string{}
	if root.Else != nil {
		root.Else.demands("", root, root.Defs, required)
	}
	queue, seen := []string{""}, map[string]bool{"": true}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		part := root
		if name != "" {
			part = root.Defs[name]
			fmt.Fprintf(&b, "\n## %s\n", name)
		}
		b.WriteString("\n| field | type | default | meaning |\n|---|---|---|---|\n")
		for _, field := range slices.Sorted(maps.Keys(part.Properties)) {
			p := part.Properties[field]
			note := cell(p.Description)
			if slices.Contains(required[name], field) || slices.Contains(part.Required, field) {
				note = strings.TrimSpace("**Required.** " + note)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", field, p.word(), p.standard(), note)
			for _, next := range p.refs() {
				if !seen[next] {
					seen[next] = true
					queue = append(queue, next)
				}
			}
		}
		for _, one := range part.AllOf {
			var names []string
			for _, o := range one.OneOf {
				names = append(names, "`"+strings.Join(o.Required, "`, `")+"`")
			}
			fmt.Fprintf(&b, "\nExactly one of %s.\n", strings.Join(names, ", "))
		}
	}
	return []byte(b.String()), nil
}

// A schemaPart is what a page needs of a schema.
type schemaPart struct {
	Title, Description, Ref string
	Type                    any
	Properties, Defs        map[string]schemaPart
	Required                []string
	AllOf, OneOf, AnyOf     []schemaPart
	Items                   *schemaPart
	// Else is what a file must have that is no part of another one.
	Else       *schemaPart
	Additional *schemaPart
	Default    any
	Enum       []any
	Examples   []any
}

// UnmarshalJSON implements json.Unmarshaler: a schema may also be a bool.
func (p *schemaPart) UnmarshalJSON(b []byte) error {
	if b[0] != '{' {
		return nil
	}
	type named schemaPart
	var in struct {
		named
		Ref        string                `json:"$ref"`
		Defs       map[string]schemaPart `json:"$defs"`
		Additional *schemaPart           `json:"additionalProperties"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*p = schemaPart(in.named)
	p.Ref, p.Defs = strings.TrimPrefix(in.Ref, "#/$defs/"), in.Defs
	if a := in.Additional; a != nil && (a.Ref != "" || a.Type != nil || len(a.AnyOf) > 0) {
		p.Additional = a
	}
	return nil
}

// demands collects what the part requires of the type in its place, by the type's name.
func (p schemaPart) demands(name string, of schemaPart, defs map[string]schemaPart, required map[string][]string) {
	required[name] = append(required[name], p.Required...)
	for field, below := range p.Properties {
		for _, ref := range of.Properties[field].refs() {
			if below.Items != nil {
				below = *below.Items
			}
			below.demands(ref, defs[ref], defs, required)
		}
	}
}

// refs are the types that the part leads to.
func (p schemaPart) refs() []string {
	var out []string
	if p.Ref != "" {
		out = append(out, p.Ref)
	}
	for _, below := range []*schemaPart{p.Items, p.Additional} {
		if below != nil {
			out = append(out, below.refs()...)
		}
	}
	for _, a := range p.AnyOf {
		out = append(out, a.refs()...)
	}
	return out
}

// word is how a page names the part's type.
func (p schemaPart) word() string {
	switch {
	case len(p.Enum) > 0:
		var words []string
		for _, e := range p.Enum {
			words = append(words, fmt.Sprintf("`%v`", e))
		}
		return strings.Join(words, ", ")
	case p.Ref != "":
		return fmt.Sprintf("[%s](#%s)", p.Ref, strings.ToLower(p.Ref))
	case len(p.AnyOf) > 0:
		var words []string
		for _, a := range p.AnyOf {
			words = append(words, a.word())
		}
		return strings.Join(words, " or ")
	case p.Items != nil:
		return "list of " + p.Items.word()
	case p.Additional != nil:
		return "map of " + p.Additional.word()
	case len(p.Examples) > 0:
		return cell(fmt.Sprintf("as in `%v`", p.Examples[0]))
	}
	return fmt.Sprint(p.Type)
}

// standard is the default, as it would be written.
func (p schemaPart) standard() string {
	if p.Default == nil {
		return ""
	}
	if s, ok := p.Default.(string); ok {
		return cell("`" + s + "`")
	}
	b, err := json.Marshal(p.Default)
	if err != nil {
		return ""
	}
	return cell("`" + string(b) + "`")
}

// cell is text within a table.
func cell(s string) string { return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s) }
