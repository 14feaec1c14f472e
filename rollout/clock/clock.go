// Package clock tells the time of one rollout.
//
// The rules of the package:
//   - A rollout's time follows the wall clock forward and never goes back: where the
//     wall clock is put back, or the rollout has seen later events of another clock,
//     it goes on with the time that has really passed.
//   - Everybody else's time is the wall clock's. While the two differ, what is asked
//     of sources is translated, once it has shown which of the two is theirs.
package clock

import (
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
)

// lagMin is how far a rollout's time must be ahead of the wall clock to be told from
// the unsteadiness of clocks.
const lagMin = time.Second

// A Clock tells the time that one rollout's events carry. Its methods are safe for
// concurrent use.
type Clock struct {
	wall func() time.Time

	mu sync.Mutex
	// last is what the clock showed at the instant at.
	last time.Time
	at   time.Time
	lag  Lag
}

// New returns the clock of a rollout that has seen an instant; wall is time.Now, or
// stands for it in a test.
func New(wall func() time.Time, seen time.Time) *Clock {
	return &Clock{wall: wall, last: seen, at: time.Now()}
}

// Now is the present instant of the rollout: UTC, without the monotonic clock, so that
// it reads back from JSON as it was.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := time.Now()
	now := c.wall().UTC().Round(0)
	wall := now
	if on := c.last.Add(at.Sub(c.at)); on.After(now) {
		now = on
	}
	c.last, c.at = now, at
	if by := now.Sub(wall); by < lagMin {
		c.lag = Lag{}
	} else if d := by - c.lag.by; d > lagMin || d < -lagMin || c.lag.by == 0 {
		c.lag = Lag{by: by, from: wall}
	}
	return now
}

// A Lag is how far the wall clock is behind a rollout's time, since it showed from.
type Lag struct {
	by   time.Duration
	from time.Time
	// wrong: the sources are asked by the wall clock, and not by the rollout's time.
	// proven: they answered, so that this is their clock; vain counts the readings until
	// then that told nothing.
	wrong  bool
	proven bool
	vain   int
}

// lagVain is after how many readings that told nothing the sources are asked by the
// other clock: which of the two is right, only they know.
const lagVain = 2

// Behind is the present lag; zero where there is none to speak of.
func (c *Clock) Behind() Lag {
	c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lag
}

// Answered notes what the sources said while the clocks differ.
func (c *Clock) Answered(rs []analysis.Reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lag.by == 0 || c.lag.proven {
		return
	}
	c.lag.proven = slices.ContainsFunc(rs, func(r analysis.Reading) bool {
		return r.Status == analysis.StatusOK && r.From.Before(r.To) && r.Candidate.Fresh
	})
	if c.lag.vain++; c.lag.vain >= lagVain && !c.lag.proven {
		c.lag.vain, c.lag.wrong = 0, !c.lag.wrong
	}
}

// Asked translates a span of the rollout's time into that of the sources. What lies
// before the instant at which the clocks parted cannot be told any more.
func (l Lag) Asked(from, to time.Time) (theirFrom, theirTo time.Time) {
	if !l.wrong {
		return from, to
	}
	from, to = from.Add(-l.by), to.Add(-l.by)
	if from.Before(l.from) {
		from = l.from
	}
	if !from.Before(to) {
		from = to.Add(-time.Second)
	}
	return from, to
}

// Told translates an answer back.
func (l Lag) Told(r analysis.Reading) analysis.Reading {
	if !l.wrong {
		return r
	}
	r.From, r.To = r.From.Add(l.by), r.To.Add(l.by)
	if !r.Next.IsZero() {
		r.Next = r.Next.Add(l.by)
	}
	return r
}
