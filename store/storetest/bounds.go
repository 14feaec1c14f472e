package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/belayd/belay/store"
)

// An iterator whose key goes away under it yields what it had or says so: it
// never mixes the old history with that of a key that began again.
func deletedWhileReading(t *testing.T, s store.Store) {
	const n = 400
	var last store.Revision
	for i := range n {
		last = put(t, s, "a", fmt.Sprint("old ", i), strings.Repeat("s", 100), last)
	}
	i := 0
	for r, err := range s.History(t.Context(), "a") {
		if err != nil {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("record %d: got error %v, want %v", i, err, store.ErrNotFound)
			}
			break
		}
		if got, want := string(r.Entry), fmt.Sprint("old ", i); got != want {
			t.Fatalf("record %d: got %q, want %q", i, got, want)
		}
		if i == 0 {
			if err := s.Delete(t.Context(), "a", last); err != nil {
				t.Fatalf("Delete while History is read: %v", err)
			}
			var after store.Revision
			for j := range n {
				after = put(t, s, "a", fmt.Sprint("new ", j), "", after)
			}
		}
		i++
	}
	if i == 0 {
		t.Error("got no record, want at least the first")
	}
}

// A consumer may stop at any time, begin again, and write to the store while it
// reads.
func stopEarly(t *testing.T, s store.Store) {
	for i := range 10 {
		put(t, s, fmt.Sprint("k/", i), "1", "s", 0)
	}
	for what, records := range map[string]iter.Seq2[store.Record, error]{
		"Heads":   s.Heads(t.Context(), ""),
		"History": s.History(t.Context(), "k/1"),
		"Since":   s.Since(t.Context(), "", 0),
	} {
		for range records {
			break
		}
		first := all(t, records)
		same(t, what+" ranged over again", all(t, records), first)
		if len(first) == 0 {
			t.Errorf("%s after it was stopped: got nothing, want it from the beginning", what)
		}
	}
	n := 0
	for r, err := range s.Heads(t.Context(), "k/") {
		if err != nil {
			t.Fatalf("Heads: %v", err)
		}
		put(t, s, r.Key, "2", "s", r.Revision)
		n++
	}
	if n != 10 {
		t.Errorf("heads while they change: got %d, want 10", n)
	}
}

// Nothing is lost or repeated at whatever size a store reads in pieces.
func manyRecords(t *testing.T, s store.Store) {
	const keys, rounds = 40, 20
	heads := make([]store.Revision, keys)
	for round := range rounds {
		for k := range keys {
			entry := fmt.Sprintf("%d %s", round, strings.Repeat("e", 40*k))
			heads[k] = put(t, s, fmt.Sprintf("k/%02d", k), entry, strings.Repeat("s", 500*k), heads[k])
		}
	}
	var previous store.Revision
	seen := 0
	for r, err := range s.Since(t.Context(), "k/", 0) {
		if err != nil {
			t.Fatalf("Since: %v", err)
		}
		key := fmt.Sprintf("k/%02d", seen%keys)
		if r.Key != key || r.Revision <= previous || !strings.HasPrefix(string(r.Entry), fmt.Sprint(seen/keys, " ")) {
			t.Fatalf("record %d: got %s %d %.10q after %d, want %s of round %d", seen, r.Key, r.Revision, r.Entry,
				previous, key, seen/keys)
		}
		previous = r.Revision
		seen++
	}
	if seen != keys*rounds {
		t.Errorf("Since: got %d records, want %d", seen, keys*rounds)
	}
	for k, r := range all(t, s.Heads(t.Context(), "k/")) {
		if r.Revision != heads[k] || len(r.State) != 500*k {
			t.Errorf("head %d: got %s %d with %d bytes, want revision %d with %d bytes", k, r.Key, r.Revision,
				len(r.State), heads[k], 500*k)
		}
	}
	if got := len(all(t, s.History(t.Context(), "k/39"))); got != rounds {
		t.Errorf("History: got %d records, want %d", got, rounds)
	}
}

// The caller's slices are the caller's again after Append, and what the store
// hands out is the receiver's.
func slicesNotKept(t *testing.T, s store.Store) {
	entry, state := []byte("entry"), []byte("state")
	revision, err := s.Append(t.Context(), "a", entry, state, 0)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	copy(entry, "XXXXX")
	copy(state, "YYYYY")
	expected := []store.Record{record("a", revision, "entry", "state")}
	spoil := func(rs []store.Record) {
		for _, r := range rs {
			copy(r.Entry, "ZZZZZ")
			copy(r.State, "ZZZZZ")
			_ = append(r.Entry, "beyond"...)
		}
	}
	for range 2 {
		for what, read := range map[string]func() []store.Record{
			"Head":    func() []store.Record { return []store.Record{head(t, s, "a")} },
			"Heads":   func() []store.Record { return all(t, s.Heads(t.Context(), "")) },
			"History": func() []store.Record { return all(t, s.History(t.Context(), "a")) },
			"Since":   func() []store.Record { return all(t, s.Since(t.Context(), "", 0)) },
		} {
			got := read()
			same(t, what, got, expected)
			spoil(got)
		}
	}
}

// Empty values are values; large ones come back whole; too large ones are
// refused before anything is written.
func values(t *testing.T, s store.Store) {
	a := put(t, s, "a", "", "", 0)
	got := head(t, s, "a")
	same(t, "empty values", []store.Record{got}, []store.Record{record("a", a, "", "")})
	nils, err := s.Append(t.Context(), "a", nil, nil, a)
	if err != nil {
		t.Fatalf("Append of nil: %v", err)
	}
	same(t, "nil values", all(t, s.History(t.Context(), "a")),
		[]store.Record{record("a", a, "", "-"), record("a", nils, "", "")})

	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	entry, state := bytes.Repeat(binary, 1200), bytes.Repeat(binary, 1300)
	var last store.Revision
	for i := range 4 {
		if last, err = s.Append(t.Context(), "large", entry[i:], state[i:], last); err != nil {
			t.Fatalf("Append of %d and %d bytes: %v", len(entry)-i, len(state)-i, err)
		}
	}
	for i, r := range all(t, s.History(t.Context(), "large")) {
		if !bytes.Equal(r.Entry, entry[i:]) {
			t.Errorf("large entry %d: got %d other bytes, want the %d written", i, len(r.Entry), len(entry)-i)
		}
	}
	if got := head(t, s, "large").State; !bytes.Equal(got, state[3:]) {
		t.Errorf("large state: got %d other bytes, want the %d written", len(got), len(state)-3)
	}

	huge := make([]byte, store.ValueMax+1)
	_, err = s.Append(t.Context(), "huge", huge, nil, 0)
	want(t, "Append of a huge entry", err, store.ErrTooLarge)
	_, err = s.Append(t.Context(), "huge", nil, huge, 0)
	want(t, "Append of a huge state", err, store.ErrTooLarge)
	_, err = s.Head(t.Context(), "huge")
	want(t, "Head of a key that was refused", err, store.ErrNotFound)
}

// Keys that could be mistaken for another, or break a line of a log, are
// refused; every other one is kept as it is.
func keys(t *testing.T, s store.Store) {
	for _, key := range []string{"", "a\nb", "a\x00b", "a\tb", "\x1b[31m", "a\x7f", "a\u00a0b", "a\u2028b", "a\u200bb",
		"\xff", "a\xc3", strings.Repeat("k", store.KeyMax+1)} {
		_, err := s.Append(t.Context(), key, []byte("e"), []byte("s"), 0)
		want(t, fmt.Sprintf("Append(%.20q)", key), err, store.ErrKey)
		if err != nil && (!utf8.ValidString(err.Error()) || strings.ContainsFunc(err.Error(), unicode.IsControl)) {
			t.Errorf("Append(%.20q): got the error %q, want it without the characters it refuses", key, err)
		}
		_, err = s.Head(t.Context(), key)
		want(t, fmt.Sprintf("Head(%.20q)", key), err, store.ErrKey)
		_, err = collect(t, s.History(t.Context(), key))
		want(t, fmt.Sprintf("History(%.20q)", key), err, store.ErrKey)
		want(t, fmt.Sprintf("Delete(%.20q)", key), s.Delete(t.Context(), key, 0), store.ErrKey)
	}
	good := []string{" ", "/", "//", "a", "a ", "a.b", "a*b", "a>b", "a/b c", "a=b",
		"trigger//nats/https://example.org/x?y=1#z", "ünï/漢字/🚀", strings.Repeat("k", store.KeyMax), "%2F", `"quoted"`,
		"a\\b"}
	for i, key := range good {
		put(t, s, key, fmt.Sprint("entry ", i), key, 0)
	}
	for i, key := range good {
		r := head(t, s, key)
		if r.Key != key || string(r.Entry) != fmt.Sprint("entry ", i) || string(r.State) != key {
			t.Errorf("Head(%q): got %s", key, show([]store.Record{r}))
		}
	}
	if got := len(all(t, s.Heads(t.Context(), ""))); got != len(good) {
		t.Errorf("Heads: got %d keys, want %d", got, len(good))
	}
}

// A call that begins with an ended context does nothing.
func endedContext(t *testing.T, s store.Store) {
	a := put(t, s, "a", "1", "s", 0)
	ctx := ended(t)
	_, err := s.Append(ctx, "a", nil, nil, a)
	want(t, "Append", err, context.Canceled)
	want(t, "Delete", s.Delete(ctx, "a", a), context.Canceled)
	_, err = s.Head(ctx, "a")
	want(t, "Head", err, context.Canceled)
	_, err = collect(t, s.Heads(ctx, ""))
	want(t, "Heads", err, context.Canceled)
	_, err = collect(t, s.History(ctx, "a"))
	want(t, "History", err, context.Canceled)
	_, err = collect(t, s.Since(ctx, "", 0))
	want(t, "Since", err, context.Canceled)
	for r := range s.Watch(ctx, "") {
		t.Errorf("Watch: got %+v, want nothing", r)
	}
	same(t, "Since", all(t, s.Since(t.Context(), "", 0)), []store.Record{record("a", a, "1", "s")})
}
