package sim_test

import (
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

// people act at random: they approve, reject, command, and write the traffic
// themselves.
func (c *chaos) people() {
	r := c.random
	for range 4 + r.IntN(41) {
		at := c.start.Add(time.Duration(r.IntN(int(calmAfter/time.Second))) * time.Second)
		who := &person.Person{ID: pick(r, "ann", "bob", "cid", "dan", "ci")}
		act, n := r.IntN(40), r.IntN(2)
		c.world.At(at, func(w *sim.World) {
			if n >= len(w.Runs) {
				return
			}
			switch run := w.Runs[n]; {
			case act < 14:
				c.answer(w, run, who, act > 0)
			case act < 33:
				c.command(w, run, who)
			case act < 38:
				c.injected["foreign write"]++
				w.Write(c.foreign(w))
			default:
				c.suspect(w, run)
			}
		})
	}
	if r.Chance(0.4) { // people learns who somebody is
		at := c.start.Add(time.Duration(r.IntN(int(calmAfter/time.Second))) * time.Second)
		known := pick(r, map[string]string{"bob": "ann"}, map[string]string{"dan": "ci"}, map[string]string{"ann": "cid", "bob": "cid"}, map[string]string{"emil": "dora"})
		c.world.At(at, func(w *sim.World) {
			c.injected["people learnt"]++
			w.People = known
		})
	}
	// After the calm somebody patient looks at whatever waits for a person.
	for i := range 12 {
		c.world.At(c.calm.Add(time.Duration(i)*20*time.Minute), c.attend)
	}
}

// answer says yes or no to one of the questions that are open.
func (c *chaos) answer(w *sim.World, run *sim.Run, who *person.Person, yes bool) {
	for _, ap := range run.Plan.Approvals {
		q, asked := run.State.Gates[ap.Name]
		if !asked || c.random.Chance(0.3) {
			continue
		}
		c.injected["answer"]++
		w.Fold(run, rollout.Event{Kind: rollout.EventAnswered, Gate: ap.Name, Nonce: q.Nonce, Approve: yes, By: who})
		return
	}
}

// command gives one of the commands; a resume may be bound to the hold that the person
// saw.
func (c *chaos) command(w *sim.World, run *sim.Run, who *person.Person) {
	c.injected["command"]++
	cmd := rollout.CommandRollback
	if !c.random.Chance(0.04) {
		cmd = pick(c.random, rollout.CommandPause, rollout.CommandPause, rollout.CommandResume, rollout.CommandResume, rollout.CommandPromote,
			rollout.CommandExtend, rollout.CommandAck)
	}
	ev := rollout.Event{Kind: rollout.EventCommanded, Command: cmd, By: who, Reason: "because", Extend: time.Minute}
	if h := run.State.Hold; h != nil && c.random.Chance(0.5) {
		ev.Hold = h.Since.Add(-time.Duration(c.random.IntN(2)) * time.Second)
	}
	w.Fold(run, ev)
}

// foreign is a split as somebody else may make it.
func (c *chaos) foreign(w *sim.World) split.Split {
	x := c.random.IntN(101)
	now := w.Endpoint.Split.Clone()
	blue, green := now.Weights["blue"], now.Weights["green"]
	switch c.random.IntN(8) {
	case 0: // another share
		return split.Split{Weights: map[string]int{"blue": 100 - x, "green": x}}
	case 1: // everything back
		return split.Split{Weights: map[string]int{"blue": 100}}
	case 2: // everything to the candidate
		return split.Split{Weights: map[string]int{"green": 100}}
	case 3: // a third deployment takes stable's share
		return split.Split{Weights: map[string]int{"red": 100 - green, "green": green}}
	case 4: // a third one takes the candidate's
		return split.Split{Weights: map[string]int{"blue": blue, "red": 100 - blue}}
	case 5: // the candidate is mirrored to
		now.Mirror = map[string]int{"green": 1 + x}
		return now
	case 6: // a third one is mirrored to
		now.Mirror = map[string]int{"red": 1 + x}
		return now
	default: // the traffic is off
		return split.Split{Weights: map[string]int{}}
	}
}

// suspect tells the rollout that the store lost records.
func (c *chaos) suspect(w *sim.World, run *sim.Run) {
	if run.State.Reached < 0 {
		return
	}
	c.injected["suspicion"]++
	split := w.Endpoint.Split.Clone()
	w.Fold(run, rollout.Event{Kind: rollout.EventSuspected, Split: &split, Reason: "the journal ends before what the endpoint shows"})
}

// attend does what a person would do for each rollout that waits.
func (c *chaos) attend(w *sim.World) {
	for _, run := range w.Runs {
		by := &person.Person{ID: "dora"}
		for _, ap := range run.Plan.Approvals {
			q, asked := run.State.Gates[ap.Name]
			if !asked {
				continue
			}
			w.Fold(run, rollout.Event{Kind: rollout.EventAnswered, Gate: ap.Name, Nonce: q.Nonce, Approve: true, By: by})
			w.Fold(run, rollout.Event{Kind: rollout.EventAnswered, Gate: ap.Name, Nonce: q.Nonce, Approve: true, By: &person.Person{ID: "emil"}})
		}
		waits := run.State.Phase == rollout.PhasePaused || run.State.Phase == rollout.PhaseSuspect
		if waits || run.State.Page != nil && !run.State.Phase.Terminal() {
			w.Fold(run, rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: by, Reason: "enough"})
		}
	}
}
