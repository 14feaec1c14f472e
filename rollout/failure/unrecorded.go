package failure

import (
	"fmt"
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
