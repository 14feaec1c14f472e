package policytest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// FuzzTest reads any policy test. Nothing panics, nothing runs for ever, and
// every problem has its place.
func FuzzTest(f *testing.F) {
	for _, pattern := range []string{"../examples/*.test.yaml", "testdata/*.test.yaml"} {
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
	policy, err := os.ReadFile("testdata/policy.yaml")
	if err != nil {
		f.Fatal(err)
	}
	// Long cases are legal and slow; here only their shape matters.
	quick := strings.Replace(string(policy), "bake: 30m", "bake: 30m\n  interval: 10m\n  settle: 0s", 1)
	f.Fuzz(func(t *testing.T, data string) {
		if strings.Contains(data, "trials") && len(data) > 4000 {
			return // legal, and slow
		}
		files := fstest.MapFS{"t.test.yaml": {Data: []byte(data)}}
		for _, name := range []string{"policy.yaml", "smallest.yaml", "recommendations.yaml", "relative.yaml"} {
			files[name] = &fstest.MapFile{Data: []byte(quick)}
		}
		r, ps := Run(files, "t.test.yaml", nil, func(string) bool { return !strings.Contains(data, "trials") })
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
