package storetest

import (
	"fmt"
	"testing"

	"github.com/belayd/belay/store"
)

// ExerciseReopen runs the tests of what outlives a Close. open returns the
// store that is kept in dir, a new directory of the test's; the tests close it
// before they open it again.
func ExerciseReopen(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	t.Helper()
	t.Run("reopen", func(t *testing.T) { reopen(t, t.TempDir(), open) })
	t.Run("reopen after delete", func(t *testing.T) { reopenAfterDelete(t, t.TempDir(), open) })
}

// Everything is as it was left, byte for byte, and goes on from there.
func reopen(t *testing.T, dir string, open func(*testing.T, string) store.Store) {
	s := open(t, dir)
	last := make(map[string]store.Revision)
	for i := range 50 {
		key := fmt.Sprint("k/", i%5)
		last[key] = put(t, s, key, fmt.Sprint("entry ", i), fmt.Sprint("state ", i), last[key])
		if i%10 == 9 {
			before := all(t, s.Since(t.Context(), "", 0))
			if err := s.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			s = open(t, dir)
			same(t, fmt.Sprintf("Since(0) after reopening at %d", i), all(t, s.Since(t.Context(), "", 0)), before)
		}
	}
	if got := len(all(t, s.Since(t.Context(), "", 0))); got != 50 {
		t.Errorf("Since: got %d records, want 50", got)
	}
	_, err := s.Append(t.Context(), "k/1", nil, nil, last["k/1"]-1)
	want(t, "Append after an old revision", err, store.ErrConflict)
}

// The revisions of a deleted key are not given again, although nothing in the
// store has them any more.
func reopenAfterDelete(t *testing.T, dir string, open func(*testing.T, string) store.Store) {
	s := open(t, dir)
	first := put(t, s, "stays", "1", "s", 0)
	gone := put(t, s, "goes", "1", "s", 0)
	gone = put(t, s, "goes", "2", "s", gone)
	if err := s.Delete(t.Context(), "goes", gone); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	s = open(t, dir)
	next := put(t, s, "stays", "2", "s", first)
	if next <= gone {
		t.Errorf("append after reopening: got revision %d, want one after the deleted %d", next, gone)
	}
	_, err := s.Head(t.Context(), "goes")
	want(t, "Head of the deleted key", err, store.ErrNotFound)
}
