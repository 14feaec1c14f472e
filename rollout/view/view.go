// Package view is the one picture of a rollout: what the API, messages, events, the
// command line and pages show of it.
//
// The rules of the package:
//   - It is pure: a picture is made of a plan and a state alone.
//   - A picture holds figures and facts. Whoever shows it adds words, never a figure or
//     a fact of its own.
//   - Its JSON is the API's. A field is added without a new version; none changes its
//     meaning.
package view

import (
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/decision"
)

// SchemaVersion is that of a picture as JSON, and of all that the API answers with.
const SchemaVersion = 1

// A Rollout is a rollout in JSON. Times are RFC 3339 in UTC.
type Rollout struct {
	SchemaVersion int                 `json:"schemaVersion"`
	ID            string              `json:"id"`
	Policy        string              `json:"policy"`
	Owner         string              `json:"owner"`
	Labels        map[string]string   `json:"labels,omitempty"`
	Endpoint      rollout.EndpointRef `json:"endpoint"`
	Stable        string              `json:"stable"`
	Candidate     string              `json:"candidate"`
	Version       string              `json:"version"`
	Requester     string              `json:"requester"`
	OnBehalfOf    string              `json:"onBehalfOf,omitempty"`
	// Undoes is the promoted rollout that this one takes back, Retries the one whose
	// release it is again.
	Undoes  string        `json:"undoes,omitempty"`
	Retries string        `json:"retries,omitempty"`
	Phase   rollout.Phase `json:"phase"`
	// Since is when the phase began; Reason and Sentence say why.
	Since    time.Time       `json:"since"`
	Reason   decision.Reason `json:"reason,omitempty"`
	Sentence string          `json:"sentence,omitempty"`
	// Step is the current step; null before the first.
	Step *Step `json:"step"`
	// Steps is the whole ladder.
	Steps      []LadderStep `json:"steps"`
	Weights    Weights      `json:"weights"`
	Guardrails []Guardrail  `json:"guardrails"`
	// FalseRollback is how much of the policy's falseRollback was spent; absent before
	// anything was judged.
	FalseRollback *FalseRollback `json:"falseRollback,omitempty"`
	// WaitingFor says for people what the rollout waits for; empty when it does
	// not wait.
	WaitingFor string     `json:"waitingFor,omitempty"`
	Gates      []Question `json:"gates,omitempty"`
	// Page is the open page; null when no human is called.
	Page   *Page          `json:"page,omitempty"`
	Checks []check.Result `json:"checks,omitempty"`
	// Unconfirmed: verifyWithin has passed and the rollback is not confirmed.
	Unconfirmed bool `json:"unconfirmed,omitempty"`
	// RollbackCommand rolls back with Belay, ManualRollback without it.
	RollbackCommand string `json:"rollbackCommand,omitempty"`
	ManualRollback  string `json:"manualRollback,omitempty"`
	// Closed: the rollout has ended and everything of it was told. The page of a
	// rollback may still be open.
	Closed    bool      `json:"closed"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	// Revision is the store's revision of the rollout's last journal entry.
	Revision uint64 `json:"revision,omitempty"`
}

// Weights are what Belay last asked for and what was last read back, in percent
// by deployment; null when unknown.
type Weights struct {
	Asked     map[string]int `json:"asked"`
	Confirmed map[string]int `json:"confirmed"`
	// Observed is what the endpoint last showed, where that is not confirmed as
	// Belay's.
	Observed    map[string]int `json:"observed,omitzero"`
	ConfirmedAt time.Time      `json:"confirmedAt,omitzero"`
}

// FalseRollback is the chance that a release within all limits is rolled back: the one
// that the policy allows, and what of it the evidence so far has used up. Overrides, after
// which evidence begins anew, may make it more.
type FalseRollback struct {
	Limit float64 `json:"limit"`
	Spent float64 `json:"spent"`
}

// Of is the picture of a rollout as its plan and state show it.
func Of(p *rollout.Plan, s rollout.State) Rollout {
	r := Rollout{
		SchemaVersion: SchemaVersion, ID: p.ID, Policy: p.Policy.Name, Owner: p.Policy.Owner, Labels: p.Policy.Labels,
		Endpoint: p.Endpoint, Stable: stableOf(p, s), Candidate: p.Release.Candidate, Version: p.Release.Version,
		Requester: p.Release.Requester.ID, OnBehalfOf: p.Release.OnBehalfOf, Retries: p.Release.Retries,
		Phase: s.Phase, Since: s.PhaseSince.UTC(), Reason: s.Reason, Sentence: s.Sentence,
		Step: stepOf(p, s), Steps: ladder(p, s), Weights: weightsOf(s), Guardrails: guardrailsOf(p, s),
		WaitingFor: waitingFor(p, s), Gates: questionsOf(p, s), Checks: s.Checks,
		Unconfirmed:    s.Unconfirmed(p),
		ManualRollback: s.Manual, Closed: s.Settled(),
		CreatedAt: s.Created.UTC(), UpdatedAt: s.At.UTC(),
	}
	if !s.Phase.Terminal() {
		r.RollbackCommand = RollbackCommand(p.ID)
	}
	if spent := s.Evidence.Spent(p.Panel); spent > 0 {
		r.FalseRollback = &FalseRollback{Limit: p.Panel.Alpha, Spent: spent}
	}
	if u := p.Release.Undoes; u != nil {
		r.Undoes = u.Rollout
	}
	if s.Page != nil {
		r.Page = &Page{Since: s.Page.Since.UTC(), Summary: s.Page.Summary, Reason: s.Page.Reason}
		if a := s.Acknowledged(); a != nil {
			r.Page.Acknowledged = &Acknowledged{By: a.By.ID, At: a.At.UTC(), Reason: a.Reason}
		}
	}
	return r
}

// OfSnapshot is Of with the snapshot's revision.
func OfSnapshot(snap rollout.Snapshot) Rollout {
	r := Of(snap.Plan, snap.State)
	r.Revision = snap.Revision
	return r
}

// stableOf is the stable deployment; "" while it is not resolved.
func stableOf(p *rollout.Plan, s rollout.State) string {
	if s.Stable == "" && p.Stable != "auto" {
		return p.Stable
	}
	return s.Stable
}

func weightsOf(s rollout.State) Weights {
	var w Weights
	if s.Asked != nil {
		w.Asked = s.Asked.Weights
	}
	if s.Confirmed != nil {
		w.Confirmed = s.Confirmed.Weights
		w.ConfirmedAt = s.ConfirmedAt.UTC()
	}
	if s.Observed != nil && (s.Confirmed == nil || !s.Observed.Equal(*s.Confirmed)) {
		w.Observed = s.Observed.Weights
		if w.Observed == nil {
			w.Observed = map[string]int{}
		}
	}
	return w
}
