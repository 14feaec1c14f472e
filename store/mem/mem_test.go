package mem_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
	"github.com/belayd/belay/store/storetest"
)

// The store in memory means what every store means.
func TestExercise(t *testing.T) {
	storetest.Exercise(t, func(t *testing.T) store.Store {
		s := mem.New()
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}

// Every way a write can go wrong: what the caller hears, and what is true.
func TestFault(t *testing.T) {
	refused := errors.New("disk on fire")
	for _, test := range []struct {
		story   string
		apply   bool
		err     error
		heard   error
		applied bool
	}{
		{"nothing is wrong", true, nil, nil, true},
		{"the write fails", false, refused, refused, false},
		{"the write fails and nobody knows", false, store.ErrUnknown, store.ErrUnknown, false},
		{"the write happens and its answer is lost", true, store.ErrUnknown, store.ErrUnknown, true},
		{"the hook forgot its error", false, nil, store.ErrUnknown, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			s := mem.New()
			first, err := s.Append(t.Context(), "a", []byte("1"), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			var asked []string
			s.Fault = func(op mem.Op) (bool, error) {
				asked = append(asked, fmt.Sprintf("%s %s %q %q %d", op.Kind, op.Key, op.Entry, op.State, op.After))
				return test.apply, test.err
			}
			if _, err := s.Append(t.Context(), "a", []byte("2"), []byte("s"), first); !errors.Is(err, test.heard) {
				t.Errorf("Append: got error %v, want %v", err, test.heard)
			}
			r, err := s.Head(t.Context(), "a")
			if err != nil || (r.Revision > first) != test.applied {
				t.Errorf("Head after the append: got %+v, %v; want applied %t", r, err, test.applied)
			}
			if err := s.Delete(t.Context(), "a", r.Revision); !errors.Is(err, test.heard) {
				t.Errorf("Delete: got error %v, want %v", err, test.heard)
			}
			if _, err := s.Head(t.Context(), "a"); errors.Is(err, store.ErrNotFound) != test.applied {
				t.Errorf("Head after the delete: got error %v, want deleted %t", err, test.applied)
			}
			want := []string{`append a "2" "s" 1`, fmt.Sprintf(`delete a "" "" %d`, r.Revision)}
			if fmt.Sprint(asked) != fmt.Sprint(want) {
				t.Errorf("the hook saw %q, want %q", asked, want)
			}
		})
	}
}

// The answer that was lost may have been a conflict: the caller cannot know.
func TestFaultHidesConflict(t *testing.T) {
	s := mem.New()
	if _, err := s.Append(t.Context(), "a", nil, nil, 0); err != nil {
		t.Fatal(err)
	}
	s.Fault = func(mem.Op) (bool, error) { return true, store.ErrUnknown }
	if _, err := s.Append(t.Context(), "a", nil, nil, 0); !errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrConflict) {
		t.Errorf("Append: got error %v, want only %v", err, store.ErrUnknown)
	}
}

// The hook may use the store: another writer gets in first, and the one who
// was held up conflicts.
func TestFaultMayWrite(t *testing.T) {
	s := mem.New()
	held := false
	s.Fault = func(op mem.Op) (bool, error) {
		if held {
			return true, nil
		}
		held = true
		if _, err := s.Append(t.Context(), op.Key, []byte("the other"), nil, op.After); err != nil {
			t.Errorf("Append in the hook: %v", err)
		}
		return true, nil
	}
	if _, err := s.Append(t.Context(), "a", []byte("late"), nil, 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Append: got error %v, want %v", err, store.ErrConflict)
	}
}

// In a bubble time passes only when everybody waits: a watch, a slow append and
// a lease all let it pass.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		s.Fault = func(mem.Op) (bool, error) { time.Sleep(time.Hour); return true, nil }
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Minute)
		defer cancel()
		lease, err := s.Acquire(ctx, "endpoint/a", "me")
		if err != nil {
			t.Fatalf("Acquire: %v", err)
		}
		began := time.Now()
		var seen []string
		var wg sync.WaitGroup
		wg.Go(func() {
			for r := range s.Watch(ctx, "a") {
				seen = append(seen, fmt.Sprintf("%s %s", r.Entry, time.Since(began)))
			}
		})
		wg.Go(func() {
			select {
			case <-lease.Lost():
				t.Error("lease: got lost, want kept")
			case <-ctx.Done():
			}
		})
		last, err := s.Append(ctx, "a", []byte("one"), nil, 0)
		if err != nil {
			t.Fatalf("Append: %v", err)
		}
		if _, err := s.Append(ctx, "a", []byte("two"), nil, last); err != nil {
			t.Fatalf("Append: %v", err)
		}
		wg.Wait()
		if got, want := fmt.Sprint(seen, time.Since(began)), "[one 1h0m0s two 2h0m0s] 2h30m0s"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if trusted := lease.Trusted(); trusted.Before(time.Now().AddDate(1000, 0, 0)) {
			t.Errorf("Trusted: got %s, want an instant far away", trusted)
		}
		if err := lease.Release(ctx); err != nil {
			t.Errorf("Release: %v", err)
		}
	})
}
