package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/store"
)

// A slow watcher holds nobody up: it sees each key that changed once, as it is
// when it gets there, and what is beyond the bound it does not see.
func TestWatchersSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w store.Watchers
		var mu sync.Mutex
		revision := store.Revision(0)
		head := func(_ context.Context, key string) (store.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			if key == "a/gone" {
				return store.Record{}, store.ErrNotFound
			}
			return store.Record{Key: key, Revision: revision}, nil
		}
		change := func(key string) {
			mu.Lock()
			revision++
			mu.Unlock()
			w.Changed(key)
		}
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(map[string][]store.Revision)
		var wg sync.WaitGroup
		wg.Go(func() {
			for r := range w.Watch(ctx, "a/", head) {
				seen[r.Key] = append(seen[r.Key], r.Revision)
				if r.Key == "a/slow" {
					time.Sleep(time.Hour)
				}
			}
		})
		synctest.Wait()
		change("a/slow")
		synctest.Wait() // It sleeps now.
		for range 3 {
			change("a/1")
			change("a/gone")
			change("b/1")
		}
		for i := range 10_000 {
			change(fmt.Sprint("a/many/", i))
		}
		last := revision
		time.Sleep(2 * time.Hour)
		cancel()
		wg.Wait()
		if got, want := fmt.Sprint(seen["a/slow"], seen["a/1"], len(seen["b/1"]), len(seen["a/gone"])), fmt.Sprint([]store.Revision{1}, []store.Revision{last}, 0, 0); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if n := len(seen); n < 1000 || n > 5000 {
			t.Errorf("got %d keys of 10,002, want what the bound allows", n)
		}
		w.Changed("a/1") // Nobody watches any more; nothing happens.
	})
}

// Close ends every watch, those under way and those to come.
func TestWatchersClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w store.Watchers
		head := func(context.Context, string) (store.Record, error) { return store.Record{}, errors.New("unreachable") }
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for r := range w.Watch(t.Context(), "", head) {
					t.Errorf("got %+v, want nothing", r)
				}
			})
		}
		synctest.Wait()
		w.Close()
		w.Close()
		wg.Wait()
		for r := range w.Watch(t.Context(), "", head) {
			t.Errorf("after Close: got %+v, want nothing", r)
		}
		w.Changed("a")
	})
}

// The lease that never ends is granted again and again, but not to somebody
// who has gone.
func TestAlways(t *testing.T) {
	for _, holder := range []string{"one", "two"} {
		lease, err := store.Always{}.Acquire(t.Context(), "endpoint/a", holder)
		if err != nil {
			t.Fatalf("Acquire by %s: %v", holder, err)
		}
		select {
		case <-lease.Lost():
			t.Errorf("%s: got a lease that is lost, want one for ever", holder)
		default:
		}
		if lease.Trusted().Before(time.Now().AddDate(100, 0, 0)) {
			t.Errorf("%s: got trusted until %s, want far away", holder, lease.Trusted())
		}
		if _, err := lease.Trusted().MarshalJSON(); err != nil {
			t.Errorf("%s: %v", holder, err)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Errorf("Release by %s: %v", holder, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (store.Always{}).Acquire(ctx, "endpoint/a", "gone"); !errors.Is(err, context.Canceled) {
		t.Errorf("Acquire with an ended context: got error %v, want %v", err, context.Canceled)
	}
}
