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
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
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
	Since    time.Time      `json:"since"`
	Reason   rollout.Reason `json:"reason,omitempty"`
	Sentence string         `json:"sentence,omitempty"`
	// Step is the current step; null before the first.
	Step *Step `json:"step"`
	// Steps is the whole ladder.
	Steps      []LadderStep `json:"steps"`
	Weights    Weights      `json:"weights"`
	Guardrails []Guardrail  `json:"guardrails"`
	// WaitingFor says for people what the rollout waits for; empty when it does
	// not wait.
	WaitingFor string `json:"waitingFor,omitempty"`
	Gates      []Gate `json:"gates,omitempty"`
	// Page is the open page; null when no human is called.
	Page   *Page                 `json:"page,omitempty"`
	Checks []rollout.CheckResult `json:"checks,omitempty"`
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

// A Step is where on the ladder a rollout stands.
type Step struct {
	Name string `json:"name"`
	rollout.Share
	// Since is when the step's weight was read back; zero while it was not.
	Since time.Time `json:"since,omitzero"`
	// BakeLeft is the watched time that is still needed, as in "12m30s".
	BakeLeft string `json:"bakeLeft,omitempty"`
}

// A LadderStep is one step of the plan.
type LadderStep struct {
	Name string `json:"name"`
	rollout.Share
	Bake     string   `json:"bake"`
	Requires []string `json:"requires,omitempty"`
	// State is done, current or ahead.
	State string `json:"state"`
}

// The states of a LadderStep.
const (
	StepDone    = "done"
	StepCurrent = "current"
	StepAhead   = "ahead"
)

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

// A Guardrail is a guardrail with its verdict. Figures are in Unit: share, s,
// mean or value; null when unknown.
type Guardrail struct {
	Name      string           `json:"name"`
	Verdict   analysis.Outcome `json:"verdict"`
	Unit      string           `json:"unit"`
	Candidate *float64         `json:"candidate"`
	Stable    *float64         `json:"stable"`
	// Interval is the anytime-valid 95% interval around Candidate.
	Interval *[2]float64 `json:"interval"`
	Limit    string      `json:"limit"`
	N        float64     `json:"n"`
	// StableN is the number of events of the stable deployment.
	StableN  float64        `json:"stableN"`
	Sentence string         `json:"sentence"`
	Needed   string         `json:"needed,omitempty"`
	Cause    analysis.Cause `json:"cause,omitempty"`
	// AsOf is the instant up to which the metric was read; zero before its first reading.
	AsOf time.Time `json:"asOf,omitzero"`
}

// A Gate is an approval request and how it stands.
type Gate struct {
	Name    string                `json:"name"`
	State   rollout.QuestionState `json:"state"`
	Step    string                `json:"step"`
	Nonce   string                `json:"nonce"`
	Quorum  int                   `json:"quorum"`
	Expires time.Time             `json:"expires"`
	Users   []string              `json:"users,omitempty"`
	Groups  []string              `json:"groups,omitempty"`
	Answers []Answer              `json:"answers,omitempty"`
}

// An Answer is a person's recorded yes or no.
type Answer struct {
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

// Of is the picture of a rollout as its plan and state show it.
func Of(p *rollout.Plan, s rollout.State) Rollout {
	r := Rollout{
		SchemaVersion: SchemaVersion, ID: p.ID, Policy: p.Policy.Name, Owner: p.Policy.Owner, Labels: p.Policy.Labels,
		Endpoint: p.Endpoint, Stable: stableOf(p, s), Candidate: p.Release.Candidate, Version: p.Release.Version,
		Requester: p.Release.Requester.ID, OnBehalfOf: p.Release.OnBehalfOf, Retries: p.Release.Retries,
		Phase: s.Phase, Since: s.PhaseSince.UTC(), Reason: s.Reason, Sentence: s.Sentence,
		Step: stepOf(p, s), Steps: ladder(p, s), Weights: weightsOf(s), Guardrails: guardrailsOf(p, s),
		WaitingFor: waitingFor(p, s), Gates: gatesOf(p, s), Checks: s.Checks,
		Unconfirmed:    s.Unconfirmed(p),
		ManualRollback: s.Manual, Closed: s.Settled(),
		CreatedAt: s.Created.UTC(), UpdatedAt: s.At.UTC(),
	}
	if !s.Phase.Terminal() {
		r.RollbackCommand = "belay rollback " + p.ID + " --reason '…'"
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

func stepOf(p *rollout.Plan, s rollout.State) *Step {
	if s.Step < 0 || s.Step >= len(p.Steps) {
		return nil
	}
	st := p.Steps[s.Step]
	out := &Step{Name: st.Name, Share: st.Share}
	if s.Reached == s.Step && !s.StepSince.IsZero() {
		out.Since = s.StepSince.UTC()
		if left := s.Bake.Needs - s.Bake.Watched; !s.Phase.Terminal() {
			out.BakeLeft = max(left, 0).Round(time.Second).String()
		}
	}
	return out
}

func ladder(p *rollout.Plan, s rollout.State) []LadderStep {
	out := make([]LadderStep, len(p.Steps))
	for i, st := range p.Steps {
		state := StepAhead
		switch {
		case i < s.Step, i == s.Step && s.Phase == rollout.PhasePromoted:
			state = StepDone
		case i == s.Step:
			state = StepCurrent
		}
		out[i] = LadderStep{Name: st.Name, Share: st.Share, Bake: st.Bake.String(), Requires: st.Requires, State: state}
	}
	return out
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

func guardrailsOf(p *rollout.Plan, s rollout.State) []Guardrail {
	out := make([]Guardrail, len(s.Verdicts))
	for i, v := range s.Verdicts {
		g := Guardrail{
			Name: v.Guardrail, Verdict: v.Outcome, Unit: v.Unit, Limit: cmp.Or(v.Limit, v.Effective), N: v.Candidate.N, StableN: v.Stable.N,
			Sentence: v.Sentence, Needed: v.Needed, Cause: v.Cause,
		}
		if j := slices.IndexFunc(p.Panel.Guardrails, func(g analysis.Guardrail) bool { return g.Name == v.Guardrail }); j >= 0 {
			g.AsOf = s.Evidence.Cursors[p.Panel.Guardrails[j].Metric].UTC()
		}
		if v.Candidate.Known {
			g.Candidate, g.Interval = new(v.Candidate.Value), &[2]float64{v.Candidate.Low, v.Candidate.High}
		}
		if v.Stable.Known {
			g.Stable = new(v.Stable.Value)
		}
		out[i] = g
	}
	return out
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
			g.Answers = append(g.Answers, Answer{By: v.By.ID, At: v.At.UTC(), Approve: v.Approve, Reason: v.Reason})
		}
		out = append(out, g)
	}
	return out
}

// waitingFor says for people what the rollout waits for; "" when it does not
// wait.
func waitingFor(p *rollout.Plan, s rollout.State) string {
	switch s.Phase {
	case rollout.PhaseQueued:
		return strings.TrimSuffix("its turn behind "+s.Ahead, " behind ")
	case rollout.PhaseScheduled:
		if s.StartAt.IsZero() {
			return "the policy's schedule"
		}
		return "the policy's schedule, which starts at " + s.StartAt.UTC().Format(time.RFC3339)
	case rollout.PhaseWaiting:
		var open []string
		for _, g := range gatesOf(p, s) {
			if g.State == rollout.QuestionOpen {
				open = append(open, "approval "+g.Name+" until "+g.Expires.Format(time.RFC3339))
			}
		}
		if len(open) == 0 {
			return "a change window"
		}
		return strings.Join(open, ", ")
	case rollout.PhaseHeld, rollout.PhasePaused, rollout.PhaseSuspect:
		return s.Hold.WaitsFor()
	case rollout.PhaseShifting:
		return "the endpoint to show the new weights"
	case rollout.PhaseRollingBack:
		if s.Shift != nil && s.Shift.Stage == rollout.StageWithheld {
			return "stable to have 100%, or a person who repeats the rollback"
		}
		return "the endpoint to show stable at 100%"
	case rollout.PhaseBaking:
		return waitingBaking(s)
	case rollout.PhasePreflight, rollout.PhasePromoted, rollout.PhaseRolledBack, rollout.PhaseStopped, rollout.PhaseRefused:
	}
	return ""
}

// waitingBaking says what a baking step still lacks.
func waitingBaking(s rollout.State) string {
	if left := s.Bake.Needs - s.Bake.Watched; left > 0 {
		return "the bake: " + left.Round(time.Second).String() + " of watched time"
	}
	var lacks []string
	for _, v := range s.Verdicts {
		if v.Outcome != analysis.OutcomePass && v.Outcome != analysis.OutcomeResting {
			lacks = append(lacks, v.Guardrail)
		}
	}
	if len(lacks) == 0 {
		return "the next reading"
	}
	return "evidence: " + strings.Join(slices.Compact(lacks), ", ")
}
