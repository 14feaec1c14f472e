package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

var seeds = flag.Uint64("seeds", 40, "seeds of the chaos test")

// A chaos breaks everything now and then, as its seed says, until it ends.
type chaos struct {
	w     *world
	until time.Time
	mu    sync.Mutex
	rand  *rand.Rand
	count map[string]int
}

// draw returns a number in [0, 1), and says whether faults still happen.
func (c *chaos) draw() (float64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rand.Float64(), time.Now().Before(c.until)
}

// hit notes that a fault was injected.
func (c *chaos) hit(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count[kind]++
}

func (c *chaos) append(mem.Op) (bool, error) {
	x, on := c.draw()
	switch {
	case !on || x > 0.2:
		return true, nil
	case x < 0.04:
		c.hit("append unknown, written")
		return true, store.ErrUnknown
	case x < 0.08:
		c.hit("append unknown, not written")
		return false, store.ErrUnknown
	case x < 0.11:
		c.hit("append full")
		return false, store.ErrFull
	case x < 0.13:
		c.hit("append conflict that is none")
		return false, store.ErrConflict
	case x < 0.15:
		c.hit("append timed out, written")
		return true, context.DeadlineExceeded
	}
	c.hit("append slow")
	time.Sleep(time.Duration(x * 40 * float64(time.Second)))
	return true, nil
}

func (c *chaos) router(ctx context.Context, call *traffictest.Call) (bool, error) {
	c.w.check(call)
	x, on := c.draw()
	if !on || x > 0.4 {
		return true, nil
	}
	if call.Op == traffictest.OpSplit || call.Op == traffictest.OpDescribe {
		if x < 0.05 {
			c.hit("read fails")
			return false, traffictest.ErrInjected
		}
		if x < 0.08 {
			c.hit("read slow")
			return true, traffictest.Wait(ctx, 7*time.Second)
		}
		return true, nil
	}
	faults := []traffictest.Hook{traffictest.LoseAnswer, traffictest.Fail, traffictest.NeverApply, traffictest.Busy(2 * time.Second),
		traffictest.Late(6 * time.Second), traffictest.LateAndLost(5 * time.Second), traffictest.Slow(20 * time.Second), traffictest.SlowButApplied(8 * time.Second)}
	i := int(x / 0.4 * float64(len(faults)))
	c.hit(fmt.Sprintf("write fault %d", i))
	return faults[min(i, len(faults)-1)](ctx, call)
}

func (c *chaos) notify(ctx context.Context, _ notifier.Notice) error {
	x, on := c.draw()
	switch {
	case !on || x > 0.3:
		return nil
	case x < 0.1:
		c.hit("notice slow")
		return traffictest.Wait(ctx, 5*time.Second)
	}
	c.hit("notice fails")
	return errors.New("503")
}

func (c *chaos) source([]analysis.Query) error {
	if x, on := c.draw(); on && x < 0.05 {
		c.hit("source fails")
		return errors.New("502")
	}
	return nil
}

// kill ends the process now and then.
func (c *chaos) kill() bool {
	x, on := c.draw()
	if on && x < 0.01 {
		c.hit("kill -9")
		return true
	}
	return false
}

// For twenty minutes everything breaks, at random: appends, traffic calls, reads,
// messages, the process itself. Nobody's promise is broken meanwhile, and when the
// faults stop the rollout comes to an end that its story allows.
func TestChaos(t *testing.T) {
	t.Parallel()
	total := map[string]int{}
	for seed := range *seeds {
		if testing.Short() && seed > 5 {
			break
		}
		violations, log := storm(t, seed, nil, total)
		for _, v := range violations {
			t.Errorf("seed %d: %s", seed, v)
		}
		if len(violations) > 0 {
			t.Log(log)
			break
		}
	}
	t.Logf("faults: %v", total)
}

// storm plays one seed and returns what it violated, with the journal.
func storm(t *testing.T, seed uint64, mutate func(*Config), total map[string]int) (violations []string, journal string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mutate = mutate
		w.router.Exclusive = true
		c := &chaos{w: w, until: time.Now().Add(20 * time.Minute), rand: rand.New(rand.NewPCG(seed, 1)), count: map[string]int{}} // #nosec G404 -- a test's own seed
		w.store.Fault, w.router.Hook, w.source.down = c.append, c.router, c.source
		w.chat.fail, w.pager.fail = c.notify, c.notify
		w.stormy(c, stories[seed%3])
		w.endAll()
		violations, journal = w.audit("r1"), w.journal("r1")
		for k, n := range c.count {
			total[k] += n
		}
	})
	return violations, journal
}

// stormy plays a story under faults. People resume what is held and answer what is
// asked.
func (w *world) stormy(c *chaos, st story) {
	ctx := context.Background()
	if st.fail > 0 {
		w.failAt(st.fail)
	}
	e, n, started := w.start("one"), 1, false
	w.mu.Lock()
	w.storeDown = true // A rollback may be sent ahead of its append.
	w.mu.Unlock()
	var s rollout.Snapshot
	for i := range 4 * 3600 {
		time.Sleep(time.Second)
		if c.kill() {
			e.kill()
			time.Sleep(down)
			e, n = w.start([]string{"one", "two"}[n%2]), n+1
		}
		if !started {
			_, _, err := e.Start(ctx, plan("r1", "recs", st.gate))
			started = err == nil
			continue
		}
		var err error
		if s, err = e.Rollout(ctx, "r1"); err != nil {
			continue
		}
		if s.State.Closed() {
			break
		}
		w.takePart(ctx, e, &s.State, i)
	}
	if !s.State.Closed() {
		w.violate("I10: got phase %s (%s), outbox %v, want an end", s.State.Phase, s.State.Sentence, kinds(s.State.Outbox))
	}
	if s.State.Phase != rollout.PhasePromoted && s.State.Phase != rollout.PhaseRolledBack {
		w.violate("I10: got phase %s (%s), want an end by rule", s.State.Phase, s.State.Sentence)
	}
	if st.fail > 0 && s.State.Phase == rollout.PhasePromoted {
		w.violate("I12: a failing release was promoted")
	}
}

// takePart is what people do: they say yes to questions and resume what waits for
// them, once a minute.
func (w *world) takePart(ctx context.Context, e *running, s *rollout.State, i int) {
	if q := s.Gates["owner"]; q.State == approval.Open {
		_, _ = e.Deliver(ctx, "r1", "yes-"+q.Nonce, rollout.Event{Kind: rollout.EventAnswered, Gate: "owner", Nonce: q.Nonce, Approve: true, By: &person.Person{ID: "owner"}})
	}
	if (s.Phase == rollout.PhaseHeld || s.Phase == rollout.PhaseSuspect) && s.Hold != nil && !s.Hold.Self && i%60 == 0 {
		_, _ = e.Deliver(ctx, "r1", fmt.Sprintf("resume-%d", i), rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandResume, By: &person.Person{ID: "sre"}, Reason: "go on"})
	}
}
