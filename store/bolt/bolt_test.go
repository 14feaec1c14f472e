package bolt

import (
	"path/filepath"
	"testing"

	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/storetest"
)

// testOptions are those of a small store that tests open often.
func testOptions() Options {
	return Options{Reserve: -1}
}

// opened opens the store at path, checked by bbolt itself at every commit, and
// closes it with the test.
func opened(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	s.db.StrictMode = true
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "belay.db") }

// The store in a file means what every store means.
func TestExercise(t *testing.T) {
	storetest.Exercise(t, func(t *testing.T) store.Store {
		return opened(t, newPath(t), testOptions())
	})
}

// What was written is there after the store is opened again.
func TestExerciseReopen(t *testing.T) {
	storetest.ExerciseReopen(t, func(t *testing.T, dir string) store.Store {
		return opened(t, filepath.Join(dir, "belay.db"), testOptions())
	})
}
