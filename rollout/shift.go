package rollout

import (
	"fmt"
	"slices"
	"time"
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
	// uncertainFor is how long a rollback that cut a forward write off keeps
	// reading before it believes what it sees: the write may land late.
	uncertainFor = 10 * time.Second
	// forwardTries is how often a forward write may fail before the rollout is held.
	forwardTries = 10
)

// shift begins a change of the traffic from what was last read.
func (m *machine) shift(why ShiftWhy, to Split) {
	from := *m.s.Confirmed
	if m.s.Observed != nil {
		from = *m.s.Observed
	}
	m.s.Shift = &Shift{Why: why, Serial: m.s.Seq, From: from, To: to, Since: m.now()}
	asked := to.Clone()
	m.s.Asked = &asked
}

// traffic folds what a router call answered.
func (m *machine) traffic() {
	e := m.effect()
	read := m.ev.Split != nil
	// An endpoint that is busy with our own write is no outage.
	waiting := m.s.Shift != nil && m.s.Shift.Sent && m.ev.Failure != nil && m.ev.Failure.Kind == FailureBusy
	if read || waiting {
		m.s.Unread = time.Time{}
	} else if m.s.Unread.IsZero() {
		m.s.Unread = m.now()
	}
	if m.s.Shift == nil {
		m.watched()
		return
	}
	sh := m.s.Shift
	if e.Kind == EffectSetTraffic {
		m.sent(sh)
	} else {
		sh.Polls++
		sh.NotBefore = m.now().Add(backoff(sh.Polls, time.Second, 10*time.Second))
	}
	if !read && m.s.Shift != nil {
		m.unseen(sh)
	}
	if !read || m.s.Shift == nil {
		return
	}
	seen := m.ev.Split.Clone()
	m.s.Observed = &seen
	if sh.Why == ShiftRollback {
		m.seenRollback(sh, seen)
		return
	}
	m.seenShift(sh, seen)
}

// sent folds the outcome of a write.
func (m *machine) sent(sh *Shift) {
	f := m.ev.Failure
	sh.Sent, sh.SentAt = f == nil, m.now()
	if f == nil {
		sh.NotBefore = m.now().Add(time.Second)
		return
	}
	if sh.Stopping {
		sh.Sent = true
		return
	}
	sh.Attempt++
	wait := backoff(sh.Attempt, 500*time.Millisecond, 15*time.Second)
	if sh.Why == ShiftRollback {
		wait = backoff(sh.Attempt, 250*time.Millisecond, 5*time.Second)
	}
	sh.NotBefore = m.now().Add(max(wait, min(f.RetryAfter, time.Minute)))
	if sh.Why == ShiftRollback {
		m.openPage(ReasonRouter, fmt.Sprintf("The rollback of %s is not confirmed: %s. Belay keeps trying.%s", m.p.Endpoint.Name, f.Message, m.byHand()))
		return
	}
	switch {
	case f.Kind == FailurePermanent:
		m.holdShift(fmt.Sprintf("The router refused the change to %s: %s.", sh.To, f.Message))
	case f.Kind == FailureTransient && sh.Attempt >= forwardTries:
		m.holdShift(fmt.Sprintf("The change to %s failed %d times: %s.", sh.To, sh.Attempt, f.Message))
	}
}

// unseen is a read-back that showed nothing. A rollback that was accepted and
// cannot be read is sent again: the endpoint may have failed with it. Any other
// shift is given up when its patience ends.
func (m *machine) unseen(sh *Shift) {
	switch {
	case sh.Why == ShiftRollback:
		if sh.Sent && !sh.Withheld && m.now().Sub(sh.SentAt) >= resendAfter {
			m.again(sh, sh.From)
		}
	case m.now().Sub(sh.Since) > forwardPatience:
		m.holdShift(fmt.Sprintf("The endpoint could not be read to show %s within %s.", sh.To, forwardPatience))
	}
}

// holdShift gives a forward or restoring shift up and holds.
func (m *machine) holdShift(sentence string) {
	m.s.Shift = nil
	m.hold(Hold{Reason: ReasonRouter, Sentence: sentence}, "")
}

// seenRollback judges a read-back during a rollback.
func (m *machine) seenRollback(sh *Shift, seen Split) {
	cand := m.p.Release.Candidate
	switch {
	case seen.without(cand) && seen.Weights[m.s.Stable] == 100:
		if !sh.Uncertain || m.now().Sub(sh.Since) >= uncertainFor {
			m.confirmRollback(seen)
			return
		}
		// A forward write that was cut off may still land: it is read again.
		sh.Sent, sh.SentAt = true, m.now()
	case seen.without(cand) && !sh.Ordered:
		m.withhold(sh, seen)
	case sh.Sent && m.now().Sub(sh.SentAt) < resendAfter && seen.Equal(sh.From):
		// Accepted and not in effect yet: it is read again.
	default:
		if !seen.Equal(sh.From) {
			m.decide(Decision{Kind: DecisionForeignChange, Reason: ReasonForeignChange, Split: &seen, Rule: "a rollback shifts from what it reads",
				Sentence: fmt.Sprintf("The split is %s, not %s; the rollback overwrites it.", seen, sh.From)})
			sh.NotBefore = m.now()
		}
		m.again(sh, seen)
	}
}

// withhold writes nothing: somebody else took the traffic from the candidate.
func (m *machine) withhold(sh *Shift, seen Split) {
	if sh.Withheld && m.s.Foreign != nil && m.s.Foreign.Equal(seen) {
		return
	}
	sh.Withheld = true
	m.s.Foreign = &seen
	sentence := fmt.Sprintf("Somebody else changed the split to %s, which leaves %s nothing. Nothing is written until %s has 100%% or a person repeats `rollback`.",
		seen, m.p.Release.Candidate, m.s.Stable)
	m.s.Sentence = sentence
	m.decide(Decision{Kind: DecisionForeignChange, Reason: ReasonForeignChange, Split: &seen, Sentence: sentence,
		Rule: "a rollback does not overwrite a split that leaves the candidate 0"})
	m.openPage(ReasonForeignChange, sentence+m.byHand())
}

// again sends the write once more, from what was seen.
func (m *machine) again(sh *Shift, seen Split) {
	if sh.Sent {
		sh.Attempt++
	}
	sh.Sent, sh.Withheld = false, false
	sh.From = seen
}

// seenShift judges a read-back during a forward or restoring shift.
func (m *machine) seenShift(sh *Shift, seen Split) {
	settled := m.ev.Failure != nil && m.ev.Failure.Kind == FailureForeign
	switch {
	case seen.Equal(sh.To):
		m.confirm(sh, seen)
	case seen.Equal(sh.From):
		sh.From = seen
		if sh.Sent && m.now().Sub(sh.SentAt) >= resendAfter {
			if sh.Stopping {
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
		if !sh.Sent {
			sh.Sent, sh.SentAt = true, m.now()
		}
	}
}

// confirm accepts a split that was read back as ours.
func (m *machine) confirm(sh *Shift, seen Split) {
	m.s.Confirmed, m.s.ConfirmedAt = &seen, m.now()
	m.s.Shift, m.s.Foreign = nil, nil
	m.decide(Decision{Kind: DecisionConfirm, Split: &seen, Sentence: fmt.Sprintf("The endpoint shows %s.", seen)})
	if sh.Why == ShiftForward && m.s.Reached < m.s.Step {
		m.beginBake()
	}
	if m.s.Hold != nil {
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
	// What was not asked in the step before is asked from now on.
	for _, metric := range m.p.Panel.Asked(m.s.Step) {
		if !slices.Contains(asked, metric) {
			m.s.Evidence = m.s.Evidence.Skip(metric, m.now())
		}
	}
}

// confirmRollback ends the rollout: stable has 100% again.
func (m *machine) confirmRollback(seen Split) {
	took := m.now().Sub(m.s.Shift.Since)
	m.s.Confirmed, m.s.ConfirmedAt, m.s.Shift, m.s.Foreign = &seen, m.now(), nil, nil
	sentence := fmt.Sprintf("Confirmed after %s: the endpoint shows %s. %s", took.Round(time.Millisecond), seen, m.s.Sentence)
	m.decide(Decision{Kind: DecisionConfirm, Split: &seen, Sentence: fmt.Sprintf("The endpoint shows %s.", seen)})
	m.end(m.s.Ending, m.s.Reason, sentence)
}

// end makes the rollout terminal; the page, if one is open, is resolved.
func (m *machine) end(phase Phase, reason Reason, sentence string) {
	m.s.Hold, m.s.Gates = nil, nil
	m.resolvePage("Resolved: " + sentence)
	m.enter(phase, reason, sentence)
	m.decide(Decision{Kind: DecisionEnd, Reason: reason, Sentence: sentence})
}

// watched folds a read of the split while nothing is being changed.
func (m *machine) watched() {
	if m.ev.Split == nil {
		return
	}
	seen := m.ev.Split.Clone()
	m.s.Observed = &seen
	if m.s.Confirmed == nil || m.s.Reached < 0 {
		return
	}
	if seen.Equal(*m.s.Confirmed) {
		if m.s.Hold != nil && m.s.Hold.Self && m.s.Hold.Reason == ReasonRouter {
			m.resumeSelf("The endpoint can be read again.")
		}
		if m.s.Foreign != nil {
			m.s.Foreign = nil
			m.decide(Decision{Kind: DecisionForeignChange, Reason: ReasonForeignChange, Split: &seen,
				Sentence: fmt.Sprintf("Somebody else put the split back to %s.", seen)})
		}
		return
	}
	m.foreign(seen)
}

// foreign applies onForeignChange to a split that Belay did not make.
func (m *machine) foreign(seen Split) {
	if m.s.Foreign != nil && m.s.Foreign.Equal(seen) {
		m.dropShift()
		return
	}
	m.s.Foreign = &seen
	if m.s.Phase == PhaseSuspect {
		m.dropShift()
		return
	}
	before := *m.s.Confirmed
	rule := fmt.Sprintf("onForeignChange: %s", m.p.OnForeignChange)
	sentence := fmt.Sprintf("Somebody else changed the split from %s to %s.", before, seen)
	m.decide(Decision{Kind: DecisionForeignChange, Reason: ReasonForeignChange, Rule: rule, Sentence: sentence, Split: &seen})
	switch m.p.OnForeignChange {
	case ForeignRollback:
		m.rollback(ReasonForeignChange, sentence, rule, PhaseRolledBack)
	case ForeignRestore:
		if m.s.Restored || (m.s.Hold != nil && !m.s.Hold.Self) {
			m.holdForeign(sentence, rule)
			return
		}
		to := before
		if m.s.Shift != nil {
			to = m.s.Shift.To
		}
		m.s.Restored = true
		why := ShiftRestore
		if m.s.Reached < m.s.Step {
			why = ShiftForward
		}
		m.shift(why, to)
		m.enter(PhaseShifting, ReasonForeignChange, sentence+" The step's split is put back once.")
	case ForeignAdopt:
		m.adopt(seen, sentence, rule)
	case ForeignHold:
		m.holdForeign(sentence, rule)
	default:
		m.holdForeign(sentence, rule)
	}
}

// adopt takes somebody else's split as the step's, never above the last gate.
func (m *machine) adopt(seen Split, sentence, rule string) {
	got := seen.Weights[m.p.Release.Candidate]
	last := m.s.Step == len(m.p.Steps)-1
	if got <= 0 || got > m.s.Allowed || m.s.Reached < 0 || m.s.Reached < m.s.Step || last {
		why := fmt.Sprintf("the candidate would have %d%%, and up to %d%% is allowed.", got, m.s.Allowed)
		if last {
			why = "it is not what the last step promotes."
		}
		m.holdForeign(sentence+" It cannot be adopted: "+why, rule)
		return
	}
	m.s.Confirmed, m.s.ConfirmedAt, m.s.Foreign = &seen, m.now(), nil
	m.s.StepSince = m.now()
	m.s.Bake = Bake{Needs: m.s.Bake.Needs, Counted: m.now()}
	m.s.Sentence = sentence + " It is adopted; the bake starts again."
}

// holdForeign touches nothing and asks for a person.
func (m *machine) holdForeign(sentence, rule string) {
	m.dropShift()
	m.hold(Hold{Reason: ReasonForeignChange, Sentence: sentence + " Nothing is written until a person decides."}, rule)
}

// stopShift sends no forward write any more. One that may be on its way is read
// back until it is known what became of it.
func (m *machine) stopShift() {
	sh := m.s.Shift
	if sh == nil || sh.Why == ShiftRollback {
		return
	}
	sh.Stopping = true
	if !sh.Sent && sh.Attempt > 0 && sh.NotBefore.After(m.now()) {
		sh.Sent, sh.SentAt = true, m.now()
	}
}

// dropShift gives up a shift under way, but never a rollback.
func (m *machine) dropShift() {
	if m.s.Shift != nil && m.s.Shift.Why != ShiftRollback {
		m.s.Shift = nil
	}
}

// rollback puts stable back. Nothing gates it.
func (m *machine) rollback(reason Reason, sentence, rule string, ending Phase) {
	if m.s.Phase == PhaseRollingBack || m.s.Phase.Terminal() {
		return
	}
	m.decide(Decision{Kind: DecisionRollback, Reason: reason, Rule: rule, Sentence: sentence, Verdicts: m.s.Verdicts})
	m.s.Hold, m.s.Gates = nil, nil
	m.s.Ending = ending
	if !m.moved() {
		m.s.Shift = nil
		m.end(ending, reason, sentence+" No traffic had been moved.")
		return
	}
	uncertain := m.s.Shift != nil
	m.shift(ShiftRollback, allOn(m.s.Stable))
	m.s.Shift.Uncertain = uncertain
	m.enter(PhaseRollingBack, reason, sentence)
	if ending == PhaseRolledBack {
		m.pageNow(reason, fmt.Sprintf("%s is rolled back: %s", m.p.Endpoint.Name, sentence))
	}
	if from := m.s.Shift.From; !uncertain && from.without(m.p.Release.Candidate) && from.Weights[m.s.Stable] != 100 {
		m.withhold(m.s.Shift, from)
	}
}

// moved reports whether Belay has ever asked for other traffic than stable's.
func (m *machine) moved() bool { return m.s.Stable != "" && m.s.Asked != nil }

// byHand is the sentence that says how to roll back without Belay.
func (m *machine) byHand() string {
	if m.s.Manual == "" {
		return ""
	}
	return " By hand: " + m.s.Manual
}

// backoff doubles from base with each try, up to most.
func backoff(try int, base, most time.Duration) time.Duration {
	d := base
	for range min(max(try-1, 0), 20) {
		d *= 2
		if d >= most {
			return most
		}
	}
	return min(d, most)
}
