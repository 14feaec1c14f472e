package rollout

import (
	"fmt"
	"maps"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/calendar"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/split"
)

// A Plan is a policy resolved for one release. It is fixed for the life of the
// rollout: a policy that is edited meanwhile changes nothing under way.
type Plan struct {
	SchemaVersion int `json:"schemaVersion"`
	// ID is the rollout's id.
	ID      string    `json:"id"`
	Policy  PolicyRef `json:"policy"`
	Release Release   `json:"release"`

	Endpoint EndpointRef `json:"endpoint"`
	// Stable is a deployment's name, or "auto": the one that has 100% when the
	// rollout starts.
	Stable          string        `json:"stable"`
	OnForeignChange ForeignPolicy `json:"onForeignChange"`
	Concurrency     Concurrency   `json:"concurrency"`

	Preflight []check.Check `json:"preflight,omitempty"`

	Interval      time.Duration       `json:"interval"`
	Settle        time.Duration       `json:"settle"`
	MaxExtend     time.Duration       `json:"maxExtend"`
	OnUndecided   UndecidedPolicy     `json:"onUndecided"`
	OnNoData      sight.MissingPolicy `json:"onNoData"`
	OnSourceError sight.MissingPolicy `json:"onSourceError"`
	Steps         []Step              `json:"steps"`
	Panel         analysis.Panel      `json:"panel"`

	Approvals []approval.Approval `json:"approvals,omitempty"`
	Windows   *calendar.Windows   `json:"windows,omitempty"`
	Schedule  *calendar.Schedule  `json:"schedule,omitempty"`

	Rollback RollbackPolicy `json:"rollback"`
	// Page names the notifiers that call a human, in the order in which they are
	// tried; Notify those that are told, each of them.
	Page   []string `json:"page,omitempty"`
	Notify []string `json:"notify,omitempty"`
}

// PolicyRef pins the policy a plan came from.
type PolicyRef struct {
	Name        string            `json:"name"`
	Owner       string            `json:"owner"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Text is the policy as resolved (with everything it extends), Hash its
	// SHA-256 in hex.
	Text string `json:"text"`
	Hash string `json:"hash"`
}

// A Release is the request to roll out.
type Release struct {
	Policy    string `json:"policy"`
	Candidate string `json:"candidate"`
	Version   string `json:"version"`
	// Requester is the authenticated identity that asked; OnBehalfOf is whom it
	// named (requestedBy), unverified.
	Requester   person.Person     `json:"requester"`
	OnBehalfOf  string            `json:"onBehalfOf,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Artifact    string            `json:"artifact,omitempty"`
	Environment string            `json:"environment,omitempty"`
	// Undoes says of a release that takes a promoted one back what that was; Retries
	// names the rollout whose release this is again; Reason is why either was asked for.
	Undoes  *Undone `json:"undoes,omitempty"`
	Retries string  `json:"retries,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	// Source says where the request came from: "api", "nats:RELEASES",
	// "schedule", with the event's own key.
	Source string `json:"source,omitempty"`
}

// Same reports whether two requests under one key ask for the same: the policy, by its
// name where both name one, what is released, and who asked on whose behalf. What the
// requester's groups were then does not matter.
func (r Release) Same(as Release) bool {
	undoes := r.Undoes == as.Undoes || r.Undoes != nil && as.Undoes != nil && *r.Undoes == *as.Undoes
	return (r.Policy == as.Policy || r.Policy == "" || as.Policy == "") && r.Candidate == as.Candidate &&
		r.Version == as.Version &&
		r.Requester.ID == as.Requester.ID && r.OnBehalfOf == as.OnBehalfOf && maps.Equal(r.Labels, as.Labels) &&
		r.Artifact == as.Artifact && r.Environment == as.Environment && undoes && r.Retries == as.Retries
}

// Undone says of a release that it takes back what a promoted rollout brought.
type Undone struct {
	// Rollout is the one that was promoted, Version what it had brought: that is in its
	// cooldown once this release is promoted.
	Rollout string `json:"rollout"`
	Version string `json:"version"`
}

// again says which rollout the release undoes or retries, and why.
func (r Release) again() string {
	said := ""
	switch {
	case r.Undoes != nil:
		said = fmt.Sprintf(", to undo %s (version %s)", r.Undoes.Rollout, r.Undoes.Version)
	case r.Retries != "":
		said = ", again after " + r.Retries
	}
	if r.Reason != "" {
		said += ": " + r.Reason
	}
	return said
}

// unguarded: nothing is judged, as a person ordered with AtOnce; no policy says so.
func (p *Plan) unguarded() bool { return len(p.Panel.Guardrails) == 0 && p.Panel.Budget == nil }

// EndpointRef names an endpoint of a router.
type EndpointRef struct {
	Router string `json:"router"`
	Name   string `json:"name"`
}

// Key is the endpoint's record in the store.
func (e EndpointRef) Key() string { return "endpoint/" + e.Router + "/" + e.Name }

// A Step is a share of the traffic plus the time it bakes.
type Step struct {
	Name string `json:"name"`
	// Share is what the candidate gets.
	split.Share
	Bake time.Duration `json:"bake"`
	// Requires names the approvals that must be given before the step starts.
	Requires []string `json:"requires,omitempty"`
}

// target is the split of step i.
func (p *Plan) target(i int, stable string) split.Split {
	return p.Steps[i].Split(stable, p.Release.Candidate)
}

// RollbackPolicy says how a rollback is verified and what follows it.
type RollbackPolicy struct {
	VerifyWithin time.Duration `json:"verifyWithin"`
	Cooldown     time.Duration `json:"cooldown"`
}

// Patience is how long the policy waits for a candidate to be ready.
func (p *Plan) Patience() time.Duration {
	for _, c := range p.Preflight {
		if c.Kind == "ready" {
			return c.Within
		}
	}
	return 0
}

// ForeignPolicy says what a change of the traffic that Belay did not make
// leads to.
type ForeignPolicy string

// The values of onForeignChange.
const (
	ForeignHold     ForeignPolicy = "hold"
	ForeignAdopt    ForeignPolicy = "adopt"
	ForeignRestore  ForeignPolicy = "restore"
	ForeignRollback ForeignPolicy = "rollback"
)

// Concurrency says what a second release for a busy endpoint does.
type Concurrency string

// The values of concurrency.
const (
	ConcurrencyQueue     Concurrency = "queue"
	ConcurrencyRefuse    Concurrency = "refuse"
	ConcurrencySupersede Concurrency = "supersede"
)

// UndecidedPolicy says what a step does whose extension is used up.
type UndecidedPolicy string

// The values of onUndecided.
const (
	UndecidedHold     UndecidedPolicy = "hold"
	UndecidedRollback UndecidedPolicy = "rollback"
	UndecidedPromote  UndecidedPolicy = "promote"
)
