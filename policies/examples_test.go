package policies_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/belayd/belay/analysis/promql"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/policies/policiestest"
	"github.com/belayd/belay/policies/policytest"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/realtest/goldentest"
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
			p, ps := policies.Parse(os.DirFS("examples"), filepath.Base(file), policiestest.Config())
			if p == nil {
				t.Fatalf("got problems:\n%s", ps.Text())
			}
			for _, w := range ps {
				// The smallest policy is as small as its warnings allow.
				if name != "smallest" && w.Code != policies.WarnUnusedMetric {
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
			goldentest.Check(t, "examples/testdata/"+name+".plan.json", string(b)+"\n")
		})
	}
}

// The published schema is the one that the types give.
func TestPublishedSchema(t *testing.T) {
	goldentest.Check(t, "policy.schema.json", string(policies.JSONSchema()))
	goldentest.Check(t, "policytest.schema.json", string(policytest.JSONSchema()))
}

// The reference is what the types say, and names every field and type of the schemas.
func TestReference(t *testing.T) {
	policy, err := document.Reference(policies.JSONSchema(), "What a policy may say, generated from the types that read it; `belay policy schema` prints the same for editors.\n"+
		"`policies/examples` shows each field in use.")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := document.Reference(policytest.JSONSchema(), "What `belay policy test` runs; `belay policy schema --test` prints the same for editors.")
	if err != nil {
		t.Fatal(err)
	}
	page := string(policy) + "\n" + string(tests) + "\n" + codes()
	goldentest.Check(t, "REFERENCE.md", page)
	for _, name := range []string{"Guardrail", "onNoData", "requires", "maxExtend", "sourceDown", "## Spec", "**Required.**"} {
		if !strings.Contains(page, name) {
			t.Errorf("the reference lacks %q", name)
		}
	}
}

// codes is the part of the reference on what check reports.
func codes() string {
	var b strings.Builder
	b.WriteString("# Errors and warnings\n\nWhat `belay policy check` reports: E is refused, W is legal and probably " +
		"unwise.\n\n| Code | What it says |\n|---|---|\n")
	for _, code := range policies.Codes() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", code, policies.Describe(code))
	}
	return b.String()
}

func compileSchema(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(policies.SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(policies.SchemaID)
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
	s := compileSchema(t, policies.JSONSchema())
	for _, file := range examples(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(asJSON(t, data)); err != nil {
			t.Errorf("%s: got %v, want no error", file, err)
		}
		p, _ := policies.Parse(os.DirFS("examples"), filepath.Base(file), policiestest.Config())
		if p == nil || p.Base {
			continue
		}
		if err := s.Validate(asJSON(t, []byte(p.Render(true)))); err != nil {
			t.Errorf("%s rendered: got %v, want no error\n%s", file, err, p.Render(true))
		}
	}
}

// The schema takes every form of a limit.
func TestSchemaAcceptsLimits(t *testing.T) {
	s := compileSchema(t, policies.JSONSchema())
	for limit, good := range map[string]bool{"<= 1%": true, "<=1.2x stable or 1 %": true, ">= 0.98x stable": true, "<= 1% or": false, "1%": false} {
		text := strings.Replace(policiestest.Smallest, `"<= 1%"`, fmt.Sprintf("%q", limit), 1)
		if err := s.Validate(asJSON(t, []byte(text))); (err == nil) != good {
			t.Errorf("%s: got %v, want it taken: %t", limit, err, good)
		}
	}
}

// The schema of tests accepts those of the examples, and refuses bad ones.
func TestSchemaOfTests(t *testing.T) {
	s := compileSchema(t, policytest.JSONSchema())
	for pattern, good := range map[string]bool{"examples/*.test.yaml": true, "policytest/testdata/failing.test.yaml": true, "policytest/testdata/bad.test.yaml": false} {
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
	s := compileSchema(t, policies.JSONSchema())
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
			var env *policies.Environment
			if name != "smallest" {
				env = policiestest.Config()
			}
			r, ps := policytest.Run(os.DirFS("examples"), name+".test.yaml", env, nil)
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

// shapes are what the public queries look like, one of each kind: their texts are not
// kept. Each is asked as the table says when it is read by what check reads with.
var shapes = map[string][]string{
	"counts": {
		`sum(rate(a_total{d="x",code!~"5.*"}[1m])) / sum(rate(a_total{d="x"}[1m]))`,
		`100 - sum(rate(a_total{d="x",code=~"5.."}[1m])) / sum(rate(a_total{d="x"}[1m])) * 100`,
		`sum(irate(a_failed{d="x"}[2m])) / clamp_min(sum(irate(a_total{d="x"}[2m])), 1) or vector(0)`,
		`(sum(increase(a_total{d="x"}[1m])) - sum(increase(a_total{d="x",code="500"}[1m]))) / sum(increase(a_total{d="x"}[1m]))`,
	},
	"histogram": {
		`histogram_quantile(0.99, sum(rate(a_seconds_bucket{d="x"}[1m])) by (le))`,
		`max(histogram_quantile(0.95, sum by (le) (rate(a_ms_bucket[5m])))) * 1000`,
	},
	"mean":      {`sum(rate(a_seconds_sum{d="x"}[1m])) / sum(rate(a_seconds_count{d="x"}[1m])) * 1000`},
	"rate":      {`sum(increase(restarts_total{d="x"}[10m])) or vector(0)`, `sum(rate(cpu_seconds_total{d="x"}[5m]))`},
	"threshold": {`avg(up{d="x"})`, `job:errors:ratio5m`, `max(lag{d="x"}) > 5`, `sum(a_total{code="500"}) / sum(a_total)`, `rate(cpu_seconds_total[5m]) / on(pod) limits`, `avg(rate(cpu_seconds_total{d="x"}[5m]))`},
	"refused":   {`sum(a_total{d="x"}[5m])`},
}

// The table over public queries adds up, names why what is not exact is not, and each way
// in which it says that they are asked is what is said of a query of that shape.
func TestPublicQueries(t *testing.T) {
	text, err := os.ReadFile("QUERIES.md")
	if err != nil {
		t.Fatal(err)
	}
	summary, table, _ := strings.Cut(string(text), "## The queries")
	counted := map[string]int{}
	seen := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) < 6 || strings.HasPrefix(line, "| repository") || strings.HasPrefix(line, "|---") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		as, why := cells[3], cells[5]
		if counted[as]++; shapes[as] == nil {
			t.Errorf("%s: nothing is said of queries asked as %q", cells[0], as)
		}
		if key := strings.Join(cells[:3], " "); seen[key] {
			t.Errorf("%s stands there twice", key)
		} else {
			seen[key] = true
		}
		if (as == "threshold" || as == "refused") && why == "" {
			t.Errorf("%s %s: it is not said why it is no more than a threshold", cells[0], cells[2])
		}
	}
	total := len(seen)
	for as, label := range map[string]string{"counts": "a ratio of two counters", "histogram": "a quantile", "mean": "a mean", "rate": "a rate of one counter", "refused": "refused by Prometheus", "threshold": "anything else"} {
		if m := regexp.MustCompile(`(?m)^\| ` + label + `[^|]*\| (\d+) \|`).FindStringSubmatch(summary); m == nil || m[1] != fmt.Sprint(counted[as]) {
			t.Errorf("%s: got %v in the summary, want %d", label, m, counted[as])
		}
	}
	exact := counted["counts"] + counted["histogram"] + counted["mean"] + counted["rate"]
	if want := fmt.Sprintf("So %d of %d are exact", exact, total); total < 100 || !strings.Contains(summary, want) {
		t.Errorf("got another sentence, want %q, of at least 100", want)
	}
	for as, queries := range shapes {
		for _, q := range queries {
			got := "threshold"
			if s, ok := promql.Recognize(q); ok {
				got = string(s.Kind)
			} else if promql.Check(q) != nil {
				got = "refused"
			}
			if got != as {
				t.Errorf("%s: got %s, want %s", q, got, as)
			}
		}
	}
}
