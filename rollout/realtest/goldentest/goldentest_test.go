package goldentest

import (
	"fmt"
	"path/filepath"
	"testing"
)

// A teller notes whether a test failed.
type teller struct {
	testing.TB
	failed bool
}

func (t *teller) Helper()               {}
func (t *teller) Errorf(string, ...any) { t.failed = true }
func (t *teller) Fatal(a ...any)        { t.failed = true; panic(fmt.Sprint(a...)) }

// A difference fails, a file that is missing fails, and what was rewritten does not.
func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "some", "text.txt")
	check := func(got string, rewrite bool) (failed bool) {
		*update = rewrite
		defer func() { *update, _ = false, recover() }()
		one := &teller{TB: t}
		defer func() { failed = one.failed }()
		Check(one, file, got)
		return
	}
	for _, c := range []struct {
		got     string
		rewrite bool
		fails   bool
	}{{"a\n", false, true}, {"a\n", true, false}, {"a\n", false, false}, {"b\n", false, true}, {"b\n", true, false}, {"b\n", false, false}} {
		if failed := check(c.got, c.rewrite); failed != c.fails {
			t.Errorf("%+v: failed is %t", c, failed)
		}
	}
}
