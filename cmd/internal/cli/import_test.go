package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportCommand imports a Canary as a user would: the policy in a folder, what differs
// on standard error, nothing overwritten, and what is no Canary refused.
func TestImportCommand(t *testing.T) {
	const canary = "../importer/testdata/flagger-istio.yaml"
	dir := filepath.Join(t.TempDir(), "policies")
	run := func(args ...string) (code int, out, errs string) {
		var stdout, stderr bytes.Buffer
		code = Run(t.Context(), append([]string{"import"}, args...), strings.NewReader(""), &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}

	code, out, errs := run("flagger", canary, "--source", "prom", "--dir", dir)
	if code != 0 || strings.TrimSpace(out) != filepath.Join(dir, "podsite.yaml") || !strings.Contains(errs, canary+":12: spec.analysis.threshold: ") {
		t.Fatalf("import: got %d, %q, %q", code, out, errs)
	}
	policy, err := os.ReadFile(filepath.Join(dir, "podsite.yaml"))
	if err != nil || !strings.Contains(string(policy), "source: prom") {
		t.Errorf("policy: got %s, %v, want one that asks prom", policy, err)
	}
	if code, _, errs := run("flagger", canary, "--dir", dir); code == 0 || !strings.Contains(errs, "nothing is overwritten") {
		t.Errorf("import again: got %d, %q, want a refusal", code, errs)
	}
	if code, out, _ := run("flagger", canary); code != 0 || !strings.Contains(out, "kind: RolloutPolicy") {
		t.Errorf("import to standard output: got %d, %q", code, out)
	}
	if code, out, errs := run("argo", canary); code != exitInvalid || out != "" || !strings.Contains(errs, "want a Rollout of argoproj.io") {
		t.Errorf("import of another tool's: got %d, %q, %q", code, out, errs)
	}
	if code, _, errs := run("argo", dir); code == 0 || !strings.Contains(errs, "want a file") {
		t.Errorf("import of a folder: got %d, %q", code, errs)
	}
}
