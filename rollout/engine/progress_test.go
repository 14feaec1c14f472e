package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/record"
)

// What was watched survives: a process that is killed every 12 s finishes a bake of 30 s,
// at two intervals' loss at most a life.
func TestProgressSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		p := plan("r1", "recs", false)
		p.Interval, p.Panel.Interval, p.Settle = time.Second, time.Second, time.Second
		p.Steps = p.Steps[:1]
		p.Panel.Steps, p.Panel.Guardrails[0].Steps = 1, []int{0}
		p.Steps[0].Bake, p.Steps[0].Weight = 30*time.Second, 100
		head := func() rollout.State {
			rec, err := w.store.Head(t.Context(), record.RolloutKey("r1"))
			if err != nil {
				t.Fatal(err)
			}
			s, _, err := record.DecodeHead(rec)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		e := w.start("one")
		w.begin(e, p)
		lives := 1
		for ; lives < 60; lives++ {
			time.Sleep(12 * time.Second)
			if s := head(); s.Phase == rollout.PhasePromoted {
				break
			}
			e.kill()
			e = w.start("one")
		}
		if s := head(); s.Phase != rollout.PhasePromoted || lives > 20 {
			t.Errorf("after %d lives: %s, %s of the bake watched, want promoted", lives, s.Phase, s.Bake.Watched)
		}
	})
}

// The more rollouts there are, the longer what changes nothing waits, but never for more
// than a minute.
func TestFlushAt(t *testing.T) {
	since := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		interval time.Duration
		carried  int64
		want     time.Duration
	}{
		{time.Second, 1, 10 * time.Second},
		{time.Second, 500, 10 * time.Second},
		{10 * time.Second, 500, 20 * time.Second},
		{10 * time.Second, 1000, 40 * time.Second},
		{10 * time.Second, 10_000, time.Minute},
		{10 * time.Minute, 1, time.Minute},
	} {
		p := plan("r1", "recs", false)
		p.Interval = c.interval
		e := &Engine{}
		e.loaded.Store(c.carried)
		l := &runner{e: e, id: "r1", plan: p, drafts: []*draft{{since: since}}}
		if got := l.flushAt().Sub(since); got > c.want || got < c.want*3/4 {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}
