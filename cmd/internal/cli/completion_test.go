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
		{[]string{"belay", "audit", ""}, []string{"verify", "head"}},
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

// A real zsh, with the options under which its adapter of bash's completions calls
// the function, offers what bash does at the same place. (What of it begins with
// the word, zsh chooses itself.)
func TestZshCompletion(t *testing.T) {
	zsh := real(t, "zsh")
	s := newShell(t)
	script := filepath.Join(t.TempDir(), "belay.zsh")
	if err := os.WriteFile(script, []byte(s.want(exitOK, "completion", "zsh")), 0o600); err != nil {
		t.Fatal(err)
	}
	const run = `autoload -U compinit && compinit -u -D; source "$1"; shift
		go() { emulate -L sh; setopt kshglob noshglob braceexpand nokshautoload ksharrays; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _belay; print -rl -- "${COMPREPLY[@]}"; }
		go "$@"`
	for _, c := range []struct{ line, offers, not string }{
		{"belay re", "resume", "--output"},
		{"belay context us", "use", "status"},
		{"belay context use -", "", "list"},
		{"belay status ID --out", "--output", "status"},
		{"belay status --output y", "yaml", "--store"},
		{"belay policy test --conf", "--config", "schema"},
		{"belay list --cert-file a", "act.go", "--output"},
	} {
		cmd := exec.CommandContext(t.Context(), zsh, append([]string{"-f", "-c", run, "zsh", script}, strings.Fields(c.line)...)...)
		out, err := cmd.CombinedOutput()
		got := strings.Fields(string(out))
		if err != nil || c.offers != "" && !slices.Contains(got, c.offers) || slices.Contains(got, c.not) {
			t.Errorf("complete %q: got %q, %v, want it to offer %q, not %q", c.line, got, err, c.offers, c.not)
		}
	}
}

// A real fish completes commands, those below them and flags, each in its place
// alone.
func TestFishCompletion(t *testing.T) {
	fish := real(t, "fish")
	s := newShell(t)
	script := filepath.Join(t.TempDir(), "belay.fish")
	if err := os.WriteFile(script, []byte(s.want(exitOK, "completion", "fish")), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"belay re": "reject replay resume", "belay context ": "delete list set use", "belay context use ": "", "belay status ID --out": "--output",
		"belay --server x list --ph": "--phase", "belay status --output y": "yaml", "belay context set --cert": "--cert-file",
	} {
		cmd := exec.CommandContext(t.Context(), fish, "--no-config", "-c", `source $argv[1]; complete -C $argv[2]`, script, line)
		out, err := cmd.CombinedOutput()
		var got []string
		for l := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
			got = append(got, word)
		}
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("complete %q: got %q, %v, want %q", line, got, err, want)
		}
	}
}
