// Package storetest says in code what a store.Store means: Exercise for what
// holds while the store is open, ExerciseReopen for what outlives it. Every
// store passes both (mem, which keeps nothing, the first).
//
// It tests through the interface alone. What is special to one store (its
// files, its faults, its speed) is tested beside that store.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/belayd/belay/store"
)

// Exercise runs the conformance tests. open returns a new, empty store; whoever
// opens it also sees to it that it is closed when the test ends, and that a
// second Close does no harm.
func Exercise(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, store.Store)
	}{
		{"append and read back", appendReadBack},
		{"compare and swap", compareAndSwap},
		{"history", history},
		{"heads", heads},
		{"since", since},
		{"delete", deletion},
		{"revisions after delete", revisionsAfterDelete},
		{"deleted while reading", deletedWhileReading},
		{"stop early", stopEarly},
		{"many records", manyRecords},
		{"slices", slicesNotKept},
		{"values", values},
		{"keys", keys},
		{"context", endedContext},
		{"watch", watch},
		{"race on one key", raceOnOneKey},
		{"race on many keys", raceOnManyKeys},
		{"race of delete and append", raceOfDeleteAndAppend},
		{"closed", closed},
		{"close under load", closeUnderLoad},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// put appends and fails the test if that fails.
func put(t *testing.T, s store.Store, key, entry, state string, after store.Revision) store.Revision {
	t.Helper()
	revision, err := s.Append(t.Context(), key, []byte(entry), []byte(state), after)
	if err != nil {
		t.Fatalf("Append(%q, %q, %q, %d): %v", key, entry, state, after, err)
	}
	if revision <= after {
		t.Fatalf("Append(%q, %q, %q, %d): got revision %d, want a later one", key, entry, state, after, revision)
	}
	return revision
}

// head reads the head and fails the test if that fails.
func head(t *testing.T, s store.Store, key string) store.Record {
	t.Helper()
	r, err := s.Head(t.Context(), key)
	if err != nil {
		t.Fatalf("Head(%q): %v", key, err)
	}
	return r
}

// collect returns what the iterator yields until its first error; it fails the
// test if anything follows the error.
func collect(t *testing.T, records iter.Seq2[store.Record, error]) ([]store.Record, error) {
	t.Helper()
	var out []store.Record
	var failure error
	for r, err := range records {
		if failure != nil {
			t.Fatalf("got %+v, %v after the error %v, want nothing", r, err, failure)
		}
		if err != nil {
			failure = err
			continue
		}
		out = append(out, r)
	}
	return out, failure
}

// all is collect for an iterator that must not fail.
func all(t *testing.T, records iter.Seq2[store.Record, error]) []store.Record {
	t.Helper()
	out, err := collect(t, records)
	if err != nil {
		t.Fatalf("got error %v after %d records, want none", err, len(out))
	}
	return out
}

// want fails the test unless err is target.
func want(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got error %v, want %v", what, err, target)
	}
}

// show writes records so that a difference can be seen at a glance. A state
// that is nil is shown as nil.
func show(rs []store.Record) string {
	var b strings.Builder
	for _, r := range rs {
		state := "nil"
		if r.State != nil {
			state = fmt.Sprintf("%q", clip(r.State))
		}
		fmt.Fprintf(&b, "%d %s %q %s\n", r.Revision, r.Key, clip(r.Entry), state)
	}
	return b.String()
}

func clip(b []byte) []byte {
	if len(b) <= 40 {
		return b
	}
	return fmt.Appendf(nil, "%s… (%d bytes)", b[:40], len(b))
}

// same fails the test unless the records are those.
func same(t *testing.T, what string, got, want []store.Record) {
	t.Helper()
	equal := len(got) == len(want)
	for i := 0; equal && i < len(got); i++ {
		g, w := got[i], want[i]
		equal = g.Key == w.Key && g.Revision == w.Revision && bytes.Equal(g.Entry, w.Entry) &&
			bytes.Equal(g.State, w.State) && (g.State == nil) == (w.State == nil)
	}
	if !equal {
		t.Errorf("%s: got\n%swant\n%s", what, show(got), show(want))
	}
}

// record is a Record in short; a state of "-" is nil.
func record(key string, revision store.Revision, entry, state string) store.Record {
	r := store.Record{Key: key, Revision: revision, Entry: []byte(entry), State: []byte(state)}
	if state == "-" {
		r.State = nil
	}
	return r
}

// ended returns a context that has been cancelled.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
