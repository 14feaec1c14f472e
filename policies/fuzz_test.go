package policies_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/policiestest"
)

// FuzzParse reads any file. Nothing panics; every problem has its place; and a
// policy that is accepted renders to one that is accepted and renders to itself
// and compiles to the same plan.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"examples/*.yaml", "testdata/bad/*.yaml", "testdata/full/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	for _, s := range []string{"", "a", "[", "- - -", "{a: {a: {a: }}}", "%YAML 1.1\n---\n", "a: |\n  b", "? [a]\n: b", "\xff", strings.Repeat("[", 100), "&a [*a]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		files := fstest.MapFS{
			"p.yaml": {Data: data}, "base.yaml": {Data: []byte(baseFile)},
			"smoke/request.json": {Data: []byte("{}")}, "smoke/response.schema.json": {Data: []byte("{}")},
		}
		p, ps := policies.Parse(files, "p.yaml", policiestest.Config())
		for _, q := range ps {
			if q.Line < 1 || q.Col < 1 || q.File == "" || q.Why == "" || q.Code == "" {
				t.Fatalf("got a problem without a place: %+v", q)
			}
		}
		if (p == nil) != ps.HasErrors() {
			t.Fatalf("got policy %v with problems:\n%s", p != nil, ps.Text())
		}
		if p == nil || p.Base {
			return
		}
		once := p.Render(false)
		files["p.yaml"] = &fstest.MapFile{Data: []byte(once)}
		q, ps := policies.Parse(files, "p.yaml", policiestest.Config())
		if q == nil {
			t.Fatalf("the rendered policy has problems:\n%s\n%s", ps.Text(), once)
		}
		if diff := cmp.Diff(once, q.Render(false)); diff != "" {
			t.Fatalf("rendering twice differs:\n%s", diff)
		}
		for _, c := range policies.Diff(p, q) {
			if c.Direction != policies.Same {
				t.Fatalf("the rendered policy differs: %s\n%s", c, once)
			}
		}
	})
}
