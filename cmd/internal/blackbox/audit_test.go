package blackbox

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

// Somebody who may write the store's file, and knows its format, deletes a rollout,
// rewrites a journal with its whole chain, ends a cooldown, or puts an older copy
// back. Held against the head that belayd told while it ran, each is noticed; what
// nobody touched is as it was.
func TestAuditAgainstHead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newEndpoints(t, "recs"), "", policy("recs", "recs", "", "[{weight: 5%, bake: 1h}, {weight: 100%, bake: 1h}]"))
	w.write("token-viewer", tokenOf("viewer"))
	first := w.release("v1")
	realtest.Eventually(t, "the first rollout to have begun", func() bool { return w.rollout(first).Phase == "baking" })
	w.want(0, "", "rollback", first, "--reason", "as a person says")
	realtest.Eventually(t, "the first rollout to have ended", func() bool { return w.rollout(first).Phase.Terminal() })
	w.kill(syscall.SIGTERM)
	older := w.read("belay.db")
	w.start()
	second := w.release("v2")
	realtest.Eventually(t, "the second rollout to have begun", func() bool { return w.rollout(second).Phase == "baking" })
	head := strings.TrimSpace(w.want(0, "", "audit", "head"))
	w.want(0, "", "audit", "verify", "--against", head) // as it runs
	w.kill(syscall.SIGTERM)

	verify := func(file string) (int, string) {
		return w.run("", "audit", "verify", "--store", file, "--against", head)
	}
	if code, out := verify(filepath.Join(w.dir, "belay.db")); code != 0 || !strings.Contains(out, "all as at the head "+head) {
		t.Fatalf("the store as it is: got exit code %d, want 0: %s", code, out)
	}
	w.write("older.db", older)
	if code, out := verify(filepath.Join(w.dir, "older.db")); code != 1 || !strings.Contains(out, "no head at this revision") {
		t.Errorf("an older copy: got exit code %d, want 1 and that it ends before: %s", code, out)
	}
	for name, c := range map[string]struct {
		change func(rec store.Record) (entry, state []byte)
		says   string
	}{
		"nothing":              {same, "all as at the head"},
		"a rollout is deleted": {same, "there were 2 rollouts, of which it has 1"},
		"a journal and its whole chain are rewritten": {rewritten(t, "rollout/"+first), "what the head covers has changed"},
		"a cooldown is ended": {func(rec store.Record) ([]byte, []byte) {
			if strings.HasPrefix(rec.Key, "endpoint/") && rec.State != nil {
				return rec.Entry, bytes.Replace(rec.State, []byte(`"cooldowns"`), []byte(`"cooldown"`), 1)
			}
			return rec.Entry, rec.State
		}, "cooldowns, the last split) is not what its entries lead to"},
	} {
		file := filepath.Join(t.TempDir(), "belay.db")
		anew := copied(t, filepath.Join(w.dir, "belay.db"), file, c.change)
		if name == "a rollout is deleted" {
			for _, key := range []string{"rollout/" + first, "plan/" + first} {
				head, err := anew.Head(t.Context(), key)
				if err == nil {
					err = anew.Delete(t.Context(), key, head.Revision)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := anew.Close(); err != nil {
			t.Fatal(err)
		}
		code, out := verify(file)
		if want := map[bool]int{true: 0, false: 1}[name == "nothing"]; code != want || !strings.Contains(out, c.says) {
			t.Errorf("%s: got exit code %d, want %d and %q: %s", name, code, want, c.says, out)
		}
	}
}

// rewritten gives the journal of a key another person's name, and makes every hash
// of its chain anew.
func rewritten(t *testing.T, key string) func(store.Record) ([]byte, []byte) {
	prev := ""
	return func(rec store.Record) ([]byte, []byte) {
		if rec.Key != key {
			return rec.Entry, rec.State
		}
		var e journal.Entry
		if err := json.Unmarshal(bytes.ReplaceAll(rec.Entry, []byte(`as a person says`), []byte(`as nobody says!!`)), &e); err != nil {
			t.Fatal(err)
		}
		e.Prev = prev
		entry, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if prev, err = e.Hash(); err != nil {
			t.Fatal(err)
		}
		return entry, rec.State
	}
}

func same(rec store.Record) (entry, state []byte) { return rec.Entry, rec.State }

// copied writes a store anew, each record as change makes it.
func copied(t *testing.T, from, to string, change func(store.Record) (entry, state []byte)) *bolt.Store {
	t.Helper()
	old, err := bolt.Open(from, bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }() // it was only read
	if err := os.Chmod(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	anew, err := bolt.Open(to, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]store.Revision{}
	for rec, err := range old.Since(t.Context(), "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if head, err := old.Head(t.Context(), rec.Key); err != nil {
			t.Fatal(err)
		} else if head.Revision == rec.Revision {
			rec.State = head.State
		}
		entry, state := change(rec)
		if last[rec.Key], err = anew.Append(t.Context(), rec.Key, entry, state, last[rec.Key]); err != nil {
			t.Fatal(err)
		}
	}
	return anew
}
