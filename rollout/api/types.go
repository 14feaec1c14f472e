package api

import (
	"time"

	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/view"
)

// SchemaVersion is that of all JSON of this package. A field is added without a new
// version; none changes its meaning.
const SchemaVersion = view.SchemaVersion

// A List is a page of rollouts. Guardrails in it are as of the last journal
// entry; GET /v1/rollouts/{id} has those of now.
type List struct {
	SchemaVersion int            `json:"schemaVersion"`
	Rollouts      []view.Rollout `json:"rollouts"`
	// Next is the cursor of the next page; empty on the last.
	Next string `json:"next,omitempty"`
}

// A History is a page of a rollout's journal.
type History struct {
	SchemaVersion int             `json:"schemaVersion"`
	Rollout       string          `json:"rollout"`
	Entries       []journal.Entry `json:"entries"`
	// Next is the seq after which the next page begins; 0 on the last.
	Next int `json:"next,omitempty"`
}

// A StartRequest asks for a rollout.
type StartRequest struct {
	Policy      string            `json:"policy,omitempty"`
	Candidate   string            `json:"candidate"`
	Version     string            `json:"version"`
	RequestedBy string            `json:"requestedBy,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Artifact    string            `json:"artifact,omitempty"`
	Environment string            `json:"environment,omitempty"`
	// PolicyText is a policy of the request's own, in YAML; it needs the role
	// admin and is journalled with the plan. Policy is then empty.
	PolicyText string `json:"policyText,omitempty"`
}

// An Act orders something of a rollout.
type Act struct {
	// Reason is journalled; required but for approve and ack.
	Reason string `json:"reason,omitempty"`
	// Gate names the approval, for approve and reject; it may be left out when one
	// is open.
	Gate string `json:"gate,omitempty"`
	// Nonce binds the answer to the asking that the person saw; without it the
	// answer is to the present one.
	Nonce string `json:"nonce,omitempty"`
	// Extend is how much longer the step bakes, as in "30m"; for extend.
	Extend string `json:"extend,omitempty"`
	// To is the step that comes next; for skip.
	To string `json:"to,omitempty"`
}

// An UndoRequest asks for the rollout that takes a promoted one back.
type UndoRequest struct {
	// Reason is journalled; required.
	Reason string `json:"reason"`
	// Now puts the earlier deployment back in one step instead of up the policy's
	// ladder: no gate, window or guardrail.
	Now bool `json:"now,omitempty"`
}

// A Policy is a policy in force.
type Policy struct {
	Name     string              `json:"name"`
	Owner    string              `json:"owner"`
	Labels   map[string]string   `json:"labels,omitempty"`
	Endpoint rollout.EndpointRef `json:"endpoint"`
	File     string              `json:"file"`
	Hash     string              `json:"hash"`
}

// PolicyList lists the policies in force.
type PolicyList struct {
	SchemaVersion int      `json:"schemaVersion"`
	Policies      []Policy `json:"policies"`
}

// PolicyDetail is a policy in force and its text as it runs.
type PolicyDetail struct {
	SchemaVersion int    `json:"schemaVersion"`
	Policy        Policy `json:"policy"`
	// Text is YAML with every default filled in, each value with its origin behind a #.
	Text string `json:"text"`
}

// A CheckRequest is a policy to check.
type CheckRequest struct {
	// File is the name that problems show.
	File string `json:"file,omitempty"`
	Text string `json:"text"`
}

// A CheckResult is what is wrong with a policy.
type CheckResult struct {
	SchemaVersion int `json:"schemaVersion"`
	// Valid: there is no error; there may be warnings.
	Valid    bool              `json:"valid"`
	Problems document.Problems `json:"problems"`
}

// An Endpoint is an endpoint as its router shows it and as Belay knows it.
type Endpoint struct {
	Router  string         `json:"router"`
	Name    string         `json:"name"`
	Weights map[string]int `json:"weights"`
	Mirror  map[string]int `json:"mirror,omitempty"`
	// Active is the rollout that may move the traffic; Queue those that wait.
	Active string   `json:"active,omitempty"`
	Queue  []string `json:"queue,omitempty"`
	// Cooldowns hold, by version, until when it is refused.
	Cooldowns map[string]time.Time `json:"cooldowns,omitempty"`
	// Error says why the endpoint could not be read.
	Error string `json:"error,omitempty"`
	// Facts are told where one endpoint is asked for, not in a list.
	Facts *view.Facts `json:"facts,omitempty"`
}

// EndpointList lists endpoints.
type EndpointList struct {
	SchemaVersion int        `json:"schemaVersion"`
	Endpoints     []Endpoint `json:"endpoints"`
}

// A NotifierTest is how a test message to one notifier went.
type NotifierTest struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Error says why it was not taken; it holds no secret.
	Error string `json:"error,omitempty"`
	// Look says what a person sees of it, and where; Ends is when it ends by itself.
	Look string    `json:"look,omitempty"`
	Ends time.Time `json:"ends,omitzero"`
}

// NotifierTests are those of all notifiers, by name.
type NotifierTests struct {
	SchemaVersion int            `json:"schemaVersion"`
	Notifiers     []NotifierTest `json:"notifiers"`
}

// Health is the answer of /healthz and /readyz.
type Health struct {
	SchemaVersion int      `json:"schemaVersion"`
	Status        string   `json:"status"`
	Version       string   `json:"version,omitempty"`
	Problems      []string `json:"problems,omitempty"`
}

// A StreamEntry is the data of a stream's event "entry": a journal entry as it
// was committed. The event's id is its revision.
type StreamEntry struct {
	SchemaVersion int           `json:"schemaVersion"`
	Rollout       string        `json:"rollout"`
	Revision      uint64        `json:"revision"`
	Entry         journal.Entry `json:"entry"`
}
