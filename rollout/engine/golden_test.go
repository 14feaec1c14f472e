package engine

import (
	"path/filepath"
	"testing"

	"github.com/belayd/belay/rollout/realtest/goldentest"
)

// golden compares with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	goldentest.Check(t, filepath.Join("testdata", name), string(got))
}
