package importer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout/realtest/goldentest"
)

// TestImport imports shapes that public files have: what comes out, with its notes, is
// what stands in testdata, and `belay policy check` takes it.
func TestImport(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("testdata: got %q, %v", files, err)
	}
	for _, file := range files {
		base := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(base, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tool := Tool(base[:strings.IndexByte(base, '-')])
			got, err := Import(Options{Tool: tool, Source: "prom", Router: "mesh"}, []File{{filepath.Base(file), string(text)}})
			if err != nil {
				t.Fatalf("Import: got %v, want no error", err)
			}
			var b strings.Builder
			for _, p := range got.Policies {
				wantValid(t, p)
				fmt.Fprintf(&b, "-- %s --\n%s", p.Name, p.Text)
			}
			b.WriteString("-- notes --\n")
			for _, n := range got.Notes {
				fmt.Fprintln(&b, n)
			}
			golden := "testdata/" + base + ".golden"
			goldentest.Check(t, golden, b.String())
		})
	}
}

// wantValid fails the test unless check takes the policy.
func wantValid(t *testing.T, p File) {
	t.Helper()
	_, problems := policies.Parse(fstest.MapFS{p.Name: {Data: []byte(p.Text)}}, p.Name, nil)
	if problems.HasErrors() {
		t.Errorf("%s is no valid policy: %v\n%s", p.Name, problems.Errors(), p.Text)
	}
}

// TestConditions: what must hold of the one result.
func TestConditions(t *testing.T) {
	for _, test := range []struct {
		text    string
		failure bool
		want    bound
		guarded bool
		ok      bool
	}{
		{"result[0] >= 0.95", false, bound{true, 0.95}, false, true},
		{"result < 5", false, bound{false, 5}, false, true},
		{"result[0] > 0.25", true, bound{false, 0.25}, false, true},
		{"len(result) == 0 || result[0] <= 0.01", false, bound{false, 0.01}, true, true},
		{"isNaN(result[0]) || result[0] >= .9", false, bound{true, 0.9}, true, true},
		{"default(result, 0) < 0.01", false, bound{false, 0.01}, false, true},
		{"asFloat(result[0]) <= 1e-3", false, bound{false, 0.001}, false, true},
		{"0.05 > result[0]", false, bound{false, 0.05}, false, true},
		{"all(result, # < 1)", false, bound{}, false, false},
		{"result[0] > 1 && result[0] < 2", false, bound{}, false, false},
		{"result.ok == true", false, bound{}, false, false},
		{"", false, bound{}, false, false},
	} {
		b, guarded, ok := condition(test.text, test.failure)
		if ok != test.ok || ok && (b != test.want || guarded != test.guarded) {
			t.Errorf("condition(%q, %t): got %+v, %t, %t, want %+v, %t, %t", test.text, test.failure, b, guarded, ok, test.want, test.guarded, test.ok)
		}
	}
}

// TestUnreadable: a chart's template is no YAML, and the error says what to do.
func TestUnreadable(t *testing.T) {
	_, err := Import(Options{Tool: Argo}, []File{{"x.yaml", "a: {{ .Values.x }}\nb: {{- if y }}\n"}})
	if err == nil || !strings.Contains(err.Error(), "x.yaml") || !strings.Contains(err.Error(), "helm template") {
		t.Errorf("got %v, want the file and helm template in it", err)
	}
	if _, err := Import(Options{Tool: Argo}, []File{{"big.yaml", strings.Repeat("#", maxBytes+1)}}); err == nil {
		t.Error("got no error for a file that is too large")
	}
}

// FuzzImport: whatever is read, nothing panics, and what comes out is valid.
func FuzzImport(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), strings.Contains(file, "argo"))
	}
	f.Add("apiVersion: argoproj.io/v1\nkind: Rollout\nspec: &a\n  strategy: {canary: *a}\n", true)
	f.Add("kind: List\nitems:\n- {apiVersion: flagger.app/v1, kind: Canary, spec: {analysis: {stepWeight: 1e300, maxWeight: -1}}}\n", false)
	f.Fuzz(func(t *testing.T, text string, argo bool) {
		tool := Flagger
		if argo {
			tool = Argo
		}
		got, err := Import(Options{Tool: tool}, []File{{"f.yaml", text}})
		if err != nil {
			return
		}
		for _, p := range got.Policies {
			wantValid(t, p)
		}
	})
}
