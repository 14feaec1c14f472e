// Package traffic says what it is to move an endpoint's traffic: the Router
// that every adapter implements and the errors they share.
//
// The rules of the package:
//   - A write that succeeded is not proof. Only a read that shows the split is.
//   - A write states what it replaces. Where the endpoint shows anything else,
//     nothing is written and the answer is ErrForeignChange.
//   - Weights never sum to anything but 100 in a write.
//   - Adapters do not retry writes; whoever calls them decides again first.
//
// The adapters live in the packages below this one; traffictest holds the
// conformance test that each of them passes.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/belayd/belay/rollout/split"
)

// Split is how an endpoint divides its traffic.
type Split = split.Split

// The errors that adapters wrap. Any other error is transient: whether a write
// took effect is unknown.
var (
	// ErrForeignChange: the endpoint's split is not what the write required;
	// nothing was written.
	ErrForeignChange = errors.New("traffic: the split was changed by someone else")
	// ErrNotFound: there is no such endpoint or deployment.
	ErrNotFound = errors.New("traffic: not found")
	// ErrPermanent: no retry will mend it (not allowed, malformed, unsupported).
	ErrPermanent = errors.New("traffic: permanent")
)

// A BusyError says that the endpoint is occupied (another operation runs, a
// conflict, throttling) and nothing was written: wait and try again.
type BusyError struct {
	// RetryAfter is what the endpoint asked for; 0 when it said nothing.
	RetryAfter time.Duration
	Err        error
}

// Error says that the endpoint is busy and why.
func (e *BusyError) Error() string { return fmt.Sprintf("endpoint busy: %v", e.Err) }

// Unwrap returns the cause.
func (e *BusyError) Unwrap() error { return e.Err }

// A Router moves the traffic of endpoints of one kind at one place.
// Implementations are safe for concurrent use; every method respects ctx.
type Router interface {
	// Split is what is true now, zeroes left out, with a version where the API
	// has one.
	Split(ctx context.Context, endpoint string) (Split, error)
	// Shift makes the endpoint's split `to`. It is idempotent: when the endpoint
	// already shows `to` it returns nil without a write. When the endpoint shows
	// neither `from` nor `to` it returns ErrForeignChange and writes nothing. A
	// version in `from` is compared where the API has versions; a `from` without
	// one matches by weights and mirror alone. A nil error means accepted, not in
	// effect.
	Shift(ctx context.Context, endpoint string, from, to Split) error
	// Describe tells what checks, plans and the inventory need.
	Describe(ctx context.Context, endpoint string) (Description, error)
	// Endpoints lists the names of the endpoints that can be seen.
	Endpoints(ctx context.Context) iter.Seq2[string, error]
	// Probe sends a sample request straight to one deployment, with the router's
	// header and key; r's URL is a path relative to the scoring address (or
	// empty). Deployment "" goes to the scoring address as an anonymous client.
	// The caller closes the body.
	Probe(ctx context.Context, endpoint, deployment string, r *http.Request) (*http.Response, error)
}

// A Description is what a router knows of an endpoint. A fact that the endpoint
// does not tell is named in Unknown and its field is meaningless.
type Description struct {
	Deployments map[string]Deployment `json:"deployments,omitempty"`
	Tags        map[string]string     `json:"tags,omitempty"`
	ScoringURI  string                `json:"scoringURI,omitempty"`
	// AuthMode is the endpoint's own word: "key", "aml-token", "aad-token".
	AuthMode string `json:"authMode,omitempty"`
	// PublicNetwork reports whether the scoring address is reachable from
	// outside.
	PublicNetwork bool `json:"publicNetwork,omitempty"`
	CanMirror     bool `json:"canMirror,omitempty"`
	// Unknown names the fields (as in this type's JSON, e.g. "tags",
	// "deployments.green.instances") that the endpoint does not tell.
	Unknown []string `json:"untold,omitempty"`
	// ManualRollback returns the exact command by which a person sends all
	// traffic to the named deployment without Belay. It is never nil.
	ManualRollback func(stable string) string `json:"-"`
}

// A Deployment is a backend behind an endpoint.
type Deployment struct {
	Ready bool `json:"ready"`
	// Reason says why it is not ready.
	Reason string `json:"reason,omitempty"`
	// Instances and Concurrency: how many, and how many requests each takes at a
	// time.
	Instances   int `json:"instances,omitempty"`
	Concurrency int `json:"concurrency,omitempty"`
	// Version is compared with a release's: "ranker:17", "v17" and "17" are one.
	Version string `json:"version,omitempty"`
}
