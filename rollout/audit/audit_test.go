package audit

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// A world is a store with journals.
type world struct {
	t *testing.T
	*mem.Store
	seq map[string]int
}

func newWorld(t *testing.T) *world { return &world{t, mem.New(), map[string]int{}} }

// write appends an entry to a rollout's journal.
func (w *world) write(id, what string) {
	w.t.Helper()
	after := store.Revision(0)
	if rec, err := w.Head(w.t.Context(), "rollout/"+id); err == nil {
		after = rec.Revision
	}
	w.seq[id]++
	if _, err := w.Append(w.t.Context(), "rollout/"+id, fmt.Appendf(nil, `{"seq":%d,"by":%q}`, w.seq[id], what), []byte("{}"), after); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) bury(id string, last store.Record) error {
	t, err := Of(w.t.Context(), w.Store, id, last)
	if err != nil {
		return err
	}
	return Bury(w.t.Context(), w.Store, t)
}

// remove deletes a rollout, as retention does or behind its back.
func (w *world) remove(id string, bury bool) {
	w.t.Helper()
	rec, err := w.Head(w.t.Context(), "rollout/"+id)
	if err == nil && bury {
		err = w.bury(id, rec)
	}
	if err == nil {
		err = w.Delete(w.t.Context(), "rollout/"+id, rec.Revision)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) now() Checkpoint {
	w.t.Helper()
	h, err := Now(w.t.Context(), w.Store)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// filled is a world with three rollouts, an endpoint and a rollout that retention
// deleted.
func filled(t *testing.T) *world {
	w := newWorld(t)
	for _, id := range []string{"r1", "r2", "r3", "r0"} {
		w.write(id, "ann")
		w.write(id, "bob")
	}
	if _, err := w.Append(t.Context(), "endpoint/edge/recs", []byte(`{"kind":"claim"}`), []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	w.remove("r0", true)
	return w
}

// A head stands whatever belayd does afterwards: entries, new rollouts, and what
// retention deletes.
func TestHeadStands(t *testing.T) {
	w := filled(t)
	kept := w.now()
	if kept.Rollouts != 3 || len(kept.Hash) != 64 {
		t.Fatalf("got %v, want three rollouts", kept)
	}
	check := func(what string) {
		t.Helper()
		if err := Against(t.Context(), w.Store, kept); err != nil {
			t.Errorf("%s: got %v, want the head to stand", what, err)
		}
		if again, err := Parse(kept.String()); err != nil || again != kept {
			t.Errorf("Parse: got %v, %v; want %v", again, err, kept)
		}
	}
	check("at once")
	w.write("r1", "ann")
	w.write("r9", "zoe")
	if _, err := w.Append(t.Context(), "endpoint/edge/recs", []byte(`{"kind":"release"}`), []byte("{}"), 9); err != nil {
		t.Fatal(err)
	}
	check("after more entries")
	w.remove("r2", true)
	w.remove("r9", true)
	check("after retention")
	if later := w.now(); later.Rollouts != 2 || later.Hash == kept.Hash {
		t.Errorf("the head now: got %v, want another one, of two rollouts", later)
	}
	if err := w.bury("r3", mustHead(t, w, "rollout/r3")); err != nil { // cut off before the deletion
		t.Fatal(err)
	}
	check("after a retention that was cut off")
	var gone []string
	for b, err := range Deleted(t.Context(), w.Store) {
		if err != nil {
			t.Fatal(err)
		}
		gone = append(gone, b.Rollout)
	}
	if got, want := strings.Join(gone, " "), "r0 r2 r9 r3"; got != want {
		t.Errorf("tombstones: got %s, want %s", got, want)
	}
}

func mustHead(t *testing.T, w *world, key string) store.Record {
	t.Helper()
	rec, err := w.Head(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// What somebody else does to the store shows, whatever it is.
func TestTampering(t *testing.T) {
	rewrite := func(w *world, key string, entries ...string) {
		rec := mustHead(w.t, w, key)
		if err := w.Delete(w.t.Context(), key, rec.Revision); err != nil {
			w.t.Fatal(err)
		}
		after := store.Revision(0)
		for _, e := range entries {
			var err error
			if after, err = w.Append(w.t.Context(), key, []byte(e), []byte("{}"), after); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	for what, change := range map[string]func(*world){
		"a rollout is deleted":       func(w *world) { w.remove("r2", false) },
		"a chain is rewritten whole": func(w *world) { rewrite(w, "rollout/r2", `{"seq":1,"by":"ann"}`, `{"seq":2,"by":"mallory"}`) },
		"the last entry is dropped":  func(w *world) { rewrite(w, "rollout/r2", `{"seq":1,"by":"ann"}`) },
		"an endpoint is rewritten":   func(w *world) { rewrite(w, "endpoint/edge/recs", `{"kind":"clear"}`) },
		"an endpoint is deleted":     func(w *world) { rewrite(w, "endpoint/edge/recs") },
		"the tombstones are deleted": func(w *world) { rewrite(w, tombstones) },
		"a tombstone is rewritten": func(w *world) {
			rewrite(w, tombstones, `{"schemaVersion":1,"rollout":"rx","sum":"2 00","began":7,"ended":8,"prev":""}`)
		},
		"a deletion with a false stone": func(w *world) {
			rec := mustHead(w.t, w, "rollout/r2")
			rec.Entry = []byte(`{"seq":1,"by":"mallory"}`)
			if err := errors.Join(w.bury("r2", rec), w.Delete(w.t.Context(), "rollout/r2", rec.Revision)); err != nil {
				w.t.Fatal(err)
			}
		},
	} {
		w := filled(t)
		kept := w.now()
		change(w)
		w.write("r7", "later") // life goes on
		if err := Against(t.Context(), w.Store, kept); !errors.Is(err, ErrDiffers) {
			t.Errorf("%s: got %v, want %v", what, err, ErrDiffers)
		}
	}
}

// An older copy in the store's place ends before the head.
func TestOlderCopy(t *testing.T) {
	w := filled(t)
	w.write("r1", "later")
	kept := w.now()
	if err := Against(t.Context(), filled(t).Store, kept); !errors.Is(err, ErrOlder) {
		t.Errorf("got %v, want %v", err, ErrOlder)
	}
	older := filled(t) // it went on since, past the head
	for range 9 {
		older.write("r5", "elsewhere")
	}
	if err := Against(t.Context(), older.Store, kept); !errors.Is(err, ErrDiffers) {
		t.Errorf("an older copy that went on: got %v, want %v", err, ErrDiffers)
	}
}

// A head from the middle of a rollout that retention has deleted since cannot be
// compared any more, and says so rather than that something is wrong.
func TestExpired(t *testing.T) {
	w := filled(t)
	kept := w.now()
	w.write("r1", "goes on")
	w.remove("r1", true)
	if err := Against(t.Context(), w.Store, kept); !errors.Is(err, ErrExpired) {
		t.Errorf("got %v, want %v", err, ErrExpired)
	}
}

// A tombstone is written once however often its answer is lost, and others may
// write at the same moment.
func TestBuryAgain(t *testing.T) {
	w := filled(t)
	lost := 0
	w.Fault = func(mem.Op) (bool, error) {
		if lost++; lost < 3 {
			return true, store.ErrUnknown
		}
		return true, nil
	}
	if err := w.bury("r2", mustHead(t, w, "rollout/r2")); err != nil {
		t.Fatal(err)
	}
	w.Fault = nil
	n := 0
	for _, err := range Deleted(t.Context(), w.Store) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("got %d tombstones, want two", n)
	}
	full := errors.New("no space")
	w.Fault = func(mem.Op) (bool, error) { return false, full }
	if err := w.bury("r3", mustHead(t, w, "rollout/r3")); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
}

// What is no head is refused with what one looks like.
func TestParse(t *testing.T) {
	for _, text := range []string{"", "1-2", "1-2-3", "x-2-" + strings.Repeat("a", 64), "1-2-" + strings.Repeat("x", 64), "-1-2-" + strings.Repeat("a", 64)} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), "REVISION-ROLLOUTS-HASH") {
			t.Errorf("%q: got %v, want it refused", text, err)
		}
	}
}
