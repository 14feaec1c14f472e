// Package rollout is the machine that carries a release up a traffic ladder
// and brings it back when it slips.
//
// The rules of the package:
//   - It is pure: no clock, no I/O, no goroutine, no randomness. Time enters
//     only as Event.At. The same plan, state and event give the same state.
//   - Next is total. Whatever the event, it returns a state; events that do not
//     fit are ignored.
//   - State.Outbox is all the work that is wanted now. The shell (package
//     rollout/engine) first appends the state, then starts what is missing and
//     cancels what is no longer wanted; what comes of it returns as events.
//   - An effect keeps the ID it was minted with when first wanted, across
//     crashes. An event that answers an effect that is not in the Outbox is
//     ignored.
//   - Nothing gates a rollback.
//
// Begin with transitions.go: what each event does in each phase, and which phases may
// follow. testdata/transitions.md shows the same by phase.
//
// Admit decides, with the same rules, who may move an endpoint.
//
// The package does not know how traffic is moved, metrics are read or people
// are asked: see rollout/traffic, analysis.Source and notifier.
package rollout

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
)

// NewID derives a rollout's id from where its request came from and the key
// that the request has there: the same request is always the same rollout. An
// id has 20 characters of a-z and 2-7.
func NewID(source, key string) string {
	h := sha256.Sum256([]byte(source + "\x00" + key))
	return strings.ToLower(base32.StdEncoding.EncodeToString(h[:])[:20])
}

// The errors of whoever runs rollouts (rollout/engine), for whoever asks it.
var (
	// ErrNotFound: there is no such rollout.
	ErrNotFound = errors.New("rollout: not found")
	// ErrDifferent: the same id or key was used before with another body.
	ErrDifferent = errors.New("rollout: the same id with another body")
	// ErrEnded: the rollout has ended; nothing can be ordered of it any more.
	ErrEnded = errors.New("rollout: has ended")
	// ErrFull: there is no space to write it down; nothing was done.
	ErrFull = errors.New("rollout: no space to write it down")
	// ErrFormat: a record was written by newer code, or by none.
	ErrFormat = errors.New("not a format that this version reads (was it written by a newer belayd?)")
	// ErrStopped: whoever runs rollouts is stopping or has not started.
	ErrStopped = errors.New("rollout: not running")
)
