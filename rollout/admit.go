package rollout

import "time"

// An EndpointRecord is who may move one endpoint. It is changed only by Admit.
type EndpointRecord struct {
	SchemaVersion int         `json:"schemaVersion"`
	Endpoint      EndpointRef `json:"endpoint"`
	// Active is the rollout that may move the traffic; empty when free.
	Active string `json:"active,omitempty"`
	// Queue holds the rollouts that wait, first come first served.
	Queue []Waiting `json:"queue,omitempty"`
	// Superseding is the rollout that wants Active to give way; it is first in
	// the queue.
	Superseding string `json:"superseding,omitempty"`
	// Cooldowns hold, by version, until when it is refused.
	Cooldowns map[string]time.Time `json:"cooldowns,omitempty"`
	// Confirmed is the last split that a rollout confirmed.
	Confirmed *Split    `json:"confirmed,omitempty"`
	At        time.Time `json:"at"`
	// Refused is why the last claim was refused: a claim that is neither active
	// nor queued after Admit was refused for this reason.
	Refused  Reason `json:"refused,omitempty"`
	Sentence string `json:"sentence,omitempty"`
}

// Waiting is a rollout in an endpoint's queue.
type Waiting struct {
	Rollout string    `json:"rollout"`
	Since   time.Time `json:"since"`
}

// An EndpointEvent is what Admit decides on.
type EndpointEvent struct {
	Kind    EndpointEventKind `json:"kind"`
	At      time.Time         `json:"at"`
	Rollout string            `json:"rollout,omitempty"`
	Version string            `json:"version,omitempty"`
	// Concurrency is the claiming plan's.
	Concurrency Concurrency `json:"concurrency,omitempty"`
	// Until is a cooldown's end, on release; zero for none.
	Until time.Time `json:"until,omitzero"`
	// Confirmed is the split at release.
	Confirmed *Split `json:"confirmed,omitempty"`
}

// EndpointEventKind is the kind of an EndpointEvent.
type EndpointEventKind string

// The kinds of endpoint events.
const (
	// EndpointClaim asks for the endpoint; asking again changes nothing.
	EndpointClaim EndpointEventKind = "claim"
	// EndpointRelease ends a rollout's claim or its place in the queue.
	EndpointRelease EndpointEventKind = "release"
	// EndpointClear ends the cooldown of Version, or all when it is empty.
	EndpointClear EndpointEventKind = "clear-cooldown"
)

// Admit folds one event into an endpoint's record.
func Admit(r EndpointRecord, ev EndpointEvent) EndpointRecord { return r }
