package policies

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
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
		p, ps := Parse(files, "p.yaml", config())
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
		q, ps := Parse(files, "p.yaml", config())
		if q == nil {
			t.Fatalf("the rendered policy has problems:\n%s\n%s", ps.Text(), once)
		}
		if diff := cmp.Diff(once, q.Render(false)); diff != "" {
			t.Fatalf("rendering twice differs:\n%s", diff)
		}
		for _, c := range Diff(p, q) {
			if c.Direction != Same {
				t.Fatalf("the rendered policy differs: %s\n%s", c, once)
			}
		}
	})
}

// FuzzTest reads any policy test. Nothing panics, nothing runs for ever, and
// every problem has its place.
func FuzzTest(f *testing.F) {
	for _, pattern := range []string{"examples/*.test.yaml", "testdata/tests/*.test.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(strings.ReplaceAll(strings.ReplaceAll(string(data), "x300", "x30"), "trials: 50", "trials: 1"))
		}
	}
	policy, err := os.ReadFile("testdata/tests/policy.yaml")
	if err != nil {
		f.Fatal(err)
	}
	// Long cases are legal and slow; here only their shape matters.
	quick := strings.Replace(string(policy), "bake: 30m", "bake: 30m\n  interval: 10m\n  settle: 0s", 1)
	f.Fuzz(func(t *testing.T, data string) {
		if strings.Contains(data, "trials") && len(data) > 4000 {
			t.Skip("too slow")
		}
		files := fstest.MapFS{"t.test.yaml": {Data: []byte(data)}}
		for _, name := range []string{"policy.yaml", "smallest.yaml", "recommendations.yaml", "relative.yaml"} {
			files[name] = &fstest.MapFile{Data: []byte(quick)}
		}
		r, ps := RunTests(files, "t.test.yaml", nil, func(string) bool { return !strings.Contains(data, "trials") })
		for _, q := range ps {
			if q.Line < 1 || q.Col < 1 || q.File == "" || q.Why == "" {
				t.Fatalf("got a problem without a place: %+v", q)
			}
		}
		if r == nil && !ps.HasErrors() {
			t.Fatal("got neither a report nor problems")
		}
	})
}
