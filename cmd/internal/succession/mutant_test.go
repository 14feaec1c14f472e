package succession

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutations take one protection each away where the environment names it: new stands
// for old, which the source has once. test is the test that must notice.
var mutations = []struct{ name, test, old, new string }{
	{"seam", "", "import (\n", "import (\n	\"os\"\n"},
	{"a start between two engines", "TestStartsMeanwhile",
		"	defer x.starts.Release(whole)\n",
		"	if os.Getenv(`BELAY_MUTANT`) == `a start between two engines` {\n		x.starts.Release(whole - 1)\n		defer x.starts.Release(1)\n	} else {\n		defer x.starts.Release(whole)\n	}\n"},
	{"a router taken away from its rollout", "TestStartsMeanwhile",
		"	if err := t.InUse(ctx, leaving); err != nil {\n",
		"	if err := t.InUse(ctx, leaving); err != nil && os.Getenv(`BELAY_MUTANT`) != `a router taken away from its rollout` {\n"},
	{"a stream that ends with its engine", "TestStreamsGoOn",
		"			end()\n			if !x.followed(ctx, t) {\n				return\n			}\n		}\n	}\n}\n\n// Erased",
		"			end()\n			if os.Getenv(`BELAY_MUTANT`) == `a stream that ends with its engine` || !x.followed(ctx, t) {\n				return\n			}\n		}\n	}\n}\n\n// Erased"},
}

// Each protection is taken away in a copy of the source, which is built once for all of
// them: the tests notice every one that is missing, and nothing where none is.
func TestMutants(t *testing.T) {
	b, err := os.ReadFile("succession.go")
	if err != nil {
		t.Fatal(err)
	}
	text, dir := string(b), t.TempDir()
	for _, m := range mutations {
		if n := strings.Count(text, m.old); n != 1 {
			t.Fatalf("mutation %q: got %d places for %q, want one", m.name, n, m.old)
		}
		text = strings.Replace(text, m.old, m.new, 1)
	}
	write := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	from, err := filepath.Abs("succession.go")
	if err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{from: write("succession.go", []byte(text))}})
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "succession.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "-overlay", write("overlay.json", replace), ".") // #nosec G204 -- a test's own arguments
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	play := func(mutant, test string) (string, error) {
		run := exec.CommandContext(t.Context(), program, "-test.timeout=2m", "-test.run=^("+test+")$") // #nosec G204 -- a test's own program
		run.Env = append(os.Environ(), "BELAY_MUTANT="+mutant)
		out, err := run.CombinedOutput()
		return string(out), err
	}
	if out, err := play("", "TestStartsMeanwhile|TestStreamsGoOn"); err != nil {
		t.Errorf("with every protection: %v\n%s", err, out)
	}
	for _, m := range mutations {
		if m.test == "" {
			continue
		}
		if out, err := play(m.name, m.test); err == nil || !strings.Contains(out, "--- FAIL: "+m.test) {
			t.Errorf("without the protection against %s: got %v, want %s to fail\n%s", m.name, err, m.test, out)
		}
	}
}
