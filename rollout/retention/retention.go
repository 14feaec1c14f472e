// Package retention deletes what finished rollouts have left in the store.
//
// The rules of the package:
//   - Nothing is deleted that some sink has not seen: every cursor has to be past it.
//   - A deletion leaves a tombstone (see rollout/audit): one behind belayd's back
//     leaves none.
//   - A rollout's own record goes last, so that a sweep that is cut off is finished by
//     the next one.
package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/audit"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

// Sweep deletes the rollouts that were closed before an instant and that every sink
// has seen. It calls erased for each and returns how many there were, also with an
// error, which ends the sweep.
func Sweep(ctx context.Context, s store.Store, before time.Time, erased func(id string)) (deleted int, err error) {
	seen, err := seen(ctx, s)
	if err != nil {
		return 0, fmt.Errorf("read cursors: %w", err)
	}
	for rec, err := range s.Heads(ctx, record.RolloutPrefix) {
		if err != nil {
			return deleted, fmt.Errorf("list rollouts: %w", err)
		}
		state, _, err := record.DecodeHead(rec)
		if err != nil || !state.Closed() || state.At.After(before) || rec.Revision > seen {
			continue
		}
		id := strings.TrimPrefix(rec.Key, record.RolloutPrefix)
		if err := erase(ctx, s, id, rec, erased); err != nil {
			return deleted, fmt.Errorf("delete rollout %s: %w", id, err)
		}
		deleted++
	}
	return deleted, nil
}

// seen is the revision that every sink has got to. A cursor is the state of its
// record: {"revision": n}.
func seen(ctx context.Context, s store.Store) (store.Revision, error) {
	least := store.Revision(math.MaxUint64)
	for rec, err := range s.Heads(ctx, record.CursorPrefix) {
		if err != nil {
			return 0, err
		}
		var c struct {
			Revision store.Revision `json:"revision"`
		}
		if err := json.Unmarshal(rec.State, &c); err != nil {
			return 0, err
		}
		least = min(least, c.Revision)
	}
	return least, nil
}

// erase deletes everything of one rollout, whose head is last, but for a tombstone.
// Where there is no space for one it is written when the deletion has made some.
func erase(ctx context.Context, s store.Store, id string, last store.Record, erased func(id string)) error {
	stone, err := audit.Of(ctx, s, id, last)
	if err != nil {
		return err
	}
	buried := audit.Bury(ctx, s, stone)
	if buried != nil && !errors.Is(buried, store.ErrFull) {
		return buried
	}

	var rest []store.Record
	for rec, err := range s.Heads(ctx, record.InboxKey(id, "")) {
		if err != nil {
			return err
		}
		rest = append(rest, rec)
	}
	if rec, err := s.Head(ctx, record.PlanKey(id)); err == nil {
		rest = append(rest, rec)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	for _, rec := range rest {
		if err := s.Delete(ctx, rec.Key, rec.Revision); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	if err := s.Delete(ctx, record.RolloutKey(id), last.Revision); err != nil {
		return err
	}
	erased(id)
	if buried != nil {
		return audit.Bury(ctx, s, stone)
	}
	return nil
}
