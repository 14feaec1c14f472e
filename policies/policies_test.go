package policies_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/policies/policiestest"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/split"
)

// The smallest policy that is useful means what the specification says: every
// default is filled in.
func TestSmallestPolicy(t *testing.T) {
	p, ps := policiestest.Parse(t, policiestest.Smallest, policiestest.Config())
	if p == nil {
		t.Fatalf("got problems:\n%s", ps.Text())
	}
	plan, err := p.Compile(rollout.Release{Policy: "recommendations", Candidate: "green", Version: "17"}, "r1")
	if err != nil {
		t.Fatal(err)
	}
	type facts struct {
		Stable                      string
		Interval, Settle, MaxExtend time.Duration
		NoData, SourceError         sight.MissingPolicy
		Steps                       []rollout.Step
		Rollback                    rollout.RollbackPolicy
		Alpha, Beta                 float64
		Foreign                     rollout.ForeignPolicy
	}
	got := facts{plan.Stable, plan.Interval, plan.Settle, plan.MaxExtend, plan.OnNoData, plan.OnSourceError, plan.Steps,
		plan.Rollback, plan.Panel.Alpha, plan.Panel.Beta, plan.OnForeignChange}
	want := facts{
		"auto", 15 * time.Second, time.Minute, time.Hour,
		sight.MissingPolicy{After: 2 * time.Minute, Then: analysis.ActionHold, RollbackAfter: 10 * time.Minute},
		sight.MissingPolicy{After: 2 * time.Minute, Then: analysis.ActionHold},
		[]rollout.Step{{Name: "5%", Share: split.Share{Weight: 5}, Bake: 30 * time.Minute}, {Name: "25%", Share: split.Share{Weight: 25}, Bake: 30 * time.Minute},
			{Name: "60%", Share: split.Share{Weight: 60}, Bake: 30 * time.Minute},
			{Name: "95%", Share: split.Share{Weight: 95}, Bake: 30 * time.Minute}, {Name: "100%", Share: split.Share{Weight: 100}, Bake: 30 * time.Minute}},
		rollout.RollbackPolicy{VerifyWithin: 2 * time.Minute, Cooldown: 24 * time.Hour}, 0.01, 0.05, rollout.ForeignHold,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan differs (-want +got):\n%s", diff)
	}
	type judged struct {
		Metric   string
		Quantile float64
		Limit    analysis.Limit
		Detect   float64
		Test     analysis.Test
		Steps    []int
	}
	var gs []judged
	for _, g := range plan.Panel.Guardrails {
		gs = append(gs, judged{g.Metric, g.Quantile, g.Limit, g.Detect, g.Test, g.Steps})
	}
	all := []int{0, 1, 2, 3, 4}
	wantGs := []judged{
		{"failures", 0, analysis.Limit{Value: 0.01, Text: "<= 1%"}, 0.02, analysis.TestSequential, all},
		{"latency", 0.95, analysis.Limit{Value: 0.45, Text: "<= 450ms"}, 0.1, analysis.TestSequential, all},
		{"watched", 0, analysis.Limit{AtLeast: true, Relative: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.95, analysis.TestSequential, all},
	}
	if diff := cmp.Diff(wantGs, gs); diff != "" {
		t.Errorf("guardrails differ (-want +got):\n%s", diff)
	}
	if plan.Policy.Text != policiestest.Smallest {
		t.Errorf("got text %q, want the file itself", plan.Policy.Text)
	}
}

// Rendering fills every default in, and what it writes is a policy that renders
// to itself.
func TestRenderIsAFixedPoint(t *testing.T) {
	full, err := os.ReadFile("testdata/full/recommendations.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"smallest": policiestest.Smallest, "full": string(full)} {
		t.Run(name, func(t *testing.T) {
			files := fstest.MapFS{"p.yaml": {Data: []byte(text)}}
			for _, f := range []string{"smoke/request.json", "smoke/response.schema.json"} {
				b, err := os.ReadFile(filepath.Join("testdata/full", f))
				if err != nil {
					t.Fatal(err)
				}
				files[f] = &fstest.MapFile{Data: b}
			}
			p, ps := policies.Parse(files, "p.yaml", policiestest.Config())
			if p == nil {
				t.Fatalf("got problems:\n%s", ps.Text())
			}
			once := p.Render(false)
			files["p.yaml"] = &fstest.MapFile{Data: []byte(once)}
			q, ps := policies.Parse(files, "p.yaml", policiestest.Config())
			if q == nil {
				t.Fatalf("rendered policy has problems:\n%s\n%s", ps.Text(), once)
			}
			if diff := cmp.Diff(once, q.Render(false)); diff != "" {
				t.Errorf("rendering twice differs:\n%s", diff)
			}
			rel := rollout.Release{Candidate: "green"}
			a, errA := p.Compile(rel, "r")
			b, errB := q.Compile(rel, "r")
			if errA != nil || errB != nil {
				t.Fatal(errA, errB)
			}
			a.Policy, b.Policy = rollout.PolicyRef{}, rollout.PolicyRef{}
			if diff := cmp.Diff(a, b); diff != "" {
				t.Errorf("plans differ:\n%s", diff)
			}
			goldentest.Check(t, "testdata/render-"+name+".yaml", p.Render(true))
		})
	}
}

// Every bad file is told all that is wrong with it, at once, with its place.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d bad files, error %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if strings.HasPrefix(name, "base") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			p, ps := policies.Parse(os.DirFS("testdata/bad"), name, policiestest.Config())
			if p != nil || !ps.HasErrors() {
				t.Errorf("got a policy, want errors")
			}
			goldentest.Check(t, strings.TrimSuffix(file, ".yaml")+".txt", ps.Text())
		})
	}
}

// Without a config, names that only a config can define are warnings, each once.
func TestWithoutConfig(t *testing.T) {
	p, ps := policiestest.Parse(t, policiestest.Smallest, nil)
	if p == nil {
		t.Fatalf("got problems:\n%s", ps.Text())
	}
	var got []string
	for _, q := range ps {
		if q.Code == policies.WarnUnresolved {
			got = append(got, q.Got)
		}
	}
	want := []string{"azureml-prod", "failures", "latency", "watched", "oncall"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unresolved names differ (-want +got):\n%s", diff)
	}
	if _, err := p.Compile(rollout.Release{Candidate: "green"}, "r"); err == nil {
		t.Error("got a plan, want an error: its metrics are unknown")
	}
}

// The same problems in every format.
func TestFormats(t *testing.T) {
	_, ps := policies.Parse(os.DirFS("testdata/bad"), "ten-mistakes.yaml", policiestest.Config())
	for _, f := range document.Formats {
		var b strings.Builder
		if err := ps.Write(&b, f, policies.Describe); err != nil {
			t.Fatal(err)
		}
		goldentest.Check(t, "testdata/formats/ten-mistakes."+string(f), b.String())
	}
	if err := ps.Write(&strings.Builder{}, "xml", policies.Describe); err == nil {
		t.Error("got no error for an unknown format")
	}
}

// Input is bounded, and what is no policy at all is said in one sentence.
func TestBounds(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"large", "# " + strings.Repeat("x", document.MaxBytes), "p.yaml:1:1: the file is larger than 256 KiB"},
		{"deep", strings.Repeat("[", 40) + strings.Repeat("]", 40), "p.yaml:1:34: [0]"},
		{"empty", "", "p.yaml:1:1: the file is empty"},
		{"text", "just words", "p.yaml:1:1: a policy is a mapping (got just words)"},
		{"tabs", "a:\n\tb: c\n", "indent with spaces, not tabs"},
		{"binary", "\x00\x01", "this is not YAML"},
		{"no-break space", "a: b\n\u00a0\u00a0c: d\n", "p.yaml:2:1: a no-break space (U+00A0) stands where a space is wanted; write a plain space"},
		{"no-break space after a colon", "a: b\nc:\u00a0d\n", "p.yaml:2:3: a no-break space (U+00A0) stands"},
		{"next line", "a: b\nc: d\u0085e: f\ng: h\n", "p.yaml:2:5: a next-line character (U+0085) ends a line"},
		{"line separator", "a: b\nc: \"d\u2028e\"\n", "p.yaml:2:6: a line separator (U+2028) ends a line"},
		{"Latin-1", "a: b\nö: caf\xe9\n", "p.yaml:2:7: the byte 0xE9 is no UTF-8; in Latin-1 it is é; save the file as UTF-8"},
		{"directive", "%YAML 1.2\n---\na: b\n", "p.yaml:1:1: directives are not part of the language (got %YAML 1.2); remove the line"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, ps := policiestest.Parse(t, tt.text, policiestest.Config())
			if p != nil || len(ps) != 1 || !strings.Contains(ps[0].String(), tt.want) {
				t.Errorf("got %v, want one problem with %q", ps, tt.want)
			}
		})
	}
	if _, ps := policies.Parse(fstest.MapFS{}, "p.yaml", nil); len(ps) != 1 || !strings.Contains(ps[0].String(), "cannot be read: file does not exist") {
		t.Errorf("got %v, want that the file cannot be read", ps)
	}
}

// BenchmarkParse measures reading and checking the full example.
func BenchmarkParse(b *testing.B) {
	fsys := os.DirFS("examples")
	for b.Loop() {
		if p, ps := policies.Parse(fsys, "recommendations.yaml", policiestest.Config()); p == nil {
			b.Fatal(ps.Text())
		}
	}
}

// A file without a spec is told that alone, and nothing of defaults that nobody
// wrote.
func TestNoSpec(t *testing.T) {
	_, ps := policies.Parse(fstest.MapFS{"a.yaml": {Data: []byte("apiVersion: belay/v1\nkind: RolloutPolicy\nmetadata: {name: a, owner: b}\n")}}, "a.yaml", nil)
	if text := ps.Errors().Text(); len(ps.Errors()) != 1 || !strings.Contains(text, "spec: is required and missing") {
		t.Errorf("got %d problems, want that the spec is missing:\n%s", len(ps.Errors()), text)
	}
}
