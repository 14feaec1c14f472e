// Package notifier says what it is to tell people something and to hear their
// answers.
//
// The rules of the package:
//   - The same Key is the same message, updated in place. An adapter returns a
//     reference (a message's address) that is stored and handed back with the
//     next Notice of that key.
//   - An adapter delivers one Notice per call and does not retry: the rollout's
//     outbox does, so that nothing is lost or sent twice under another key.
//   - No secret ever appears in an error.
//   - Nothing here is ever in the way of a rollback.
package notifier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/view"
)

// ErrPermanent marks a failure that no retry will mend: a wrong channel, a
// revoked token, a message the other side refuses.
var ErrPermanent = errors.New("notifier: permanent")

// A RetryError is a passing failure after which the other side asked to wait.
type RetryError struct {
	After time.Duration
	Err   error
}

// Error says what failed and for how long to wait.
func (e *RetryError) Error() string { return fmt.Sprintf("%v (retry after %s)", e.Err, e.After) }

// Unwrap returns the cause.
func (e *RetryError) Unwrap() error { return e.Err }

// A Notifier tells people something. Implementations are safe for concurrent
// use.
type Notifier interface {
	// Notify delivers n and returns a reference to the message ("" where there is
	// none). Any error but one that wraps ErrPermanent may pass with time.
	Notify(ctx context.Context, n Notice) (ref string, err error)
}

// An Inbox hears people's answers and commands.
type Inbox interface {
	// Run listens until ctx ends and hands each answer to deliver, which decides
	// and replies within 2 s. It returns nil when ctx ended.
	Run(ctx context.Context, deliver func(context.Context, Answer) (Reply, error)) error
}

// Topic is a kind of message: the core's, and tests of the way.
type Topic = mailbox.Topic

// The topics.
const (
	TopicStatus = mailbox.TopicStatus
	TopicThread = mailbox.TopicThread
	TopicAsk    = mailbox.TopicAsk
	TopicPage   = mailbox.TopicPage
	// TopicTest is a marked test of the way that a page takes. It ends after TestLasts.
	TopicTest Topic = "test"
)

// TestLasts is how long a message of TopicTest stays open: longer than an
// Alertmanager's usual group_wait (30 s) and group_interval (5 min) together, so
// that whoever groups what it tells still tells of it.
const TestLasts = 10 * time.Minute

// Severity is how bad it is; PagerDuty's words.
type Severity = mailbox.Severity

// The severities.
const (
	SeverityCritical = mailbox.SeverityCritical
	SeverityError    = mailbox.SeverityError
	SeverityWarning  = mailbox.SeverityWarning
	SeverityInfo     = mailbox.SeverityInfo
)

// A Notice is one message.
type Notice struct {
	// Key names the message: the same Key is the same message, updated. It is
	// also the pager's deduplication key. A page that opens again after its end has
	// the same Key, and calls people anew.
	Key string `json:"key"`
	// Delivery names this delivery; a repeat of the same one has the same value.
	Delivery string   `json:"delivery"`
	Topic    Topic    `json:"topic"`
	Severity Severity `json:"severity"`
	// Resolve ends the page with this Key.
	Resolve bool `json:"resolve,omitempty"`
	// Ref is what Notify returned for this Key before; ThreadRef the same for the
	// rollout's status message.
	Ref       string `json:"ref,omitempty"`
	ThreadRef string `json:"threadRef,omitempty"`
	// Summary is one line, at most 200 characters and what a command in it needs to
	// reach belayd.
	Summary string    `json:"summary"`
	At      time.Time `json:"at"`
	Rollout Rollout   `json:"rollout"`
	// Question is set for TopicAsk.
	Question *Question `json:"question,omitempty"`
	// Since is when the page was opened, Acknowledged who has taken charge of it
	// since; for an open page.
	Since        time.Time        `json:"since,omitzero"`
	Acknowledged *Acknowledgement `json:"acknowledged,omitempty"`
}

// An Acknowledgement is a person's word that they have taken charge of a page.
type Acknowledgement struct {
	Who    string    `json:"who"`
	When   time.Time `json:"when"`
	Reason string    `json:"reason,omitempty"`
}

// Rollout is what a message may show of a rollout.
type Rollout struct {
	ID         string            `json:"id"`
	Policy     string            `json:"policy"`
	Owner      string            `json:"owner"`
	Router     string            `json:"router"`
	Endpoint   string            `json:"endpoint"`
	Stable     string            `json:"stable"`
	Candidate  string            `json:"candidate"`
	Version    string            `json:"version"`
	Requester  string            `json:"requester"`
	OnBehalfOf string            `json:"onBehalfOf,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Runbook    string            `json:"runbook,omitempty"`
	Phase      string            `json:"phase"`
	Reason     string            `json:"reason,omitempty"`
	Sentence   string            `json:"sentence,omitempty"`
	Step       string            `json:"step,omitempty"`
	// Weights are the confirmed weights by deployment.
	Weights    map[string]int `json:"weights,omitempty"`
	Guardrails []Guardrail    `json:"guardrails,omitempty"`
	// AsOf is the instant up to which all guardrails were read; zero when there is none.
	AsOf time.Time `json:"asOf,omitzero"`
	// Checks are what preflight found, until the first step's traffic is there.
	Checks     []Check `json:"checks,omitempty"`
	WaitingFor string  `json:"waitingFor,omitempty"`
	// ManualRollback is the command that rolls back without Belay; BelayRollback
	// the one that does it with Belay. BelayAck is the command that acknowledges the
	// rollout's page.
	ManualRollback string `json:"manualRollback,omitempty"`
	BelayRollback  string `json:"belayRollback,omitempty"`
	BelayAck       string `json:"belayAck,omitempty"`
	// URL is where the rollout can be looked at, Server what `belay --server` takes;
	// "" when there is no such place.
	URL     string    `json:"url,omitempty"`
	Server  string    `json:"server,omitempty"`
	Started time.Time `json:"started"`
}

// Over reports whether the rollout has ended: its phase is a terminal one.
func (r Rollout) Over() bool { return rollout.Phase(r.Phase).Terminal() }

// A Check is one of the checks before any traffic moves.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Found and Expected are for people; Remedy says what to do where it failed.
	Found    string `json:"found,omitempty"`
	Expected string `json:"expected,omitempty"`
	Remedy   string `json:"remedy,omitempty"`
}

// A Guardrail is one guardrail's line in a message: the picture's, with its figures in
// words.
type Guardrail struct {
	view.Guardrail
	Candidate string `json:"candidate"`
	Stable    string `json:"stable"`
	Interval  string `json:"interval"`
	N         string `json:"n"`
	// Plot holds the figures behind the text, for a chart; nil where there are
	// none.
	Plot *view.Plot `json:"plot,omitempty"`
}

// Progress is the verdict with how much of the evidence is there while it is not
// decided: "undecided 62%".
func (g Guardrail) Progress() string { return g.Evidence.Progress(g.Verdict) }

// A Question is an approval request: the picture's, with its people by name.
type Question struct {
	view.Question
	// Gate is the question's Name, as messages have called it from the first.
	Gate    string      `json:"gate"`
	Answers []ShownVote `json:"answers,omitempty"`
}

// Before is the candidate's share as it is: "25%", or "a copy of 10%" where it
// serves nobody.
func (q Question) Before() string { return share(q.FromWeight, q.FromMirror) }

// After is the candidate's share that is asked for, in the form of Before.
func (q Question) After() string { return share(q.ToWeight, q.ToMirror) }

func share(weight, mirror int) string {
	if weight == 0 && mirror > 0 {
		return fmt.Sprintf("a copy of %d%%", mirror)
	}
	return fmt.Sprintf("%d%%", weight)
}

// ShownVote is an answer as a message shows it.
type ShownVote struct {
	Who     string    `json:"who"`
	When    time.Time `json:"when"`
	Approve bool      `json:"approve"`
	Reason  string    `json:"reason,omitempty"`
}

// An Answer is what a person said.
type Answer struct {
	// ID is unique for this act of this person; the same ID is the same answer.
	ID      string `json:"id"`
	Rollout string `json:"rollout"`
	// Gate and Nonce are set for approvals; Command for commands (approve,
	// reject, hold, pause, resume, rollback, ack, list, status).
	Gate    string `json:"gate,omitempty"`
	Nonce   string `json:"nonce,omitempty"`
	Command string `json:"command"`
	Reason  string `json:"reason,omitempty"`
	// Who is the person in the notifier's terms ("slack:T1/U2"), Name for people;
	// Groups are those of the gate's `from` that the notifier has verified.
	Who    string    `json:"who"`
	Name   string    `json:"name,omitempty"`
	Groups []string  `json:"groups,omitempty"`
	At     time.Time `json:"at"`
}

// A Reply is what the person is told at once; only they see it.
type Reply struct {
	Accepted bool   `json:"accepted"`
	Text     string `json:"text"`
}
