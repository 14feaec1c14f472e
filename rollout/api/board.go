package api

import (
	"cmp"
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

// A card is a rollout on the board, ready to be sent.
type card struct {
	id      string
	created time.Time
	router  string
	name    string
	phase   rollout.Phase
	owner   string
	labels  map[string]string
	body    json.RawMessage // the Rollout as JSON
}

// before orders cards: the newest first, then by id.
func before(a, b card) int {
	return cmp.Or(b.created.Compare(a.created), cmp.Compare(a.id, b.id))
}

// A board is the list of all rollouts as of their last journal entry. It
// answers without reading the store.
type board struct {
	// loaded is closed when the board first knows every rollout.
	loaded chan struct{}

	// reading is held from reading one rollout until it is on the board, and while
	// one is taken off, so that what was deleted does not come back.
	reading sync.Mutex

	mu       sync.RWMutex
	cards    []card // sorted by before
	at       map[string]time.Time
	revision uint64
	// moved is closed when revision changes, and is another one then.
	moved chan struct{}
	// loading: all rollouts are being read; those deleted meanwhile are in erased.
	loading bool
	erased  []string
}

func newBoard() *board {
	return &board{loaded: make(chan struct{}), at: map[string]time.Time{}, moved: make(chan struct{})}
}

// resync is how often the board is made anew: it then forgets rollouts that the
// retention of another process has deleted and that nobody has asked for since.
const resync = time.Hour

// run keeps the board up to date until ctx ends.
func (b *board) run(ctx context.Context, e Engine, log *slog.Logger) {
	erased := e.Erased(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for id := range erased {
			b.forget(id)
		}
	})
	for ctx.Err() == nil {
		if err := b.load(ctx, e); err != nil {
			if ctx.Err() == nil {
				log.Warn("list of rollouts waits", "err", err)
			}
			pause(ctx, time.Second)
			continue
		}
		following, cancel := context.WithTimeout(ctx, resync)
		err := b.follow(following, e)
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
func (b *board) load(ctx context.Context, e Engine) error {
	b.mu.Lock()
	b.loading, b.erased = true, nil
	b.mu.Unlock()
	revision := uint64(0)
	for snap, err := range e.Rollouts(ctx) {
		if err == nil {
			revision = max(revision, snap.Revision)
		}
	}
	var cards []card
	at := map[string]time.Time{}
	for snap, err := range e.Rollouts(ctx) {
		if err != nil {
			continue // a rollout that cannot be read is the engine's to report
		}
		c, err := cardOf(snap)
		if err != nil {
			return err
		}
		cards = append(cards, c)
		at[c.id] = c.created
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	slices.SortFunc(cards, before)
	b.mu.Lock()
	b.cards, b.at = cards, at
	b.moveTo(revision)
	erased := b.erased
	b.loading, b.erased = false, nil
	b.mu.Unlock()
	for _, id := range erased { // it may have been read before
		b.doubt(ctx, e, id)
	}
	select {
	case <-b.loaded:
	default:
		close(b.loaded)
	}
	return nil
}

// follow applies changes until ctx ends.
func (b *board) follow(ctx context.Context, e Engine) error {
	b.mu.RLock()
	after := b.revision
	b.mu.RUnlock()
	for change, err := range e.Changes(ctx, after) {
		if err != nil {
			return err
		}
		if err := b.refresh(ctx, e, change.Rollout, change.Revision); err != nil {
			return err
		}
		b.mu.Lock()
		b.moveTo(change.Revision)
		b.mu.Unlock()
	}
	return nil
}

// behindMost is how long a rollout may be behind its journal.
const behindMost = 5 * time.Second

// refresh reads a rollout and puts it on the board as of a revision or later, or takes
// it off. A change is in the journal a moment before whoever carries the rollout knows
// that it is: what was read before that is not the rollout that the change led to, and
// no later change may come.
func (b *board) refresh(ctx context.Context, e Engine, id string, revision uint64) error {
	b.reading.Lock()
	defer b.reading.Unlock()
	for began, wait := time.Now(), time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		snap, err := e.Rollout(ctx, id)
		switch {
		case errors.Is(err, rollout.ErrNotFound):
			b.remove(id)
			return nil
		case errors.Is(err, rollout.ErrFormat):
			return nil // The engine counts it; the others are shown.
		case err != nil:
			return err
		case snap.Revision >= revision:
			c, err := cardOf(snap)
			if err == nil {
				b.put(c)
			}
			return err
		case time.Since(began) > behindMost || ctx.Err() != nil:
			return fmt.Errorf("read rollout %s: it is behind its journal: at revision %d, not %d", id, snap.Revision, revision)
		}
		pause(ctx, wait)
	}
}

// forget takes a rollout that was deleted off the board, and off the one that is
// being made.
func (b *board) forget(id string) {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.mu.Lock()
	if b.loading {
		b.erased = append(b.erased, id)
	}
	b.mu.Unlock()
	b.remove(id)
}

// doubt looks again at a rollout that somebody has not found, if it is on the
// board: another process may have deleted it.
func (b *board) doubt(ctx context.Context, e Engine, id string) {
	b.mu.RLock()
	_, listed := b.at[id]
	b.mu.RUnlock()
	if listed {
		_ = b.refresh(ctx, e, id, 0) // what cannot be read stays as it was
	}
}

// cardOf renders a rollout for the board.
func cardOf(snap rollout.Snapshot) (card, error) {
	r := view.OfSnapshot(snap)
	body, err := json.Marshal(r)
	if err != nil {
		return card{}, err // unreachable: no NaN or Inf is in a state
	}
	return card{
		id: r.ID, created: r.CreatedAt, router: r.Endpoint.Router, name: r.Endpoint.Name,
		phase: r.Phase, owner: r.Owner, labels: r.Labels, body: body,
	}, nil
}

// put adds or replaces a card.
func (b *board) put(c card) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if created, ok := b.at[c.id]; ok {
		i, found := slices.BinarySearchFunc(b.cards, card{id: c.id, created: created}, before)
		if found && created.Equal(c.created) {
			b.cards[i] = c
			return
		}
		if found {
			b.cards = slices.Delete(b.cards, i, i+1)
		}
	}
	i, _ := slices.BinarySearchFunc(b.cards, c, before)
	b.cards = slices.Insert(b.cards, i, c)
	b.at[c.id] = c.created
}

// remove forgets a rollout.
func (b *board) remove(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	created, ok := b.at[id]
	if !ok {
		return
	}
	if i, found := slices.BinarySearchFunc(b.cards, card{id: id, created: created}, before); found {
		b.cards = slices.Delete(b.cards, i, i+1)
	}
	delete(b.at, id)
}

// card is a rollout's card; false when it is not on the board.
func (b *board) card(id string) (card, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	created, ok := b.at[id]
	if !ok {
		return card{}, false
	}
	i, found := slices.BinarySearchFunc(b.cards, card{id: id, created: created}, before)
	if !found {
		return card{}, false // unreachable: what is in at is in cards
	}
	return b.cards[i], true
}

// page returns up to n cards that match, from the first that is after from, and
// whether there are more.
func (b *board) page(from *card, n int, match func(*card) bool) (page []card, more bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	i := 0
	if from != nil {
		var found bool
		if i, found = slices.BinarySearchFunc(b.cards, *from, before); found {
			i++
		}
	}
	for ; i < len(b.cards); i++ {
		if !match(&b.cards[i]) {
			continue
		}
		if len(page) == n {
			return page, true
		}
		page = append(page, b.cards[i])
	}
	return page, false
}

// ready waits until the board is loaded, for a while.
func (b *board) ready(ctx context.Context) error {
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case <-b.loaded:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return unavailable("the rollouts are still being read", time.Second)
	}
}

// last is the revision up to which the board knows the journal.
func (b *board) last() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.revision
}

// moveTo sets the revision up to which the board knows the journal; with the lock
// held.
func (b *board) moveTo(revision uint64) {
	b.revision = revision
	close(b.moved)
	b.moved = make(chan struct{})
}

// beyond waits until the board knows more of the journal than a revision; false
// when ctx has ended.
func (b *board) beyond(ctx context.Context, revision uint64) bool {
	for {
		b.mu.RLock()
		known, moved := b.revision, b.moved
		b.mu.RUnlock()
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
