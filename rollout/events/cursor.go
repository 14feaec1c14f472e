package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/belayd/belay/store"
)

const (
	cursorPrefix = "cursor/"
	// cursorTurns is how many times a cursor's record is written before a new one
	// takes its place: a log keeps every entry until it is deleted.
	cursorTurns = 10000
	// cursorOther ends the key of every second record.
	cursorOther = "+"
)

// A cursorState is the state of a cursor's record. The engine reads revision: what is
// above it is not deleted.
type cursorState struct {
	Revision store.Revision `json:"revision"`
	// New: the sink begins at the record's own revision, which the record could
	// not know; Revision is 0, so that everything waits.
	New bool `json:"new,omitempty"`
	// Turns counts the writes of this record.
	Turns int `json:"turns,omitempty"`
}

// A cursor is where a sink stands, in the store.
type cursor struct {
	store store.Store
	sink  string

	key  string
	head store.Revision
	at   cursorState
}

// open finds the cursor or creates it at the present.
func (c *cursor) open(ctx context.Context) (store.Revision, error) {
	err := c.read(ctx)
	if errors.Is(err, store.ErrNotFound) {
		if err := c.append(ctx, cursorPrefix+c.sink, cursorState{New: true}, 0); err != nil &&
			!errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrUnknown) {
			return 0, err
		}
		err = c.read(ctx)
	}
	if err == nil && c.at.New {
		// From now on the record itself says where the sink is.
		if err = c.advance(ctx, c.head); errors.Is(err, store.ErrConflict) {
			err = c.read(ctx) // another replica was faster
		}
	}
	if err != nil {
		return 0, err
	}
	return c.position(), nil
}

// position is the revision after which the sink goes on.
func (c *cursor) position() store.Revision {
	if c.at.New {
		return c.head
	}
	return c.at.Revision
}

// read reads the record that is farthest; the other one, where a turn was cut
// off, goes with the next.
func (c *cursor) read(ctx context.Context) error {
	found := false
	for _, key := range []string{cursorPrefix + c.sink, cursorPrefix + c.sink + cursorOther} {
		rec, err := c.store.Head(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read cursor %s: %w", c.sink, err)
		}
		other := cursor{key: key, head: rec.Revision}
		if err := json.Unmarshal(rec.State, &other.at); err != nil {
			return fmt.Errorf("read cursor %s: %w", c.sink, err)
		}
		if !found || other.position() >= c.position() {
			c.key, c.head, c.at = other.key, other.head, other.at
		}
		found = true
	}
	if !found {
		return fmt.Errorf("read cursor %s: %w", c.sink, store.ErrNotFound)
	}
	return nil
}

// write moves the cursor to a revision. After an error the cursor is read again:
// another replica may have written it.
func (c *cursor) write(ctx context.Context, at store.Revision) error {
	err := c.advance(ctx, at)
	if err == nil {
		return nil
	}
	if rerr := c.read(ctx); rerr != nil {
		return errors.Join(err, rerr)
	}
	if c.position() >= at {
		return nil
	}
	return err
}

func (c *cursor) advance(ctx context.Context, at store.Revision) error {
	if c.at.Turns < cursorTurns {
		return c.append(ctx, c.key, cursorState{Revision: at, Turns: c.at.Turns + 1}, c.head)
	}
	old, head := c.key, c.head
	next := cursorPrefix + c.sink
	if old == next {
		next += cursorOther
	}
	// A record that a turn before left behind goes first.
	if rec, err := c.store.Head(ctx, next); err == nil {
		if err := c.store.Delete(ctx, next, rec.Revision); err != nil {
			return fmt.Errorf("turn cursor %s: %w", c.sink, err)
		}
	}
	if err := c.append(ctx, next, cursorState{Revision: at, Turns: 1}, 0); err != nil {
		return err
	}
	if err := c.store.Delete(ctx, old, head); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("turn cursor %s: %w", c.sink, err)
	}
	return nil
}

// append writes the record and makes it the cursor's.
func (c *cursor) append(ctx context.Context, key string, m cursorState, after store.Revision) error {
	state, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write cursor %s: %w", c.sink, err) // unreachable: two numbers and a flag
	}
	rev, err := c.store.Append(ctx, key, []byte("{}"), state, after)
	if err != nil {
		return fmt.Errorf("write cursor %s: %w", c.sink, err)
	}
	c.key, c.head, c.at = key, rev, m
	return nil
}

// Forget deletes the cursors of sinks that are not configured any more, so that
// old rollouts do not wait for them for ever. It returns the names of those.
func Forget(ctx context.Context, s store.Store, configured ...string) ([]string, error) {
	keep := map[string]bool{}
	for _, sink := range configured {
		keep[cursorPrefix+sink], keep[cursorPrefix+sink+cursorOther] = true, true
	}
	var old []store.Record
	for rec, err := range s.Heads(ctx, cursorPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list cursors: %w", err)
		}
		if !keep[rec.Key] {
			old = append(old, rec)
		}
	}
	var names []string
	for _, rec := range old {
		if err := s.Delete(ctx, rec.Key, rec.Revision); err != nil && !errors.Is(err, store.ErrNotFound) {
			return names, fmt.Errorf("delete %s: %w", rec.Key, err)
		}
		names = append(names, rec.Key[len(cursorPrefix):])
	}
	return names, nil
}
