package unique

import (
	"encoding/json"
	"strings"
	"testing"
)

// A field that stands twice is found in every object, whatever is around it, and
// however it is written.
func TestFields(t *testing.T) {
	for _, c := range []struct {
		text string
		fold bool
		says string
	}{
		{`{"a":1,"b":{"a":1,"c":[{"a":1},{"a":2}]}}`, true, ""},
		{`{"a":{"x":1,"X":2},"b":["a","a"]}`, true, ""},
		{`{"a":1,"A":2}`, false, ""},
		{`["a","a",{"a":"a"}]`, false, ""},
		{`"a"`, false, ""},
		{`{"a":1e999}`, false, ""},
		{`{"a":1} {"a":1}`, false, ""}, // whether something may follow is not its business
		{`{"a":1,"a":2}`, false, `field "a" stands there twice`},
		{`{"a":1,"\u0061":2}`, false, `field "a"`},
		{`{"policy":1,"Policy":2}`, true, `field "Policy"`},
		{`{"K":1,"` + "\u212a" + `":2}`, true, "stands there twice"}, // the Kelvin sign is a K to encoding/json
		{`{"x":{"labels":{"a":1,"a":2}}}`, false, `field "a"`},
		{`{"x":[[{"a":1,"b":[],"a":{}}]]}`, false, `field "a"`},
		{`[{"a":{},"a":{}}]`, false, `field "a"`},
		{`{"a":1`, false, "unexpected EOF"}, {``, false, "unexpected EOF"}, {`{"a" 1}`, false, "invalid character"}, {`{"a":}`, false, "invalid character"},
	} {
		err := Fields([]byte(c.text), c.fold)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s (fold=%v): got %v, want %q", c.text, c.fold, err, c.says)
		}
	}
}

// Depth costs no more than length.
func TestDeep(t *testing.T) {
	const deep = 5000
	if err := Fields([]byte(strings.Repeat(`{"a":[`, deep)+strings.Repeat("]}", deep)), true); err != nil {
		t.Errorf("got %v", err)
	}
}

// Valid JSON is only ever refused for a field that stands twice; and what was
// written from a map is never refused.
func FuzzFields(f *testing.F) {
	for _, s := range []string{`{"a":1,"a":2}`, `{"a":{"b":[1,{"c":null}]}}`, `[]`, `{"a":1}x`, "\"\\u0000\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := Fields(data, false)
		var v any
		if json.Unmarshal(data, &v) != nil {
			return
		}
		if err != nil && !strings.Contains(err.Error(), "stands there twice") {
			t.Errorf("%q: got %v of valid JSON", data, err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := Fields(b, false); err != nil {
			t.Errorf("%q: got %v of what a map became", b, err)
		}
	})
}
