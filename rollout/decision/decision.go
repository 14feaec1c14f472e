// Package decision is what the machine says of itself: each thing that it decided, of
// which kind, by which rule or act, and in a sentence for people.
//
// The rules of the package:
//   - Kinds and reasons are words that users write in policy tests and filters: none is
//     renamed, and none is used for a second thing.
package decision

import (
	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/split"
)

// Reason is a rule or an act that led to a decision, for labels and filters;
// the sentence beside it is for people.
type Reason string

// The reasons.
const (
	ReasonBreach          Reason = "breach"
	ReasonShared          Reason = "shared"
	ReasonSingleInstance  Reason = "single-instance"
	ReasonBudget          Reason = "budget"
	ReasonNoData          Reason = "no-data"
	ReasonSourceError     Reason = "source-error"
	ReasonUndecided       Reason = "undecided"
	ReasonExpired         Reason = "expired"
	ReasonForeignChange   Reason = "foreign-change"
	ReasonRejected        Reason = "rejected"
	ReasonCommand         Reason = "command"
	ReasonSuperseded      Reason = "superseded"
	ReasonPreflight       Reason = "preflight"
	ReasonBusy            Reason = "busy"
	ReasonCooldown        Reason = "cooldown"
	ReasonRouter          Reason = "router"
	ReasonApproval        Reason = "approval"
	ReasonWindow          Reason = "window"
	ReasonPassed          Reason = "passed"
	ReasonOverride        Reason = "override"
	ReasonDataBack        Reason = "data-back"
	ReasonStoreLost       Reason = "store-lost"
	ReasonSchedule        Reason = "schedule"
	ReasonEvidenceChanged Reason = "evidence-changed"
	ReasonNotReady        Reason = "not-ready"
	ReasonVersionChanged  Reason = "version-changed"
	ReasonWayBack         Reason = "way-back"
)

// A Decision is one thing that the machine decided, as the journal, explain
// and policy tests know it.
type Decision struct {
	Kind      Kind   `json:"kind"`
	Step      string `json:"step,omitempty"`
	Guardrail string `json:"guardrail,omitempty"`
	Gate      string `json:"gate,omitempty"`
	Reason    Reason `json:"reason,omitempty"`
	// Rule is the policy's rule that applied, e.g. "onNoData: {after: 2m, then: hold}".
	Rule string `json:"rule,omitempty"`
	// Sentence explains the decision to a person.
	Sentence string       `json:"sentence"`
	Split    *split.Split `json:"split,omitempty"`
	By       string       `json:"by,omitempty"`
	// Verdicts are the judgements the decision rests on; only where it rests on
	// any.
	Verdicts []analysis.Verdict `json:"verdicts,omitempty"`
}

// Kind is the kind of a decision; the words of policy tests.
type Kind string

// The kinds of decisions.
const (
	Start         Kind = "start"
	Queue         Kind = "queue"
	Refuse        Kind = "refuse"
	Step          Kind = "step"
	Confirm       Kind = "confirm"
	Ask           Kind = "ask"
	Answer        Kind = "answer"
	Void          Kind = "void"
	Hold          Kind = "hold"
	Resume        Kind = "resume"
	Extend        Kind = "extend"
	Breach        Kind = "breach"
	Rollback      Kind = "rollback"
	Page          Kind = "page"
	Promote       Kind = "promote"
	ForeignChange Kind = "foreign-change"
	NoData        Kind = "no-data"
	SourceError   Kind = "source-error"
	Budget        Kind = "budget"
	// Unwritten says that what was decided then stands in one entry.
	Unwritten Kind = "unwritten"
	// Ack is a person's acknowledgement of the page.
	Ack Kind = "ack"
	// End is the terminal phase of a rollout that was not promoted.
	End Kind = "end"
)
