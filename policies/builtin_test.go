package policies

import (
	"testing"

	"github.com/belayd/belay/policies/document"
)

// Every ready-made metric follows the rules of the language.
func TestBuiltins(t *testing.T) {
	refs := Builtins()
	if len(refs) < 15 {
		t.Errorf("got %d ready-made metrics, want at least 15: %v", len(refs), refs)
	}
	entries, err := builtinFiles.ReadDir("builtin")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := builtinFiles.ReadFile("builtin/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		var f builtinFamily
		if ps := document.Decode(e.Name(), data, &f); len(ps) > 0 {
			t.Errorf("%s has problems:\n%s", e.Name(), ps.Text())
		}
		if f.Family+".yaml" != e.Name() {
			t.Errorf("%s: got family %q", e.Name(), f.Family)
		}
	}
	for _, ref := range refs {
		b, ok := FindBuiltin(ref)
		if !ok || b.metric().Kind() == "" || len(b.Sources) == 0 {
			t.Errorf("%s: got no definition", ref)
		}
	}
}
