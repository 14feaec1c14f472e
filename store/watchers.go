package store

import (
	"context"
	"iter"
	"strings"
	"sync"
)

// watcherPending bounds the changed keys one watcher has not looked at yet.
const watcherPending = 4096

// Watchers tells the Watch calls of one process which keys have changed. It
// never blocks the writer: a watcher keeps the names of changed keys, each
// once, and reads the head when it gets there, so a slow one sees fewer but
// never older records. Beyond 4,096 names further ones are dropped, which the
// contract of Watch allows.
//
// The zero value is ready. It is safe for concurrent use and starts no
// goroutine.
type Watchers struct {
	mu     sync.Mutex
	all    map[*watcher]struct{}
	closed bool
}

// A watcher is one Watch under way.
type watcher struct {
	prefix  string
	wake    chan struct{}   // capacity 1; closed by Close
	pending []string        // in the order of change
	listed  map[string]bool // the members of pending
}

// Changed says that the key has a new head.
func (w *Watchers) Changed(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	for one := range w.all {
		if !strings.HasPrefix(key, one.prefix) || one.listed[key] || len(one.pending) >= watcherPending {
			continue
		}
		one.pending = append(one.pending, key)
		one.listed[key] = true
		select {
		case one.wake <- struct{}{}:
		default: // It is awake already.
		}
	}
}

// Watch yields head(key) for every key with the prefix that changes from now
// on, until ctx ends, the consumer stops or Close is called. A key whose head
// cannot be read is left out.
func (w *Watchers) Watch(
	ctx context.Context, prefix string, head func(context.Context, string) (Record, error),
) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		one, ok := w.add(prefix)
		if !ok {
			return
		}
		defer w.remove(one)
		for {
			select {
			case <-ctx.Done():
				return
			case _, open := <-one.wake:
				if !open {
					return
				}
			}
			for _, key := range w.take(one) {
				if ctx.Err() != nil {
					return
				}
				r, err := head(ctx, key)
				if err == nil && !yield(r) {
					return
				}
			}
		}
	}
}

// Close ends every Watch; later ones end at once.
func (w *Watchers) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	for one := range w.all {
		close(one.wake)
	}
	w.all = nil
}

func (w *Watchers) add(prefix string) (*watcher, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, false
	}
	if w.all == nil {
		w.all = make(map[*watcher]struct{})
	}
	one := &watcher{prefix: prefix, wake: make(chan struct{}, 1), listed: make(map[string]bool)}
	w.all[one] = struct{}{}
	return one, true
}

func (w *Watchers) remove(one *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, one)
}

func (w *Watchers) take(one *watcher) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := one.pending
	one.pending = nil
	clear(one.listed)
	return keys
}
