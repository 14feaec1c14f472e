package document

import (
	"reflect"
	"strings"
)

// A Field is one key of a struct that is read from YAML.
type Field struct {
	Name     string
	index    []int
	Type     reflect.Type
	Doc      string
	Default  string
	Required bool
	Enum     []string
	Group    string
}

// FieldsOf lists the keys of a struct in the order of its fields; embedded
// structs are part of it.
func FieldsOf(t reflect.Type) []Field {
	var out []Field
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Anonymous && sf.Type.Kind() == reflect.Struct && sf.Tag.Get("yaml") == "" {
			for _, f := range FieldsOf(sf.Type) {
				f.index = append([]int{i}, f.index...)
				out = append(out, f)
			}
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if name == "" || name == "-" || !sf.IsExported() {
			continue
		}
		f := Field{
			Name: name, index: []int{i}, Type: sf.Type,
			Doc: sf.Tag.Get("doc"), Default: sf.Tag.Get("default"),
			Required: sf.Tag.Get("required") == "true", Group: sf.Tag.Get("oneof"),
		}
		if e := sf.Tag.Get("enum"); e != "" {
			f.Enum = strings.Split(e, ",")
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
	for _, f := range FieldsOf(r.Type()) {
		if f.Group != "" && !r.FieldByIndex(f.index).IsZero() {
			return f.Name
		}
	}
	return ""
}
