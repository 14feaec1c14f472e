// Package record says how rollouts stand in the store: the keys, and what the bytes
// under them mean.
//
// The rules of the package:
//   - It decodes what this version knows and says rollout.ErrFormat of what it does
//     not, which is then left alone.
//   - It reads and writes nothing.
package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/store"
)

// SchemaVersion is the newest format of states, plans and endpoint records that
// this code reads.
const SchemaVersion = 1

// The prefixes of keys. A plan is the entry of its record; a rollout's record
// holds a journal.Entry and the state after it.
const (
	RolloutPrefix  = "rollout/"
	PlanPrefix     = "plan/"
	InboxPrefix    = "inbox/"
	EndpointPrefix = "endpoint/"
	CursorPrefix   = "cursor/"
	PagePrefix     = "page/"
)

// RolloutKey is the key of a rollout's journal.
func RolloutKey(id string) string { return RolloutPrefix + id }

// PlanKey is the key of a rollout's plan.
func PlanKey(id string) string { return PlanPrefix + id }

// InboxKey is the key of an act; with an empty one the prefix of a rollout's acts.
func InboxKey(id, act string) string { return InboxPrefix + id + "/" + act }

// InboxParts returns the rollout and the act of an inbox key.
func InboxParts(key string) (id, act string, ok bool) {
	return strings.Cut(strings.TrimPrefix(key, InboxPrefix), "/")
}

// A Head is what is known of a journal's last entry.
type Head struct {
	Revision store.Revision
	Seq      int
	Hash     string
	Epoch    int
	Owner    string
}

// ValidID reports whether a rollout's id (or an act's key) can be part of a key.
func ValidID(id string) bool {
	if id == "" || len(id) > 200 || id == "." || id == ".." {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\*>`, r) })
}

// DecodeHead reads a rollout's head record.
func DecodeHead(rec store.Record) (rollout.State, Head, error) {
	fail := func(what string, err error) (rollout.State, Head, error) {
		return rollout.State{}, Head{}, fmt.Errorf("decode %s of %s: %w", what, rec.Key, err)
	}
	var s rollout.State
	if err := json.Unmarshal(rec.State, &s); err != nil {
		return fail("state", errors.Join(rollout.ErrFormat, err))
	}
	if s.SchemaVersion < 1 || s.SchemaVersion > rollout.StateVersion {
		return fail("state", fmt.Errorf("schema version %d: %w", s.SchemaVersion, rollout.ErrFormat))
	}
	entry, err := DecodeEntry(rec)
	if err != nil {
		return rollout.State{}, Head{}, err
	}
	hash, err := entry.Hash()
	if err != nil {
		return fail("entry", err)
	}
	return s, Head{Revision: rec.Revision, Seq: entry.Seq, Hash: hash, Epoch: entry.Epoch, Owner: entry.Owner}, nil
}

// DecodeEntry reads one entry of a rollout's journal.
func DecodeEntry(rec store.Record) (journal.Entry, error) {
	var entry journal.Entry
	if err := json.Unmarshal(rec.Entry, &entry); err != nil {
		return entry, fmt.Errorf("decode entry of %s: %w", rec.Key, errors.Join(rollout.ErrFormat, err))
	}
	return entry, nil
}

// DecodePlan reads the record of a plan.
func DecodePlan(rec store.Record) (*rollout.Plan, error) {
	var p rollout.Plan
	if err := json.Unmarshal(rec.Entry, &p); err != nil {
		return nil, fmt.Errorf("decode %s: %w", rec.Key, errors.Join(rollout.ErrFormat, err))
	}
	if p.SchemaVersion > SchemaVersion {
		return nil, fmt.Errorf("decode %s: schema version %d: %w", rec.Key, p.SchemaVersion, rollout.ErrFormat)
	}
	return &p, nil
}

// Encode returns the bytes of an entry and its state, and the head they make.
func Encode(entry journal.Entry, s rollout.State) (entryJSON, stateJSON []byte, h Head, err error) {
	stateJSON, err = json.Marshal(s)
	if err != nil {
		return nil, nil, Head{}, fmt.Errorf("encode state of %s: %w", s.ID, err)
	}
	sum := sha256.Sum256(stateJSON)
	entry.State = hex.EncodeToString(sum[:])
	entryJSON, err = json.Marshal(entry)
	if err != nil {
		return nil, nil, Head{}, fmt.Errorf("encode entry %d of %s: %w", entry.Seq, s.ID, err)
	}
	hash, err := entry.Hash()
	if err != nil {
		return nil, nil, Head{}, fmt.Errorf("encode entry of %s: %w", s.ID, err)
	}
	return entryJSON, stateJSON, Head{Seq: entry.Seq, Hash: hash, Epoch: entry.Epoch, Owner: entry.Owner}, nil
}

// DecodeEndpoint reads an endpoint's head record.
func DecodeEndpoint(ref rollout.EndpointRef, rec store.Record) (r claim.Record, err error) {
	if err := json.Unmarshal(rec.State, &r); err != nil {
		return r, fmt.Errorf("decode endpoint %s/%s: %w", ref.Router, ref.Name, err)
	}
	if r.SchemaVersion > SchemaVersion {
		return r, fmt.Errorf("decode endpoint %s/%s: schema version %d: %w",
			ref.Router, ref.Name, r.SchemaVersion, rollout.ErrFormat)
	}
	return r, nil
}
