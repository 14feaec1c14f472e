package sim_test

import (
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/deployment"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sim"
)

// Append crashes the daemon before or after an append, or finds the store away.
func (c *chaos) Append(w *sim.World, _ *sim.Run, _ int) sim.Crash {
	switch {
	case c.is(w, "store"):
		return sim.StoreAway
	case len(c.away["store"]) > 0: // a crash with the store away forgets what was folded
	case c.hit(w, "crash before append", c.crash/2):
		return sim.CrashBefore
	case c.hit(w, "crash after append", c.crash/2):
		return sim.CrashAfter
	}
	return sim.NoCrash
}

// Restart takes from a second to five minutes; now and then somebody impatient
// promotes as soon as the daemon is back.
func (c *chaos) Restart(w *sim.World) time.Duration {
	d := time.Duration(1+c.random.IntN(300)) * time.Second
	if c.hit(w, "promote after a crash", 0.3) {
		w.At(w.Now.Add(d+time.Second), func(w *sim.World) {
			w.Fold(w.Runs[0], rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandPromote, By: &person.Person{ID: "ann"}, Reason: "at once"})
		})
	}
	return d
}

// Shift refuses, loses answers, is late, or never applies. An API without versions
// lets a late write land whatever the split is by then.
func (c *chaos) Shift(w *sim.World, wr sim.Write) sim.ShiftFault {
	gone := &failure.Failure{Kind: failure.Transient, Message: "connection reset"}
	late := time.Duration(1+c.random.IntN(25)) * time.Second // one that is later than 30 s is nobody's to know of
	switch {
	case c.is(w, "writes"):
		return sim.ShiftFault{Failure: gone}
	case c.hit(w, "write lost", c.router/3):
		return sim.ShiftFault{Failure: gone}
	case c.hit(w, "write busy", c.router/3):
		busy := &failure.Failure{Kind: failure.Busy, Message: "429", RetryAfter: time.Second}
		return sim.ShiftFault{Failure: busy}
	case c.hit(w, "write refused", c.refused):
		return sim.ShiftFault{Failure: &failure.Failure{Kind: failure.Permanent, Message: "403"}}
	case c.hit(w, "write accepted, never applied", c.router/3):
		return sim.ShiftFault{}
	case c.hit(w, "answer lost", c.lost):
		return sim.ShiftFault{Apply: true, Failure: gone}
	case c.hit(w, "answer lost, write late", c.late/3):
		c.impatient(w, wr.Run)
		return sim.ShiftFault{Apply: true, Delay: late, Unfenced: c.unfenced, Failure: gone}
	case c.hit(w, "write late", c.late):
		c.impatient(w, wr.Run)
		return sim.ShiftFault{Apply: true, Delay: late, Unfenced: c.unfenced}
	}
	return sim.ShiftFault{Apply: true}
}

// impatient is what people do now and then while a write does not take effect: they
// move the traffic themselves, and roll back.
func (c *chaos) impatient(w *sim.World, r *sim.Run) {
	if !c.hit(w, "impatience", 0.3) {
		return
	}
	soon := w.Now.Add(time.Duration(1+c.random.IntN(10)) * time.Second)
	if c.random.Chance(0.5) {
		w.At(soon, func(w *sim.World) { w.Write(c.foreign(w)) })
	}
	w.At(soon.Add(time.Duration(c.random.IntN(10))*time.Second), func(w *sim.World) {
		w.Fold(r, rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "ann"}, Reason: "it hangs"})
	})
}

// Split fails now and then, or for a while.
func (c *chaos) Split(w *sim.World) *failure.Failure {
	if c.is(w, "split") || c.hit(w, "read of the split failed", c.router/2) {
		return &failure.Failure{Kind: failure.Transient, Message: "504"}
	}
	return nil
}

// source is what the world's metrics are read from.
type source struct{ *chaos }

// Read fails, or lacks the candidate, or brings nothing new.
func (c *chaos) Read(w *sim.World, r *sim.Run, q analysis.Query) *analysis.Reading {
	failed := analysis.ErrorReading(q, "timeout")
	lacking := source{c}.Read(w, r, q)
	lacking.Candidate = analysis.Sample{}
	nothing := lacking
	nothing.To, nothing.Stable = nothing.From, analysis.Sample{}
	switch {
	case c.is(w, "source"), c.is(w, q.Metric.Name), c.hit(w, "source failed", c.source):
		return &failed
	case c.is(w, "stale"), q.Metric.Name == c.absent && w.Now.Before(c.calm):
		return &lacking
	case c.is(w, "alternating"):
		return pick(c.random, &failed, &lacking)
	case c.is(w, "nothing new"):
		return &nothing
	}
	return nil
}

// Hangs leaves a call without an answer.
func (c *chaos) Hangs(w *sim.World, _ *sim.Run) bool { return c.is(w, "hang") }

// Describe tells what the deployments are, unless the router does not tell: stable may be
// down or have fewer instances for a while, green unready, or another version from an
// instant on.
func (c *chaos) Describe(w *sim.World, r *sim.Run) map[string]deployment.Fact {
	if !c.tells || c.hit(w, "not described", c.router) {
		return nil
	}
	three, one := 3, 1
	blue := deployment.Fact{Ready: deployment.Ready, Instances: &three, Version: "v0"}
	green := deployment.Fact{Ready: deployment.Ready, Instances: &three, Version: r.Plan.Release.Version}
	if c.is(w, "blue") {
		blue.Ready, blue.Reason = deployment.NotReady, "DOWN"
	}
	if c.is(w, "instances") {
		blue.Instances = &one
	}
	if c.is(w, "green") {
		green.Ready = deployment.NotReady
	}
	if !c.becomes.IsZero() && !w.Now.Before(c.becomes) {
		c.injected["another version"]++
		green.Version = "other"
	}
	return map[string]deployment.Fact{"blue": blue, "green": green}
}

// Checks cannot be made, or find something to complain of.
func (c *chaos) Checks(w *sim.World, _ *sim.Run) []check.Result {
	switch {
	case c.hit(w, "check not made", c.router):
		return []check.Result{{Check: "ready", Found: "504", Expected: "an answer", Transient: true}}
	case c.hit(w, "check failed", c.lost/4):
		return []check.Result{{Check: "ready", Found: "0 instances", Expected: "2 instances"}}
	}
	return []check.Result{{Check: "ready", OK: true}}
}

// Notify fails.
func (c *chaos) Notify(w *sim.World, notifier string) *failure.Failure {
	if c.is(w, notifier) || c.hit(w, "message lost", c.notify) {
		return &failure.Failure{Kind: failure.Transient, Message: "503"}
	}
	return nil
}

// Clock jumps.
func (c *chaos) Clock(w *sim.World) time.Time {
	now := w.Now
	for _, j := range c.jumps {
		if !w.Now.Before(j.at) {
			now = now.Add(j.by)
		}
	}
	return now
}
