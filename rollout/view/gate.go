package view

import (
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
)

// A Gate is an approval request and how it stands.
type Gate struct {
	Name    string                 `json:"name"`
	State   approval.QuestionState `json:"state"`
	Step    string                 `json:"step"`
	Nonce   string                 `json:"nonce"`
	Quorum  int                    `json:"quorum"`
	Expires time.Time              `json:"expires"`
	Users   []string               `json:"users,omitempty"`
	Groups  []string               `json:"groups,omitempty"`
	Answers []Vote                 `json:"answers,omitempty"`
}

// A Vote is a person's recorded yes or no.
type Vote struct {
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Approve bool      `json:"approve"`
	Reason  string    `json:"reason,omitempty"`
}

// A Page is a call to a human that is still open.
type Page struct {
	Since   time.Time      `json:"since"`
	Summary string         `json:"summary"`
	Reason  rollout.Reason `json:"reason"`
	// Acknowledged is who has taken charge of it; null while nobody has.
	Acknowledged *Acknowledged `json:"acknowledged,omitempty"`
}

// Acknowledged is a person's word that they have taken charge of a page.
type Acknowledged struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// gatesOf lists the approvals that were asked for, in the plan's order.
func gatesOf(p *rollout.Plan, s rollout.State) []Gate {
	var out []Gate
	for _, a := range p.Approvals {
		q, asked := s.Gates[a.Name]
		if !asked {
			continue
		}
		g := Gate{
			Name: a.Name, State: q.State, Step: q.Step, Nonce: q.Nonce, Quorum: q.Quorum, Expires: q.Expires.UTC(),
			Users: a.Users, Groups: a.Groups,
		}
		for _, v := range q.Answers {
			g.Answers = append(g.Answers, Vote{By: v.By.ID, At: v.At.UTC(), Approve: v.Approve, Reason: v.Reason})
		}
		out = append(out, g)
	}
	return out
}
