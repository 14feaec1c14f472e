package trigger

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/store"
)

// A map takes fields from wherever they stand, also out of arrays and a
// CloudEvent's attributes.
func TestMap(t *testing.T) {
	e, err := decode("nats:S", nats.Header{
		"Ce-Specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/ci"}, "ce-type": {"t"}, "ce-subject": {"recs"}, "ce-team": {"rocket"},
		"content-type": {"application/json; charset=utf-8"},
	}, []byte(`{"models":[{"name":"green","build":42}],"meta":{"tags":{"a":"b","n":1}},"img":"r.example/recs@sha256:0"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Map{
		Policy: "subject", Candidate: "data.models.0.name", Version: "data.models.0.build", RequestedBy: "team",
		Labels: "data.meta.tags", Artifact: "data.img", Environment: "type",
	}.release(e)
	if err != nil {
		t.Fatal(err)
	}
	want := rollout.Release{
		Policy: "recs", Candidate: "green", Version: "42", OnBehalfOf: "rocket", Labels: map[string]string{"a": "b", "n": "1"},
		Artifact: "r.example/recs@sha256:0", Environment: "t",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("release (-want +got):\n%s", d)
	}
}

// Every fault of an event is named with its path, all at once.
func TestMapErrors(t *testing.T) {
	for _, c := range []struct {
		m    Map
		body string
		want []string
	}{
		{Map{}, `{"id":"1"}`, []string{"policy: policy: nothing there (the event has id)", "candidate: ", "version: "}},
		{Map{Policy: "data.p"}, `{"id":"1","data":"x","candidate":"g","version":"1"}`, []string{"policy: data.p: nothing there (data is a string)"}},
		{Map{Version: "v.3"}, `{"id":"1","v":[1],"policy":"p","candidate":"g"}`, []string{"version: v.3: nothing there (v is an array of 1)"}},
		{Map{}, `{"id":"1","policy":"","candidate":true,"version":null}`, []string{"policy: policy: it is empty", "candidate: candidate: want a string (got a boolean)", "version: version: nothing there"}},
		{Map{}, `{"id":"1","policy":"a\u0007b","candidate":"g","version":"1"}`, []string{"policy: policy: want printable text (byte 1 is not)"}},
		{Map{}, `{"id":"1","policy":"p","candidate":"g","version":"1","labels":["a"]}`, []string{"labels: labels: want an object of strings (got an array)"}},
		{Map{}, `{"id":"1","policy":"p","candidate":"g","version":"1","labels":{"a":{}}}`, []string{"labels: labels.a: want a string (got an object)"}},
		{Map{Labels: "no"}, `{"id":"1","policy":"p","candidate":"g","version":"1"}`, []string{"labels: no: nothing there"}},
		{Map{RequestedBy: "who"}, `{"id":"1","policy":"p","candidate":"g","version":"1"}`, []string{"requestedBy: who: nothing there"}},
		{Map{}, `{"id":"1","policy":"` + strings.Repeat("p", textMax+1) + `","candidate":"g","version":"1"}`, []string{"at most 512 bytes (got 513)"}},
	} {
		e, err := decode("nats:S", nil, []byte(c.body))
		if err != nil {
			t.Fatalf("%s: %v", c.body, err)
		}
		_, err = c.m.release(e)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want it to say %q", c.body, err, want)
			}
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	ce := func(kv ...string) nats.Header {
		h := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/s"}, "ce-type": {"t"}}
		for pair := range slices.Chunk(kv, 2) {
			h[pair[0]] = pair[1:]
		}
		return h
	}
	for _, c := range []struct {
		header nats.Header
		body   string
		want   string
	}{
		{nil, ``, "not JSON"},
		{nil, `null`, "null, want a JSON object"},
		{nil, `{"id":{}}`, "id: want a string (got an object)"},
		{nil, `{"id":""}`, "no key"},
		{nats.Header{"Content-Type": {"application/cloudevents-batch+json"}}, `[]`, "batch"},
		{ce("ce-id", ""), `{}`, "id"},
		{ce("ce-source", "\x01"), `{}`, "control character"},
		{ce("ce-specversion", "9"), `{}`, "CloudEvent"},
		{ce(), `{`, "data: the body is not JSON"},
		{ce("ce-id", strings.Repeat("ü", 200)), `{}`, store.ErrKey.Error()},
		{nil, `{"specversion":"1.0"}`, "CloudEvent"},
	} {
		if _, err := decode("nats:S", c.header, []byte(c.body)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("decode(%v, %s): got %v, want it to say %q", c.header, c.body, err, c.want)
		}
	}
}

// Whatever arrives, decoding neither panics nor lets through a key that cannot
// name a record or a release that is not printable.
func FuzzDecode(f *testing.F) {
	f.Add("", "", `{"id":"1","policy":"recs","candidate":"green","version":"7"}`)
	f.Add("1.0", "application/json", `{"policy":"recs","candidate":"green","version":"7","labels":{"a":"b"}}`)
	f.Add("", "application/cloudevents+json", `{"specversion":"1.0","id":"e","source":"/p","type":"t","data":{"policy":"recs"}}`)
	f.Add("", "", `{"specversion":"1.0","id":"e","source":"/p","type":"t","data_base64":"eyJhIjoxfQ=="}`)
	f.Add("0.3", "text/plain", `x`)
	f.Fuzz(func(t *testing.T, spec, kind, body string) {
		h := nats.Header{"content-type": {kind}, nats.MsgIdHdr: {"m"}}
		if spec != "" {
			h["ce-specversion"], h["ce-id"], h["ce-source"], h["ce-type"] = []string{spec}, []string{"1"}, []string{"/s"}, []string{"t"}
		}
		e, err := decode("nats:S", h, []byte(body))
		if err != nil {
			return
		}
		if err := store.CheckKey(recordKey(e.source, e.id)); err != nil {
			t.Errorf("key of %q: %v", body, err)
		}
		r, err := Map{}.release(e)
		if err == nil && (r.Policy == "" || r.Candidate == "" || r.Version == "") {
			t.Errorf("release of %q: got %+v, want all of policy, candidate and version", body, r)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("release of %q: %v", body, err)
		}
	})
}
