package clock

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
)

// The wall clock is put back by an hour. The rollout's time goes on with what really
// passes; after two readings that told nothing its sources are asked by the wall
// clock, and their answers come back in the rollout's time. One that tells something
// settles which clock is theirs.
func TestWallClockPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset time.Duration
		c := New(func() time.Time { return time.Now().Add(offset) }, time.Time{})
		start := c.Now()
		time.Sleep(time.Minute)
		offset = -time.Hour
		if got := c.Now().Sub(start); got != time.Minute {
			t.Fatalf("the clock was put back: got %s since the start, want a minute", got)
		}
		from, to := start.Add(2*time.Hour), start.Add(2*time.Hour+5*time.Second)
		if a, b := c.Behind().Asked(from, to); !a.Equal(from) || !b.Equal(to) {
			t.Errorf("asked about %s to %s, want the rollout's time at first", a, b)
		}

		c.Answered([]analysis.Reading{{}})
		c.Answered([]analysis.Reading{{}})
		lag := c.Behind()
		a, b := lag.Asked(from, to)
		if !a.Equal(from.Add(-time.Hour)) || !b.Equal(to.Add(-time.Hour)) {
			t.Errorf("asked about %s to %s, want an hour earlier", a, b)
		}
		if r := lag.Told(analysis.Reading{From: a, To: b}); !r.From.Equal(from) || !r.To.Equal(to) {
			t.Errorf("told %s to %s, want the rollout's time", r.From, r.To)
		}

		c.Answered([]analysis.Reading{{Status: analysis.StatusOK, From: a, To: b, Candidate: analysis.Sample{Fresh: true}}})
		for range 5 {
			c.Answered([]analysis.Reading{{}})
		}
		if a, _ := c.Behind().Asked(from, to); !a.Equal(from.Add(-time.Hour)) {
			t.Errorf("asked about %s, want the clock that has answered", a)
		}

		offset = 0
		if a, _ := c.Behind().Asked(from, to); !a.Equal(from) {
			t.Errorf("the clocks agree again: asked about %s, want the rollout's time", a)
		}
	})
}

// What lies before the instant at which the clocks parted cannot be told any more: it
// is not asked for, and a span is never empty.
func TestAskedNotBeforeParting(t *testing.T) {
	parted := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	l := Lag{by: time.Hour, from: parted, wrong: true}
	for _, c := range []struct{ from, to, wantFrom, wantTo time.Duration }{
		{59 * time.Minute, 61 * time.Minute, 0, time.Minute},
		{30 * time.Minute, 40 * time.Minute, -20*time.Minute - time.Second, -20 * time.Minute},
	} {
		from, to := l.Asked(parted.Add(c.from), parted.Add(c.to))
		if !from.Equal(parted.Add(c.wantFrom)) || !to.Equal(parted.Add(c.wantTo)) {
			t.Errorf("Asked(%s, %s): got %s to %s", c.from, c.to, from.Sub(parted), to.Sub(parted))
		}
	}
}
