package paging

import (
	"time"

	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/person"
)

// An OpenPage is the one page of a rollout that a human has not been relieved of. It
// is a function of the state: see rollout.State.Causes.
type OpenPage struct {
	Since time.Time `json:"since"`
	// Cause and Stage are those of the gravest cause.
	Cause   string          `json:"cause,omitempty"`
	Stage   string          `json:"stage,omitempty"`
	Summary string          `json:"summary"`
	Reason  decision.Reason `json:"reason"`
	// DeliveredAt is when a notifier first took the page as it stands, or, of a rollback,
	// since it was confirmed; zero while none has.
	DeliveredAt time.Time `json:"takenAt,omitzero"`
}

// An Acknowledgement is a person's word that they have taken charge of what people
// are called for.
type Acknowledgement struct {
	By     person.Person `json:"by"`
	At     time.Time     `json:"at"`
	Reason string        `json:"reason,omitempty"`
	// Cause is the one that was acknowledged: another calls people anew.
	Cause string `json:"cause,omitempty"`
}

// A PageCause is one reason for which a human is called now.
type PageCause struct {
	// ID tells causes apart; Stage says how one stands. Another of either is another
	// text of the page; an acknowledgement holds for the ID.
	ID       string
	Stage    string
	Reason   decision.Reason
	Sentence string
}

// A PagedBreach is a broken guardrail with onBreach: page that people were told of.
type PagedBreach struct {
	Guardrail string          `json:"guardrail"`
	Reason    decision.Reason `json:"reason"`
	Sentence  string          `json:"sentence"`
	// Acknowledged: a person has seen it; it is told again only after the guardrail
	// was within its limit.
	Acknowledged bool `json:"acknowledged,omitempty"`
}
