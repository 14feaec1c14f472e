// Package goldentest compares what a test got with a file that somebody has looked at, and
// rewrites the file with -update. Only tests import it.
package goldentest

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files; look at the difference before it is committed")

// Update reports whether files are to be rewritten.
func Update() bool { return *update }

// Check compares text with a file, by its path from the test's folder.
func Check(t testing.TB, file, got string) {
	t.Helper()
	if *update {
		// #nosec G301 G306 -- they are there to be read, references by users
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", file, d)
	}
}
