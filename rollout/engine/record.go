package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/store"
)

// schemaVersion is the newest format of states, plans and endpoint records that
// this code reads.
const schemaVersion = 1

// The prefixes of keys. A plan is the entry of its record; a rollout's record
// holds a rollout.Entry and the state after it.
const (
	rolloutPrefix  = "rollout/"
	planPrefix     = "plan/"
	inboxPrefix    = "inbox/"
	endpointPrefix = "endpoint/"
	cursorPrefix   = "cursor/"
	pagePrefix     = "page/"
)

func rolloutKey(id string) string    { return rolloutPrefix + id }
func planKey(id string) string       { return planPrefix + id }
func inboxKey(id, key string) string { return inboxPrefix + id + "/" + key }

// validID reports whether a rollout's id (or an act's key) can be part of a key.
func validID(id string) bool {
	if id == "" || len(id) > 200 || id == "." || id == ".." {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\*>`, r) })
}

// isClosed reports whether a rollout has ended and has nothing left to do.
func isClosed(s *rollout.State) bool { return s.Phase.Terminal() && len(s.Outbox) == 0 }

// decodeHead reads a rollout's head record.
func decodeHead(rec store.Record) (rollout.State, head, error) {
	fail := func(what string, err error) (rollout.State, head, error) {
		return rollout.State{}, head{}, fmt.Errorf("decode %s of %s: %w", what, rec.Key, err)
	}
	var s rollout.State
	if err := json.Unmarshal(rec.State, &s); err != nil {
		return fail("state", errors.Join(rollout.ErrFormat, err))
	}
	if s.SchemaVersion < 1 || s.SchemaVersion > rollout.StateVersion {
		return fail("state", fmt.Errorf("schema version %d: %w", s.SchemaVersion, rollout.ErrFormat))
	}
	entry, err := decodeEntry(rec)
	if err != nil {
		return rollout.State{}, head{}, err
	}
	hash, err := entry.Hash()
	if err != nil {
		return fail("entry", err)
	}
	return s, head{revision: rec.Revision, seq: entry.Seq, hash: hash, epoch: entry.Epoch, owner: entry.Owner}, nil
}

// decodeEntry reads one entry of a rollout's journal.
func decodeEntry(rec store.Record) (rollout.Entry, error) {
	var entry rollout.Entry
	if err := json.Unmarshal(rec.Entry, &entry); err != nil {
		return entry, fmt.Errorf("decode entry of %s: %w", rec.Key, errors.Join(rollout.ErrFormat, err))
	}
	return entry, nil
}

// plan reads the plan of a rollout.
func (e *Engine) plan(ctx context.Context, id string) (*rollout.Plan, error) {
	rec, err := e.cfg.Store.Head(ctx, planKey(id))
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("the plan is missing: %w", rollout.ErrFormat)
		}
		return nil, fmt.Errorf("read plan of %s: %w", id, err)
	}
	return decodePlan(rec)
}

func decodePlan(rec store.Record) (*rollout.Plan, error) {
	var p rollout.Plan
	if err := json.Unmarshal(rec.Entry, &p); err != nil {
		return nil, fmt.Errorf("decode %s: %w", rec.Key, errors.Join(rollout.ErrFormat, err))
	}
	if p.SchemaVersion > schemaVersion {
		return nil, fmt.Errorf("decode %s: schema version %d: %w", rec.Key, p.SchemaVersion, rollout.ErrFormat)
	}
	return &p, nil
}
