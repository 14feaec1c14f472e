package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
)

// systemd, played by the test, hears that belayd is ready, that it lives as long
// as it does, and that it stops; a signal ends it with 0.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	binary := realtest.Build(t, "belayd")
	config := filepath.Join(dir, "belayd.yaml")
	text := "listen: 127.0.0.1:0\nstore: {bolt: {path: belay.db}}\npolicies: [p.yaml]\nsources: {pods: {scrape: {targets: {recs: {blue: [\"http://127.0.0.1:1/\"]}}}}}\n" +
		"routers: {edge: {webhook: {url: \"http://127.0.0.1:1\"}}}\nnotifiers: {hook: {alertmanager: {url: \"http://127.0.0.1:1\"}}}\n"
	policy := "apiVersion: belay/v1\nkind: RolloutPolicy\nmetadata: {name: p, owner: team}\nspec:\n  endpoint: {router: edge, name: recs}\n  steps: [5%, 100%]\n  bake: 30m\n" +
		"  metrics: {failures: {source: pods, counts: {total: a, bad: b, deployment: deployment}}}\n  guardrails: [{name: failures, metric: failures, limit: \"<= 1%\"}]\n  page: [hook]\n"
	for name, b := range map[string]string{config: text, filepath.Join(dir, "p.yaml"): policy} {
		if err := os.WriteFile(name, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cmd := exec.Command(binary, "--config", config)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=200000")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	hear := func() string {
		b := make([]byte, 100)
		if err := l.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(b)
		if err != nil {
			select {
			case ended := <-ended:
				err = fmt.Errorf("%w; belayd ended: %w", err, ended)
			default:
			}
			t.Fatalf("hear: %v", err)
		}
		return string(b[:n])
	}
	if got := hear(); got != "READY=1" {
		t.Errorf("first: got %s, want READY=1", got)
	}
	for range 3 {
		if got := hear(); got != "WATCHDOG=1" {
			t.Errorf("then: got %s, want WATCHDOG=1", got)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	got := hear()
	for got == "WATCHDOG=1" {
		got = hear()
	}
	if got != "STOPPING=1" {
		t.Errorf("at the end: got %s, want STOPPING=1", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("exit: got %v, want 0\n%s", err, stderr.String())
	}
}

// Without systemd, or with a watchdog for somebody else, nothing beats.
func TestNoWatchdog(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	t.Setenv("WATCHDOG_USEC", "2000000")
	if got := newNotify().every(); got != time.Second {
		t.Errorf("got %s, want 1s", got)
	}
	t.Setenv("WATCHDOG_PID", "1")
	if got := newNotify().every(); got != 0 {
		t.Errorf("for process 1: got %s, want 0", got)
	}
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("NOTIFY_SOCKET", "")
	if got := newNotify().every(); got != 0 {
		t.Errorf("without a socket: got %s, want 0", got)
	}
}
