// Package shift is a change of the traffic under way: from which split to which, what it
// is for, and how far it has got. It is a value without a clock.
package shift

import (
	"time"

	"github.com/belayd/belay/rollout/split"
)

// A Shift is a change of the traffic under way.
type Shift struct {
	Why Why `json:"why"`
	// Serial is the Seq of the event that began it; it makes the effect's key.
	Serial int `json:"serial"`
	// From is what the endpoint must show for the write to be sent, To what it
	// shall show.
	From  split.Split `json:"from"`
	To    split.Split `json:"to"`
	Since time.Time   `json:"since"`
	Stage Stage       `json:"stage"`
	// Attempt counts the writes before this one, SentAt is when the last one was
	// answered, or taken to be on its way.
	Attempt int       `json:"attempt"`
	SentAt  time.Time `json:"sentAt,omitzero"`
	// NotBefore is when the next try may start; Polls counts read-backs.
	NotBefore time.Time `json:"notBefore,omitzero"`
	Polls     int       `json:"polls,omitempty"`
	// Earlier is LastSent of a forward write from before this shift that may still land.
	Earlier time.Time `json:"earlier,omitzero"`
	// Ordered: a person repeated the order of a rollback, so that somebody else's split
	// is overwritten.
	Ordered bool `json:"ordered,omitempty"`
	// Failure is what the router last said of a rollback that it did not take, at most
	// 200 characters.
	Failure string `json:"failure,omitempty"`
}

// Why says what a shift is for.
type Why string

// The kinds of shifts.
const (
	Forward  Why = "forward"
	Rollback Why = "rollback"
	Restore  Why = "restore"
)

// Stage is how far a shift has got.
type Stage string

// The stages. A shift begins by writing and settles until the endpoint shows what was
// written; a hold or a pause turns the first into recalled and the second into stopping,
// and a resume turns them back.
const (
	Writing  Stage = "writing"  // the write is to be sent, or its answer is awaited
	Settling Stage = "settling" // it was accepted, and is read back; sent again when it does not show
	Recalled Stage = "recalled" // stopped while the write may be on its way: its answer is awaited
	Stopping Stage = "stopping" // stopped: only read back, until it is known what became of the write
	Withheld Stage = "withheld" // a rollback that leaves somebody else's split alone, and reads it
)

// GoOn takes a shift up that was stopped.
func (sh *Shift) GoOn() {
	switch sh.Stage {
	case Recalled:
		sh.Stage = Writing
	case Stopping:
		sh.Stage = Settling
	case Writing, Settling, Withheld:
	}
}

// Await notes that the write is on its way, as far as is known: it is read back.
func (sh *Shift) Await(at time.Time) {
	sh.SentAt = at
	switch sh.Stage {
	case Writing:
		sh.Stage = Settling
	case Recalled:
		sh.Stage = Stopping
	case Settling, Stopping, Withheld:
	}
}

// Settles reports whether the shift is only read back, to see what became of its write.
func (sh *Shift) Settles() bool { return sh.Stage == Settling || sh.Stage == Stopping }

// Stopped reports whether the rollout was held or paused while the shift was under way.
func (sh *Shift) Stopped() bool { return sh.Stage == Recalled || sh.Stage == Stopping }
