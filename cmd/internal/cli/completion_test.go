package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/realtest"
)

// actAsBelay, set, makes this test program the command line: shells ask it.
const actAsBelay = "BELAY_TEST_IS_BELAY"

func TestMain(m *testing.M) {
	if os.Getenv(actAsBelay) != "" {
		os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// offered is what completes a command line whose last word is being typed.
func offered(s *shell, words ...string) (names []string) {
	s.t.Helper()
	for l := range strings.Lines(s.want(exitOK, append([]string{"__complete"}, words...)...)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(l), "\t"); name != "" && name[0] != ':' {
			names = append(names, name)
		}
	}
	return names
}

// Commands, those below them, flags, their values, and what belayd knows complete in
// their places alone.
func TestCompletion(t *testing.T) {
	d := newFakeDaemon(t, baking(), promoted())
	s := newShell(t)
	s.vars["BELAY_SERVER"] = d.URL
	s.want(exitOK, "context", "set", "prod", "--server", "https://belay.example")
	phases := offered(s, "list", "--phase", "")
	for _, c := range []struct{ line, want string }{
		{"re", "report replay reject resume retry"},
		{"audit ?", "verify head"},
		{"context d", "delete"},
		{"context use ?", "prod"},
		{"completion ?", "bash zsh fish powershell"},
		{"status ID --out", "--output"},
		{"status --output ?", "table json yaml name"},
		{"status --output=y", "yaml"},
		{"demo --fault no", "none no-data"},
		{"status --server ?", ""},
		{"status ?", baking().ID + " " + promoted().ID},
		{"status ID ?", ""},
		{"rollback ?", baking().ID + " " + promoted().ID},
		{"status --server x ID --st", "--store"},
		{"start --policy ?", "recommendations lost"},
		{"endpoint show ?", "edge/recs edge/ads other/recs"},
		{"list --endpoint e", "edge/recs edge/ads"},
		{"list --context ?", "prod"},
		{"trigger refused ?", "nats:RELEASES nats:NIGHTLY"},
		{"list --phase held,pa", "held,paused"},
		{"policy check ?", ""}, // files are the shell's
		{"list --server http://127.0.0.1:1 --endpoint ?", ""},
	} {
		words := strings.Fields(c.line)
		if words[len(words)-1] == "?" {
			words[len(words)-1] = ""
		}
		got := offered(s, words...)
		if last := words[len(words)-1]; last != "" {
			got = slices.DeleteFunc(got, func(n string) bool { return !strings.HasPrefix(n, last[strings.Index(last, "=")+1:]) })
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("complete %q: got %q, want %q", c.line, got, c.want)
		}
	}
	if !slices.Contains(phases, "open") || !slices.Contains(phases, "rolling-back") {
		t.Errorf("complete list --phase: got %q, want all phases, and open", phases)
	}
	if got := d.last("GET"); got.path == "" {
		t.Error("completion: got no question to belayd, want what it knows")
	}
	all := offered(s, "")
	for _, c := range commands() {
		if !slices.Contains(all, c.name) {
			t.Errorf("complete belay: %q is missing in %q", c.name, all)
		}
	}
}

// An order offers the rollouts that have not ended; what reads offers all.
func TestCompletionAsksForOpenRollouts(t *testing.T) {
	d := newFakeDaemon(t, baking())
	s := newShell(t)
	s.vars["BELAY_SERVER"] = d.URL
	for line, open := range map[string]bool{"rollback": true, "approve": true, "status": false, "explain": false, "undo": false, "retry": false} {
		offered(s, line, "")
		if got := d.last("GET").path; strings.Contains(got, "phase=open") != open {
			t.Errorf("complete %s: asked for %s, want only open ones: %v", line, got, open)
		}
	}
}

// Real shells complete by the scripts, and ask the belay that the line calls.
func TestShellsComplete(t *testing.T) {
	d := newFakeDaemon(t, baking())
	s := newShell(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "belay")); err != nil {
		t.Fatal(err)
	}
	shells := map[string]string{
		"bash": `source /usr/share/bash-completion/bash_completion; source "$1"; shift
			COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=37
			__start_belay; printf '%s\n' "${COMPREPLY[@]}"`,
		"zsh": `compdef() { :; }; _describe() { while [[ $1 == -* ]]; do shift; done; print -rl -- "${(@P)2}"; }; _arguments() { :; }
			source "$1"; shift; words=("$@"); CURRENT=$#; _belay`,
		"fish": `source $argv[1]; complete -C (string join " " -- $argv[2..-1])`,
	}
	for name, run := range shells {
		t.Run(name, func(t *testing.T) {
			program := realtest.Program(t, name)
			script := filepath.Join(t.TempDir(), "belay."+name)
			if err := os.WriteFile(script, []byte(s.want(exitOK, "completion", name)), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct{ line, offers, not string }{
				{"belay re", "resume", "--output"},
				{"belay audit v", "verify", "status"},
				{"belay status " + baking().ID[:3], baking().ID, "status"},
				{"belay status ID --out", "--output", "--store"},
				{"belay status --output y", "yaml", ""},
				{"belay demo --fault no", "no-data", ""},
			} {
				flag := map[string][]string{"fish": {"--no-config", "-c", run, script}, "zsh": {"-f", "-c", run, "zsh", script}, "bash": {"--norc", "-c", run, "bash", script}}[name]
				cmd := exec.CommandContext(t.Context(), program, append(flag, strings.Fields(c.line)...)...)
				cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), actAsBelay+"=1", "BELAY_SERVER="+d.URL, "HOME="+t.TempDir())
				out, err := cmd.CombinedOutput()
				var got []string
				for l := range strings.Lines(string(out)) {
					word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
					if name == "zsh" {
						word, _, _ = strings.Cut(word, ":")
					}
					got = append(got, strings.Fields(word + " -")[0])
				}
				if err != nil || !slices.Contains(got, c.offers) || slices.Contains(got, c.not) {
					t.Errorf("complete %q: got %q, %v, want it to offer %q, not %q", c.line, out, err, c.offers, c.not)
				}
			}
		})
	}
}
