// Package audit gives all journals one head: a hash that, kept elsewhere, shows
// later that a rollout was deleted, that a chain was rewritten whole, or that an
// older copy took the store's place. The chain of a single journal shows none of
// these.
//
// The rules of the package:
//   - A head is of one revision: what was appended since does not change it, so
//     that a store that went on is still compared with it.
//   - It covers, of every rollout, its id, how many entries its journal has and the
//     hash of the last; of every endpoint all its entries; and what retention
//     deleted. A rollout that retention deletes leaves a Tombstone with the same.
//   - The tombstones are a chain of their own, which the head covers too.
//
// It reads and writes no journal, and keeps no head: /metrics, the events and
// people do.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/belayd/belay/store"
)

// The keys that a head covers.
const (
	rolloutPrefix  = "rollout/"
	endpointPrefix = "endpoint/"
	tombstones     = "audit/deleted"
)

// The errors of a comparison.
var (
	// ErrOlder: the store ends before the head's revision.
	ErrOlder = errors.New("the store ends before the head: an older copy stands in its place")
	// ErrDiffers: what the head covers is not what it was.
	ErrDiffers = errors.New("what the head covers has changed: a rollout was deleted, or a journal was rewritten, by " +
		"somebody else than belayd")
	// ErrExpired: retention deleted rollouts that were under way at the head.
	ErrExpired = errors.New("retention has deleted rollouts that were under way at this head; compare with a later one")
)

// A Checkpoint is all journals at one revision.
type Checkpoint struct {
	Revision store.Revision
	// Rollouts counts the rollouts there were.
	Rollouts int
	// Hash is the SHA-256, in hex.
	Hash string
}

// String is the head on one word: 4711-12-9f86….
func (h Checkpoint) String() string { return fmt.Sprintf("%d-%d-%s", h.Revision, h.Rollouts, h.Hash) }

// Parse reads what String writes.
func Parse(text string) (Checkpoint, error) {
	parts := strings.Split(strings.TrimSpace(text), "-")
	if len(parts) == 3 && len(parts[2]) == 2*sha256.Size {
		revision, err := strconv.ParseUint(parts[0], 10, 64)
		rollouts, err2 := strconv.Atoi(parts[1])
		_, err3 := hex.DecodeString(parts[2])
		if errors.Join(err, err2, err3) == nil {
			return Checkpoint{store.Revision(revision), rollouts, parts[2]}, nil
		}
	}
	return Checkpoint{}, errors.New("want a head as belay audit head prints it: REVISION-ROLLOUTS-HASH")
}

// Now is the head of all that is in the store.
func Now(ctx context.Context, s store.Store) (Checkpoint, error) {
	last, err := end(ctx, s)
	if err != nil {
		return Checkpoint{}, err
	}
	return At(ctx, s, last)
}

// end is the revision of the last record.
func end(ctx context.Context, s store.Store) (store.Revision, error) {
	var last store.Revision
	for rec, err := range s.Heads(ctx, "") {
		if err != nil {
			return 0, fmt.Errorf("read the store's end: %w", err)
		}
		last = max(last, rec.Revision)
	}
	return last, nil
}

// At is the head as it was at a revision. The error wraps ErrOlder or ErrExpired
// where nobody can tell any more.
func At(ctx context.Context, s store.Store, revision store.Revision) (Checkpoint, error) {
	last, err := end(ctx, s)
	if err != nil {
		return Checkpoint{}, err
	}
	if revision > last {
		return Checkpoint{}, fmt.Errorf("head at %d: %w (it ends at %d)", revision, ErrOlder, last)
	}
	lines, err := journals(ctx, s, revision)
	if err != nil {
		return Checkpoint{}, err
	}
	buried, err := deleted(ctx, s, revision, lines)
	if err != nil {
		return Checkpoint{}, err
	}
	h := sha256.New()
	for _, id := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintln(h, rolloutPrefix+id, lines[id])
	}
	if err := endpoints(ctx, s, revision, h); err != nil {
		return Checkpoint{}, err
	}
	fmt.Fprintln(h, tombstones, buried)
	return Checkpoint{Revision: revision, Rollouts: len(lines), Hash: hex.EncodeToString(h.Sum(nil))}, nil
}

// Against compares the store with a head that was kept. The error is ErrOlder,
// ErrDiffers or ErrExpired.
func Against(ctx context.Context, s store.Store, kept Checkpoint) error {
	is, err := At(ctx, s, kept.Revision)
	if err != nil {
		return err
	}
	return Compare(kept, is)
}

// Compare compares a head that was kept with what the store says of its revision.
func Compare(kept, is Checkpoint) error {
	switch {
	case is.Rollouts != kept.Rollouts:
		return fmt.Errorf("%w (there were %d rollouts, of which it has %d)", ErrDiffers, kept.Rollouts, is.Rollouts)
	case is != kept:
		return ErrDiffers
	}
	return nil
}

// sum is what stands of a journal in the head: how many entries, and the last one's
// hash.
func sum(entry []byte) (string, error) {
	var e struct{ Seq int }
	if err := json.Unmarshal(entry, &e); err != nil {
		return "", err
	}
	h := sha256.Sum256(entry)
	return fmt.Sprintf("%d %x", e.Seq, h), nil
}

// journals are the sums of the rollouts in the store as they were at a revision.
func journals(ctx context.Context, s store.Store, revision store.Revision) (map[string]string, error) {
	lines := map[string]string{}
	for rec, err := range s.Heads(ctx, rolloutPrefix) {
		if err != nil {
			return nil, fmt.Errorf("read journals: %w", err)
		}
		if rec.Revision > revision {
			if rec, err = before(ctx, s, rec.Key, revision); errors.Is(err, store.ErrNotFound) {
				continue // it began later, or was deleted meanwhile
			} else if err != nil {
				return nil, err
			}
		}
		if lines[strings.TrimPrefix(rec.Key, rolloutPrefix)], err = sum(rec.Entry); err != nil {
			return nil, fmt.Errorf("read %s: %w", rec.Key, err)
		}
	}
	return lines, nil
}

// before is a key's last record up to a revision.
func before(ctx context.Context, s store.Store, key string, revision store.Revision) (store.Record, error) {
	var last store.Record
	for rec, err := range s.History(ctx, key) {
		if err != nil {
			return last, fmt.Errorf("read %s: %w", key, err)
		}
		if rec.Revision > revision {
			break
		}
		last = rec
	}
	if last.Key == "" {
		return last, store.ErrNotFound
	}
	return last, nil
}

// endpoints writes the hash of all entries of every endpoint up to a revision.
func endpoints(ctx context.Context, s store.Store, revision store.Revision, to hash.Hash) error {
	for head, err := range s.Heads(ctx, endpointPrefix) {
		if err != nil {
			return fmt.Errorf("read endpoints: %w", err)
		}
		h, n := sha256.New(), 0
		for rec, err := range s.History(ctx, head.Key) {
			if err != nil {
				return fmt.Errorf("read %s: %w", head.Key, err)
			}
			if rec.Revision > revision {
				break
			}
			fmt.Fprintf(h, "%d ", len(rec.Entry))
			_, _ = h.Write(rec.Entry) // a hash takes everything
			n++
		}
		if n > 0 {
			fmt.Fprintf(to, "%s %d %x\n", head.Key, n, h.Sum(nil))
		}
	}
	return nil
}

// A Tombstone is what is left of a rollout that retention deleted.
type Tombstone struct {
	SchemaVersion int    `json:"schemaVersion"`
	Rollout       string `json:"rollout"`
	// Sum is what stood of its journal in the head; Began and Ended are the revisions
	// of its first and its last entry.
	Sum   string         `json:"sum"`
	Began store.Revision `json:"began"`
	Ended store.Revision `json:"ended"`
	// Prev is the SHA-256 of the tombstone before, in hex; "" for the first.
	Prev string `json:"prev"`
}

// Of makes the tombstone of a rollout whose head is last.
func Of(ctx context.Context, s store.Store, id string, last store.Record) (Tombstone, error) {
	t := Tombstone{SchemaVersion: 1, Rollout: id, Ended: last.Revision}
	var err error
	if t.Sum, err = sum(last.Entry); err != nil {
		return t, fmt.Errorf("bury rollout %s: %w", id, err)
	}
	for rec, err := range s.History(ctx, last.Key) {
		if err != nil {
			return t, fmt.Errorf("bury rollout %s: %w", id, err)
		}
		t.Began = rec.Revision
		break
	}
	return t, nil
}

// Bury writes a tombstone. Writing it twice does no harm. It is tried a few times
// where others write at the same moment.
func Bury(ctx context.Context, s store.Store, t Tombstone) error {
	var err error
	for range 8 {
		if err = bury(ctx, s, t); !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrUnknown) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("bury rollout %s: %w", t.Rollout, err)
	}
	return nil
}

func bury(ctx context.Context, s store.Store, t Tombstone) error {
	head, err := s.Head(ctx, tombstones)
	switch {
	case err == nil:
		t.Prev = fmt.Sprintf("%x", sha256.Sum256(head.Entry))
		var there Tombstone
		if json.Unmarshal(head.Entry, &there) == nil && there.Rollout == t.Rollout && there.Ended == t.Ended {
			return nil // written by a try whose answer was lost
		}
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	b, err := json.Marshal(t)
	if err != nil {
		return err // unreachable: texts and numbers
	}
	_, err = s.Append(ctx, tombstones, b, nil, head.Revision)
	return err
}

// A Burial is a tombstone and when it was written.
type Burial struct {
	Tombstone
	Revision store.Revision
}

// Deleted yields the tombstones in their order. The error says where their chain is
// broken.
func Deleted(ctx context.Context, s store.Store) iter.Seq2[Burial, error] {
	return func(yield func(Burial, error) bool) {
		prev := ""
		for rec, err := range s.History(ctx, tombstones) {
			if errors.Is(err, store.ErrNotFound) {
				return
			}
			b := Burial{Revision: rec.Revision}
			if err == nil {
				err = json.Unmarshal(rec.Entry, &b.Tombstone)
			}
			if err == nil && b.Prev != prev {
				err = fmt.Errorf("the tombstone of %s does not follow the one before", b.Rollout)
			}
			prev = fmt.Sprintf("%x", sha256.Sum256(rec.Entry))
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// deleted adds to the sums those of the rollouts that were deleted since the
// revision, and returns what stands of the tombstones in the head.
func deleted(ctx context.Context, s store.Store, revision store.Revision, lines map[string]string) (string, error) {
	line := "0"
	n := 0
	for b, err := range Deleted(ctx, s) {
		if err != nil {
			return "", fmt.Errorf("read what was deleted: %w", err)
		}
		_, there := lines[b.Rollout]
		switch {
		case b.Revision <= revision:
			n++
			entry, err := json.Marshal(b.Tombstone)
			if err != nil {
				return "", err // unreachable: texts and numbers
			}
			line = fmt.Sprintf("%d %x", n, sha256.Sum256(entry))
		case there || b.Began > revision:
		case b.Ended > revision:
			return "", fmt.Errorf("head at %d: %w", revision, ErrExpired)
		default:
			lines[b.Rollout] = b.Sum
		}
	}
	return line, nil
}
