package secret

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/belayd/belay/policies/document"
)

// A Mention is a file that a config names.
type Mention struct {
	// Field is where, as sources.prom.prometheus.http.basic_auth.password_file.
	Field string
	// File is the name as it stands there.
	File string
	// Public: its content is no secret, but believed.
	Public bool
	// Section: it is named in a section http:.
	Section bool
}

// Check looks at who may read the file, or write it.
func (m Mention) Check(dir string) error {
	if err := checkMode(dir, m.File, m.Public); err != nil {
		return fmt.Errorf("%s: %w", m.Field, err)
	}
	return nil
}

// Within is the file's name, relative to a folder.
func (m Mention) Within(dir string) string { return within(dir, m.File) }

// public are the settings that name files without secrets; made those that name
// files which Belay, or somebody else, writes.
var (
	public = []string{"caFile", "certFile", "clientCAFile", "ca_file", "cert_file"}
	made   = []string{"stateFile"}
)

// Survey goes through a config and returns the files that it names, and what is
// wrong with it: every place where a secret stands itself. The sections http: are
// part of it. Each error begins with the field.
func Survey(config any) ([]Mention, error) {
	var mentions []Mention
	var errs []error
	walk("", "", reflect.ValueOf(config), func(field, key string, v reflect.Value) {
		if v.Type() == reflect.TypeFor[document.Raw]() {
			_, more, err := section(field, v.String(), false)
			mentions, errs = append(mentions, more...), append(errs, err)
			return
		}
		value := v.String()
		switch {
		case value == "" || IsEnv(value) || slices.Contains(made, key):
		case strings.HasSuffix(key, "File"):
			mentions = append(mentions, Mention{Field: field, File: value, Public: slices.Contains(public, key)})
		case passwordInAddress(value) || key == "url" && passwordInAddress("any://"+value):
			errs = append(errs, fmt.Errorf("%s: an address holds a password; put it into a file that the config names, or "+
				"write the whole address as ${env:NAME}", field))
		}
	})
	return mentions, errors.Join(errs...)
}

// Expand puts the values of the environment in the place of every url that is
// ${env:NAME}. config is a pointer, and its urls stand behind pointers or in lists.
func Expand(config any) error {
	var errs []error
	walk("", "", reflect.ValueOf(config), func(field, key string, v reflect.Value) {
		if key != "url" || !IsEnv(v.String()) {
			return
		}
		value, err := Env(v.String())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
			return
		}
		v.SetString(value.Reveal())
	})
	return errors.Join(errs...)
}

// walk visits every text of a config: field is where it stands, key the last name on
// the way.
func walk(field, key string, v reflect.Value, visit func(field, key string, v reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walk(field, key, v.Elem(), visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name := f.Tag.Get("yaml")
			switch {
			case f.Anonymous:
				walk(field, key, v.Field(i), visit)
			case f.IsExported() && name != "":
				walk(join(field, name), name, v.Field(i), visit)
			}
		}
	case reflect.Map:
		keys := map[string]reflect.Value{}
		for _, k := range v.MapKeys() {
			keys[k.String()] = v.MapIndex(k)
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			walk(join(field, k), key, keys[k], visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(fmt.Sprintf("%s[%d]", field, i), key, v.Index(i), visit)
		}
	case reflect.String:
		visit(field, key, v)
	default: // a number or a truth holds no secret
	}
}

// passwordInAddress reports whether one of the addresses, which commas separate,
// has a user and so perhaps a password.
func passwordInAddress(value string) bool {
	for one := range strings.SplitSeq(value, ",") {
		scheme, rest, ok := strings.Cut(strings.TrimSpace(one), "://")
		if !ok || scheme == "" || strings.ContainsAny(scheme, " {}()\"'") {
			continue
		}
		host, _, _ := strings.Cut(rest, "/")
		if u, err := url.Parse(strings.TrimSpace(one)); err == nil {
			if u.User != nil {
				return true
			}
			continue
		}
		if strings.Contains(host, "@") {
			return true // it cannot be read, and may hold one all the same
		}
	}
	return false
}

func join(field, key string) string {
	if field == "" {
		return key
	}
	return field + "." + key
}
