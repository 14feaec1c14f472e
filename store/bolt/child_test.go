package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/belayd/belay/store"
)

// Some faults need a process of their own. The test binary is then its own
// child, and childEnv says what it does instead of testing.
const (
	childEnv = "BELAY_BOLT_CHILD"
	pathEnv  = "BELAY_BOLT_PATH"
)

func TestMain(m *testing.M) {
	children := map[string]func(path string) error{
		"append":  func(path string) error { return appendForEver(path, false) },
		"no sync": func(path string) error { return appendForEver(path, true) },
		"open":    openAndClose,
		"limited": appendUntilLimited,
		"sync":    appendOnOneThread,
	}
	if run := children[os.Getenv(childEnv)]; run != nil {
		if err := run(os.Getenv(pathEnv)); err != nil {
			_, _ = fmt.Fprintln(os.Stdout, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is the test binary, about to do what childEnv says. before, if any, is
// the program that runs it.
func child(t *testing.T, what, path string, before ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(before, exe)
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+what, pathEnv+"="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// appendForEver has eight writers append and print each append that was
// acknowledged, until it is killed. Without sync it is a store that lies.
func appendForEver(path string, noSync bool) error {
	s, err := Open(path, testOptions())
	if err != nil {
		return err
	}
	s.db.NoSync = noSync // Before the first append, so the writer sees it.
	ctx := context.Background()
	errs := make(chan error)
	var mu sync.Mutex
	for w := range 8 {
		go func() {
			key := fmt.Sprint("k/", w)
			n, last := 0, store.Revision(0)
			for r, err := range s.History(ctx, key) {
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					errs <- err
					return
				}
				if err == nil {
					n, last = n+1, r.Revision
				}
			}
			for ; ; n++ {
				revision, err := s.Append(ctx, key, strconv.AppendInt(nil, int64(n), 10), make([]byte, 2000), last)
				if err != nil {
					errs <- err
					return
				}
				last = revision
				mu.Lock()
				_, err = fmt.Fprintf(os.Stdout, "%s %d %d\n", key, n, revision)
				mu.Unlock()
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

// appendUntilLimited appends until the limit on the size of files (setrlimit)
// stops it, then deletes and appends again.
func appendUntilLimited(path string) error {
	ctx := context.Background()
	s, err := Open(path, testOptions())
	if err != nil {
		return err
	}
	limit := syscall.Rlimit{Cur: 2 << 20, Max: 2 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	revisions := make(map[string]store.Revision)
	for i := 0; err == nil; i++ {
		key := fmt.Sprint("k/", i)
		var r store.Revision
		if r, err = s.Append(ctx, key, []byte("e"), make([]byte, 20_000), 0); err == nil {
			revisions[key] = r
		}
	}
	_, _ = fmt.Fprintln(os.Stdout, "stopped after", len(revisions), "appends:", err)
	if !errors.Is(err, store.ErrFull) {
		return fmt.Errorf("append beyond the limit: got error %w, want %w", err, store.ErrFull)
	}
	n := 0
	for _, err := range s.Heads(ctx, "k/") {
		if err != nil {
			return err
		}
		n++
	}
	if n != len(revisions) {
		return fmt.Errorf("heads of the full store: got %d, want %d", n, len(revisions))
	}
	for key, r := range revisions {
		if err := s.Delete(ctx, key, r); err != nil {
			return fmt.Errorf("delete in the full store: %w", err)
		}
	}
	if _, err := s.Append(ctx, "after", nil, make([]byte, 20_000), 0); err != nil {
		return fmt.Errorf("append with room again: %w", err)
	}
	return s.Close()
}

// appendOnOneThread appends three times. The writer stays on one thread, so
// that whoever counts the calls of a thread counts its syncs: two an append.
func appendOnOneThread(path string) error {
	ctx := context.Background()
	o := testOptions()
	var once sync.Once
	o.hooks.commit = func(tx *bbolt.Tx) error {
		once.Do(runtime.LockOSThread)
		return tx.Commit()
	}
	s, err := Open(path, o)
	if err != nil {
		return err
	}
	var last store.Revision
	for i := range 3 {
		r, err := s.Append(ctx, "a", strconv.AppendInt(nil, int64(i), 10), []byte("s"), last)
		_, _ = fmt.Fprintf(os.Stdout, "append %d: unknown %t broken %t eio %t %v\n", i, errors.Is(err, store.ErrUnknown), errors.Is(err, store.ErrBroken), errors.Is(err, syscall.EIO), err)
		if err == nil {
			last = r
		}
		_, err = s.Head(ctx, "a")
		_, _ = fmt.Fprintf(os.Stdout, "head %d: broken %t\n", i, errors.Is(err, store.ErrBroken))
	}
	return s.Close()
}

// openAndClose opens the store, which makes or compacts it, and says so.
func openAndClose(path string) error {
	s, err := Open(path, testOptions())
	if err != nil {
		return err
	}
	return s.Close()
}

// acknowledged is what a child that appends for ever printed: of each key the
// number of appends that it knows of.
func acknowledged(t *testing.T, line string, counts map[string]int) {
	t.Helper()
	key, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	number, _, ok2 := strings.Cut(rest, " ")
	n, err := strconv.Atoi(number)
	if !ok || !ok2 || err != nil {
		t.Fatalf("the child printed %q, want a key, a number and a revision", line)
	}
	counts[key] = n + 1
}
