package policies

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/belayd/belay/rollout"
)

// examples are the policies that users are shown.
func examples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, ".test.yaml") })
	if len(files) < 10 {
		t.Fatalf("got %d examples, want at least 10", len(files))
	}
	return files
}

// Every example is free of problems, and its plan is what the golden file says.
func TestExamples(t *testing.T) {
	for _, file := range examples(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			p, ps := Parse(os.DirFS("examples"), filepath.Base(file), config())
			if p == nil {
				t.Fatalf("got problems:\n%s", ps.Text())
			}
			for _, w := range ps {
				// The smallest policy is as small as its warnings allow.
				if name != "smallest" && w.Code != WarnUnusedMetric {
					t.Errorf("got %s", w)
				}
			}
			if p.Base {
				return
			}
			plan, err := p.Compile(rollout.Release{Policy: name, Candidate: "green", Version: "17"}, "example")
			if err != nil {
				t.Fatal(err)
			}
			plan.Policy.Text, plan.Policy.Hash = "", ""
			b, err := json.MarshalIndent(plan, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "examples/testdata/"+name+".plan.json", string(b)+"\n")
		})
	}
}

// The published schema is the one that the types give.
func TestPublishedSchema(t *testing.T) {
	golden(t, "policy.schema.json", string(JSONSchema()))
	golden(t, "policytest.schema.json", string(TestJSONSchema()))
}

func compileSchema(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is a YAML file as a validator of JSON sees it.
func asJSON(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The schema accepts every example and what Render makes of it, so that editors
// and belay agree.
func TestSchemaAcceptsExamples(t *testing.T) {
	s := compileSchema(t, JSONSchema())
	for _, file := range examples(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(asJSON(t, data)); err != nil {
			t.Errorf("%s: got %v, want no error", file, err)
		}
		p, _ := Parse(os.DirFS("examples"), filepath.Base(file), config())
		if p == nil || p.Base {
			continue
		}
		if err := s.Validate(asJSON(t, []byte(p.Render(true)))); err != nil {
			t.Errorf("%s rendered: got %v, want no error\n%s", file, err, p.Render(true))
		}
	}
}

// The schema of tests accepts those of the examples, and refuses bad ones.
func TestSchemaOfTests(t *testing.T) {
	s := compileSchema(t, TestJSONSchema())
	for pattern, good := range map[string]bool{"examples/*.test.yaml": true, "testdata/tests/failing.test.yaml": true, "testdata/tests/bad.test.yaml": false} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("got %d files, error %v", len(files), err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Validate(asJSON(t, data)); (err == nil) != good {
				t.Errorf("%s: got error %v, want none: %v", file, err, good)
			}
		}
	}
}

// What only needs a look at one value, the schema refuses like belay does.
func TestSchemaRefusesBadFiles(t *testing.T) {
	s := compileSchema(t, JSONSchema())
	// What these get wrong takes more than a schema to see.
	beyond := []string{"anchors.yaml", "unquoted-limit.yaml", "freezes.yaml", "queries.yaml"}
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Validate(asJSON(t, data))
		if want := !slices.Contains(beyond, filepath.Base(file)); (err != nil) != want && asJSON(t, data) != nil {
			t.Errorf("%s: got error %v, want one: %v", file, err, want)
		}
	}
}

// Every example that runs has a policy test, and all of its cases pass, with a
// config at hand and without one.
func TestExamplesAreTested(t *testing.T) {
	for _, file := range examples(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if name == "base" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			var env *Environment
			if name != "smallest" {
				env = config()
			}
			r, ps := RunTests(os.DirFS("examples"), name+".test.yaml", env, nil)
			if r == nil {
				t.Fatalf("got problems:\n%s", ps.Text())
			}
			if len(r.Cases) == 0 || !r.Passed() {
				var b strings.Builder
				if err := r.Text(&b); err != nil {
					t.Fatal(err)
				}
				t.Errorf("got failures:\n%s", b.String())
			}
		})
	}
}

// The index leads through every example, and what it quotes stands in the file.
func TestExamplesIndex(t *testing.T) {
	data, err := os.ReadFile("examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	index := string(data)
	for _, file := range examples(t) {
		if name := filepath.Base(file); !strings.Contains(index, "["+name+"]("+name+")") {
			t.Errorf("%s: got no section in the index, want one", name)
		}
	}
	quotes := 0
	for _, section := range strings.Split(index, "\n## ")[1:] {
		_, rest, _ := strings.Cut(section, "](")
		name, _, _ := strings.Cut(rest, ")")
		text, err := os.ReadFile(filepath.Join("examples", name))
		if err != nil {
			t.Errorf("section %.30q: %v", section, err)
			continue
		}
		_, quote, _ := strings.Cut(section, "```yaml\n")
		quote, _, _ = strings.Cut(quote, "```")
		for line := range strings.Lines(quote) {
			quotes++
			if !strings.Contains(string(text), strings.TrimRight(line, "\n")) {
				t.Errorf("%s: got no line %q, which the index quotes", name, line)
			}
		}
	}
	if quotes < 10 {
		t.Errorf("got %d quoted lines, want at least 10", quotes)
	}
}
