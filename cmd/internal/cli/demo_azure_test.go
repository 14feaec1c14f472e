package cli

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
)

// The demo behind Azure's control plane: an operator zeroes the traffic from
// outside. Nothing is overwritten, it is held and paged, and what Belay wrote
// before changed the traffic alone.
func TestDemoAzureForeignChange(t *testing.T) {
	s := newShell(t)
	dir := filepath.Join(t.TempDir(), "demo")
	out := s.want(exitRunning, "demo", "--router", "azureml", "--fault", "foreign-change", "--speed", "4", "--keep", dir)
	for _, want := range []string{
		"pager    PAGE [critical]", "ended    held (exit code 8)", "endpoint blue 0%, green 0%", "nothing was overwritten",
		"arm      2 writes of the whole resource; changed: properties.traffic;", "writes   " + filepath.Join(dir, "arm-writes.jsonl"),
	} {
		if !strings.Contains(out, want) {
			t.Errorf("demo: its output lacks %q:\n%s", want, out)
		}
	}
	store := filepath.Join(dir, "belay.db")
	s.want(exitOK, "audit", "verify", "--store", store)
	journal := s.want(exitOK, "history", strings.TrimSpace(s.want(exitOK, "list", "--store", store, "--output", "name")), "--store", store, "--output", "json")
	if !strings.Contains(journal, `az ml online-endpoint update --name recs --traffic \"blue=100 green=0\"`) {
		t.Errorf("history: got %s, want the command that rolls back by hand", journal)
	}
}

// Nobody can be asked without a terminal.
func TestDemoAsksTerminalsOnly(t *testing.T) {
	s := newShell(t)
	s.want(exitUsage, "demo", "--approve", "ask")
	if !strings.Contains(s.err.String(), "must be a terminal") {
		t.Errorf("got %q, want it to say what is missing", s.err.String())
	}
}

// In a real terminal the demo asks before the 60% step, and a no rolls back.
func TestDemoAsks(t *testing.T) {
	tmux := realtest.Program(t, "tmux")
	dir := t.TempDir()
	binary := realtest.Build(t, "belay")
	session := []string{"-S", filepath.Join(dir, "tmux.sock"), "-f", "/dev/null"}
	script := binary + " demo --approve ask --speed 5 --keep " + filepath.Join(dir, "demo") + "; echo code $?; sleep 600"
	execute(t, tmux, append(session, "new-session", "-d", "-x", "80", "-y", "40", "sh", "-c", script)...)
	defer execute(t, tmux, append(session, "kill-server")...)
	var screen string
	shows := func(want string) bool {
		for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if screen = execute(t, tmux, append(session, "capture-pane", "-p")...); strings.Contains(screen, want) {
				return true
			}
		}
		return false
	}
	if !shows("y, or n (rolls back), then Enter") {
		t.Fatalf("nobody is asked:\n%s", screen)
	}
	execute(t, tmux, append(session, "send-keys", "n", "Enter")...)
	if !shows("code 6") || !strings.Contains(screen, "ended    stopped (exit code 6)") || !strings.Contains(screen, "endpoint blue 100%, green 0%") {
		t.Errorf("after no: got\n%s", screen)
	}
}
