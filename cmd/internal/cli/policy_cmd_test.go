package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

const examples = "../../../policies/examples/"

// belay runs a command line as a script does.
func belay(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	e := &env{
		stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" },
		now:  func() time.Time { return time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC) },
		zone: time.UTC, width: 80, height: 24,
	}
	code = e.run(t.Context(), args)
	return code, out.String(), errs.String()
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A good policy ends with 0, whatever its warnings; a bad one with 3 and every
// problem at its place, in the format asked for.
func TestPolicyCheck(t *testing.T) {
	if code, out, errs := belay(t, "policy", "check", examples+"smallest.yaml"); code != exitOK || !strings.Contains(out, "warning W100") {
		t.Errorf("got code %d, output %s%s, want 0 with warnings", code, out, errs)
	}
	bad := writeFile(t, "bad.yaml", "apiVersion: belay/v1\nkind: RolloutPolicy\nspec: {bake: 30}\n")
	code, out, errs := belay(t, "policy", "check", bad)
	if code != exitInvalid || !strings.Contains(out, bad+":3:14: spec.bake: a duration needs a unit") || !strings.Contains(errs, "1 file: ") {
		t.Errorf("got code %d:\n%s%s", code, out, errs)
	}
	code, out, _ = belay(t, "policy", "check", bad, "--output", "json")
	var v struct {
		Errors   int
		Problems []struct{ File, Path string }
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitInvalid || v.Errors < 2 || v.Problems[0].File != bad {
		t.Errorf("got code %d, %v: %s", code, err, out)
	}
	code, out, _ = belay(t, "policy", "check", bad, "--output", "github")
	if code != exitInvalid || !strings.HasPrefix(out, "::error file=") {
		t.Errorf("got code %d: %s", code, out)
	}
	code, out, _ = belay(t, "policy", "check", bad, "--output", "sarif")
	if code != exitInvalid || !strings.Contains(out, `"version": "2.1.0"`) {
		t.Errorf("got code %d: %s", code, out)
	}
	if code, _, errs := belay(t, "policy", "check", "missing.yaml"); code != exitInvalid {
		t.Errorf("got code %d: %s, want 3 for a missing file", code, errs)
	}
}

// With a config, the names that only it can define are resolved.
func TestPolicyCheckWithConfig(t *testing.T) {
	config := writeFile(t, "belayd.yaml", `
store: {bolt: {path: belay.db}}
policies: [x.yaml]
sources: {prom: {prometheus: {url: "http://127.0.0.1:9090"}}}
routers: {edge: {webhook: {url: "http://127.0.0.1:9"}}}
notifiers: {oncall: {webhook: {url: "http://127.0.0.1:9", secretFile: secret}}}
`)
	code, out, errs := belay(t, "policy", "check", examples+"relative.yaml", "--config", config)
	if code != exitOK || strings.Contains(out, "W100") {
		t.Errorf("got code %d:\n%s%s", code, out, errs)
	}
	code, out, _ = belay(t, "policy", "check", examples+"smallest.yaml", "--config", config)
	if code != exitInvalid || !strings.Contains(out, "belayd's config defines no such router (got azureml-prod); there is edge") {
		t.Errorf("got code %d:\n%s", code, out)
	}
	broken := writeFile(t, "broken.yaml", "polices: []\n")
	if code, _, errs := belay(t, "policy", "check", examples+"relative.yaml", "--config", broken); code != exitInvalid || !strings.Contains(errs, "did you mean policies?") {
		t.Errorf("got code %d:\n%s", code, errs)
	}
}

func TestPolicyRenderAndSchema(t *testing.T) {
	code, out, _ := belay(t, "policy", "render", examples+"extends.yaml")
	if code != exitOK || !strings.Contains(out, "  # base.yaml:") || !strings.Contains(out, "# default") {
		t.Errorf("got code %d:\n%s", code, out)
	}
	if _, bare, _ := belay(t, "policy", "render", examples+"extends.yaml", "--no-origins"); strings.Contains(bare, "#") {
		t.Errorf("got origins:\n%s", bare)
	}
	code, out, _ = belay(t, "policy", "schema")
	if code != exitOK || !json.Valid([]byte(out)) {
		t.Errorf("got code %d and no JSON: %.80s", code, out)
	}
}

// diff fails a build only where it was asked to.
func TestPolicyDiff(t *testing.T) {
	text, err := os.ReadFile(examples + "absolute-slo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	looser := writeFile(t, "new.yaml", strings.Replace(string(text), `"<= 250ms"`, `"<= 300ms"`, 1))
	code, out, _ := belay(t, "policy", "diff", examples+"absolute-slo.yaml", looser)
	if code != exitOK || !strings.Contains(out, "LOOSER    guardrail p95: limit <= 250ms → <= 300ms") || !strings.Contains(out, "SAME      guardrail failures") {
		t.Errorf("got code %d:\n%s", code, out)
	}
	if code, _, _ = belay(t, "policy", "diff", "--fail-on", "looser", examples+"absolute-slo.yaml", looser); code != exitInvalid {
		t.Errorf("got code %d, want 3", code)
	}
	code, out, _ = belay(t, "policy", "diff", "--fail-on", "looser", "--output", "json", looser, examples+"absolute-slo.yaml")
	if code != exitOK || !strings.Contains(out, `"looser": false`) {
		t.Errorf("got code %d:\n%s", code, out)
	}
}

func TestPolicyTest(t *testing.T) {
	junit := filepath.Join(t.TempDir(), "report.xml")
	code, out, errs := belay(t, "policy", "test", examples+"absolute-slo.test.yaml", "--run", "SLO", "--coverage", "--junit", junit)
	if code != exitOK || !strings.Contains(out, "ok    within the SLO") || strings.Contains(out, "outage") || !strings.Contains(out, "→rollback") {
		t.Errorf("got code %d:\n%s%s", code, out, errs)
	}
	if b, err := os.ReadFile(junit); err != nil || !strings.Contains(string(b), "<testsuites>") {
		t.Errorf("got %s, %v", b, err)
	}
	code, out, _ = belay(t, "policy", "test", "../../../policies/policytest/testdata/failing.test.yaml", "--run", "too late")
	if code != exitInvalid || !strings.Contains(out, ">>") {
		t.Errorf("got code %d:\n%s", code, out)
	}
	if code, _, _ = belay(t, "policy", "test", "../../../policies/policytest/testdata/bad.test.yaml"); code != exitInvalid {
		t.Errorf("got code %d, want 3", code)
	}
	if code, _, _ = belay(t, "policy", "test"); code != exitUsage {
		t.Errorf("got code %d, want 2", code)
	}
}

// A plan needs no belayd and changes nothing; unknown metrics name the remedy.
func TestPlan(t *testing.T) {
	code, out, errs := belay(t, "plan", examples+"relative.yaml", "--candidate", "green", "--rps", "20")
	if code != exitOK || !strings.Contains(out, "BLIND") || !strings.Contains(out, "What would help:") {
		t.Errorf("got code %d:\n%s%s", code, out, errs)
	}
	code, out, _ = belay(t, "plan", examples+"relative.yaml", "--rps", "2000", "--output", "json")
	if code != exitOK || !json.Valid([]byte(out)) || !strings.Contains(out, `"schemaVersion": 1`) {
		t.Errorf("got code %d:\n%s", code, out)
	}
	if code, _, errs = belay(t, "plan", examples+"smallest.yaml"); code != exitInvalid || !strings.Contains(errs, "add --config FILE") {
		t.Errorf("got code %d: %s", code, errs)
	}
	if code, _, _ = belay(t, "plan", examples+"relative.yaml", "--source", "http://127.0.0.1:1"); code != exitUsage {
		t.Errorf("got code %d, want 2: whose figures?", code)
	}
}

// A rollout that happened becomes a test that passes.
func TestFromRollout(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile(examples + "relative.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "relative.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	p, ps := policies.Parse(os.DirFS(dir), "relative.yaml", nil)
	if p == nil {
		t.Fatal(ps.Text())
	}
	plan, err := p.Compile(rollout.Release{Policy: "relative", Candidate: "v2", Version: "2"}, "r-1")
	if err != nil {
		t.Fatal(err)
	}
	r := &fakeReader{plan: plan}
	w := sim.New(sim.Config{
		Start: time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC), Split: split.Split{Weights: map[string]int{"v1": 100}},
		Source: &sim.Traffic{Seed: 3, RPS: sim.Steady(300), Bounds: []float64{0.1, 0.2, 0.4, 0.8}, Cell: plan.Interval, Model: func(d string, _ time.Time, weight int) sim.Model {
			rate := 0.002
			if d == "v2" && weight >= 25 {
				rate = 0.03
			}
			return sim.Model{Rates: map[string]float64{"failures": rate}, P95: 0.2, Sigma: 0.5}
		}},
	})
	w.Watch = func(_ *sim.World, _ *sim.Run, l sim.Line) {
		r.entries = append(r.entries, journal.Entry{At: l.Event.At, Events: []rollout.Event{l.Event}, Decisions: l.Decisions})
	}
	run := w.Begin(plan)
	w.Run(w.Now.Add(6 * time.Hour))
	if r.state = run.State; r.state.Phase != rollout.PhaseRolledBack {
		t.Fatalf("got a rollout that ended %s, want rolled-back", r.state.Phase)
	}
	var out bytes.Buffer
	e := &env{stdout: &out, stderr: &out}
	if err := e.writeRegression(t.Context(), r, "r-1", ""); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "r-1.test.yaml")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := belay(t, "policy", "test", file); code != exitOK || !strings.Contains(out, "ok    what happened in rollout r-1") {
		t.Errorf("got code %d:\n%s%s", code, out, errs)
	}
}
