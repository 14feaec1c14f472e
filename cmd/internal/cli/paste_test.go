package cli

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/view"
)

// pasted are the words of a command line as a shell takes them.
func pasted(line string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(line, -1) {
		out = append(out, m[1]+m[2])
	}
	return out
}

// Every command that is printed of a rollout works when it is pasted, in a shell that
// knows nothing of how the one before reached belayd.
func TestPasted(t *testing.T) {
	r := held()
	r.Page = &view.Page{Since: now, Summary: "look"}
	r.Sentence = "Refused until 2026-11-24T12:00:30Z: see `belay history " + r.ID + "`."
	d := newFakeDaemon(t, r)
	dir := filepath.Join(t.TempDir(), "a folder")
	token := filepath.Join(dir, "token")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(token, []byte("t0ken"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		vars map[string]string
		args []string
	}{
		"by flags":           {nil, []string{"--server", d.URL, "--token-file", token}},
		"by the environment": {map[string]string{"BELAY_SERVER": d.URL}, nil},
	} {
		s := newShell(t)
		maps.Copy(s.vars, c.vars)
		s.run(append([]string{"status", r.ID}, c.args...)...)
		text := s.out.String()
		if strings.Contains(text, "2026-11-24T") || !strings.Contains(text, "until 12:00:30 (in 2h0m)") {
			t.Errorf("%s: got\n%s\nwant instants by the local clock and from now", name, text)
		}
		commands := regexp.MustCompile("(?m)belay ((?:rollback|ack|history) [^`\n]*)").FindAllStringSubmatch(text, -1)
		if len(commands) != 3 {
			t.Fatalf("%s: got\n%s\nwant the commands that roll back, acknowledge and show the history", name, text)
		}
		bare := newShell(t)
		for _, m := range commands {
			if got := bare.run(pasted(m[1])...); got != exitOK {
				t.Errorf("%s: belay %s: got exit code %d: %s", name, m[1], got, bare.err.String())
			}
		}
	}
}

// What a shell would take apart is quoted.
func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{
		"https://belay.example:8443": "https://belay.example:8443", "unix:/run/belay/belay.sock": "unix:/run/belay/belay.sock",
		"a folder/token": "'a folder/token'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "": "''",
	} {
		if got := shellWord(word); got != want {
			t.Errorf("shellWord(%q): got %s, want %s", word, got, want)
		}
	}
}
