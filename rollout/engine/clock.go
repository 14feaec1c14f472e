package engine

import (
	"sync"
	"time"

	"github.com/belayd/belay/rollout"
)

// A clock tells the time that events carry. It follows the wall clock forward and
// never goes back: where the wall clock is put back, it goes on with the time that
// has really passed.
type clock struct {
	wall func() time.Time

	mu sync.Mutex
	// last is what the clock showed at the instant at.
	last time.Time
	at   time.Time
}

// now is the present instant: UTC, without the monotonic clock, so that it reads
// back from JSON as it was.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := time.Now()
	wall := c.wall().UTC().Round(0)
	if !c.at.IsZero() {
		if on := c.last.Add(at.Sub(c.at)); on.After(wall) {
			wall = on
		}
	}
	c.last, c.at = wall, at
	return wall
}

// now is the time of the rollout's events: the engine's, or later where the
// rollout has seen later ones (written by a clock that was ahead).
func (l *live) now() time.Time { return l.e.clock.now().Add(l.skew) }

// until is how long it is until an instant of the rollout's time; not positive
// when it has come.
func (l *live) until(t time.Time) time.Duration { return t.Sub(l.now()) }

// due reports whether an effect's time has come.
func (l *live) due(e rollout.Effect) bool { return e.NotBefore.IsZero() || l.until(e.NotBefore) <= 0 }

// skewOf is how far a rollout's time is ahead of the engine's.
func (e *Engine) skewOf(s *rollout.State) time.Duration { return max(0, s.At.Sub(e.clock.now())) }
