// Package mailbox keeps what is to be told: notices without the words of any one messenger,
// who they are for, and in which order they go.
package mailbox

import "github.com/belayd/belay/rollout/approval"

// A Notice is what people are told, without the words of any one messenger.
// The engine turns it into a notifier.Notice with the rollout's present view.
type Notice struct {
	// Key is stable: the same key is the same message, updated.
	Key string `json:"key"`
	// Topic says which kind of message this is.
	Topic    Topic    `json:"topic"`
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`
	// Resolve ends the page with this key.
	Resolve bool `json:"resolve,omitempty"`
	// Ref is what the notifier returned for this key before, ThreadRef what it
	// returned for the rollout's status message.
	Ref       string `json:"ref,omitempty"`
	ThreadRef string `json:"threadRef,omitempty"`
	// Question is set for Ask.
	Question *approval.Question `json:"question,omitempty"`
}

// Severity is how bad what a message says is.
type Severity string

// The severities.
const (
	SeverityCritical Severity = "critical"
	SeverityError    Severity = "error"
	SeverityWarning  Severity = "warning"
	SeverityInfo     Severity = "info"
)

// Topic is a kind of message.
type Topic string

// The topics.
const (
	// TopicStatus is the one message of a rollout, updated in place.
	TopicStatus Topic = "status"
	// TopicThread is an entry below it.
	TopicThread Topic = "thread"
	// TopicAsk is an approval request; its update says how it ended.
	TopicAsk Topic = "ask"
	// TopicPage is a call to a human.
	TopicPage Topic = "page"
)
