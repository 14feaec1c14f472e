package engine

import (
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
)

// now is the present instant: UTC, without the monotonic clock, so that it reads
// back from JSON as it was.
func (e *Engine) now() time.Time { return e.cfg.wall().UTC().Round(0) }

// lagMin is how far a rollout's time must be ahead of the wall clock to be told from
// the unsteadiness of clocks.
const lagMin = time.Second

// A clock tells the time that one rollout's events carry. It follows the wall clock
// forward and never goes back: where the wall clock is put back, or the rollout has
// seen later events of another clock, it goes on with the time that has really
// passed. Everybody else's time is the wall clock's.
type clock struct {
	wall func() time.Time

	mu sync.Mutex
	// last is what the clock showed at the instant at.
	last time.Time
	at   time.Time
	lag  lag
}

// now is the present instant of the rollout.
func (c *clock) now() time.Time {
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
		c.lag = lag{}
	} else if d := by - c.lag.by; d > lagMin || d < -lagMin || c.lag.by == 0 {
		c.lag = lag{by: by, from: wall}
	}
	return now
}

// A lag is how far the wall clock is behind a rollout's time, since it showed from.
type lag struct {
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

// behind is the present lag; zero where there is none to speak of.
func (c *clock) behind() lag {
	c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lag
}

// answered notes what the sources said while the clocks differ.
func (c *clock) answered(rs []analysis.Reading) {
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

// asked translates a span of the rollout's time into that of the sources. What lies
// before the instant at which the clocks parted cannot be told any more.
func (l lag) asked(from, to time.Time) (theirFrom, theirTo time.Time) {
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

// told translates an answer back.
func (l lag) told(r analysis.Reading) analysis.Reading {
	if !l.wrong {
		return r
	}
	r.From, r.To = r.From.Add(l.by), r.To.Add(l.by)
	return r
}

// now is the time of the rollout's events.
func (l *live) now() time.Time { return l.clock.now() }

// until is how long it is until an instant of the rollout's time; not positive
// when it has come.
func (l *live) until(t time.Time) time.Duration { return t.Sub(l.now()) }

// due reports whether an effect's time has come.
func (l *live) due(e rollout.Effect) bool { return e.NotBefore.IsZero() || l.until(e.NotBefore) <= 0 }
