package rollout

// Phase is where a rollout is.
type Phase string

// The phases. The last four are terminal.
const (
	PhaseQueued      Phase = "queued"       // waits for its turn at the endpoint
	PhaseScheduled   Phase = "scheduled"    // waits for the policy's schedule
	PhasePreflight   Phase = "preflight"    // is being checked; no traffic moved
	PhaseShifting    Phase = "shifting"     // a weight was asked for and not yet read back
	PhaseBaking      Phase = "baking"       // serves at the step's weight, watched
	PhaseWaiting     Phase = "waiting"      // for an approval or a window
	PhaseHeld        Phase = "held"         // stopped by a rule, needs a person or the return of data
	PhasePaused      Phase = "paused"       // stopped by a person
	PhaseRollingBack Phase = "rolling-back" // stable is being put back, not yet confirmed
	PhaseSuspect     Phase = "suspect"      // record and endpoint disagree after a loss; a person decides

	PhasePromoted   Phase = "promoted"
	PhaseRolledBack Phase = "rolled-back"
	PhaseStopped    Phase = "stopped"
	PhaseRefused    Phase = "refused"
)

// Phases lists all phases, in the order of their life.
var Phases = []Phase{
	PhaseScheduled, PhaseQueued, PhasePreflight, PhaseShifting, PhaseBaking, PhaseWaiting, PhaseHeld,
	PhasePaused, PhaseRollingBack, PhaseSuspect, PhasePromoted, PhaseRolledBack, PhaseStopped, PhaseRefused,
}

// Terminal reports whether the rollout has ended. Its Outbox may still hold
// messages to deliver and the endpoint's claim to release.
func (p Phase) Terminal() bool {
	switch p {
	case PhasePromoted, PhaseRolledBack, PhaseStopped, PhaseRefused:
		return true
	case PhaseQueued, PhaseScheduled, PhasePreflight, PhaseShifting, PhaseBaking, PhaseWaiting,
		PhaseHeld, PhasePaused, PhaseRollingBack, PhaseSuspect:
	}
	return false
}

// stopped reports whether the ladder stands still until somebody or something lets it
// go on: no forward write begins.
func (p Phase) stopped() bool {
	return p == PhaseHeld || p == PhasePaused || p == PhaseSuspect
}
