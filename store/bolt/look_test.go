package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/belayd/belay/store"
)

// looked opens the file to be looked at.
func looked(t testing.TB, path string) *Look {
	t.Helper()
	k, err := OpenLook(path, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return k
}

// A look shows what the store shows, from trees of several levels and of one
// page, and says of what is not there that it is not there.
func TestLookShowsWhatTheStoreShows(t *testing.T) {
	c := filled(t)
	k := looked(t, c.path)
	got, err := dump(t.Context(), k)
	if err != nil || got != c.now {
		t.Errorf("everything: got %d bytes, %v; want the %d of the store", len(got), err, len(c.now))
	}
	var states []string
	for r, err := range k.States(t.Context(), "rollout/05") {
		if err != nil {
			t.Fatal(err)
		}
		head, err := k.Head(t.Context(), r.Key)
		if err != nil || head.Revision != r.Revision || !bytes.Equal(head.State, r.State) {
			t.Errorf("state of %s: got revision %d, want that of its head: %d, %v", r.Key, r.Revision, head.Revision, err)
		}
		states = append(states, r.Key)
	}
	if want := []string{"rollout/050", "rollout/052", "rollout/053", "rollout/055", "rollout/056", "rollout/058", "rollout/059"}; !slices.Equal(states, want) {
		t.Errorf("states: got %v, want %v", states, want)
	}
	n := 0
	for r, err := range k.History(t.Context(), "rollout/007") {
		if n++; err != nil || string(r.Entry) != fmt.Sprintf("entry %d of rollout/007", n-1) {
			t.Errorf("history %d: got %q, %v", n, r.Entry, err)
		}
	}
	for _, key := range []string{"rollout/000", "rollout/0", "rollout/999", "a", "z"} {
		if _, err := k.Head(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("head of %s: got error %v, want %v", key, err, store.ErrNotFound)
		}
	}

	empty := newPath(t)
	if err := opened(t, empty, testOptions()).Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := dump(t.Context(), looked(t, empty)); got != "" || err != nil {
		t.Errorf("an empty store: got %q, %v", got, err)
	}
}

// A look writes nothing, is refused while a daemon has the file, as it is on
// what is no store, and ends when it is closed.
func TestLookOnlyLooks(t *testing.T) {
	path := newPath(t)
	s := opened(t, path, testOptions())
	if _, err := s.Append(t.Context(), "rollout/1", []byte("e"), []byte("s"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLook(path, time.Millisecond); !errors.Is(err, ErrInUse) {
		t.Errorf("beside the daemon: got error %v, want %v", err, ErrInUse)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	k := looked(t, path)
	if other := looked(t, path); other == nil {
		t.Error("a second look: got none")
	}
	if _, err := k.Append(t.Context(), "rollout/2", nil, nil, 0); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Append: got error %v, want %v", err, ErrReadOnly)
	}
	if err := k.Delete(t.Context(), "rollout/1", 1); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Delete: got error %v, want %v", err, ErrReadOnly)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Head(ended, "rollout/1"); !errors.Is(err, context.Canceled) {
		t.Errorf("Head when ctx has ended: got error %v, want %v", err, context.Canceled)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Head(t.Context(), "rollout/1"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Head when closed: got error %v, want %v", err, store.ErrClosed)
	}
	for range k.Watch(t.Context(), "") {
		t.Error("Watch: got a change")
	}
	for name, data := range map[string][]byte{"nothing": nil, "a text": bytes.Repeat([]byte("text "), 10_000)} {
		other := newPath(t)
		if err := os.WriteFile(other, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenLook(other, 0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrCorrupt)
		}
	}
	if _, err := OpenLook(newPath(t), 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got error %v, want %v", err, os.ErrNotExist)
	}
}

// Whatever single damage a file has, a look at a key shows what was written or
// says that the file is damaged: never something else, nor that the key is not
// there. The damage is a byte, a page overwritten by another, or a page of
// zeroes, in pages of every kind.
func TestLookNeverBelievesDamage(t *testing.T) {
	c := filled(t)
	sound, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	metas, err := readMetas(bytes.NewReader(sound))
	if err != nil {
		t.Fatal(err)
	}
	m := metas[newest(metas)]
	want := heads(t, c.path)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	size := int(m.pageSize)
	found := 0
	for round := range 600 {
		data := bytes.Clone(sound)
		at := 2 + random.IntN(int(m.pages)-2)
		p := data[at*size : (at+1)*size]
		what := "a byte"
		switch round % 8 {
		case 0:
			what = "zeroes"
			clear(p)
		case 1:
			what = "another page" // a write that went astray
			copy(p, sound[(2+random.IntN(int(m.pages)-2))*size:][:size])
		case 2, 3: // where the page says what it is
			p[8+random.IntN(8+16*8)] ^= 1 << random.IntN(8)
		default:
			p[random.IntN(size)] ^= 1 << random.IntN(8)
		}
		if lookedAt(t, data, want, fmt.Sprintf("seed %d, round %d, page %d, %s", seed, round, at, what)) {
			found++
		}
	}
	if found < 100 {
		t.Errorf("got %d damages of 600 found, want more: does the test damage what is read?", found)
	}
}

// A branch that leads to the wrong leaf is found by whoever looks for a key that
// is then not there.
func TestLookDoubtsWhatIsMissing(t *testing.T) {
	c := filled(t)
	sound, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	metas, err := readMetas(bytes.NewReader(sound))
	if err != nil {
		t.Fatal(err)
	}
	m := metas[newest(metas)]
	want := heads(t, c.path)
	tried, found := 0, 0
	for id := uint64(2); id < m.pages; id++ {
		p := page(sound[id*m.pageSize : (id+1)*m.pageSize])
		if p.id() != id || p.flags() != flagBranch {
			continue
		}
		for i := range p.count() {
			e, err := p.branch(i)
			if err != nil || len(e.key) == 0 {
				continue // not a page in use
			}
			for _, by := range []byte{1, 0xff} {
				data := bytes.Clone(sound)
				e, _ := page(data[id*m.pageSize : (id+1)*m.pageSize]).branch(i)
				e.key[len(e.key)-1] += by
				tried++
				if lookedAt(t, data, want, fmt.Sprintf("page %d, branch %d, %+d", id, i, int8(by))) {
					found++
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("got %d of %d wrong branches found, want at least 10", found, tried)
	}
}

// heads is every head of a sound file.
func heads(t *testing.T, path string) map[string]store.Record {
	t.Helper()
	all := make(map[string]store.Record)
	for r, err := range looked(t, path).Heads(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all[r.Key] = r
	}
	return all
}

// lookedAt looks for every key in a damaged file, one by one and by a list, and
// reports whether the damage was found.
func lookedAt(t *testing.T, data []byte, want map[string]store.Record, how string) (found bool) {
	t.Helper()
	path := newPath(t)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	told := func(what string, err error) {
		if found = true; !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %s: got error %v, want %v", how, what, err, ErrCorrupt)
		}
	}
	k, err := OpenLook(path, 0)
	if err != nil {
		told("open", err)
		return found
	}
	defer func() { _ = k.Close() }() // it was only read
	for key, w := range want {
		r, err := k.Head(t.Context(), key)
		if err != nil {
			told(key, err)
		} else if r.Revision != w.Revision || !bytes.Equal(r.Entry, w.Entry) || !bytes.Equal(r.State, w.State) {
			t.Errorf("%s: %s: got revision %d, want %d", how, key, r.Revision, w.Revision)
		}
	}
	n := 0
	for r, err := range k.States(t.Context(), "rollout/03") {
		if err != nil {
			told("states", err)
			return found
		}
		if n++; !bytes.Equal(r.State, want[r.Key].State) {
			t.Errorf("%s: state of %s: got another", how, r.Key)
		}
	}
	if n != 6 && n != 7 {
		t.Errorf("%s: states: got %d", how, n)
	}
	return found
}
