package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// A Snapshot is a rollout at one revision of the store.
type Snapshot struct {
	Plan  *Plan
	State State
	// Revision is the store's revision of the rollout's head.
	Revision uint64
}

// An Entry is one record of a rollout's journal: the events that were folded
// in, what they led to, and the hash of the entry before. The entries of a
// rollout form a chain: an edited, missing or reordered entry breaks it.
type Entry struct {
	// Seq counts the entries of the rollout from 1.
	Seq int `json:"seq"`
	// Prev is the Hash of the entry before, "" for the first.
	Prev string `json:"prev"`
	// Epoch grows by one with each claim by another owner; Owner is the replica
	// that wrote the entry; Version the code's.
	Epoch   int       `json:"epoch"`
	Owner   string    `json:"owner"`
	Version string    `json:"version"`
	At      time.Time `json:"at"`
	Events  []Event   `json:"events"`
	// Decisions are those of all the events, in order.
	Decisions []Decision `json:"decisions,omitempty"`
	// State is the SHA-256 of the state's JSON after the events, in hex.
	State string `json:"state"`
}

// Hash is the SHA-256 of the entry's JSON, in hex: the next entry's Prev.
func (e Entry) Hash() (string, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("hash entry %d: %w", e.Seq, err)
	}
	return hashOf(b), nil
}

// hashOf is the SHA-256 of b in hex.
func hashOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
