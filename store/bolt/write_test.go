package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belayd/belay/store"
)

// heldCommits are commits that wait until a test lets them happen.
type heldCommits struct {
	began   chan int // the transaction that wants to commit
	release chan struct{}
	before  atomic.Bool // hold before the real commit, not after it
	off     atomic.Bool
}

func holdCommits() *heldCommits {
	return &heldCommits{began: make(chan int), release: make(chan struct{})}
}

func (h *heldCommits) commit(tx *bbolt.Tx) error {
	if h.off.Load() {
		return tx.Commit()
	}
	id := tx.ID()
	if h.before.Load() {
		h.began <- id
		<-h.release
		return tx.Commit()
	}
	err := tx.Commit()
	h.began <- id
	<-h.release
	return err
}

// While one append is being committed the others gather, and share the next
// transaction: a hundred appends cost two commits.
func TestGroupCommit(t *testing.T) {
	h := holdCommits()
	h.before.Store(true)
	o := testOptions()
	o.hooks.commit = h.commit
	s := opened(t, newPath(t), o)
	var wg sync.WaitGroup
	revisions := make([]store.Revision, 100)
	submit := func(i int) {
		wg.Go(func() {
			var err error
			if revisions[i], err = s.Append(t.Context(), fmt.Sprint("k/", i), []byte("e"), []byte("s"), 0); err != nil {
				t.Errorf("Append %d: %v", i, err)
			}
		})
	}
	submit(0)
	<-h.began
	for i := 1; i < 100; i++ {
		submit(i)
	}
	for len(s.queue) < 99 {
		yield()
	}
	h.release <- struct{}{}
	<-h.began
	if n := len(s.queue); n != 0 {
		t.Errorf("the second commit left %d writes in the queue, want 0", n)
	}
	h.release <- struct{}{}
	wg.Wait()
	seen := make(map[store.Revision]bool)
	for i, r := range revisions {
		if r == 0 || seen[r] {
			t.Errorf("append %d: got revision %d, want one of its own", i, r)
		}
		seen[r] = true
	}
}

// A group has more writes than one for the same key, each compared with what
// the ones before it left: the winner's successor follows in the same commit.
func TestGroupComparesEachWrite(t *testing.T) {
	s := opened(t, newPath(t), testOptions())
	group := []*write{
		newAppend("a", []byte("1"), nil, 0),
		newAppend("a", []byte("other 1"), nil, 0),
		newAppend("a", []byte("2"), nil, 1),
		newDelete("a", 1),
		newDelete("a", 2),
		newDelete("a", 2),
		newAppend("a", []byte("again"), nil, 0),
	}
	// The writer is idle, so the test may take its place.
	s.commitGroup(group)
	var got []string
	for _, w := range group {
		r := <-w.done
		switch {
		case errors.Is(r.err, store.ErrConflict):
			got = append(got, "conflict")
		case errors.Is(r.err, store.ErrNotFound):
			got = append(got, "not found")
		case r.err != nil:
			got = append(got, r.err.Error())
		default:
			got = append(got, fmt.Sprint(r.revision))
		}
	}
	if got, want := strings.Join(got, ", "), "1, conflict, 2, conflict, 0, not found, 3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A caller who leaves while its append waits takes it back; one who leaves
// while it is being committed cannot know.
func TestContextEndsUnderWay(t *testing.T) {
	h := holdCommits()
	o := testOptions()
	o.hooks.commit = h.commit
	s := opened(t, newPath(t), o)

	flying, stopFlying := context.WithCancel(t.Context())
	queued, stopQueued := context.WithCancel(t.Context())
	type outcome struct{ err error }
	inFlight, inQueue := make(chan outcome, 1), make(chan outcome, 1)
	go func() {
		_, err := s.Append(flying, "flying", []byte("e"), []byte("s"), 0)
		inFlight <- outcome{err}
	}()
	<-h.began
	go func() {
		_, err := s.Append(queued, "queued", []byte("e"), []byte("s"), 0)
		inQueue <- outcome{err}
	}()
	for len(s.queue) == 0 {
		yield()
	}
	stopFlying()
	stopQueued()
	if o := <-inFlight; !errors.Is(o.err, store.ErrUnknown) || !errors.Is(o.err, context.Canceled) {
		t.Errorf("Append in flight: got error %v, want %v and %v", o.err, store.ErrUnknown, context.Canceled)
	}
	if o := <-inQueue; !errors.Is(o.err, context.Canceled) || errors.Is(o.err, store.ErrUnknown) {
		t.Errorf("Append in the queue: got error %v, want only %v", o.err, context.Canceled)
	}
	h.off.Store(true)
	h.release <- struct{}{}
	if _, err := s.Head(t.Context(), "flying"); err != nil {
		t.Errorf("Head of the one in flight: got error %v, want none: it was committed", err)
	}
	if _, err := s.Append(t.Context(), "next", nil, nil, 0); err != nil {
		t.Fatalf("Append: %v", err)
	}
	if _, err := s.Head(t.Context(), "queued"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Head of the one taken back: got error %v, want %v", err, store.ErrNotFound)
	}
}

// bbolt shows a transaction before its last fdatasync. A reader must not see
// it then: a power cut could still take it back.
func TestReadsOnlyWhatIsOnDisk(t *testing.T) {
	for _, mutant := range []bool{false, true} {
		t.Run(fmt.Sprintf("mutant %t", mutant), func(t *testing.T) {
			h := holdCommits()
			o := testOptions()
			o.hooks.commit, o.hooks.readSoon = h.commit, mutant
			s := opened(t, newPath(t), o)
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := s.Append(t.Context(), "a", []byte("e"), []byte("s"), 0); err != nil {
					t.Errorf("Append: %v", err)
				}
			})
			<-h.began // It is in the file, and Append has not returned.
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			busy, _ := s.transactOnce(func(*bbolt.Tx, layout) error { return nil })
			if saw := busy == nil; saw != mutant {
				t.Errorf("a read during the commit: got it at once %t, want %t", saw, mutant)
			}
			if err := s.view(ctx, func(layout) error { return nil }); !errors.Is(err, context.Canceled) {
				t.Errorf("a read that waits, its context ended: got error %v, want %v", err, context.Canceled)
			}
			h.release <- struct{}{}
			wg.Wait()
			if _, err := s.Head(t.Context(), "a"); err != nil {
				t.Errorf("Head after the commit: %v", err)
			}
		})
	}
}

// What a failed commit means: only a full disk, and only if the file has
// nothing of the transaction, is survived. The rest breaks the store, for those
// under way with an unknown outcome, and a new process reads what is there.
func TestCommitFails(t *testing.T) {
	full := func(errno syscall.Errno) error { return &fs.PathError{Op: "write", Path: "belay.db", Err: errno} }
	for _, test := range []struct {
		story   string
		first   bool // the real commit happens first
		err     error
		want    []error
		broken  bool
		written bool
	}{
		{"no space for a page", false, full(syscall.ENOSPC), []error{store.ErrFull}, false, false},
		{"the file may not grow", false, full(syscall.EFBIG), []error{store.ErrFull}, false, false},
		{"the quota is used up", false, full(syscall.EDQUOT), []error{store.ErrFull}, false, false},
		{"the file cannot be made longer", false, errors.New("file resize error: truncate belay.db: file too large"), []error{store.ErrFull}, false, false},
		{"no space, but the meta page has it", true, full(syscall.ENOSPC), []error{store.ErrUnknown, store.ErrBroken}, true, true},
		{"no space at a sync", false, syscall.ENOSPC, []error{store.ErrUnknown, store.ErrBroken}, true, false},
		{"the first sync fails", false, syscall.EIO, []error{store.ErrUnknown, store.ErrBroken}, true, false},
		{"the second sync fails", true, syscall.EIO, []error{store.ErrUnknown, store.ErrBroken}, true, true},
		{"a write fails", false, full(syscall.EIO), []error{store.ErrUnknown, store.ErrBroken}, true, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			o := testOptions()
			var failing atomic.Bool
			o.hooks.commit = func(tx *bbolt.Tx) error {
				switch {
				case !failing.Load():
					return tx.Commit()
				case test.first:
					if err := tx.Commit(); err != nil {
						t.Errorf("Commit: %v", err)
					}
				default:
					if err := tx.Rollback(); err != nil {
						t.Errorf("Rollback: %v", err)
					}
				}
				return test.err
			}
			path := newPath(t)
			s := opened(t, path, o)
			first, err := s.Append(t.Context(), "a", []byte("1"), []byte("s1"), 0)
			if err != nil {
				t.Fatalf("Append: %v", err)
			}
			failing.Store(true)
			_, err = s.Append(t.Context(), "a", []byte("2"), []byte("s2"), first)
			for _, want := range test.want {
				if !errors.Is(err, want) {
					t.Errorf("Append: got error %v, want %v", err, want)
				}
			}
			failing.Store(false)
			if test.broken {
				checkBroken(t, s, first)
			} else if _, err := s.Append(t.Context(), "a", []byte("3"), []byte("s3"), first); err != nil {
				t.Errorf("Append with room again: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			r, err := opened(t, path, testOptions()).Head(t.Context(), "a")
			if want := map[bool]string{true: "2", false: "1"}[test.written]; test.broken && (err != nil || string(r.Entry) != want) {
				t.Errorf("Head in a new process: got %q, %v; want %q", r.Entry, err, want)
			}
		})
	}
}

// checkBroken expects every call of a broken store to say so.
func checkBroken(t *testing.T, s *Store, head store.Revision) {
	t.Helper()
	select {
	case <-s.Broken():
	default:
		t.Error("Broken: got open, want closed")
	}
	for name, call := range map[string]func() error{
		"Append":  func() error { _, err := s.Append(t.Context(), "a", nil, nil, head); return err },
		"Delete":  func() error { return s.Delete(t.Context(), "a", head) },
		"Head":    func() error { _, err := s.Head(t.Context(), "a"); return err },
		"Backup":  func() error { return s.Backup(t.Context(), newPath(t)) },
		"Err":     s.Err,
		"Heads":   func() error { return lastError(s.Heads(t.Context(), "")) },
		"History": func() error { return lastError(s.History(t.Context(), "a")) },
		"Since":   func() error { return lastError(s.Since(t.Context(), "", 0)) },
	} {
		if err := call(); !errors.Is(err, store.ErrBroken) || errors.Is(err, store.ErrUnknown) {
			t.Errorf("%s of a broken store: got error %v, want only %v", name, err, store.ErrBroken)
		}
	}
}

// The queue is bounded, and a caller it has no room for waits with its context.
func TestQueueIsBounded(t *testing.T) {
	h := holdCommits()
	o := testOptions()
	o.hooks.commit = h.commit
	s := opened(t, newPath(t), o)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	var withdrawn atomic.Int32
	wg.Go(func() {
		if _, err := s.Append(t.Context(), "first", nil, nil, 0); err != nil {
			t.Errorf("Append: %v", err)
		}
	})
	<-h.began
	const more = 50
	for i := range queueLen + more {
		wg.Go(func() {
			_, err := s.Append(ctx, fmt.Sprint("k/", i), nil, nil, 0)
			if errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrUnknown) {
				withdrawn.Add(1)
				return
			}
			t.Errorf("Append %d: got error %v, want only %v", i, err, context.Canceled)
		})
	}
	for len(s.queue) < queueLen {
		yield()
	}
	cancel()
	for withdrawn.Load() < queueLen+more {
		yield()
	}
	h.off.Store(true)
	h.release <- struct{}{}
	wg.Wait()
	if err := lastError(s.Heads(t.Context(), "k/")); err != nil {
		t.Errorf("Heads: %v", err)
	}
	for r := range s.Heads(t.Context(), "k/") {
		t.Errorf("got %s, which was withdrawn", r.Key)
	}
}

// yield lets other goroutines go on while a test waits for a condition; the
// test's own deadline bounds the wait.
func yield() {
	runtime.Gosched()
	time.Sleep(100 * time.Microsecond)
}

// lastError is the error that the iterator ends with.
func lastError(records iter.Seq2[store.Record, error]) error {
	var last error
	for _, err := range records {
		last = err
	}
	return last
}
