package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/store"
)

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// names are the files beside a store's.
func names(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// A new store is one file for its owner alone, and a reserve.
func TestCreate(t *testing.T) {
	path := newPath(t)
	opened(t, path, Options{Reserve: 1 << 20})
	if got, want := fmt.Sprint(names(t, path)), "[belay.db belay.db.reserve]"; got != want {
		t.Errorf("got the files %s, want %s", got, want)
	}
	for _, name := range []string{path, path + ".reserve"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got mode %v, %v; want 0600", name, info.Mode(), err)
		}
	}
	own := filepath.Join(t.TempDir(), "own", "belay.db")
	opened(t, own, testOptions())
	if info, err := os.Stat(filepath.Dir(own)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder that was made: got mode %v, %v; want 0700", info.Mode(), err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "no", "where", "belay.db"), testOptions()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "must exist") {
		t.Errorf("Open below a folder that is missing: got error %v, want %v that says so", err, fs.ErrNotExist)
	}
}

// Where others may put files, or have put a link in the place of one, nothing is
// written: a link would have its target overwritten.
func TestUnsafe(t *testing.T) {
	refused := func(what, path, remedy string) {
		t.Helper()
		s, err := Open(path, Options{Reserve: 1 << 20})
		if err == nil {
			_ = s.Close() // it should not be there
		}
		if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%s: got error %v, want %v with %q", what, err, ErrUnsafe, remedy)
		}
	}
	for _, mode := range []fs.FileMode{0o777, 0o777 | fs.ModeSticky, 0o702} {
		path := newPath(t)
		if err := os.Chmod(filepath.Dir(path), mode); err != nil { //nolint:gosec // that is the point
			t.Fatal(err)
		}
		refused(fmt.Sprintf("a folder of mode %v", mode), path, "chmod o-w "+filepath.Dir(path))
		if left := names(t, path); len(left) > 0 {
			t.Errorf("a folder of mode %v: got the files %v in it, want none", mode, left)
		}
	}

	target := filepath.Join(t.TempDir(), "precious")
	for _, name := range []string{"belay.db", "belay.db.reserve"} {
		path := newPath(t)
		if err := errors.Join(os.WriteFile(target, []byte("precious"), 0o600), os.Symlink(target, filepath.Join(filepath.Dir(path), name))); err != nil {
			t.Fatal(err)
		}
		refused("a link at "+name, path, "is a link")
		if b, err := os.ReadFile(target); err != nil || string(b) != "precious" {
			t.Errorf("a link at %s: its target holds %.20q, %v; want it as it was", name, b, err)
		}
	}

	path := newPath(t)
	if err := os.Mkdir(path+".reserve", 0o700); err != nil {
		t.Fatal(err)
	}
	refused("a folder at the reserve", path, "is no regular file")
}

// A link that takes the reserve's place later is neither written through nor cut.
func TestReserveBecomesALink(t *testing.T) {
	path := newPath(t)
	s := opened(t, path, Options{Reserve: 1 << 20})
	target := filepath.Join(t.TempDir(), "precious")
	if err := errors.Join(os.WriteFile(target, []byte("precious"), 0o600), os.Remove(path+".reserve"), os.Symlink(target, path+".reserve")); err != nil {
		t.Fatal(err)
	}
	if s.reserve.release(4) {
		t.Error("the reserve was cut, want nothing given back")
	}
	if err := s.reserve.take(); !errors.Is(err, ErrUnsafe) {
		t.Errorf("take: got error %v, want %v", err, ErrUnsafe)
	}
	if b, err := os.ReadFile(target); err != nil || string(b) != "precious" {
		t.Errorf("the link's target holds %.20q, %v; want it as it was", b, err)
	}
}

// A named pipe in the store's place is refused at once, also by who only reads.
func TestPipe(t *testing.T) {
	path := newPath(t)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		realtest.Missing(t, "no named pipes here: %v", err)
	}
	for what, open := range map[string]func() error{
		"Open":      func() error { _, err := Open(path, testOptions()); return err },
		"read-only": func() error { _, err := Open(path, Options{ReadOnly: true}); return err },
	} {
		if err := open(); !errors.Is(err, ErrUnsafe) && !errors.Is(err, ErrForeign) {
			t.Errorf("%s: got error %v, want it refused", what, err)
		}
	}
}

// Several processes may start at once where there is no file yet: one gets it,
// and no file is replaced by another one's.
func TestCreateAtOnce(t *testing.T) {
	for range 10 {
		path := newPath(t)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				s, err := Open(path, Options{Reserve: -1, Timeout: 20 * time.Second})
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				if _, err := s.Append(t.Context(), fmt.Sprint("by/", i), nil, nil, 0); err != nil {
					t.Errorf("Append: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
		wg.Wait()
		if got := strings.Count(dumped(t, opened(t, path, testOptions())), "by/"); got != 2*6 {
			t.Errorf("got %d lines about the six writers, want all 12: a file was replaced", got)
		}
	}
}

// The file belongs to one process; the error says whom to ask.
func TestLock(t *testing.T) {
	path := newPath(t)
	s := opened(t, path, testOptions())
	short := Options{Reserve: -1, Timeout: 120 * time.Millisecond}
	if _, err := Open(path, short); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "fuser -v "+path) {
		t.Errorf("Open of an open store: got error %v, want %v with a remedy", err, ErrInUse)
	}
	short.ReadOnly = true
	if _, err := Open(path, short); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "ask the belayd that runs") {
		t.Errorf("Open to read an open store: got error %v, want %v with a remedy", err, ErrInUse)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	opened(t, path, testOptions())
}

// The file of a daemon that was stopped can be read by several at once, and
// only read. A daemon waits for them.
func TestReadOnly(t *testing.T) {
	filled := filled(t)
	before, err := os.ReadFile(filled.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filled.path, 0o400); err != nil {
		t.Fatal(err)
	}
	one, two := opened(t, filled.path, Options{ReadOnly: true}), opened(t, filled.path, Options{ReadOnly: true})
	if dumped(t, one) != filled.now || dumped(t, two) != filled.now {
		t.Error("got another content than was written")
	}
	if _, err := one.Append(t.Context(), "a", nil, nil, 0); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Append: got error %v, want %v", err, ErrReadOnly)
	}
	if err := one.Delete(t.Context(), "rollout/001", 1); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Delete: got error %v, want %v", err, ErrReadOnly)
	}
	if err := one.Backup(t.Context(), filled.path+".copy"); err != nil {
		t.Errorf("Backup: %v", err)
	}
	if err := os.Chmod(filled.path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filled.path, Options{Reserve: -1, Timeout: time.Millisecond}); !errors.Is(err, ErrInUse) {
		t.Errorf("Open to write while it is read: got error %v, want %v", err, ErrInUse)
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := one.Head(t.Context(), "rollout/001"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Head of a closed store: got error %v, want %v", err, store.ErrClosed)
	}
	after, err := os.ReadFile(filled.path)
	if err != nil || string(after) != string(before) {
		t.Errorf("the file after it was read: got other bytes, %v; want it untouched", err)
	}
	missing := newPath(t)
	if _, err := Open(missing, Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) || len(names(t, missing)) != 0 {
		t.Errorf("Open to read what is missing: got error %v and the files %v, want %v and none", err, names(t, missing), fs.ErrNotExist)
	}
}

// makeSparse writes a store most of which has been deleted, and returns what is
// left in it.
func makeSparse(t *testing.T, path string) string {
	t.Helper()
	s := opened(t, path, testOptions())
	var appends, deletes []*write
	for i := range 400 {
		appends = append(appends, newAppend(fmt.Sprint("k/", i), []byte("e"), make([]byte, 10_000), 0))
	}
	s.commitGroup(appends) // The writer is idle.
	for i, w := range appends {
		r := <-w.done
		if r.err != nil {
			t.Fatal(r.err)
		}
		if i >= 20 {
			deletes = append(deletes, newDelete(string(w.key), r.revision))
		}
	}
	s.commitGroup(deletes)
	for _, w := range deletes {
		if r := <-w.done; r.err != nil {
			t.Fatal(r.err)
		}
	}
	dump := dumped(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dump
}

// A file that is mostly free is made small when it is opened, and is the same
// store: revisions go on where they were.
func TestCompact(t *testing.T) {
	path := newPath(t)
	dump := makeSparse(t, path)
	link := filepath.Join(t.TempDir(), "link") // a folder may be one, a store may not
	if err := os.Symlink(filepath.Dir(path), link); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// What a compaction that was killed left behind does not matter.
	if err := os.WriteFile(path+".compact", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	s := opened(t, filepath.Join(link, filepath.Base(path)), Options{Reserve: -1, Logger: textLogger(&log)})
	after, err := os.Stat(path)
	if err != nil || after.Size() > before.Size()/2 || after.Mode().Perm() != 0o600 {
		t.Errorf("got %d bytes and mode %v after %d, %v; want less than half and 0600", after.Size(), after.Mode(), before.Size(), err)
	}
	if got := dumped(t, s); got != dump {
		t.Errorf("got another content after the compaction")
	}
	if r, err := s.Append(t.Context(), "next", nil, nil, 0); err != nil || r != 401 {
		t.Errorf("Append: got revision %d, %v; want 401", r, err)
	}
	if !strings.Contains(log.String(), "store compacted") || fmt.Sprint(names(t, path)) != "[belay.db]" {
		t.Errorf("got the log %q and the files %v, want a compaction and no leftovers", &log, names(t, path))
	}
	if _, err := Open(path, Options{Reserve: -1, Timeout: time.Millisecond}); !errors.Is(err, ErrInUse) {
		t.Errorf("Open of the compacted store: got error %v, want %v", err, ErrInUse)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := log.Len()
	opened(t, path, Options{Reserve: -1, Logger: textLogger(&log)})
	if log.Len() != again {
		t.Errorf("opened again: got the log %q, want nothing more", &log)
	}
}

// A backup taken while writers write is a store of one instant: whatever it
// has of a later write, it has of the earlier ones.
func TestBackup(t *testing.T) {
	path := newPath(t)
	s := opened(t, path, testOptions())
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			var a, b store.Revision
			for i := 0; ctx.Err() == nil; i++ {
				var err error
				if a, err = s.Append(t.Context(), fmt.Sprint("a/", w), fmt.Append(nil, i), make([]byte, 3000), a); err != nil {
					t.Errorf("Append: %v", err)
					return
				}
				if b, err = s.Append(t.Context(), fmt.Sprint("b/", w), fmt.Append(nil, i), make([]byte, 3000), b); err != nil {
					t.Errorf("Append: %v", err)
					return
				}
			}
		})
	}
	for i := range 5 {
		copied := filepath.Join(t.TempDir(), "copy.db")
		if err := s.Backup(t.Context(), copied); err != nil {
			t.Fatalf("Backup %d: %v", i, err)
		}
		if got := fmt.Sprint(names(t, copied)); got != "[copy.db]" {
			t.Errorf("got the files %s, want only the copy", got)
		}
		checkBackup(t, opened(t, copied, testOptions()))
	}
	stop()
	wg.Wait()

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	elsewhere := newPath(t)
	for _, test := range []struct {
		story string
		ctx   context.Context
		path  string
		want  error
	}{
		{"onto the store itself", t.Context(), path, fs.ErrExist},
		{"into a directory that is missing", t.Context(), filepath.Join(t.TempDir(), "no", "copy.db"), fs.ErrNotExist},
		{"for a caller who has gone", ended, elsewhere, context.Canceled},
	} {
		if err := s.Backup(test.ctx, test.path); !errors.Is(err, test.want) {
			t.Errorf("Backup %s: got error %v, want %v", test.story, err, test.want)
		}
	}
	if got := names(t, elsewhere); len(got) != 0 {
		t.Errorf("a backup that failed: got the files %v, want none", got)
	}
}

// Close does not wait for a backup that takes its time.
func TestBackupEndsWithStore(t *testing.T) {
	s := opened(t, filled(t).path, testOptions())
	begun := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- s.copyTo(t.Context(), slowWriter{begun, s.closing}) }()
	<-begun
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-ended; !errors.Is(err, store.ErrClosed) {
		t.Errorf("the backup: got error %v, want %v", err, store.ErrClosed)
	}
}

// A slowWriter says that it has begun and takes until the store is closed.
type slowWriter struct {
	begun   chan<- struct{}
	closing <-chan struct{}
}

func (w slowWriter) Write(p []byte) (int, error) {
	w.begun <- struct{}{}
	<-w.closing
	return len(p), nil
}

// checkBackup expects of each writer as many records of a as of b, or one more.
func checkBackup(t *testing.T, s *Store) {
	t.Helper()
	counts := make(map[string]int)
	for r, err := range s.Since(t.Context(), "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(r.Entry), fmt.Sprint(counts[r.Key]); got != want {
			t.Fatalf("%s: got entry %s, want %s", r.Key, got, want)
		}
		counts[r.Key]++
	}
	for w := range 4 {
		if a, b := counts[fmt.Sprint("a/", w)], counts[fmt.Sprint("b/", w)]; a != b && a != b+1 {
			t.Errorf("writer %d: got %d records of a and %d of b, want as many or one more", w, a, b)
		}
	}
}
