// Package failure says why a call to a router, a notifier or the store did not do what it should, and
// what can be done about it.
package failure

import (
	"time"

	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/paging"
)

// A Failure is why a call did not do what it should.
type Failure struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
	// RetryAfter is what the other side asked for; 0 when it said nothing.
	RetryAfter time.Duration `json:"retryAfter,omitempty"`
}

// Refusal is the failure as a page's account keeps it.
func (f Failure) Refusal() paging.DeliveryError {
	return paging.DeliveryError{Permanent: f.Kind == Permanent, Unsure: f.Kind == Transient, RetryAfter: f.RetryAfter,
		Why: mailbox.Clip(f.Message)}
}

// Kind is what can be done about a failure.
type Kind string

// The kinds of failures.
const (
	// Transient: trying again may help; whether it took effect is unknown.
	Transient Kind = "transient"
	// Busy: the other side is occupied or throttles; nothing took effect.
	Busy Kind = "busy"
	// Foreign: the split was not what the call required; nothing was written.
	Foreign Kind = "foreign"
	// Permanent: no retry will mend it.
	Permanent Kind = "permanent"
)
