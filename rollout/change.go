package rollout

import (
	"errors"
	"fmt"
)

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

// An UnrecordedError is an order that the store did not take: nothing was done.
type UnrecordedError struct {
	// Manual is the command that rolls back by hand, "" where none is known.
	Manual string
	Err    error
}

// Error says what can be done meanwhile.
func (e *UnrecordedError) Error() string {
	text := fmt.Sprintf("the order could not be written down, and nothing was done: %v", e.Err)
	if e.Manual != "" {
		text += "; to roll back by hand: " + e.Manual
	}
	return text
}

// Unwrap is why the store did not take it.
func (e *UnrecordedError) Unwrap() error { return e.Err }

// A ForbiddenError is an act that somebody may not do, or that cannot be done now.
type ForbiddenError struct {
	// Why says so in a clause, for the person.
	Why string
}

// Error is why.
func (e *ForbiddenError) Error() string { return e.Why }
