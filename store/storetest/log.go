package storetest

import (
	"fmt"
	"testing"

	"github.com/belayd/belay/store"
)

// A record appended is the head at once, with both parts, for everybody.
func appendReadBack(t *testing.T, s store.Store) {
	if _, err := s.Head(t.Context(), "rollout/1"); err == nil {
		t.Fatal("Head of a new store: got a record, want ErrNotFound")
	}
	for i := range 20 {
		key := fmt.Sprintf("rollout/%d", i)
		first := put(t, s, key, "started", "s1", 0)
		same(t, "Head", []store.Record{head(t, s, key)}, []store.Record{record(key, first, "started", "s1")})
		second := put(t, s, key, "shifted", "s2", first)
		same(t, "Head", []store.Record{head(t, s, key)}, []store.Record{record(key, second, "shifted", "s2")})
	}
}

// An append after anything but the head conflicts and writes nothing.
func compareAndSwap(t *testing.T, s store.Store) {
	a1 := put(t, s, "a", "1", "s1", 0)
	b1 := put(t, s, "b", "1", "s1", 0)
	a2 := put(t, s, "a", "2", "s2", a1)
	for _, after := range []store.Revision{0, a1, b1, a2 + 1, a2 + 1000, ^store.Revision(0)} {
		_, err := s.Append(t.Context(), "a", []byte("3"), []byte("s3"), after)
		want(t, fmt.Sprintf("Append after %d with head %d", after, a2), err, store.ErrConflict)
	}
	for _, after := range []store.Revision{1, a2, ^store.Revision(0)} {
		_, err := s.Append(t.Context(), "new", []byte("1"), []byte("s1"), after)
		want(t, fmt.Sprintf("Append of a new key after %d", after), err, store.ErrConflict)
	}
	same(t, "Since", all(t, s.Since(t.Context(), "", 0)), []store.Record{
		record("a", a1, "1", "-"), record("b", b1, "1", "s1"), record("a", a2, "2", "s2"),
	})
	put(t, s, "a", "3", "s3", a2)
}

// The history has every entry of its key in order, and the state of the last.
func history(t *testing.T, s store.Store) {
	var a, ab []store.Record
	var lastA, lastAB store.Revision
	for i := range 30 {
		entry := fmt.Sprint("entry ", i)
		lastA = put(t, s, "a", entry, "state "+entry, lastA)
		a = append(a, record("a", lastA, entry, "-"))
		if i%3 == 0 { // A key that begins with the other one is another key.
			lastAB = put(t, s, "a/b", entry, "state "+entry, lastAB)
			ab = append(ab, record("a/b", lastAB, entry, "-"))
		}
	}
	a[len(a)-1].State = []byte("state entry 29")
	ab[len(ab)-1].State = []byte("state entry 27")
	same(t, "History of a", all(t, s.History(t.Context(), "a")), a)
	same(t, "History of a/b", all(t, s.History(t.Context(), "a/b")), ab)
	for _, key := range []string{"b", "a/", "a/bc", "A"} {
		got, err := collect(t, s.History(t.Context(), key))
		want(t, "History of "+key, err, store.ErrNotFound)
		same(t, "History of "+key, got, nil)
	}
}

// Heads come by key, byte for byte, whatever the order they were written in,
// and a prefix is any leading part of a key.
func heads(t *testing.T, s store.Store) {
	order := []string{"rollout/10", "endpoint/z", "rollout/9", "rollout/é", "rollout/", "plan/1", "rollout/a",
		"rollout/1", "rollouts", "Rollout/1"}
	revisions := make(map[string]store.Revision)
	for _, key := range order {
		revisions[key] = put(t, s, key, "one", "old", 0)
	}
	for _, key := range order {
		revisions[key] = put(t, s, key, "two", "new of "+key, revisions[key])
	}
	for _, test := range []struct {
		prefix string
		keys   []string
	}{
		{"", []string{"Rollout/1", "endpoint/z", "plan/1", "rollout/", "rollout/1", "rollout/10", "rollout/9",
			"rollout/a", "rollout/é", "rollouts"}},
		{"rollout/", []string{"rollout/", "rollout/1", "rollout/10", "rollout/9", "rollout/a", "rollout/é"}},
		{"rollout/1", []string{"rollout/1", "rollout/10"}},
		{"rollout/10", []string{"rollout/10"}},
		{"rollout/10/", nil},
		{"plan", []string{"plan/1"}},
		{"zzz", nil},
		{"\xff", nil},
	} {
		var expected []store.Record
		for _, key := range test.keys {
			expected = append(expected, record(key, revisions[key], "two", "new of "+key))
		}
		same(t, fmt.Sprintf("Heads(%q)", test.prefix), all(t, s.Heads(t.Context(), test.prefix)), expected)
	}
}

// Since yields the records of all keys in the order they were committed,
// whose revisions rise across all keys; a sink resumes from any of them.
func since(t *testing.T, s store.Store) {
	var log []store.Record
	last := make(map[string]int) // index of the key's head in log
	var previous store.Revision
	for i := range 60 {
		key := []string{"rollout/1", "rollout/2", "endpoint/1", "rollout/10"}[i*7%4]
		var after store.Revision
		if at, ok := last[key]; ok {
			after = log[at].Revision
			log[at].State = nil
		}
		entry := fmt.Sprint("entry ", i)
		revision := put(t, s, key, entry, "state "+entry, after)
		if revision <= previous {
			t.Fatalf("append %d: got revision %d after %d, want a later one although the keys differ", i, revision,
				previous)
		}
		previous = revision
		last[key] = len(log)
		log = append(log, record(key, revision, entry, "state "+entry))
	}
	same(t, "Since(0)", all(t, s.Since(t.Context(), "", 0)), log)
	for _, from := range []int{0, 1, 17, 58, 59} {
		after := log[from].Revision
		same(t, fmt.Sprintf("Since(%d)", after), all(t, s.Since(t.Context(), "", after)), log[from+1:])
	}
	same(t, "Since the end", all(t, s.Since(t.Context(), "", ^store.Revision(0))), nil)
	var some []store.Record
	for _, r := range log[20:] {
		if r.Key != "endpoint/1" && r.Key != "rollout/2" {
			some = append(some, r)
		}
	}
	same(t, "Since(rollout/1)", all(t, s.Since(t.Context(), "rollout/1", log[19].Revision)), some)
	same(t, "Since(nothing)", all(t, s.Since(t.Context(), "nothing/", 0)), nil)
}

// Delete is a compare-and-swap too. It takes the whole history of its key and
// of no other, and the key can begin again.
func deletion(t *testing.T, s store.Store) {
	a1 := put(t, s, "a", "1", "s1", 0)
	b1 := put(t, s, "b", "1", "s1", 0)
	ab := put(t, s, "a/b", "1", "s1", 0)
	a2 := put(t, s, "a", "2", "s2", a1)
	for _, after := range []store.Revision{0, a1, b1, a2 + 1} {
		want(t, fmt.Sprintf("Delete after %d with head %d", after, a2), s.Delete(t.Context(), "a", after),
			store.ErrConflict)
	}
	for _, after := range []store.Revision{0, a2} {
		want(t, "Delete of no key", s.Delete(t.Context(), "c", after), store.ErrNotFound)
	}
	if err := s.Delete(t.Context(), "a", a2); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	_, err := s.Head(t.Context(), "a")
	want(t, "Head of a deleted key", err, store.ErrNotFound)
	_, err = collect(t, s.History(t.Context(), "a"))
	want(t, "History of a deleted key", err, store.ErrNotFound)
	want(t, "Delete again", s.Delete(t.Context(), "a", a2), store.ErrNotFound)
	_, err = s.Append(t.Context(), "a", nil, nil, a2)
	want(t, "Append after the deleted head", err, store.ErrConflict)
	rest := []store.Record{record("b", b1, "1", "s1"), record("a/b", ab, "1", "s1")}
	same(t, "Since after Delete", all(t, s.Since(t.Context(), "", 0)), rest)
	same(t, "Heads after Delete", all(t, s.Heads(t.Context(), "")), []store.Record{rest[1], rest[0]})

	again := put(t, s, "a", "again", "s", 0)
	if again <= a2 {
		t.Errorf("append to a deleted key: got revision %d, want one after %d", again, a2)
	}
	same(t, "History of a key that began again", all(t, s.History(t.Context(), "a")),
		[]store.Record{record("a", again, "again", "s")})
}

// A revision is never given twice, even if everything after it was deleted:
// sinks keep revisions as cursors.
func revisionsAfterDelete(t *testing.T, s store.Store) {
	var last store.Revision
	for i := range 5 {
		revision := put(t, s, "only", fmt.Sprint(i), "s", 0)
		if revision <= last {
			t.Fatalf("round %d: got revision %d, want one after %d", i, revision, last)
		}
		last = revision
		if err := s.Delete(t.Context(), "only", revision); err != nil {
			t.Fatalf("Delete: %v", err)
		}
	}
	revision := put(t, s, "other", "x", "s", 0)
	same(t, "Since the last deleted revision", all(t, s.Since(t.Context(), "", last)),
		[]store.Record{record("other", revision, "x", "s")})
}
