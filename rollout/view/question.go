package view

import (
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
)

// A Question is an approval request and how it stands.
type Question struct {
	// Name is the gate's. Nonce is opaque and binds an answer to this asking.
	Name   string                 `json:"name"`
	State  approval.QuestionState `json:"state"`
	Step   string                 `json:"step"`
	Nonce  string                 `json:"nonce"`
	Quorum int                    `json:"quorum"`
	// FromWeight and ToWeight are the candidate's share before and after; FromMirror
	// and ToMirror are the shares of stable's requests of which it gets a copy.
	FromWeight int `json:"fromWeight"`
	ToWeight   int `json:"toWeight"`
	FromMirror int `json:"fromMirror,omitempty"`
	ToMirror   int `json:"toMirror,omitempty"`
	// RequestsPerHour is what the candidate would serve; 0 when unknown.
	RequestsPerHour float64               `json:"requestsPerHour,omitempty"`
	Expires         time.Time             `json:"expires"`
	OnExpiry        approval.ExpiryPolicy `json:"onExpiry"`
	// Channel, Users and Groups are the gate's `from`.
	Channel string   `json:"channel,omitempty"`
	Users   []string `json:"users,omitempty"`
	Groups  []string `json:"groups,omitempty"`
	Answers []Vote   `json:"answers,omitempty"`
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
	Since   time.Time       `json:"since"`
	Summary string          `json:"summary"`
	Reason  decision.Reason `json:"reason"`
	// Acknowledged is who has taken charge of it; null while nobody has.
	Acknowledged *Acknowledged `json:"acknowledged,omitempty"`
}

// Acknowledged is a person's word that they have taken charge of a page.
type Acknowledged struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// questionsOf lists the approvals that were asked for, in the plan's order.
func questionsOf(p *rollout.Plan, s rollout.State) []Question {
	var out []Question
	for _, a := range p.Approvals {
		if q, asked := s.Gates[a.Name]; asked {
			q.Gate = a.Name
			out = append(out, Asked(p, s, q))
		}
	}
	return out
}

// Asked is the picture of an approval request.
func Asked(p *rollout.Plan, s rollout.State, q approval.Question) Question {
	candidate := p.Release.Candidate
	out := Question{
		Name: q.Gate, State: q.State, Step: q.Step, Nonce: q.Nonce, Quorum: q.Quorum, Expires: q.Expires.UTC(),
		FromWeight: q.From.Weights[candidate], ToWeight: q.To.Weights[candidate],
		FromMirror: q.From.Mirror[candidate], ToMirror: q.To.Mirror[candidate],
	}
	if i := slices.IndexFunc(p.Approvals, func(a approval.Approval) bool { return a.Name == q.Gate }); i >= 0 {
		a := p.Approvals[i]
		out.Channel, out.Users, out.Groups, out.OnExpiry = a.Channel, a.Users, a.Groups, a.OnExpiry
	}
	for _, v := range q.Answers {
		out.Answers = append(out.Answers, Vote{By: v.By.ID, At: v.At.UTC(), Approve: v.Approve, Reason: v.Reason})
	}
	out.RequestsPerHour = requestsPerHour(p, s, out.FromWeight, out.ToWeight)
	return out
}

// requestsPerHour is what the candidate would serve at the next weight, judged by
// what was counted in the present step; 0 when that is unknown.
func requestsPerHour(p *rollout.Plan, s rollout.State, from, to int) float64 {
	if from <= 0 || s.StepSince.IsZero() {
		return 0
	}
	most := 0.0
	for _, g := range guardrailsOf(p, s) {
		if counted := g.AsOf.Sub(s.StepSince).Hours(); counted > 0 && (g.Unit == "share" || g.Unit == "s") {
			most = max(most, g.N/counted)
		}
	}
	return math.Round(most * float64(to) / float64(from))
}
