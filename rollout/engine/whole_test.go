package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

// begin starts a rollout of a plan on an engine that has had time to come up.
func (w *world) begin(e *running, p *rollout.Plan) {
	w.t.Helper()
	time.Sleep(time.Second)
	if _, created, err := e.Start(w.t.Context(), p); err != nil || !created {
		w.t.Fatalf("Start %s: got created %v, err %v, want true, nil", p.ID, created, err)
	}
}

// A healthy release climbs the ladder, each step is read back and watched, and
// the rollout ends at 100% with nobody called.
func TestPromotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", false))
		s := w.ended("r1", time.Hour)
		if s.Phase != rollout.PhasePromoted {
			t.Errorf("got phase %s, want promoted\n%s", s.Phase, w.journal("r1"))
		}
		if n := len(w.pager.all(notifier.TopicPage)); n != 0 {
			t.Errorf("got %d pages, want none", n)
		}
		w.clean("r1")
	})
}

// At 25% the candidate begins to fail. The breach rolls back, stable is read back
// at 100%, a human is called once and relieved, and the chat has one status
// message that was updated in place.
func TestBreach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		w.failAt(25)
		w.begin(e, plan("r1", "recs", false))
		s := w.ended("r1", time.Hour)
		if s.Phase != rollout.PhaseRolledBack || s.Reason != decision.ReasonBreach {
			t.Errorf("got phase %s, reason %s, want rolled-back, breach\n%s", s.Phase, s.Reason, w.journal("r1"))
		}
		pages := w.pager.all(notifier.TopicPage)
		if len(pages) < 2 || pages[0].Resolve || !pages[len(pages)-1].Resolve {
			t.Fatalf("got pages %v, want one opened and resolved", pages)
		}
		for _, n := range w.chat.all(notifier.TopicStatus)[1:] {
			if n.Ref != "ref:"+n.Key {
				t.Errorf("status %q: got ref %q, want the one returned before", n.Summary, n.Ref)
			}
		}
		if rec, err := e.Endpoint(t.Context(), rollout.EndpointRef{Router: "edge", Name: "recs"}); err != nil || rec.Active != "" || rec.Cooldowns["v2"].IsZero() {
			t.Errorf("endpoint: got %+v, err %v, want it free with a cooldown", rec, err)
		}
		w.clean("r1")
	})
}

// failAt makes green fail 20% of what it serves once it was given a weight.
func (w *world) failAt(weight int) {
	bad := func(deployment string, at time.Time) float64 {
		if deployment == "green" {
			for _, wr := range w.router.Writes("recs") {
				if wr.After.Weights["green"] >= weight && !at.Before(wr.At) {
					return 0.2
				}
			}
		}
		return 0.001
	}
	w.source.set(func() { w.source.bad = bad })
}

// A step behind a gate waits until somebody who may says yes; a stranger, a stale
// button and a repeated click change nothing.
func TestApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", true))
		s := w.await("r1", 30*time.Minute, func(s *rollout.State) bool { return s.Gates["owner"].State == approval.Open })
		time.Sleep(time.Minute)
		asks := w.chat.all(notifier.TopicAsk)
		if len(asks) != 1 || asks[0].Question == nil || asks[0].Question.Nonce != s.Gates["owner"].Nonce || asks[0].Question.ToWeight != 25 {
			t.Fatalf("got asks %+v, want one for 25%%", asks)
		}
		answer := notifier.Answer{ID: "click-1", Rollout: "r1", Gate: "owner", Nonce: asks[0].Question.Nonce, Command: "approve", Who: "slack:T1/U9", At: time.Now()}
		for _, c := range []struct {
			name     string
			change   func(*notifier.Answer)
			accepted bool
			text     string
		}{
			{"a stranger", func(*notifier.Answer) {}, false, "not among"},
			{"a stale button", func(a *notifier.Answer) { a.ID, a.Who, a.Nonce = "click-2", "slack:T1/U1", "old" }, false, "Not accepted"},
			{"the owner", func(a *notifier.Answer) { a.ID, a.Who = "click-3", "slack:T1/U1" }, true, "Recorded"},
			{"the same click again", func(a *notifier.Answer) { a.ID, a.Who = "click-3", "slack:T1/U1" }, true, "Recorded"},
			{"the same click, and Slack tells their groups now", func(a *notifier.Answer) { a.ID, a.Who, a.Groups = "click-3", "slack:T1/U1", []string{"S1"} }, true, "Recorded"},
			{"an id used before", func(a *notifier.Answer) { a.ID, a.Who, a.Command = "click-3", "slack:T1/U1", "reject" }, false, "before"},
			{"no such rollout", func(a *notifier.Answer) { a.ID, a.Rollout = "click-4", "r9" }, false, "no rollout"},
		} {
			a := answer
			c.change(&a)
			r, err := e.Answer(t.Context(), "chat", a)
			if err != nil || r.Accepted != c.accepted || !strings.Contains(r.Text, c.text) {
				t.Errorf("%s: got %+v, err %v, want accepted %v and %q", c.name, r, err, c.accepted, c.text)
			}
		}
		if s := w.ended("r1", time.Hour); s.Phase != rollout.PhasePromoted {
			t.Errorf("got phase %s, want promoted\n%s", s.Phase, w.journal("r1"))
		}
		w.clean("r1")
	})
}

// Every way in which a router can lose or refuse an answer, at the first raise, at
// the second, and at the rollback: the read-back decides and the end is the same.
func TestRouterFaults(t *testing.T) {
	t.Parallel()
	faults := map[string]traffictest.Hook{
		"answer lost": traffictest.LoseAnswer, "not applied": traffictest.Fail, "never applied": traffictest.NeverApply,
		"busy": traffictest.Busy(3 * time.Second), "late": traffictest.Late(8 * time.Second), "late and lost": traffictest.LateAndLost(4 * time.Second),
		"slow": traffictest.Slow(30 * time.Second), "slow but applied": traffictest.SlowButApplied(30 * time.Second),
	}
	for name, fault := range faults {
		for _, breach := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.router.Exclusive = true
					e := w.start("one")
					defer w.endAll()
					want := rollout.PhasePromoted
					if breach {
						w.failAt(25)
						want = rollout.PhaseRolledBack
					}
					var seen sync.Map
					w.router.Hook = func(ctx context.Context, c *traffictest.Call) (bool, error) {
						w.check(c)
						if c.Op != traffictest.OpShift {
							return true, nil
						}
						if _, again := seen.LoadOrStore(c.To.String(), true); !again {
							return fault(ctx, c)
						}
						return true, nil
					}
					w.begin(e, plan("r1", "recs", false))
					if s := w.ended("r1", 2*time.Hour); s.Phase != want {
						t.Errorf("got phase %s, want %s\n%s", s.Phase, want, w.journal("r1"))
					}
					w.clean("r1")
				})
			})
		}
	}
}

// Another rollout's router hangs in every call. The breach of this one, at the
// same router, is rolled back within a second of its reading all the same; so it
// is while the pager and the chat hang.
func TestSlowNeighbours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { newWorld(t).runClean((*world).slowNeighbours) })
}

// runClean plays a scene that must break no promise.
func (w *world) runClean(scene func(*world)) {
	w.t.Helper()
	defer w.endAll()
	scene(w)
	w.clean()
}

// slowNeighbours is a breach beside rollouts whose router and messengers hang: their
// readings take all the router's slots.
func (w *world) slowNeighbours() {
	w.tune = func(c *Config) { c.RouterCalls, c.RouterTimeout = 2, 10*time.Minute }
	hang := w.hanging(func(c *traffictest.Call) bool { return c.Endpoint != "recs" })
	e := w.start("one")
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		w.endpoint(name)
		p := plan("slow-"+name, name, false)
		p.Steps[0].Bake, p.Panel.Guardrails[0].Limit.Value = time.Hour, 0.9
		w.begin(e, p)
		w.await(p.ID, time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
	}
	w.failAt(5)
	w.begin(e, plan("r1", "recs", false))
	w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
	hang.Store(true)
	mute := func(ctx context.Context, _ notifier.Notice) error { return traffictest.Wait(ctx, time.Hour) }
	for _, p := range []*people{w.chat, w.pager} {
		p.set(func() { p.fail = mute })
	}
	w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Phase == rollout.PhaseRolledBack })
	if late := w.sentAfterBreach("r1"); late > time.Second {
		w.violate("promise 3: the rollback was sent %s after the breach, want within 1s", late)
	}
	w.auditJournal("r1")
}

// hanging makes some calls of the router hang while it is true.
func (w *world) hanging(call func(*traffictest.Call) bool) *atomic.Bool {
	var on atomic.Bool
	check := w.router.Hook
	w.router.Hook = func(ctx context.Context, c *traffictest.Call) (bool, error) {
		if on.Load() && call(c) {
			w.check(c)
			return false, traffictest.Wait(ctx, time.Hour)
		}
		return check(ctx, c)
	}
	return &on
}

// sentAfterBreach is the time from the rollback's decision to its traffic call.
func (w *world) sentAfterBreach(id string) time.Duration {
	var decided time.Time
	for rec, err := range w.store.History(context.Background(), record.RolloutKey(id)) {
		if err != nil {
			w.t.Fatal(err)
		}
		e, err := record.DecodeEntry(rec)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, d := range e.Decisions {
			if d.Kind == decision.Rollback {
				decided = e.At
			}
		}
	}
	for _, c := range w.router.Calls() {
		if c.Op == traffictest.OpShift && c.To.Weights["blue"] == 100 && !decided.IsZero() && c.Endpoint == "recs" {
			return c.At.Sub(decided)
		}
	}
	return time.Duration(1<<63 - 1)
}

// A graceful stop in the middle of a bake ends within five seconds although a
// source hangs; the next engine goes on and no second is lost but those in which
// nobody watched.
func TestGracefulStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 1 })
		time.Sleep(23 * time.Second)
		w.source.set(func() {
			w.source.down = func([]analysis.Query) error {
				time.Sleep(3 * time.Second)
				return nil
			}
		})
		time.Sleep(4 * time.Second)
		began := time.Now()
		if err := e.end(); err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		e.done <- nil
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("stopped after %s, want within 5s", took)
		}
		w.source.set(func() { w.source.down = nil })
		time.Sleep(time.Minute)
		w.start("one")
		if s := w.ended("r1", time.Hour); s.Phase != rollout.PhasePromoted {
			t.Errorf("got phase %s, want promoted\n%s", s.Phase, w.journal("r1"))
		}
		w.clean("r1")
	})
}

// A router hangs in a call and does not hear that it was cancelled. The stop ends
// within five seconds all the same.
func TestStopBesideStuckRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.router.Hook = func(_ context.Context, c *traffictest.Call) (bool, error) {
			if c.Op == traffictest.OpShift {
				time.Sleep(time.Hour)
			}
			return true, nil
		}
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhaseShifting })
		began := time.Now()
		if err := e.end(); err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("stopped after %s, want within 5s", took)
		}
		time.Sleep(2 * time.Hour)
	})
}

// The wall clock is put back by an hour, or forward, in the middle of a bake, in
// one process or between two. Put back, nothing changes: the rollout is read on all
// the while. Put forward, it is ahead of its source, whose clock is right and which
// has nothing new to tell: that is missing data, and the policy's rule for it applies.
// The bake is never shortened.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{-time.Hour, time.Hour, 10 * time.Minute, -5 * time.Minute} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s restart %v", jump, restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					defer w.endAll()
					var offset atomic.Int64
					w.tune = func(c *Config) { c.wall = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) } }
					e := w.start("one")
					w.begin(e, plan("r1", "recs", false))
					w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
					time.Sleep(20 * time.Second)
					if restart {
						e.kill()
						time.Sleep(2 * time.Second)
					}
					offset.Store(int64(jump))
					if restart {
						w.start("one")
					}
					want := map[bool]rollout.Phase{true: rollout.PhaseRolledBack, false: rollout.PhasePromoted}[jump > 0]
					if s := w.ended("r1", 10*time.Minute+4*max(jump, 0)); s.Phase != want {
						t.Errorf("got phase %s, want %s\n%s", s.Phase, want, w.journal("r1"))
					}
					var last time.Time
					for _, wr := range w.router.Writes("recs") {
						if !last.IsZero() && wr.At.Sub(last) < 55*time.Second {
							t.Errorf("green had its weight for %s before %s, want a minute", wr.At.Sub(last), wr.After)
						}
						last = wr.At
					}
					w.clean("r1")
				})
			})
		}
	}
}

// The chat is down for ten minutes of a rollout: it goes on, and nothing is sent
// twice under another key afterwards.
func TestNotifierDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		until := time.Now().Add(3 * time.Minute)
		w.chat.fail = func(context.Context, notifier.Notice) error {
			if time.Now().Before(until) {
				return &notifier.RetryError{After: 20 * time.Second, Err: errors.New("503")}
			}
			return nil
		}
		w.begin(e, plan("r1", "recs", false))
		if s := w.ended("r1", time.Hour); s.Phase != rollout.PhasePromoted {
			t.Errorf("got phase %s, want promoted\n%s", s.Phase, w.journal("r1"))
		}
		seen := map[string]int{}
		for _, n := range w.chat.all(notifier.TopicThread) {
			if seen[n.Key]++; seen[n.Key] > 1 {
				t.Errorf("thread entry %s came %d times", n.Key, seen[n.Key])
			}
		}
		if len(seen) == 0 {
			t.Error("got no thread entry, want those that waited")
		}
		w.clean("r1")
	})
}

// A forward call hangs in the router when a person rolls back: it is cancelled,
// and stable has everything within seconds.
func TestForwardSuperseded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { newWorld(t).runClean((*world).forwardSuperseded) })
}

// forwardSuperseded is a rollback while a forward call hangs.
func (w *world) forwardSuperseded() {
	e := w.start("one")
	w.hangForward(25)
	w.begin(e, plan("r1", "recs", false))
	w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Step == 1 && s.Shift != nil })
	time.Sleep(time.Second)
	began := time.Now()
	snap, err := e.Deliver(w.t.Context(), "r1", "k1", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "sre"}, Reason: "no"})
	if err != nil || snap.State.Phase != rollout.PhaseRollingBack {
		w.t.Fatalf("Deliver: got phase %s, err %v, want rolling-back", snap.State.Phase, err)
	}
	w.await("r1", 15*time.Second, func(*rollout.State) bool { return w.router.Truth("recs").Weights["blue"] == 100 })
	if took := time.Since(began); took > time.Second {
		w.violate("promise 3: stable had everything after %s, want within 1s", took)
	}
	if s := w.ended("r1", time.Hour); s.Phase != rollout.PhaseStopped {
		w.violate("got phase %s, want stopped", s.Phase)
	}
	w.auditJournal("r1")
}

// hangForward makes calls that give green the weight hang until they are
// cancelled.
func (w *world) hangForward(weight int) {
	w.router.Hook = func(ctx context.Context, c *traffictest.Call) (bool, error) {
		w.check(c)
		if c.Op == traffictest.OpShift && c.To.Weights["green"] == weight {
			return false, traffictest.Wait(ctx, time.Hour)
		}
		return true, nil
	}
}

// Somebody else moves the traffic. It is noticed within two intervals, paged, and
// not overwritten.
func TestForeignChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 1 })
		writes := len(w.router.Writes("recs"))
		w.router.Foreign("recs", traffic.Split{Weights: map[string]int{"blue": 50, "green": 50}})
		s := w.await("r1", 12*time.Second, func(s *rollout.State) bool { return s.Phase == rollout.PhaseHeld })
		if s.Reason != decision.ReasonForeignChange {
			t.Errorf("got reason %s, want foreign-change", s.Reason)
		}
		time.Sleep(time.Minute)
		if got := len(w.router.Writes("recs")); got != writes+1 {
			t.Errorf("got %d writes after somebody else's, want none", got-writes-1)
		}
		if len(w.pager.all(notifier.TopicPage)) == 0 {
			t.Error("got no page, want one")
		}
		w.clean("r1")
	})
}
