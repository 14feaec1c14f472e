package rollout

import (
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/deployment"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/paging"
	"github.com/belayd/belay/rollout/shift"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/split"
)

// A State is where one rollout stands: everything Next needs besides the plan.
// It is a value; Next never changes the state it is given.
type State struct {
	SchemaVersion int    `json:"schemaVersion"`
	ID            string `json:"id"`
	// Seq counts the events folded in; effect IDs are made from it.
	Seq     int       `json:"seq"`
	Created time.Time `json:"created"`
	At      time.Time `json:"at"`

	Phase      Phase           `json:"phase"`
	PhaseSince time.Time       `json:"phaseSince"`
	Reason     decision.Reason `json:"reason,omitempty"`
	Sentence   string          `json:"sentence,omitempty"`

	// Acts are the keys of the last acts that were folded in, at most HeardMax.
	Acts []string `json:"acts,omitempty"`

	// StartAt is when the policy's schedule lets the rollout start.
	StartAt time.Time `json:"startAt,omitzero"`

	// Stable is resolved by the preflight; Manual is the command that rolls back
	// by hand.
	Stable string `json:"stable,omitempty"`
	Manual string `json:"manual,omitempty"`
	// Versions are what the preflight learnt of the deployments' versions.
	Versions  map[string]string `json:"versions,omitempty"`
	BlockedBy string            `json:"ahead,omitempty"`
	Checks    []check.Result    `json:"checks,omitempty"`
	// Tries counts failed tries of the preflight.
	Tries int `json:"tries,omitempty"`
	// Await is the wait for the candidate to be ready; nil when there is none.
	Await *Await `json:"await,omitempty"`
	// Registered: the endpoint's record may know this rollout; Claimed: the
	// endpoint is ours.
	Registered bool `json:"registered,omitempty"`
	Claimed    bool `json:"claimed,omitempty"`

	// Step is the index of the current step, -1 before the first; Reached that of
	// the last step whose weight was read back, at StepSince. While a forward
	// shift is under way Reached is Step-1 and guardrails judge the step before.
	Step      int       `json:"step"`
	Reached   int       `json:"reached"`
	StepSince time.Time `json:"stepSince,omitzero"`
	// SkipTo is the step that a person ordered to be next, 0 for none.
	SkipTo int `json:"skipTo,omitempty"`
	// Confirmed is the split last read from the endpoint and accepted as ours;
	// Observed is the last one read, whoever made it. Asked is what Belay last
	// wanted.
	Confirmed   *split.Split `json:"confirmed,omitempty"`
	ConfirmedAt time.Time    `json:"confirmedAt,omitzero"`
	Observed    *split.Split `json:"observed,omitempty"`
	Asked       *split.Split `json:"asked,omitempty"`
	// Allowed is the candidate's largest weight that an opened gate allows.
	Allowed int          `json:"allowed"`
	Shift   *shift.Shift `json:"shift,omitempty"`
	// LastSent is when a forward write may last have been sent that may still land:
	// its outcome is not known, or it was given up.
	LastSent time.Time `json:"lastSent,omitzero"`
	// Foreign is the last foreign split that was reported and is still there.
	Foreign *split.Split `json:"foreign,omitempty"`
	// Facts are what the router told of stable and the candidate at FactsAt.
	Facts   map[string]deployment.Fact `json:"facts,omitempty"`
	FactsAt time.Time                  `json:"factsAt,omitzero"`
	// Served is with how many instances stable served everything, right before the first
	// step; nil where the router does not tell.
	Served *int `json:"served,omitempty"`
	// Ending is the phase that the rollback under way leads to.
	Ending Phase `json:"ending,omitempty"`

	Bake     Bake               `json:"bake,omitzero"`
	Evidence analysis.Evidence  `json:"evidence,omitzero"`
	Verdicts []analysis.Verdict `json:"verdicts,omitempty"`
	MayEnd   bool               `json:"mayEnd,omitempty"`
	// Suspicion is the look out of turn that the last readings ask for.
	Suspicion Suspicion `json:"suspicion,omitzero"`
	// Sights say, for each thing that is judged now, when it was last seen. Excused is when a
	// person last went on although something was missing: the rules count from there.
	Sights  sight.Sights                 `json:"sights,omitempty"`
	Excused time.Time                    `json:"excused,omitzero"`
	Gates   map[string]approval.Question `json:"gates,omitempty"`
	// Overridden: a person ended this step's wait with a reason. Waived: the rule
	// onUndecided: promote did; it never does where data are missing.
	Overridden bool `json:"overridden,omitempty"`
	Waived     bool `json:"waived,omitempty"`
	// ReadingsRequired is how many readings must come before the step ends, on anybody's word
	// or by itself: nobody watched until ResumedAt.
	ReadingsRequired int       `json:"looks,omitempty"`
	ResumedAt        time.Time `json:"back,omitzero"`
	Hold             *Hold     `json:"hold,omitempty"`
	Restored         bool      `json:"restored,omitempty"`

	// Page is the page that is open; nil while people need not act. Breached are the
	// guardrails with onBreach: page, or note, that broke their limit.
	Page     *paging.OpenPage     `json:"page,omitempty"`
	Breached []paging.PagedBreach `json:"breached,omitempty"`
	// Acked is the last acknowledgement of a page: see Acknowledged.
	Acked *paging.Acknowledgement `json:"acked,omitempty"`
	// Paging is what each notifier shows of the page; the Mailbox is what else waits to be
	// told.
	Paging paging.Ledger `json:"paging,omitzero"`
	mailbox.Mailbox

	Outbox []Effect `json:"outbox,omitempty"`
	// Last is what the last event led to.
	Last Last `json:"last,omitzero"`
}

// A Snapshot is a rollout at one revision of the store.
type Snapshot struct {
	Plan  *Plan
	State State
	// Revision is the store's revision of the rollout's head.
	Revision uint64
}

// An Await is a release that came before its deployment is ready.
type Await struct {
	// Until is when it is refused, unless its candidate is ready then.
	Until time.Time `json:"until"`
	// Checks counts the checks that were made before, whatever they found.
	Checks int `json:"looks"`
}

// Bake counts the watched time of the current step.
type Bake struct {
	// Watched is the time counted so far; Until is what it needs, with what people
	// added.
	Watched time.Duration `json:"watched"`
	Needs   time.Duration `json:"needs"`
	// Counted is the instant up to which time was counted.
	Counted time.Time `json:"counted,omitzero"`
	// FullSince is when Watched first reached Needs; the extension counts from it.
	FullSince time.Time `json:"fullSince,omitzero"`
	// Extended: the bake is over and the step waits for evidence.
	Extended bool `json:"extended,omitempty"`
}

// A Suspicion is a look out of turn: the metrics whose evidence of a breach has just grown,
// and when their sources expect to know more. It is zero when nothing is suspicious.
type Suspicion struct {
	At      time.Time `json:"at,omitzero"`
	Metrics []string  `json:"metrics,omitempty"`
}

// A Hold is why a rollout is held.
type Hold struct {
	Reason   decision.Reason `json:"reason"`
	Sentence string          `json:"sentence"`
	Since    time.Time       `json:"since"`
	// Group is the guardrail group whose evidence restarts on resume.
	Group analysis.Action `json:"group,omitempty"`
	// Also are the groups of breaches that held before and were not overridden.
	Also      []analysis.Action `json:"also,omitempty"`
	Guardrail string            `json:"guardrail,omitempty"`
	// Self: the hold ends by itself when the readings are back.
	Self bool `json:"self,omitempty"`
	// Paused is true for a person's pause.
	Paused bool `json:"paused,omitempty"`
}

// Last is what one event led to.
type Last struct {
	// Deferrable: nothing changed but evidence, counters and the next reading; the
	// append may wait for the next one, at most a minute.
	Deferrable bool `json:"quiet,omitempty"`
	// Decisions are what was decided, in order.
	Decisions []decision.Decision `json:"decisions,omitempty"`
	// Ignored says why the event changed nothing.
	Ignored string `json:"ignored,omitempty"`
}
