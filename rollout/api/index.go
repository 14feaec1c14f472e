package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/view"
)

// An entry is a rollout in the index, ready to be sent.
type entry struct {
	view.Card
	body json.RawMessage // the Rollout as JSON
}

// before orders entries as lists show them.
func before(a, b entry) int { return a.Before(&b.Card) }

// placed orders entries against a card.
func placed(a entry, at view.Card) int { return a.Before(&at) }

// An index is the list of all rollouts as of their last journal entry. It
// answers without reading the store.
type index struct {
	// loaded is closed when the index first knows every rollout.
	loaded chan struct{}

	// reading is held from reading one rollout until it is in the index, and while
	// one is taken off, so that what was deleted does not come back.
	reading sync.Mutex

	mu       sync.RWMutex
	entries  []entry // sorted by before
	at       map[string]time.Time
	revision uint64
	// moved is closed when revision changes, and is another one then.
	moved chan struct{}
	// loading: all rollouts are being read; those deleted meanwhile are in erased.
	loading bool
	erased  []string
}

func newIndex() *index {
	return &index{loaded: make(chan struct{}), at: map[string]time.Time{}, moved: make(chan struct{})}
}

// resync is how often the index is made anew: it then forgets rollouts that the
// retention of another process has deleted and that nobody has asked for since.
const resync = time.Hour

// run keeps the index up to date until ctx ends.
func (x *index) run(ctx context.Context, e Engine, log *slog.Logger) {
	erased := e.Erased(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for id := range erased {
			x.forget(id)
		}
	})
	for ctx.Err() == nil {
		if err := x.load(ctx, e); err != nil {
			if ctx.Err() == nil {
				log.Warn("list of rollouts waits", "err", err)
			}
			pause(ctx, time.Second)
			continue
		}
		following, cancel := context.WithTimeout(ctx, resync)
		err := x.follow(following, e)
		cancel()
		if err != nil && ctx.Err() == nil {
			log.Warn("list of rollouts begins anew", "err", err)
			pause(ctx, time.Second)
		}
	}
}

// load reads every rollout. It reads twice: what was committed during the first
// pass is in the second, and what is committed during the second has a revision
// above all that the first has seen.
func (x *index) load(ctx context.Context, e Engine) error {
	x.mu.Lock()
	x.loading, x.erased = true, nil
	x.mu.Unlock()
	revision := uint64(0)
	for snap, err := range e.Rollouts(ctx) {
		if err == nil {
			revision = max(revision, snap.Revision)
		}
	}
	var entries []entry
	at := map[string]time.Time{}
	for snap, err := range e.Rollouts(ctx) {
		if err != nil {
			continue // a rollout that cannot be read is the engine's to report
		}
		c, err := entryOf(snap)
		if err != nil {
			return err
		}
		entries = append(entries, c)
		at[c.ID] = c.CreatedAt
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	slices.SortFunc(entries, before)
	x.mu.Lock()
	x.entries, x.at = entries, at
	x.moveTo(revision)
	erased := x.erased
	x.loading, x.erased = false, nil
	x.mu.Unlock()
	for _, id := range erased { // it may have been read before
		x.recheck(ctx, e, id)
	}
	select {
	case <-x.loaded:
	default:
		close(x.loaded)
	}
	return nil
}

// follow applies changes until ctx ends.
func (x *index) follow(ctx context.Context, e Engine) error {
	x.mu.RLock()
	after := x.revision
	x.mu.RUnlock()
	for change, err := range e.Changes(ctx, after) {
		if err != nil {
			return err
		}
		if err := x.refresh(ctx, e, change.Rollout, change.Revision); err != nil {
			return err
		}
		x.mu.Lock()
		x.moveTo(change.Revision)
		x.mu.Unlock()
	}
	return nil
}

// behindMost is how long a rollout may be behind its journal.
const behindMost = 5 * time.Second

// refresh reads a rollout and puts it in the index as of a revision or later, or takes
// it off. A change is in the journal a moment before whoever carries the rollout knows
// that it is: what was read before that is not the rollout that the change led to, and
// no later change may come.
func (x *index) refresh(ctx context.Context, e Engine, id string, revision uint64) error {
	x.reading.Lock()
	defer x.reading.Unlock()
	for began, wait := time.Now(), time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		snap, err := e.Rollout(ctx, id)
		switch {
		case errors.Is(err, rollout.ErrNotFound):
			x.remove(id)
			return nil
		case errors.Is(err, rollout.ErrFormat):
			return nil // The engine counts it; the others are shown.
		case err != nil:
			return err
		case snap.Revision >= revision:
			c, err := entryOf(snap)
			if err == nil {
				x.put(c)
			}
			return err
		case time.Since(began) > behindMost || ctx.Err() != nil:
			return fmt.Errorf("read rollout %s: it is behind its journal: at revision %d, not %d", id, snap.Revision, revision)
		}
		pause(ctx, wait)
	}
}

// forget takes a rollout that was deleted out of the index, and off the one that is
// being made.
func (x *index) forget(id string) {
	x.reading.Lock()
	defer x.reading.Unlock()
	x.mu.Lock()
	if x.loading {
		x.erased = append(x.erased, id)
	}
	x.mu.Unlock()
	x.remove(id)
}

// recheck looks again at a rollout that somebody has not found, if it is on the
// index: another process may have deleted it.
func (x *index) recheck(ctx context.Context, e Engine, id string) {
	x.mu.RLock()
	_, listed := x.at[id]
	x.mu.RUnlock()
	if listed {
		_ = x.refresh(ctx, e, id, 0) // what cannot be read stays as it was
	}
}

// entryOf renders a rollout for the index.
func entryOf(snap rollout.Snapshot) (entry, error) {
	r := view.OfSnapshot(snap)
	body, err := json.Marshal(r)
	if err != nil {
		return entry{}, err // unreachable: no NaN or Inf is in a state
	}
	return entry{Card: r.Card(), body: body}, nil
}

// put adds or replaces an entry.
func (x *index) put(c entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if created, ok := x.at[c.ID]; ok {
		i, found := slices.BinarySearchFunc(x.entries, view.Card{ID: c.ID, CreatedAt: created}, placed)
		if found && created.Equal(c.CreatedAt) {
			x.entries[i] = c
			return
		}
		if found {
			x.entries = slices.Delete(x.entries, i, i+1)
		}
	}
	i, _ := slices.BinarySearchFunc(x.entries, c, before)
	x.entries = slices.Insert(x.entries, i, c)
	x.at[c.ID] = c.CreatedAt
}

// remove forgets a rollout.
func (x *index) remove(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	created, ok := x.at[id]
	if !ok {
		return
	}
	if i, found := slices.BinarySearchFunc(x.entries, view.Card{ID: id, CreatedAt: created}, placed); found {
		x.entries = slices.Delete(x.entries, i, i+1)
	}
	delete(x.at, id)
}

// entry is a rollout's entry; false when it is not in the index.
func (x *index) entry(id string) (entry, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	created, ok := x.at[id]
	if !ok {
		return entry{}, false
	}
	i, found := slices.BinarySearchFunc(x.entries, view.Card{ID: id, CreatedAt: created}, placed)
	if !found {
		return entry{}, false // unreachable: what is in at is in entries
	}
	return x.entries[i], true
}

// page returns up to n entries that match, from the first that is after from, and
// whether there are more.
func (x *index) page(from *view.Card, n int, match func(*entry) bool) (page []entry, more bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	i := 0
	if from != nil {
		var found bool
		if i, found = slices.BinarySearchFunc(x.entries, *from, placed); found {
			i++
		}
	}
	for ; i < len(x.entries); i++ {
		if !match(&x.entries[i]) {
			continue
		}
		if len(page) == n {
			return page, true
		}
		page = append(page, x.entries[i])
	}
	return page, false
}

// ready waits until the index is loaded, for a while.
func (x *index) ready(ctx context.Context) error {
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case <-x.loaded:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return unavailable("the rollouts are still being read", time.Second)
	}
}

// last is the revision up to which the index knows the journal.
func (x *index) last() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.revision
}

// moveTo sets the revision up to which the index knows the journal; with the lock
// held.
func (x *index) moveTo(revision uint64) {
	x.revision = revision
	close(x.moved)
	x.moved = make(chan struct{})
}

// beyond waits until the index knows more of the journal than a revision; false
// when ctx has ended.
func (x *index) beyond(ctx context.Context, revision uint64) bool {
	for {
		x.mu.RLock()
		known, moved := x.revision, x.moved
		x.mu.RUnlock()
		switch {
		case ctx.Err() != nil:
			return false
		case known > revision:
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
		}
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
