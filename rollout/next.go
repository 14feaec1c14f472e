package rollout

import "time"

// Start is the state of a rollout before its first event.
func Start(p *Plan, at time.Time) State {
	return State{SchemaVersion: 1, ID: p.ID, Step: -1, Created: at, At: at}
}

// Next folds one event into a state.
func Next(p *Plan, s State, ev Event) State { return s }
