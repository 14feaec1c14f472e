package analysis

import (
	"time"

	"github.com/belayd/belay/analysis/sequential"
)

// Lately is how the endpoint did in the last minutes, both deployments together. It is
// no evidence: it tells that an incident is over, and how bad the last minutes were.
type Lately struct {
	// Now counts the newest minute so far, which is Seconds long, and Before the one
	// before. The counted events of a mean are its sums.
	Now    sequential.Tally `json:"now,omitzero"`
	Before sequential.Tally `json:"before,omitzero"`
	// Last is the last interval.
	Last    sequential.Tally `json:"last,omitzero"`
	Seconds float64          `json:"s,omitempty"`
	// Calm is for how many seconds, in whole minutes, both together have kept the limit.
	Calm float64 `json:"calm,omitempty"`
}

const (
	// CalmFor is for how long an endpoint must have kept a limit again before a common
	// incident is over.
	CalmFor = 5 * time.Minute
	// gross is how many times the limit a failure is beyond doubt.
	gross = 10
)

// see takes an interval in; beyond says whether a rate is outside the limit.
func (l *Lately) see(t sequential.Tally, took time.Duration, beyond func(rate float64) bool) {
	l.Now, l.Last = l.Now.Add(t), t
	if l.Seconds += took.Seconds(); l.Seconds < 60 {
		return
	}
	if n := l.Now.NC + l.Now.NB; n > 0 {
		if beyond((l.Now.KC + l.Now.KB) / n) {
			l.Calm = 0
		} else {
			l.Calm += l.Seconds
		}
	}
	l.Before, l.Now, l.Seconds = l.Now, sequential.Tally{}, 0
}

// over reports whether the endpoint has kept the limit for long enough.
func (l *Lately) over() bool { return l.Calm >= CalmFor.Seconds() }

// gross reports whether the candidate's last minutes, or its last interval, were at gross
// times the limit, or half-way from it to everything.
func (l *Lately) gross(limit float64) bool {
	beyond := func(t sequential.Tally) bool { return t.NC > 0 && t.KC/t.NC >= min(gross*limit, (1+limit)/2) }
	return beyond(l.Last) || beyond(l.Now.Add(l.Before))
}
