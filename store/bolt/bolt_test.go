package bolt

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/storetest"
)

// mutantEnv names the mutant that all stores of a child process are.
const mutantEnv = "BELAY_BOLT_MUTANT"

// mutants are stores with one protection removed.
var mutants = map[string]hooks{
	"no compare before the swap": {noCAS: true},
	"answer before the commit":   {ackEarly: true},
	"history outlives delete":    {keepLog: true},
	"revisions given again":      {next: afterLast},
	"commits forgotten":          {commit: (*bbolt.Tx).Rollback},
}

// afterLast is a sequence that forgets what was deleted.
func afterLast(log *bbolt.Bucket) (uint64, error) {
	last, _ := log.Cursor().Last()
	if last == nil {
		return 1, log.SetSequence(1)
	}
	next := binary.BigEndian.Uint64(last) + 1
	return next, log.SetSequence(next)
}

// testOptions are those of a small store that tests open often.
func testOptions() Options {
	return Options{Reserve: -1, hooks: mutants[os.Getenv(mutantEnv)]}
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

// Each protection removed must be missed by the conformance tests, in a child
// process.
func TestMutants(t *testing.T) {
	if os.Getenv(mutantEnv) != "" {
		return // this is the child
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for mutant := range mutants {
		t.Run(mutant, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestExercise$/^(compare|append|delete|revisions)|^TestExerciseReopen$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), mutantEnv+"="+mutant)
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed || !strings.Contains(string(out), "--- FAIL: TestExercise") {
				t.Errorf("%s: got %v and\n%s\nwant the tests to fail", mutant, err, out)
			}
		})
	}
}
