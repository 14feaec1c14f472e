package jsonpath

import (
	"encoding/json"
	"strings"
	"testing"
)

// The language of paths, on one document.
func TestPath(t *testing.T) {
	dec := json.NewDecoder(strings.NewReader(`{"a":{"b c":[1,2,3],"x":"4"},"rows":[{"d":"blue","t":{"k":"v"},"n":5},{"d":"green","t":{"k":7},"n":6},{"d":"green","n":7}],"null":null}`))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"deployment": "green", "evil": `x"'].n`, "kind": "v"}
	for text, want := range map[string]string{
		`$.a["b c"][0]`:                   "[1]",
		`$.a["b c"][-1]`:                  "[3]",
		`$.a["b c"][3]`:                   "[]",
		`$.a.*`:                           `[[1,2,3],"4"]`,
		`$.rows[*].n`:                     "[5,6,7]",
		`$.rows[?@.d=="${deployment}"].n`: "[6,7]",
		`$.rows[?@.t.k=="v"].n`:           "[5]",
		`$.rows[?@.t.k==7].n`:             "[6]",
		`$.rows[?@.d=="${evil}"].n`:       "[]",
		`$.nothing.here`:                  "[]",
		`$.null`:                          "[null]",
		`rows`:                            "error",
		`$.rows[`:                         "error",
		`$.rows[x]`:                       "error",
		`$.rows[?d="x"]`:                  "error",
		`$.rows[?@.d=="x"`:                "error",
		`$.rows[?@.d==x]`:                 "error",
		`$.rows[?@.n>5].n`:                "[6,7]",
		`$..k`:                            `["v",7]`,
		`$.rows[?@.t["k"]=="${kind}"].n`:  "[5]",
		`$.rows[?@.d=='${evil}'].n`:       "[]",
		`$.rows[?@.d==${deployment}].n`:   "error",
		`$["a","a","a"]["x","x","x"]["x","x","x"]["x","x","x"]`: "error",
		`$.rows[?@.d=="${unknown}"]`:                            "error",
		`$` + strings.Repeat(".a", maxPath):                     "error",
	} {
		got := "error"
		if p, err := ParsePath(text, vars); err == nil {
			vs, err := p.Select(doc)
			if err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(vs)
			if err != nil {
				t.Fatal(err)
			}
			got = string(b)
		}
		if got != want {
			t.Errorf("%.60s: got %s, want %s", text, got, want)
		}
	}
}

// A parsed path never panics, whatever the document.
func FuzzPath(f *testing.F) {
	f.Add(`$.rows[?@.d=="x"].n[0]["a"].*[*]`, `{"rows":[{"d":"x","n":[{"a":[1]}]}]}`)
	f.Add(`$[-1]`, `[1,2]`)
	f.Fuzz(func(t *testing.T, text, in string) {
		p, err := ParsePath(text, map[string]string{"deployment": "x"})
		if err != nil {
			return
		}
		var doc any
		dec := json.NewDecoder(strings.NewReader(in))
		dec.UseNumber()
		if dec.Decode(&doc) != nil {
			return
		}
		vs, err := p.Select(doc)
		if err == nil && len(vs) > maxValues {
			t.Errorf("%q selects %d values", text, len(vs))
		}
		for _, v := range vs {
			_, _, _ = Number(v)
		}
	})
}

// A condition as it was written before is refused with what to write.
func TestBareNamesAreRewritten(t *testing.T) {
	_, err := ParseExpr(`q -> sum($.rows[?a.b=="${deployment}"].n)`, "", map[string]string{"deployment": "x"})
	const want = "1:9: a condition names its element @; write $.rows[?@.a.b==\"${deployment}\"].n"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
