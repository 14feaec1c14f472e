//go:build unix

package realtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// builds are the programs that this process has built, by their path, each once.
var builds sync.Map

// Build is the path of one of the house's own programs, built with these tags: belay or
// belayd. It is linked once for the tests of all packages, into .bin/test, and again when
// the code has changed; what the path names stays as it is until the test ends.
func Build(t testing.TB, name string, tags ...string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "..", "..")
	built := filepath.Join(root, ".bin", "test", strings.Join(append([]string{name}, tags...), "-"))
	once, _ := builds.LoadOrStore(built, sync.OnceValue(func() error { return build(root, built, name, tags) }))
	if err := once.(func() error)(); err != nil { //nolint:forcetypeassert // the map holds nothing else
		t.Fatalf("build %s: %v", name, err)
	}
	own := filepath.Join(t.TempDir(), name)
	if os.Link(built, own) == nil {
		return own
	}
	text, err := os.ReadFile(built) // on another file system
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, text, 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	return own
}

// build builds a program while no other process does.
func build(root, built, name string, tags []string) error {
	if err := os.MkdirAll(filepath.Dir(built), 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(built+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	// With the flags of `go test`, whose packages are compiled already.
	// a test's words
	cmd := exec.Command("go", "build", "-tags", strings.Join(tags, ","), "-o", built, "./cmd/"+name) //nolint:gosec
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
