package rollout

import (
	"fmt"
	"time"

	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/shift"
	"github.com/belayd/belay/rollout/split"
)

// seenRollback judges a read-back during a rollback.
func (m *machine) seenRollback(sh *shift.Shift, seen split.Split) {
	cand := m.p.Release.Candidate
	switch {
	case seen.Share(cand).None() && seen.Weights[m.s.Stable] == 100:
		if !m.mayLand() {
			m.confirmRollback(seen)
			return
		}
		// A forward write that was given up may still land: it is read again.
		sh.Await(m.now())
	case seen.Share(cand).None() && !sh.Ordered:
		m.withhold(sh, seen)
	case sh.Stage == shift.Settling && m.now().Sub(sh.SentAt) < resendAfter && seen.Equal(sh.From):
		// Accepted and not in effect yet: it is read again.
	default:
		if !seen.Equal(sh.From) {
			m.overwrites(seen, sh.From)
			sh.NotBefore = m.now()
		}
		m.again(sh, seen)
	}
}

// withhold writes nothing: somebody else took the traffic from the candidate.
func (m *machine) withhold(sh *shift.Shift, seen split.Split) {
	if sh.Stage == shift.Withheld && m.s.Foreign != nil && m.s.Foreign.Equal(seen) {
		return
	}
	sh.Stage = shift.Withheld
	m.s.Foreign = &seen
	sentence := fmt.Sprintf("Somebody else changed the split to %s, which leaves %s nothing. Nothing is written until "+
		"%s has 100%% or a person repeats `rollback`.",
		seen, m.p.Release.Candidate, m.s.Stable)
	m.s.Sentence = sentence
	m.decide(decision.Decision{Kind: decision.ForeignChange, Reason: decision.ReasonForeignChange, Split: &seen,
		Sentence: sentence,
		Rule:     "a rollback does not overwrite a split that leaves the candidate 0"})
}

// confirmRollback ends the rollout: stable has 100% again.
func (m *machine) confirmRollback(seen split.Split) {
	took := m.now().Sub(m.s.Shift.Since)
	m.s.Confirmed, m.s.ConfirmedAt, m.s.Shift, m.s.Foreign = &seen, m.now(), nil, nil
	sentence := fmt.Sprintf("%s Confirmed after %s: the endpoint shows %s.", m.s.Sentence, took.Round(time.Millisecond),
		seen)
	m.decide(decision.Decision{Kind: decision.Confirm, Rule: readBackRule, Split: &seen,
		Sentence: fmt.Sprintf("The endpoint shows %s.", seen)})
	m.end(m.s.Ending, m.s.Reason, sentence)
}

// end makes the rollout terminal.
func (m *machine) end(phase Phase, reason decision.Reason, sentence string) {
	m.s.Hold = nil
	m.closeGates("the rollout has ended.")
	m.enter(phase, reason, sentence)
	m.decide(decision.Decision{Kind: decision.End, Reason: reason,
		Rule: "stable has 100%, read back, or no traffic had been moved", Sentence: sentence})
}

// rollback puts stable back. Nothing gates it.
func (m *machine) rollback(reason decision.Reason, sentence, rule string, ending Phase) {
	if m.s.Phase == PhaseRollingBack || m.s.Phase.Terminal() {
		return
	}
	m.decide(decision.Decision{Kind: decision.Rollback, Reason: reason, Rule: rule, Sentence: sentence,
		Verdicts: m.s.Verdicts})
	m.s.Hold = nil
	m.closeGates("the rollout is rolled back.")
	m.s.Ending = ending
	if !m.moved() {
		m.s.Shift = nil
		m.end(ending, reason, sentence+" No traffic had been moved.")
		return
	}
	was := m.s.Shift
	m.shift(shift.Rollback, split.AllOn(m.s.Stable))
	m.enter(PhaseRollingBack, reason, sentence)
	switch from := m.s.Shift.From; {
	case !m.mayLand() && from.Share(m.p.Release.Candidate).None() && from.Weights[m.s.Stable] != 100:
		m.withhold(m.s.Shift, from)
	case !m.ours(from, was) && (m.s.Foreign == nil || !m.s.Foreign.Equal(from)):
		m.overwrites(from, *m.s.Confirmed)
	}
}

// ours reports whether a split is one that Belay confirmed or was changing when it was
// read.
func (m *machine) ours(seen split.Split, was *shift.Shift) bool {
	return seen.Equal(*m.s.Confirmed) || was != nil && (seen.Equal(was.From) || seen.Equal(was.To))
}

// overwrites says that a rollback writes over a split that somebody else made.
func (m *machine) overwrites(seen, instead split.Split) {
	m.decide(decision.Decision{Kind: decision.ForeignChange, Reason: decision.ReasonForeignChange, Split: &seen,
		Rule:     "a rollback shifts from what it reads",
		Sentence: fmt.Sprintf("The split is %s, not %s; the rollback overwrites it.", seen, instead)})
}

// Unconfirmed reports whether a rollback is under way that was not confirmed within
// verifyWithin.
func (s *State) Unconfirmed(p *Plan) bool {
	return s.Phase == PhaseRollingBack && s.Shift != nil && s.At.Sub(s.Shift.Since) >= p.Rollback.VerifyWithin
}

// moved reports whether Belay has ever asked for other traffic than stable's.
func (m *machine) moved() bool { return m.s.Stable != "" && m.s.Asked != nil }
