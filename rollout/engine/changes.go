package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

// Rollout returns a rollout as it is now; ErrNotFound when there is none.
func (e *Engine) Rollout(ctx context.Context, id string) (rollout.Snapshot, error) {
	if l := e.runner(id); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.gone {
			return l.snapshot(), nil
		}
	}
	rec, err := e.cfg.Store.Head(ctx, record.RolloutKey(id))
	if errors.Is(err, store.ErrNotFound) {
		err = ErrNotFound
	}
	if err != nil {
		return rollout.Snapshot{}, fmt.Errorf("read rollout %s: %w", id, err)
	}
	return e.snapshot(ctx, id, rec)
}

// snapshot decodes a rollout's head and reads its plan.
func (e *Engine) snapshot(ctx context.Context, id string, rec store.Record) (rollout.Snapshot, error) {
	s, _, err := record.DecodeHead(rec)
	if err != nil {
		return rollout.Snapshot{}, err
	}
	p, err := e.plan(ctx, id)
	if err != nil {
		return rollout.Snapshot{}, err
	}
	return rollout.Snapshot{Plan: p, State: s, Revision: uint64(rec.Revision)}, nil
}

// Rollouts yields all rollouts by id, finished ones too. A rollout that cannot be
// read yields its error; the others follow.
func (e *Engine) Rollouts(ctx context.Context) iter.Seq2[rollout.Snapshot, error] {
	return func(yield func(rollout.Snapshot, error) bool) {
		for rec, err := range e.cfg.Store.Heads(ctx, record.RolloutPrefix) {
			if err != nil {
				yield(rollout.Snapshot{}, fmt.Errorf("list rollouts: %w", err))
				return
			}
			id := strings.TrimPrefix(rec.Key, record.RolloutPrefix)
			if !yield(e.present(ctx, id, rec)) {
				return
			}
		}
	}
}

// present is the rollout in memory when this replica carries it and knows of its
// record, else the record: that of an append that has just returned is not known yet.
func (e *Engine) present(ctx context.Context, id string, rec store.Record) (rollout.Snapshot, error) {
	if l := e.runner(id); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.gone && l.head.Revision >= rec.Revision {
			return l.snapshot(), nil
		}
	}
	return e.snapshot(ctx, id, rec)
}

// Journal yields the entries of a rollout's journal in order; ErrNotFound when
// there is none.
func (e *Engine) Journal(ctx context.Context, id string) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for rec, err := range e.cfg.Store.History(ctx, record.RolloutKey(id)) {
			if errors.Is(err, store.ErrNotFound) {
				err = ErrNotFound
			}
			if err != nil {
				yield(journal.Entry{}, fmt.Errorf("read journal of %s: %w", id, err))
				return
			}
			entry, err := record.DecodeEntry(rec)
			if !yield(entry, err) || err != nil {
				return
			}
		}
	}
}

// Changes yields the entries of all journals after a revision, in the order in
// which they were committed, and then those to come, until ctx ends: it then
// yields nothing more. An error ends it; the caller goes on from the last
// revision it saw. An entry that this version cannot read is left out, and its rollout
// counted as unreadable.
func (e *Engine) Changes(ctx context.Context, after uint64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		last := store.Revision(after)
		for ctx.Err() == nil {
			changed := e.news.next()
			for rec, err := range e.cfg.Store.Since(ctx, record.RolloutPrefix, last) {
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					yield(Change{}, fmt.Errorf("read changes after %d: %w", last, err))
					return
				}
				last = rec.Revision
				id := strings.TrimPrefix(rec.Key, record.RolloutPrefix)
				entry, err := record.DecodeEntry(rec)
				if err != nil {
					e.quarantine(id, err.Error())
					continue
				}
				if !yield(Change{Revision: uint64(rec.Revision), Rollout: id, Entry: entry}, nil) {
					return
				}
			}
			timer := time.NewTimer(e.cfg.Poll)
			select {
			case <-changed:
			case <-timer.C:
				// Another replica may have written.
			case <-ctx.Done():
			}
			timer.Stop()
		}
	}
}

// erasedMax bounds the deleted rollouts that one listener has not heard of yet;
// those beyond it he misses.
const erasedMax = 4096

// Erased yields the rollouts that this process deletes from the call on, until
// ctx ends. Whoever is slow misses some.
func (e *Engine) Erased(ctx context.Context) iter.Seq[string] {
	ch := e.news.listen()
	stop := context.AfterFunc(ctx, func() { e.news.leave(ch) })
	return func(yield func(string) bool) {
		for id := range ch {
			if !yield(id) {
				stop()
				e.news.leave(ch)
				return
			}
		}
	}
}

// A broadcaster tells whoever waits that the store has changed, and what was deleted.
type broadcaster struct {
	mu        sync.Mutex
	ch        chan struct{}
	listeners []chan string
}

func newBroadcaster() *broadcaster { return &broadcaster{ch: make(chan struct{})} }

// next returns a channel that is closed with the next change.
func (n *broadcaster) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ch
}

// listen returns a channel of the rollouts that are deleted from now on.
func (n *broadcaster) listen() chan string {
	n.mu.Lock()
	defer n.mu.Unlock()
	ch := make(chan string, erasedMax)
	n.listeners = append(n.listeners, ch)
	return ch
}

// leave ends a listener, once.
func (n *broadcaster) leave(ch chan string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(n.listeners, ch); i >= 0 {
		n.listeners = slices.Delete(n.listeners, i, i+1)
		close(ch)
	}
}

// erased tells of a rollout that was deleted.
func (n *broadcaster) erased(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ch := range n.listeners {
		select {
		case ch <- id:
		default:
		}
	}
}

// notifyAll wakes everybody who waits.
func (n *broadcaster) notifyAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.ch)
	n.ch = make(chan struct{})
}
