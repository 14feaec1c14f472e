package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// real finds a program that a test needs, or skips.
func real(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("BELAY_REQUIRE_REAL") == "1" {
			t.Fatalf("the real %s is required and not there", name)
		}
		t.Skipf("needs a real %s", name)
	}
	return path
}

// A real bash completes commands, commands below them, flags and their values.
func TestBashCompletion(t *testing.T) {
	bash := real(t, "bash")
	s := newShell(t)
	script := filepath.Join(t.TempDir(), "belay.bash")
	if err := os.WriteFile(script, []byte(s.want(exitOK, "completion", "bash")), 0o600); err != nil {
		t.Fatal(err)
	}
	complete := func(words ...string) []string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bash, "-c", `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _belay; printf '%s\n' "${COMPREPLY[@]}"`, "bash", script)
		cmd.Args = append(cmd.Args, words...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil || errs.Len() > 0 {
			t.Fatalf("complete %q: %v: %s", words, err, errs.String())
		}
		return strings.Fields(string(out))
	}
	for _, c := range []struct {
		words []string
		want  []string
	}{
		{[]string{"belay", "re"}, []string{"replay", "reject", "resume"}},
		{[]string{"belay", "audit", ""}, []string{"verify"}},
		{[]string{"belay", "context", "d"}, []string{"delete"}},
		{[]string{"belay", "completion", ""}, []string{"bash", "zsh", "fish"}},
		{[]string{"belay", "status", "ID", "--out"}, []string{"--output"}},
		{[]string{"belay", "status", "--output", ""}, []string{"table", "json", "yaml", "name"}},
		{[]string{"belay", "demo", "--fault", "no"}, []string{"none", "no-data"}},
		{[]string{"belay", "status", "--server", ""}, nil},
	} {
		if got := complete(c.words...); !slices.Equal(got, c.want) {
			t.Errorf("complete %q: got %q, want %q", c.words, got, c.want)
		}
	}
	all := complete("belay", "")
	for _, c := range commands() {
		if !slices.Contains(all, c.name) {
			t.Errorf("complete belay: %q is missing in %q", c.name, all)
		}
	}
}

// The scripts of the other shells name every command and flag.
func TestCompletionScripts(t *testing.T) {
	s := newShell(t)
	zsh, fish := s.want(exitOK, "completion", "zsh"), ""
	fish = s.want(exitOK, "completion", "fish")
	if !strings.HasPrefix(zsh, "#compdef belay\n") {
		t.Errorf("zsh: got %q", zsh[:40])
	}
	for _, c := range completions("", commands()) {
		for _, f := range c.flags {
			if !strings.Contains(fish, "-l "+f.name+" ") {
				t.Errorf("fish: --%s of %s is missing", f.name, c.path)
			}
		}
		for _, w := range c.words {
			if !strings.Contains(fish, "-a "+w+" ") || !strings.Contains(zsh, w) {
				t.Errorf("%s %s is missing", c.path, w)
			}
		}
	}
	for shell, script := range map[string]string{"zsh": zsh, "fish": fish} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue // its grammar is checked where it is installed
		}
		cmd := exec.CommandContext(t.Context(), path, "-n", "/dev/stdin")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s -n: %v: %s", shell, err, out)
		}
	}
}
