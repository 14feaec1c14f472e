package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/belayd/belay/rollout/backoff"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/shift"
	"github.com/belayd/belay/rollout/split"
)

const (
	// resendAfter is how long an accepted write may stay without effect before
	// it is sent again.
	resendAfter = 15 * time.Second
	// foreignPolls is how often an unexpected split is read again while a write of
	// ours may still be taking effect in parts.
	foreignPolls = 3
	// forwardPatience is how long a forward shift may go unconfirmed before the
	// rollout is held.
	forwardPatience = 30 * time.Minute
	// uncertainFor is for how long a forward write may still land; until then a
	// rollback does not believe what it reads.
	uncertainFor = 30 * time.Second
	// readBackRule is the rule of every confirmation.
	readBackRule = "a write took effect when a read of the endpoint shows it"
	// forwardTries is how often a forward write may fail before the rollout is held.
	forwardTries = 10
)

// shift begins a change of the traffic from what was last read.
func (m *machine) shift(why shift.Why, to split.Split) {
	from := *m.s.Confirmed
	if m.s.Observed != nil {
		from = *m.s.Observed
	}
	m.s.Shift = &shift.Shift{Why: why, Serial: m.s.Seq, From: from, To: to, Since: m.now(), Stage: shift.Writing}
	if m.mayLand() {
		m.s.Shift.Earlier = m.s.LastSent
	}
	asked := to.Clone()
	m.s.Asked = &asked
}

// traffic folds what a router call answered.
func (m *machine) traffic() {
	e := m.effect()
	read := m.ev.Split != nil
	// An endpoint that is busy with our own write is no outage.
	waiting := m.s.Shift != nil && m.s.Shift.Settles() && m.ev.Failure != nil && m.ev.Failure.Kind == failure.Busy
	m.sawSplit(read || waiting)
	m.described()
	if m.s.Shift == nil {
		m.watched()
		return
	}
	sh := m.s.Shift
	if e.Kind == EffectSetTraffic {
		m.sent(sh)
	} else {
		sh.Polls++
		sh.NotBefore = m.now().Add(backoff.For(m.p.ID, "poll", sh.Polls, time.Second, 10*time.Second))
	}
	if !read && m.s.Shift != nil {
		m.unseen(sh)
	}
	if !read || m.s.Shift == nil {
		return
	}
	seen := m.ev.Split.Clone()
	m.s.Observed = &seen
	if sh.Why == shift.Rollback {
		m.seenRollback(sh, seen)
		return
	}
	m.seenShift(sh, seen)
}

// noteSent notes that a forward write may be on its way: one is wanted, and its time
// has come.
func (m *machine) noteSent() {
	if slices.ContainsFunc(m.s.Outbox, func(e Effect) bool {
		return e.Kind == EffectSetTraffic && e.Forward && !e.NotBefore.After(m.now())
	}) {
		m.s.LastSent = m.now()
	}
}

// mayLand reports whether a forward write may still take effect.
func (m *machine) mayLand() bool {
	return !m.s.LastSent.IsZero() && m.now().Sub(m.s.LastSent) < uncertainFor
}

// sent folds the outcome of a write.
func (m *machine) sent(sh *shift.Shift) {
	f := m.ev.Failure
	if f == nil || sh.Stopped() {
		sh.Await(m.now())
	}
	if f == nil {
		sh.NotBefore = m.now().Add(time.Second)
	}
	if sh.Settles() {
		return
	}
	sh.SentAt = m.now()
	sh.Attempt++
	wait := backoff.For(m.p.ID, "shift", sh.Attempt, 500*time.Millisecond, 15*time.Second)
	if sh.Why == shift.Rollback {
		wait = backoff.For(m.p.ID, "rollback", sh.Attempt, 250*time.Millisecond, 5*time.Second)
	}
	sh.NotBefore = m.now().Add(max(wait, min(f.RetryAfter, time.Minute)))
	if sh.Why == shift.Rollback {
		if f.Kind == failure.Foreign && m.ev.Split == nil && sh.Failure != mailbox.Clip(f.Message) {
			m.decide(decision.Decision{Kind: decision.ForeignChange, Reason: decision.ReasonForeignChange,
				Rule: "a rollback shifts from what it reads",
				Sentence: fmt.Sprintf("The router says that somebody else changed the split, which could not be read: %s.",
					f.Message)})
		}
		sh.Failure = mailbox.Clip(f.Message)
		return
	}
	switch {
	case f.Kind == failure.Permanent:
		m.holdShift(fmt.Sprintf("The router refused the change to %s: %s.", sh.To, f.Message))
	case f.Kind == failure.Transient && sh.Attempt >= forwardTries:
		m.holdShift(fmt.Sprintf("The change to %s failed %d times: %s.", sh.To, sh.Attempt, f.Message))
	}
}

// unseen is a read-back that showed nothing. A rollback that was accepted and
// cannot be read is sent again: the endpoint may have failed with it. Any other
// shift is given up when its patience ends.
func (m *machine) unseen(sh *shift.Shift) {
	switch {
	case sh.Why == shift.Rollback:
		if sh.Stage == shift.Settling && m.now().Sub(sh.SentAt) >= resendAfter {
			m.again(sh, sh.From)
		}
	case m.now().Sub(sh.Since) > forwardPatience:
		m.holdShift(fmt.Sprintf("The endpoint could not be read to show %s within %s.", sh.To, forwardPatience))
	}
}

// holdShift gives a forward or restoring shift up and holds.
func (m *machine) holdShift(sentence string) {
	m.s.Shift = nil
	m.hold(Hold{Reason: decision.ReasonRouter, Sentence: sentence}, "")
}

// again sends the write once more, from what was seen.
func (m *machine) again(sh *shift.Shift, seen split.Split) {
	if sh.Stage != shift.Writing {
		sh.Attempt++
	}
	sh.Stage, sh.From = shift.Writing, seen
}

// seenShift judges a read-back during a forward or restoring shift.
func (m *machine) seenShift(sh *shift.Shift, seen split.Split) {
	settled := m.ev.Failure != nil && m.ev.Failure.Kind == failure.Foreign
	switch {
	case seen.Equal(sh.To):
		m.confirm(sh, seen)
	case seen.Equal(sh.From):
		sh.From = seen
		if sh.Settles() && m.now().Sub(sh.SentAt) >= resendAfter {
			if sh.Stopped() {
				m.s.Shift = nil
				return
			}
			m.again(sh, seen)
		}
		if m.now().Sub(sh.Since) > forwardPatience {
			m.holdShift(fmt.Sprintf("The endpoint did not show %s within %s.", sh.To, forwardPatience))
		}
	case settled || sh.Polls >= foreignPolls:
		m.foreign(seen)
	default:
		// A write of ours may be taking effect in parts: it is read again.
		if !sh.Settles() {
			sh.Await(m.now())
		}
	}
}

// confirm accepts a split that was read back as ours.
func (m *machine) confirm(sh *shift.Shift, seen split.Split) {
	m.s.Confirmed, m.s.ConfirmedAt = &seen, m.now()
	m.s.Shift, m.s.Foreign = nil, nil
	if sh.Attempt == 0 { // its one write took effect, and cannot land again
		m.s.LastSent = sh.Earlier
	}
	m.decide(decision.Decision{Kind: decision.Confirm, Rule: readBackRule, Split: &seen,
		Sentence: fmt.Sprintf("The endpoint shows %s.", seen)})
	if sh.Why == shift.Forward && m.s.Reached < m.s.Step {
		m.beginBake()
	}
	if h := m.s.Hold; h != nil {
		if m.s.Phase == PhaseShifting { // somebody else's split was put back amid a hold that ends by itself
			m.enter(PhaseHeld, h.Reason, h.Sentence)
		}
		return
	}
	m.enter(PhaseBaking, "", fmt.Sprintf("Step %s serves at %s and is watched.", m.stepName(), seen))
}

// beginBake starts the current step's bake: its weight was read back.
func (m *machine) beginBake() {
	var asked []string
	if m.s.Reached >= 0 {
		asked = m.p.Panel.Asked(m.s.Reached)
	}
	m.s.Reached, m.s.StepSince = m.s.Step, m.now()
	m.s.Bake = Bake{Needs: m.p.Steps[m.s.Step].Bake, Counted: m.now()}
	m.s.MayEnd, m.s.Restored = false, false
	for i := range m.s.Sights {
		m.s.Sights[i].Read = false
	}
	// What was not asked in the step before is asked from now on.
	for _, metric := range m.p.Panel.Asked(m.s.Step) {
		if !slices.Contains(asked, metric) {
			m.s.Evidence = m.s.Evidence.Skip(metric, m.now())
		}
	}
}

// stopShift sends no forward write any more. One that may be on its way is read
// back until it is known what became of it; one that waits is never sent.
func (m *machine) stopShift() {
	sh := m.s.Shift
	if sh == nil || sh.Why == shift.Rollback {
		return
	}
	switch sh.Stage {
	case shift.Writing:
		sh.Stage = shift.Recalled
	case shift.Settling:
		sh.Stage = shift.Stopping
	case shift.Recalled, shift.Stopping, shift.Withheld:
	}
	wanted := slices.ContainsFunc(m.s.Outbox, func(e Effect) bool { return e.Kind == EffectSetTraffic })
	if waits := !wanted || m.s.ReadingsRequired > 0 || sh.Attempt > 0 && sh.NotBefore.After(m.now()); waits &&
		!sh.Settles() {
		sh.Await(m.now())
	}
}

// dropShift gives up a shift under way, but never a rollback.
func (m *machine) dropShift() {
	if m.s.Shift != nil && m.s.Shift.Why != shift.Rollback {
		m.s.Shift = nil
	}
}
