package rollout

import (
	"fmt"

	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/shift"
	"github.com/belayd/belay/rollout/split"
)

// watched folds a read of the split while nothing is being changed.
func (m *machine) watched() {
	if m.ev.Split == nil {
		return
	}
	seen := m.ev.Split.Clone()
	m.s.Observed = &seen
	if m.s.Confirmed == nil || m.s.Asked == nil {
		return
	}
	if seen.Equal(*m.s.Confirmed) {
		if m.s.Foreign != nil {
			m.s.Foreign = nil
			m.decide(decision.Decision{Kind: decision.ForeignChange, Reason: decision.ReasonForeignChange, Split: &seen,
				Sentence: fmt.Sprintf("Somebody else put the split back to %s.", seen)})
		}
		return
	}
	m.foreign(seen)
}

// foreign applies onForeignChange to a split that Belay did not make.
func (m *machine) foreign(seen split.Split) {
	if m.s.Foreign != nil && m.s.Foreign.Equal(seen) {
		m.dropShift()
		return
	}
	before := *m.s.Confirmed
	rule := fmt.Sprintf("onForeignChange: %s", m.p.OnForeignChange)
	sentence := fmt.Sprintf("Somebody else changed the split from %s to %s.", before, seen)
	m.s.Foreign = &seen
	m.decide(decision.Decision{Kind: decision.ForeignChange, Reason: decision.ReasonForeignChange, Rule: rule,
		Sentence: sentence, Split: &seen})
	if m.s.Phase == PhaseSuspect { // a person decides anyway
		m.dropShift()
		return
	}
	switch m.p.OnForeignChange {
	case ForeignRollback:
		m.rollback(decision.ReasonForeignChange, sentence, rule, PhaseRolledBack)
		return
	case ForeignRestore:
		if m.s.Reached < 0 || m.s.Restored || (m.s.Hold != nil && !m.s.Hold.Self) {
			m.holdForeign(sentence, rule)
			return
		}
		// Only a step's own write makes the step reached, and a hold stops that: what
		// was confirmed before is put back as what it was.
		why, to := shift.Restore, before
		if m.s.Shift != nil && !m.s.Shift.Stopped() {
			why, to = m.s.Shift.Why, m.s.Shift.To
		}
		m.s.Restored = true
		m.shift(why, to)
		m.enter(PhaseShifting, decision.ReasonForeignChange, sentence+" The step's split is put back once.")
		return
	case ForeignAdopt:
		m.adopt(seen, sentence, rule)
		return
	case ForeignHold:
	}
	m.holdForeign(sentence, rule)
}

// adopt takes somebody else's split as the step's, never above the last gate.
func (m *machine) adopt(seen split.Split, sentence, rule string) {
	if why := m.unadoptable(seen); why != "" {
		m.holdForeign(sentence+" It cannot be adopted: "+why, rule)
		return
	}
	m.s.Confirmed, m.s.ConfirmedAt, m.s.Foreign = &seen, m.now(), nil
	m.s.StepSince = m.now()
	m.s.Bake = Bake{Needs: m.s.Bake.Needs, Counted: m.now()}
	m.s.MayEnd, m.s.Shift = false, nil
	m.waitAgain()
	m.closeGates("the split was changed, and the bake starts again.")
	if m.s.Phase == PhaseShifting {
		m.enter(PhaseBaking, decision.ReasonForeignChange, sentence)
	}
	m.s.Sentence = sentence + " It is adopted; the bake starts again."
}

// unadoptable says why a split cannot be the step's; "" when it can. Only what lies on
// the ladder's own line can: all of the traffic between stable and the candidate, which
// are compared with each other, and no more of it mirrored than the step mirrors.
func (m *machine) unadoptable(seen split.Split) string {
	cand := m.p.Release.Candidate
	got := seen.Weights[cand]
	switch {
	case m.s.Reached < 0 || m.s.Reached < m.s.Step:
		return "the step's own weight was not reached yet."
	case m.s.Step == len(m.p.Steps)-1:
		return "it is not what the last step promotes."
	case got <= 0 || got > m.s.Allowed:
		return fmt.Sprintf("the candidate would have %d%%, and up to %d%% is allowed.", got, m.s.Allowed)
	case got+seen.Weights[m.s.Stable] != 100:
		return fmt.Sprintf("%s and %s would not have all of the traffic between them.", m.s.Stable, cand)
	}
	for name, share := range split.Positive(seen.Mirror) {
		if name != cand || share > m.p.Steps[m.s.Step].Mirror {
			return fmt.Sprintf("%d%% would be mirrored to %s.", share, name)
		}
	}
	return ""
}

// holdForeign touches nothing and asks for a person.
func (m *machine) holdForeign(sentence, rule string) {
	m.dropShift()
	m.hold(Hold{Reason: decision.ReasonForeignChange, Sentence: sentence + " Nothing is written until a person decides."},
		rule)
}
