package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belayd/belay/store"
)

// patience bounds the waits of tests that can only fail by waiting in vain; the
// tests of these tests have less of it.
var patience = 30 * time.Second

// A watch is a hint, so what is written is written until it is noticed: the
// prefix holds, and no record is older than one yielded before.
func watch(t *testing.T, s store.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	var noticed atomic.Bool
	wg.Go(func() {
		var last store.Revision
		for !noticed.Load() && ctx.Err() == nil {
			after, err := s.Append(ctx, "rollout/1", []byte("e"), []byte("s"), last)
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("Append: %v", err)
				}
				return
			}
			last = after
			if _, err := s.Append(ctx, fmt.Sprint("endpoint/", last), []byte("e"), []byte("s"), 0); err != nil &&
				ctx.Err() == nil {
				t.Errorf("Append: %v", err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	seen := 0
	var previous store.Revision
	for r := range s.Watch(ctx, "rollout/") {
		if r.Key != "rollout/1" || r.Revision <= previous || string(r.State) != "s" {
			t.Errorf("Watch(rollout/): got %s after revision %d, want a later head of rollout/1",
				show([]store.Record{r}), previous)
		}
		previous = r.Revision
		if seen++; seen == 3 {
			break
		}
	}
	noticed.Store(true)
	wg.Wait()
	if seen < 3 {
		t.Errorf("Watch: got %d records in %s of writing, want 3", seen, patience)
	}
}

// Many writers race for one key: in each round exactly one wins, everybody
// else conflicts, and the history has the winners in order.
func raceOnOneKey(t *testing.T, s store.Store) {
	const writers, rounds = 16, 20
	var last store.Revision
	var winners []string
	for round := range rounds {
		revisions := make([]store.Revision, writers)
		errs := make([]error, writers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				<-start
				revisions[w], errs[w] = s.Append(t.Context(), "race", fmt.Appendf(nil, "%d by %d", round, w),
					[]byte("s"), last)
			})
		}
		close(start)
		wg.Wait()
		won := 0
		after := last
		for w := range writers {
			switch {
			case errs[w] == nil:
				won++
				after = revisions[w]
				winners = append(winners, fmt.Sprintf("%d by %d", round, w))
			case !errors.Is(errs[w], store.ErrConflict):
				t.Errorf("round %d: got error %v, want nil or a conflict", round, errs[w])
			}
		}
		if won != 1 {
			t.Fatalf("round %d: got %d winners of %d, want 1", round, won, writers)
		}
		last = after
	}
	var got []string
	for _, r := range all(t, s.History(t.Context(), "race")) {
		got = append(got, string(r.Entry))
	}
	if strings.Join(got, ", ") != strings.Join(winners, ", ") {
		t.Errorf("History: got %q, want the winners %q", got, winners)
	}
}

// Writers of different keys never conflict; every revision is given once, and
// what a reader sees while they write has no gaps within a key.
func raceOnManyKeys(t *testing.T, s store.Store) {
	const writers, appends = 12, 25
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	given := make(map[store.Revision]string)
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			key := fmt.Sprintf("k/%02d", w)
			var last store.Revision
			for i := range appends {
				revision, err := s.Append(ctx, key, fmt.Appendf(nil, "%d", i), []byte("s"), last)
				if err != nil {
					t.Errorf("Append(%s) %d: %v", key, i, err)
					return
				}
				mu.Lock()
				if other, ok := given[revision]; ok || revision <= last {
					t.Errorf("Append(%s) %d: got revision %d after %d, which %q has too", key, i, revision, last, other)
				}
				given[revision] = key
				mu.Unlock()
				last = revision
			}
		})
	}
	reading.Go(func() { readWhileWriting(ctx, t, s) })
	writing.Wait()
	cancel()
	reading.Wait()
	rs := all(t, s.Since(t.Context(), "", 0))
	if len(rs) != writers*appends {
		t.Errorf("Since: got %d records, want %d", len(rs), writers*appends)
	}
	for _, r := range rs {
		if given[r.Revision] != r.Key {
			t.Errorf("revision %d: got key %s, want %s as Append said", r.Revision, r.Key, given[r.Revision])
		}
	}
}

// readWhileWriting follows Since as a sink does and checks that it misses
// nothing: each key's entries count from 0 without a gap.
func readWhileWriting(ctx context.Context, t *testing.T, s store.Store) {
	next := make(map[string]int)
	var cursor store.Revision
	for ctx.Err() == nil {
		for r, err := range s.Since(ctx, "", cursor) {
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("Since(%d): %v", cursor, err)
				}
				return
			}
			if got, want := string(r.Entry), fmt.Sprint(next[r.Key]); got != want || r.Revision <= cursor {
				t.Errorf("Since(%d): got entry %s of %s at %d, want %s: a record appeared behind the cursor", cursor,
					got, r.Key, r.Revision, want)
				return
			}
			next[r.Key]++
			cursor = r.Revision
		}
	}
}

// Of a delete and an append that race after the same head one wins.
func raceOfDeleteAndAppend(t *testing.T, s store.Store) {
	for round := range 20 {
		key := fmt.Sprint("k/", round)
		first := put(t, s, key, "1", "s", 0)
		var appended, deleted error
		var wg sync.WaitGroup
		wg.Go(func() { _, appended = s.Append(t.Context(), key, []byte("2"), []byte("s"), first) })
		wg.Go(func() { deleted = s.Delete(t.Context(), key, first) })
		wg.Wait()
		_, err := s.Head(t.Context(), key)
		switch {
		case appended == nil && errors.Is(deleted, store.ErrConflict) && err == nil:
		case errors.Is(appended, store.ErrConflict) && deleted == nil && errors.Is(err, store.ErrNotFound):
		default:
			t.Errorf("round %d: got append %v, delete %v, head %v; want one winner", round, appended, deleted, err)
		}
	}
}

// A closed store says so to everybody, and may be closed again.
func closed(t *testing.T, s store.Store) {
	a := put(t, s, "a", "1", "s", 0)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for range s.Watch(t.Context(), "") {
			continue
		}
	}()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	select {
	case <-watching:
	case <-time.After(patience):
		t.Fatal("Watch: got no end after Close, want one")
	}
	_, err := s.Append(t.Context(), "a", nil, nil, a)
	want(t, "Append", err, store.ErrClosed)
	want(t, "Delete", s.Delete(t.Context(), "a", a), store.ErrClosed)
	_, err = s.Head(t.Context(), "a")
	want(t, "Head", err, store.ErrClosed)
	_, err = collect(t, s.Heads(t.Context(), ""))
	want(t, "Heads", err, store.ErrClosed)
	_, err = collect(t, s.History(t.Context(), "a"))
	want(t, "History", err, store.ErrClosed)
	_, err = collect(t, s.Since(t.Context(), "", 0))
	want(t, "Since", err, store.ErrClosed)
	if err := s.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

// Close does not hang on callers, and each of them gets an answer: done or
// closed.
func closeUnderLoad(t *testing.T, s store.Store) {
	const writers = 8
	started := make(chan struct{}, writers)
	var closed atomic.Bool
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			key := fmt.Sprint("k/", w)
			var last store.Revision
			for i := 0; ; i++ {
				late := closed.Load()
				revision, err := s.Append(t.Context(), key, []byte("e"), []byte("s"), last)
				if errors.Is(err, store.ErrClosed) {
					return
				}
				if err != nil || late {
					t.Errorf("Append while closing: got error %v with Close done %t, want nil before and closed after",
						err, late)
					return
				}
				last = revision
				if _, err := s.Head(t.Context(), key); err != nil && !errors.Is(err, store.ErrClosed) {
					t.Errorf("Head while closing: got error %v, want nil or closed", err)
				}
				if i == 0 {
					started <- struct{}{}
				}
			}
		})
	}
	for range writers {
		select {
		case <-started:
		case <-time.After(patience):
			t.Fatal("got no first append from every writer, want one")
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	closed.Store(true)
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("got writers that still wait after Close, want none")
	}
}
