// Package approval is a gate that people open: what a policy asks for, the question as it
// was asked, and what they said. It is plain data; who may say it is decided in
// rollout/access, and what follows in rollout.
package approval

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
)

// Approval describes a gate that people open.
type Approval struct {
	Name     string   `json:"name"`
	Notifier string   `json:"notifier,omitempty"`
	Channel  string   `json:"channel,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	Users    []string `json:"users,omitempty"`
	// Quorum is how many distinct people must say yes; at least 1.
	Quorum int `json:"quorum"`
	// NotByRequester excludes the requester and whom it acted for.
	NotByRequester bool          `json:"notByRequester,omitempty"`
	Expires        time.Duration `json:"expires"`
	OnExpiry       ExpiryPolicy  `json:"onExpiry"`
}

// ExpiryPolicy says what an approval does that nobody answered in time.
type ExpiryPolicy string

// The values of onExpiry.
const (
	ExpiryHold     ExpiryPolicy = "hold"
	ExpiryRollback ExpiryPolicy = "rollback"
)

// A Question is an approval request as it was asked.
type Question struct {
	Gate string `json:"gate"`
	// Nonce binds an answer to this asking: an answer with another one is stale.
	Nonce string `json:"nonce"`
	// Evidence is the SHA-256 of the verdicts that people were shown.
	Evidence string      `json:"evidence"`
	Step     string      `json:"step"`
	From     split.Split `json:"from"`
	To       split.Split `json:"to"`
	Expires  time.Time   `json:"expires"`
	Quorum   int         `json:"quorum"`
	// State is open, approved, rejected, expired or void.
	State   QuestionState `json:"state"`
	Answers []Vote        `json:"answers,omitempty"`
	// Passed names the guardrails that read pass when it was asked.
	Passed []string `json:"passed,omitempty"`
	// Unasked is why it could not be put before people in several tries; "" when it
	// was, or is being tried.
	Unasked string `json:"unasked,omitempty"`
	// AskedAt is when it was asked.
	AskedAt time.Time `json:"askedAt"`
}

// NewNonce is the question's for the rollout's event seq, of what people are shown.
func (q Question) NewNonce(rollout string, seq int) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d/%s", rollout, q.Gate, seq, q.Evidence))
	return hex.EncodeToString(h[:])[:24]
}

// QuestionState is how an approval request stands.
type QuestionState string

// The states of a question.
const (
	Open     QuestionState = "open"
	Approved QuestionState = "approved"
	Rejected QuestionState = "rejected"
	Expired  QuestionState = "expired"
	Void     QuestionState = "void"
)

// A Vote is a recorded yes or no.
type Vote struct {
	By      person.Person `json:"by"`
	At      time.Time     `json:"at"`
	Approve bool          `json:"approve"`
	Reason  string        `json:"reason,omitempty"`
}

// Digest identifies the verdicts that people are shown, as a question's Evidence.
func Digest(vs []analysis.Verdict) string {
	h := sha256.New()
	for _, v := range vs {
		_, _ = fmt.Fprintf(h, "%s=%s n=%g/%g\n", v.Guardrail, v.Outcome, v.Candidate.N, v.Stable.N) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Passing are the guardrails that read pass, but for dry runs: nothing rests on them.
func Passing(vs []analysis.Verdict) []string {
	var names []string
	for _, v := range vs {
		if v.Outcome == analysis.OutcomePass && !v.Note {
			names = append(names, v.Guardrail)
		}
	}
	return names
}
