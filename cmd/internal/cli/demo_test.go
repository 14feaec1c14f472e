package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/realtest"
)

// execute runs a program that must succeed and returns what it prints.
func execute(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "TERM=screen-256color", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The demo as a whole: a release message on JetStream, a real daemon, a candidate
// that fails. It is rolled back by itself and paged, and the folder that is left
// explains, verifies and replays without a daemon.
func TestDemoRollsBack(t *testing.T) {
	s := newShell(t)
	dir := filepath.Join(t.TempDir(), "demo")
	out := s.want(exitRolledBack, "demo", "--fault", "failures", "--speed", "3", "--keep", dir)
	for _, want := range []string{"pager    PAGE [critical]", "ended    rolled-back (exit code 5)", "endpoint blue 100%, green 0%", "pages    1, of which 0 resolved", "kept in  " + dir} {
		if !strings.Contains(out, want) {
			t.Errorf("demo: its output lacks %q:\n%s", want, out)
		}
	}
	store := filepath.Join(dir, "belay.db")
	id := strings.TrimSpace(s.want(exitOK, "list", "--store", store, "--output", "name"))
	if told := s.want(exitOK, "report", id, "--store", store); !strings.Contains(told, "When it could have been seen") || !strings.Contains(told, "| pager |") {
		t.Errorf("report: got\n%s", told)
	}
	if explained := s.want(exitOK, "explain", id, "--store", store); !strings.Contains(explained, string(decision.Breach)) || !strings.Contains(explained, "rule ") {
		t.Errorf("explain: got %s", explained)
	}
	s.want(exitOK, "history", id, "--store", store)
	s.want(exitOK, "audit", "verify", "--store", store)
	s.want(exitOK, "replay", id, "--store", store)
	s.want(exitRolledBack, "status", id, "--store", store)
	for _, file := range []string{"policies/recommendations.yaml", "belayd.yaml", "requests.log", "pages.log", "belayd.log"} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: got %v, %v, want it to stay", file, info, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "pager.secret"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "belayd.log"))
	if err != nil {
		t.Fatal(err)
	}
	if secret := strings.TrimSpace(string(b)); strings.Contains(string(log)+out, secret) {
		t.Error("the pager's secret shows in the log or on the screen")
	}
}

// In a real terminal of 80×24 watch is one screen that is redrawn in place, and
// what the shell prints next stands below it.
func TestWatchInTerminal(t *testing.T) {
	tmux := realtest.Program(t, "tmux")
	dir := t.TempDir()
	binary := realtest.Build(t, "belay")
	d := newFakeDaemon(t, baking())
	d.set(func() {
		d.entries = append(d.entries, decidedEntry(1, decision.Start, "It starts."))
		for range 5 {
			d.stream = append(d.stream, api.StreamEvent{Rollout: new(baking())}, api.StreamEvent{Rollout: new(rollingBack())})
		}
		d.stream = append(d.stream, api.StreamEvent{Rollout: new(promoted())})
	})
	session := []string{"-S", filepath.Join(dir, "tmux.sock"), "-f", "/dev/null"}
	script := binary + " watch " + baking().ID + " --server " + d.URL + "; echo code $?; sleep 60"
	execute(t, tmux, append(session, "new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", script)...)
	defer execute(t, tmux, append(session, "kill-server")...)
	var screen string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && !strings.Contains(screen, "code "); time.Sleep(50 * time.Millisecond) {
		screen = execute(t, tmux, append(session, "capture-pane", "-p")...)
	}
	for want, n := range map[string]int{baking().ID: 1, "promoted": 1, "rolling-back": 0, "weights": 1, "watch-through": 1, "code 0": 1} {
		if got := strings.Count(screen, want); got != n {
			t.Errorf("%q: got it %d times, want %d on\n%s", want, got, n, screen)
		}
	}
}
