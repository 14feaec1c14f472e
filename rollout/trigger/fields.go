package trigger

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/belayd/belay/rollout"
)

// A Map says where the fields of a release stand in an event: paths like
// data.version into the event as JSON (of a CloudEvent: its attributes and
// extensions by name, and its data). An empty path takes the field of the same
// name in the data of a CloudEvent or at the top of plain JSON; RequestedBy then
// takes the source of a CloudEvent.
type Map struct {
	Policy      string
	Candidate   string
	Version     string
	RequestedBy string
	Labels      string // to an object of strings
	Artifact    string
	Environment string
}

// textMax bounds a field of a release, in bytes; labelsMax their number.
const (
	textMax   = 512
	labelsMax = 64
)

// check refuses paths with empty parts.
func (m Map) check() error {
	var errs []error
	for name, path := range map[string]string{
		"policy": m.Policy, "candidate": m.Candidate, "version": m.Version, "requestedBy": m.RequestedBy,
		"labels": m.Labels, "artifact": m.Artifact, "environment": m.Environment,
	} {
		if path != "" && slices.Contains(strings.Split(path, "."), "") {
			errs = append(errs, fmt.Errorf("map.%s: want a path like data.version (got %q)", name, path))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// release reads a release out of an event. All that is wrong with it is said at
// once.
func (m Map) release(e event) (rollout.Release, error) {
	var errs []error
	text := func(field, path string, required bool) string {
		implied := path == ""
		if implied {
			path = e.implied(field)
		}
		v, err := find(e.doc, path)
		switch {
		case err != nil && (required || !implied):
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
			return ""
		case err != nil:
			return ""
		}
		s, err := asText(v)
		if err == nil && s == "" && required {
			err = errors.New("it is empty")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", field, path, err))
		}
		return s
	}
	r := rollout.Release{
		Policy:      text("policy", m.Policy, true),
		Candidate:   text("candidate", m.Candidate, true),
		Version:     text("version", m.Version, true),
		OnBehalfOf:  text("requestedBy", m.RequestedBy, false),
		Artifact:    text("artifact", m.Artifact, false),
		Environment: text("environment", m.Environment, false),
	}
	labels, err := m.labels(e)
	if err != nil {
		errs = append(errs, err)
	}
	r.Labels = labels
	return r, errors.Join(errs...)
}

// labels reads the labels; nil when there are none.
func (m Map) labels(e event) (map[string]string, error) {
	path := m.Labels
	if path == "" {
		path = e.implied("labels")
	}
	v, err := find(e.doc, path)
	if err != nil {
		if m.Labels != "" {
			return nil, fmt.Errorf("labels: %w", err)
		}
		return nil, nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("labels: %s: want an object of strings (got %s)", path, kindOf(v))
	}
	if len(object) > labelsMax {
		return nil, fmt.Errorf("labels: %s: want at most %d labels (got %d)", path, labelsMax, len(object))
	}
	out := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(object)) {
		s, err := asText(object[k])
		if err == nil {
			_, err = asText(k)
		}
		if err != nil {
			return nil, fmt.Errorf("labels: %s.%s: %w", path, k, err)
		}
		out[k] = s
	}
	return out, nil
}

// find walks a dotted path through objects and arrays.
func find(doc any, path string) (any, error) {
	at := doc
	parts := strings.Split(path, ".")
	for i, p := range parts {
		here := strings.Join(parts[:i], ".")
		switch v := at.(type) {
		case map[string]any:
			next, ok := v[p]
			if !ok || next == nil {
				return nil, fmt.Errorf("%s: nothing there%s", path, has(here, v))
			}
			at = next
		case []any:
			n, err := strconv.Atoi(p)
			if err != nil || n < 0 || n >= len(v) {
				return nil, fmt.Errorf("%s: nothing there (%s is an array of %d)", path, here, len(v))
			}
			at = v[n]
		default:
			return nil, fmt.Errorf("%s: nothing there (%s is %s)", path, here, kindOf(v))
		}
	}
	return at, nil
}

// has names the keys of an object, for whoever looks for a missing one.
func has(where string, object map[string]any) string {
	keys := slices.Sorted(maps.Keys(object))
	if len(keys) > 12 {
		keys = append(keys[:12], "…")
	}
	for i, k := range keys {
		if len(k) > 40 {
			keys[i] = k[:40] + "…"
		}
	}
	if where == "" {
		where = "the event"
	}
	return fmt.Sprintf(" (%s has %s)", where, strings.ToValidUTF8(strings.Join(keys, ", "), "?"))
}

// asText takes a string or a number as text.
func asText(v any) (string, error) {
	var s string
	switch v := v.(type) {
	case string:
		s = v
	case json.Number:
		s = v.String()
	default:
		return "", fmt.Errorf("want a string (got %s)", kindOf(v))
	}
	if len(s) > textMax {
		return "", fmt.Errorf("want at most %d bytes (got %d)", textMax, len(s))
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return "", fmt.Errorf("want printable text (byte %d is not)", i)
	}
	return s, nil
}

// kindOf is JSON's word for what v is.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("a %T", v) // unreachable: decoding makes nothing else
}
