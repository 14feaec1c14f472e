// Package journal is what is kept of a rollout: its entries, each with the events that
// were folded in, what they led to, and the hash of the entry before. It is data alone:
// the store keeps it, and rollout/record reads and writes it.
package journal

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/split"
)

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
	Epoch   int             `json:"epoch"`
	Owner   string          `json:"owner"`
	Version string          `json:"version"`
	At      time.Time       `json:"at"`
	Events  []rollout.Event `json:"events"`
	// Decisions are those of all the events, in order.
	Decisions []decision.Decision `json:"decisions,omitempty"`
	// Phases are the phases that were entered with these events, in order.
	Phases []PhaseChange `json:"phases,omitempty"`
	// State is the SHA-256 of the state's JSON after the events, in hex.
	State string `json:"state"`
}

// A PhaseChange is a phase that an event led into.
type PhaseChange struct {
	// From is the phase before, "" before the first.
	From     rollout.Phase   `json:"from,omitempty"`
	To       rollout.Phase   `json:"to"`
	At       time.Time       `json:"at"`
	Reason   decision.Reason `json:"reason,omitempty"`
	Sentence string          `json:"sentence,omitempty"`
	// Step is the current step's name, "" before the first. Reached: its weight
	// was read back by this very event.
	Step    string `json:"step,omitempty"`
	Reached bool   `json:"reached,omitempty"`
	Stable  string `json:"stable,omitempty"`
	// Confirmed is the split last read back and accepted as ours.
	Confirmed *split.Split `json:"confirmed,omitempty"`
	// Decisions counts those of the entry up to this event: what led here is
	// the last of them.
	Decisions int `json:"decisions,omitempty"`
}

// PhaseChanged says which phase the step from one state to the next entered;
// false when the phase stayed. Decisions is left to the caller.
func PhaseChanged(p *rollout.Plan, before, after *rollout.State) (PhaseChange, bool) {
	if before.Phase == after.Phase {
		return PhaseChange{}, false
	}
	c := PhaseChange{
		From: before.Phase, To: after.Phase, At: after.At, Reason: after.Reason, Sentence: after.Sentence,
		Reached: after.Reached > before.Reached, Stable: after.Stable,
	}
	if after.Step >= 0 && after.Step < len(p.Steps) {
		c.Step = p.Steps[after.Step].Name
	}
	if after.Confirmed != nil {
		split := after.Confirmed.Clone()
		c.Confirmed = &split
	}
	return c, true
}

// Hash is the SHA-256 of the entry's JSON, in hex: the next entry's Prev.
func (e Entry) Hash() (string, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("hash entry %d: %w", e.Seq, err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b)), nil
}

// PlanHash is the SHA-256 of the plan's JSON, in hex: the first entry of a
// journal names it, so that the chain covers the plan too.
func PlanHash(p *rollout.Plan) (string, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("hash plan %s: %w", p.ID, err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b)), nil
}

// A Change is one entry of some rollout's journal, as a subscriber sees it.
type Change struct {
	// Revision is the store's: a subscriber that remembers it can go on from it.
	Revision uint64
	// Rollout is the rollout's id.
	Rollout string
	Entry   Entry
}
