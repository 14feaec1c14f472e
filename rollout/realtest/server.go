package realtest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A Server is a real program that serves HTTP at an address of its own, which it keeps
// when it is killed and started again.
type Server struct {
	// URL is where it serves, without a path.
	URL string

	t       testing.TB
	ready   string // the path that answers once it can serve
	config  string // its file, where it has one
	program string
	args    []string
	cmd     *exec.Cmd
}

// Serve starts a program of PATH, which ends with the test: args are its arguments when
// it listens on an address, and a GET of the path ready is answered once it serves.
func Serve(t testing.TB, name, ready string, args func(address string) []string) *Server {
	t.Helper()
	s := &Server{t: t, ready: ready, program: Program(t, name)}
	address := Address(t)
	s.URL, s.args = "http://"+address, args(address)
	s.Start()
	return s
}

// Prometheus serves with a config and more arguments, out of a folder of its own unless
// they name one.
func Prometheus(t testing.TB, config string, args ...string) *Server {
	t.Helper()
	const storage = "--storage.tsdb.path="
	if !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, storage) }) {
		args = append([]string{storage + t.TempDir()}, args...)
	}
	return configured(t, "prometheus", config, args)
}

// Alertmanager serves with a config, out of the cluster.
func Alertmanager(t testing.TB, config string) *Server {
	t.Helper()
	return configured(t, "prometheus-alertmanager", config,
		[]string{"--storage.path=" + t.TempDir(), "--cluster.listen-address="})
}

// configured starts one of Prometheus' programs with a file of config.
func configured(t testing.TB, name, config string, args []string) *Server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Serve(t, name, "/-/ready", func(address string) []string {
		return append([]string{"--config.file=" + file, "--web.listen-address=" + address}, args...)
	})
	s.config = file
	return s
}

// Reload gives one of Prometheus' programs another config.
func (s *Server) Reload(config string) {
	s.t.Helper()
	if err := errors.Join(os.WriteFile(s.config, []byte(config), 0o600),
		s.cmd.Process.Signal(syscall.SIGHUP)); err != nil {
		s.t.Fatal(err)
	}
}

// Start starts it and waits until it serves.
func (s *Server) Start() {
	s.t.Helper()
	s.cmd = exec.Command(s.program, s.args...) //nolint:gosec // the test's own program
	said := &bytes.Buffer{}
	s.cmd.Stdout, s.cmd.Stderr = said, said
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd := s.cmd
	s.t.Cleanup(func() {
		s.Kill()
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", cmd.Path, said)
		}
	})
	Ready(s.t, s.URL+s.ready)
}

// Kill ends it as kill -9 does; one that has ended stays so.
func (s *Server) Kill() {
	if s.cmd != nil && s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait() // as it was killed
	}
}

// Pid is its process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }
