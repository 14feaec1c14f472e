package policies

import (
	"reflect"
	"strings"
)

// A field is one key of a struct that is read from YAML.
type field struct {
	name     string
	index    []int
	typ      reflect.Type
	doc      string
	def      string
	required bool
	enum     []string
	group    string
}

// fieldsOf lists the keys of a struct in the order of its fields; embedded
// structs are part of it.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Anonymous && sf.Type.Kind() == reflect.Struct && sf.Tag.Get("yaml") == "" {
			for _, f := range fieldsOf(sf.Type) {
				f.index = append([]int{i}, f.index...)
				out = append(out, f)
			}
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if name == "" || name == "-" || !sf.IsExported() {
			continue
		}
		f := field{
			name: name, index: []int{i}, typ: sf.Type,
			doc: sf.Tag.Get("doc"), def: sf.Tag.Get("default"),
			required: sf.Tag.Get("required") == "true", group: sf.Tag.Get("oneof"),
		}
		if e := sf.Tag.Get("enum"); e != "" {
			f.enum = strings.Split(e, ",")
		}
		out = append(out, f)
	}
	return out
}

// Chosen is the key of the field with oneof that a decoded struct has set, for
// example "prometheus"; "" when none is.
func Chosen(v any) string {
	r := reflect.Indirect(reflect.ValueOf(v))
	if r.Kind() != reflect.Struct {
		return ""
	}
	for _, f := range fieldsOf(r.Type()) {
		if f.group != "" && !r.FieldByIndex(f.index).IsZero() {
			return f.name
		}
	}
	return ""
}
