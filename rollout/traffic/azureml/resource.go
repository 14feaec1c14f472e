package azureml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/belayd/belay/analysis/unique"
	"github.com/belayd/belay/rollout/traffic"
)

// The provisioning states that matter; the others are operations under way.
const (
	stateSucceeded = "Succeeded"
	stateFailed    = "Failed"
	stateCanceled  = "Canceled"
)

// maxMirror is the largest share that ARM mirrors, in percent.
const maxMirror = 50

// The members of a resource that the service alone writes.
var (
	readOnly           = []string{"id", "name", "type", "systemData"}
	readOnlyProperties = []string{"provisioningState", "scoringUri", "swaggerUri", "keys"}
)

// A resource is an online endpoint as ARM told it.
type resource struct {
	raw        []byte
	state      string
	split      traffic.Split
	properties properties
	// tags is nil when the resource's are not texts.
	tags map[string]string
}

// properties are those that the router knows of.
type properties struct {
	ProvisioningState   string
	Traffic             map[string]int
	MirrorTraffic       map[string]int
	ScoringURI          string
	AuthMode            string
	PublicNetworkAccess string
	// Compute is set on Kubernetes endpoints.
	Compute string
}

// parse reads a resource and checks what a write rests on.
func parse(raw []byte) (*resource, error) {
	top, props, err := open(raw)
	if err != nil {
		return nil, err
	}
	if err := unique.Fields(raw, false); err != nil {
		return nil, err
	}
	e := &resource{raw: raw}
	known := []struct {
		name  string
		into  any
		needs bool
	}{
		{"provisioningState", &e.properties.ProvisioningState, true},
		{"traffic", &e.properties.Traffic, true},
		{"mirrorTraffic", &e.properties.MirrorTraffic, true},
		{"compute", &e.properties.Compute, true},
		{"scoringUri", &e.properties.ScoringURI, false},
		{"authMode", &e.properties.AuthMode, false},
		{"publicNetworkAccess", &e.properties.PublicNetworkAccess, false},
	}
	for _, k := range known {
		text, ok := props[key(props, k.name)]
		if !ok {
			continue
		}
		// What only checks want must not stand in the way of a rollback.
		if err := json.Unmarshal(text, k.into); err != nil && k.needs {
			return nil, fmt.Errorf("properties.%s is not what it should be", k.name)
		}
	}
	if text, ok := top[key(top, "tags")]; ok && json.Unmarshal(text, &e.tags) != nil {
		e.tags = nil
	} else if e.tags == nil {
		e.tags = map[string]string{}
	}
	if e.state = e.properties.ProvisioningState; e.state == "" {
		return nil, errors.New("there is no properties.provisioningState")
	}
	e.split = traffic.Split{Weights: fold(traffic.Positive(e.properties.Traffic)),
		Mirror: traffic.Positive(fold(e.properties.MirrorTraffic))}
	sum := 0
	for name, w := range e.split.Weights {
		if w < 0 || w > 100 {
			return nil, fmt.Errorf("the traffic of %s is %d, want 0 to 100", name, w)
		}
		sum += w
	}
	if sum != 0 && sum != 100 {
		return nil, fmt.Errorf("the traffic sums to %d, want 100, or 0 for none", sum)
	}
	return e, nil
}

// settled reports whether no operation is under way.
func (e *resource) settled() error {
	switch e.state {
	case stateSucceeded, stateFailed, stateCanceled:
		return nil
	}
	return &traffic.BusyError{Err: fmt.Errorf("its provisioning state is %s", clean(e.state, 40))}
}

// allows reports whether the endpoint can be asked for a split at all.
func (e *resource) allows(to traffic.Split) error {
	mirror := traffic.Positive(to.Mirror)
	switch {
	case len(mirror) == 0:
		return nil
	case e.properties.Compute != "":
		return fmt.Errorf("a Kubernetes endpoint does not mirror: %w", traffic.ErrPermanent)
	case len(mirror) > 1:
		return fmt.Errorf("an endpoint mirrors to one deployment, not to %d: %w", len(mirror), traffic.ErrPermanent)
	}
	for name, share := range mirror {
		if share > maxMirror {
			return fmt.Errorf("the mirror share of %s is %d%%, at most %d%% can be mirrored: %w", name, share,
				maxMirror, traffic.ErrPermanent)
		}
	}
	return nil
}

// object is a JSON object whose members stay as they were written.
type object map[string]json.RawMessage

// open takes a resource apart. A member that stands there twice, in any case,
// is an error: nobody could say which of them counts.
func open(raw []byte) (top, props object, err error) {
	if top, err = decodeObject(raw); err != nil {
		return nil, nil, fmt.Errorf("the resource %w", err)
	}
	text, ok := top[key(top, "properties")]
	if !ok {
		return nil, nil, errors.New("the resource has no properties")
	}
	if props, err = decodeObject(text); err != nil {
		return nil, nil, fmt.Errorf("its properties: the object %w", err)
	}
	return top, props, nil
}

// decodeObject reads one JSON object, refusing members that differ in case
// alone or not at all.
func decodeObject(raw []byte) (object, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	out, seen := make(object), make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, errors.New("is not JSON")
		}
		name, _ := t.(string)
		if seen[strings.ToLower(name)] {
			return nil, fmt.Errorf("has %q twice", name)
		}
		seen[strings.ToLower(name)] = true
		var text json.RawMessage
		if err := d.Decode(&text); err != nil {
			return nil, errors.New("is not JSON")
		}
		out[name] = text
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("is not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("is followed by something else")
	}
	return out, nil
}

// key is how a member is spelt in o: ARM does not regard case.
func key(o object, name string) string {
	if _, ok := o[name]; ok {
		return name
	}
	for spelt := range o {
		if strings.EqualFold(spelt, name) {
			return spelt
		}
	}
	return name
}

// change builds the resource to write: raw without what the service alone
// writes, with the split `to`, and with everything else as it stands.
func change(raw []byte, to traffic.Split) ([]byte, error) {
	top, props, err := open(raw)
	if err != nil {
		return nil, err
	}
	for _, name := range readOnly {
		delete(top, key(top, name))
	}
	for _, name := range readOnlyProperties {
		delete(props, key(props, name))
	}
	shares := []struct {
		name string
		to   map[string]int
	}{{"traffic", to.Weights}, {"mirrorTraffic", to.Mirror}}
	for _, s := range shares {
		at := key(props, s.name)
		was := make(map[string]int)
		if text, ok := props[at]; ok {
			if err := json.Unmarshal(text, &was); err != nil {
				return nil, fmt.Errorf("properties.%s is not what it should be", s.name)
			}
		}
		want := traffic.Positive(s.to)
		if maps.Equal(traffic.Positive(fold(was)), want) {
			continue
		}
		text, err := json.Marshal(spelt(want, was))
		if err != nil {
			return nil, err
		}
		props[at] = text
	}
	return join(top, props)
}

// join puts a resource together again. Texts stay as they are written: what
// HTML would read otherwise is none of its business.
func join(top, props object) ([]byte, error) {
	text, err := encode(props)
	if err != nil {
		return nil, err
	}
	top[key(top, "properties")] = text
	return encode(top)
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// spelt gives shares the names by which the resource already knows the
// deployments.
func spelt(shares, was map[string]int) map[string]int {
	out := make(map[string]int, len(shares))
	for name, share := range shares {
		for _, known := range slices.Sorted(maps.Keys(was)) {
			if strings.EqualFold(known, name) {
				name = known
				break
			}
		}
		out[name] = share
	}
	return out
}

// prove checks, apart from how change works, that body is raw in everything but
// traffic, mirrorTraffic and what the service alone writes.
func prove(raw, body []byte) error {
	a, err := fixed(raw)
	if err != nil {
		return err
	}
	b, err := fixed(body)
	if err != nil {
		return err
	}
	if at := difference(a, b, ""); at != "" {
		return fmt.Errorf("the resource to write differs at %s", at)
	}
	return nil
}

// fixed decodes a resource, numbers as they are written, without the
// members that may differ.
func fixed(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var top map[string]any
	if err := d.Decode(&top); err != nil {
		return nil, errors.New("the resource is not a JSON object")
	}
	without := func(o map[string]any, names ...string) {
		maps.DeleteFunc(o, func(name string, _ any) bool {
			return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
		})
	}
	without(top, readOnly...)
	for name, v := range top {
		if props, ok := v.(map[string]any); ok && strings.EqualFold(name, "properties") {
			without(props, append([]string{"traffic", "mirrorTraffic"}, readOnlyProperties...)...)
		}
	}
	return top, nil
}

// difference is the first place at which two decoded documents differ; ""
// when they are equal.
func difference(a, b any, at string) string {
	x, ok1 := a.(map[string]any)
	y, ok2 := b.(map[string]any)
	if !ok1 || !ok2 {
		if reflect.DeepEqual(a, b) {
			return ""
		}
		return "/" + strings.TrimPrefix(at, "/")
	}
	names := slices.Sorted(maps.Keys(x))
	for _, name := range slices.Sorted(maps.Keys(y)) {
		if _, ok := x[name]; !ok {
			names = append(names, name)
		}
	}
	for _, name := range names {
		v, ok1 := x[name]
		w, ok2 := y[name]
		if ok1 != ok2 {
			return at + "/" + name
		}
		if d := difference(v, w, at+"/"+name); d != "" {
			return d
		}
	}
	return ""
}
