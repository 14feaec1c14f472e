package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/belayd/belay/rollout/backoff"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/shift"
)

// settleOutbox makes the Outbox what is wanted now. An effect that was wanted
// before under the same key keeps its ID.
func (m *machine) settleOutbox() {
	old := m.s.Outbox
	want := m.want()
	for i := range want {
		if want[i].ID != "" {
			continue
		}
		for _, e := range old {
			if e.Key == want[i].Key && e.Kind == want[i].Kind && !m.done(e, want[i]) {
				want[i].ID = e.ID
			}
		}
		if want[i].ID == "" {
			want[i].ID = m.mint()
		}
	}
	m.s.Outbox = want
}

// done reports whether this event answered the effect, so that wanting the same
// again is a new effect: a clock that was put back asks for the same instant
// twice. A claim that was queued, and a retry, are still the same effect.
func (m *machine) done(old, want Effect) bool {
	return old.ID == m.ev.Effect && old.Attempt == want.Attempt && m.s.Last.Ignored == "" && m.ev.Kind != EventQueued
}

// mint makes an ID that no other effect of the rollout has.
func (m *machine) mint() string {
	m.minted++
	return fmt.Sprintf("%s/%d/%d", m.p.ID, m.s.Seq, m.minted)
}

// want derives all the work that is wanted from the state, traffic first.
func (m *machine) want() []Effect {
	var es []Effect
	if m.s.Shift != nil {
		es = append(es, m.wantShift(m.s.Shift))
	}
	es = append(es, m.wantMessages()...)
	switch m.s.Phase {
	case PhaseScheduled:
		es = append(es, Effect{Kind: EffectClaim, Key: "claim/wait", Wait: true})
	case PhaseQueued:
		es = append(es, Effect{Kind: EffectClaim, Key: "claim"})
	case PhasePreflight:
		es = append(es, m.keep(m.wantPreflight()))
	case PhasePromoted, PhaseRolledBack, PhaseStopped, PhaseRefused:
		if m.s.Registered {
			es = append(es, Effect{Kind: EffectRelease, Key: "release", Cooldown: m.cooldown()})
		}
	case PhaseShifting, PhaseBaking, PhaseWaiting, PhaseHeld, PhasePaused, PhaseRollingBack, PhaseSuspect:
	}
	es = append(es, m.wantReadings()...)
	if at := m.deadline(); !at.IsZero() {
		es = append(es, Effect{Kind: EffectWake, Key: "wake@" + stamp(at), NotBefore: at})
	}
	return es
}

// wantPreflight are the checks: at once, and again after a while where they could not be
// made, or where the candidate is waited for.
func (m *machine) wantPreflight() Effect {
	e := Effect{Kind: EffectPreflight, Key: "preflight", Attempt: m.s.Tries}
	switch a := m.s.Await; {
	case a != nil:
		e.Attempt += a.Checks
		e.NotBefore = m.now().Add(backoff.For(m.p.ID, "await", a.Checks, 5*time.Second, awaitEvery))
		if m.now().Before(a.Until) && e.NotBefore.After(a.Until) {
			e.NotBefore = a.Until
		}
	case m.s.Tries > 0:
		e.NotBefore = m.now().Add(backoff.For(m.p.ID, "preflight", m.s.Tries, 2*time.Second, 30*time.Second))
	}
	return e
}

// keep returns the effect as it stands in the Outbox when the same attempt of it
// is there, so that its NotBefore does not move.
func (m *machine) keep(e Effect) Effect {
	for _, o := range m.s.Outbox {
		if o.Key == e.Key && o.Kind == e.Kind && o.Attempt == e.Attempt {
			return o
		}
	}
	return e
}

// wantShift is the next call of a change under way: the write, or a read-back. After
// a time in which nobody watched only a rollback is written before the guardrails
// were read again.
func (m *machine) wantShift(sh *shift.Shift) Effect {
	if sh.Settles() || sh.Stage == shift.Withheld || (m.s.ReadingsRequired > 0 && sh.Why != shift.Rollback) {
		return Effect{Kind: EffectReadTraffic, Key: fmt.Sprintf("poll/%d/%d/%d", sh.Serial, sh.Attempt, sh.Polls),
			NotBefore: sh.NotBefore}
	}
	from, to := sh.From.Clone(), sh.To.Clone()
	return Effect{
		Kind: EffectSetTraffic, Key: fmt.Sprintf("shift/%d", sh.Serial), Attempt: sh.Attempt, NotBefore: sh.NotBefore,
		From: &from, To: &to, Forward: !to.Share(m.p.Release.Candidate).None(),
	}
}

// wantReadings are the next readings, at an aligned instant: of the split while the
// candidate may have traffic and nothing is being changed, and of the metrics once a
// step was reached. One that was not answered yet stays as it is.
func (m *machine) wantReadings() []Effect {
	if !m.exposed() {
		return nil
	}
	at := aligned(m.now(), m.p.Interval)
	var es []Effect
	if m.monitored() {
		es = append(es, m.wantMeasure(at))
	}
	if m.s.Shift != nil {
		return es
	}
	read := Effect{Kind: EffectReadTraffic, Key: "read@" + stamp(at), NotBefore: at,
		Describe: at.Sub(m.s.FactsAt) >= factsEvery}
	if old, ok := m.pending(EffectReadTraffic, "read@"); ok {
		read = old
	}
	return append(es, read)
}

// wantMeasure is the next reading of the metrics: of all at the instant given, or before
// that of those that are suspicious. There is one at a time, so that no interval is read
// twice.
func (m *machine) wantMeasure(at time.Time) Effect {
	if old, ok := m.pending(EffectMeasure, "measure@"); ok && m.now().Sub(old.NotBefore) < giveUpReading {
		return old
	}
	asked := m.p.Panel.Asked(m.s.Reached)
	early := m.s.Suspicion.At.After(m.now()) && m.s.Suspicion.At.Before(at)
	if early {
		at = m.s.Suspicion.At
		asked = slices.DeleteFunc(asked, func(name string) bool { return !slices.Contains(m.s.Suspicion.Metrics, name) })
	}

	measure := Effect{Kind: EffectMeasure, Key: "measure@" + stamp(at), NotBefore: at, Since: map[string]time.Time{},
		Early: early}
	for _, name := range asked {
		since := m.s.Evidence.Cursor(name)
		if since.IsZero() {
			since = m.s.StepSince
		}
		measure.Since[name] = since
	}
	return measure
}

// giveUpReading is after how long a reading that does not come is asked for anew: well
// beyond every time-out, so that a slow answer is waited for.
const giveUpReading = 2 * time.Minute

// pending is the effect of the kind in the Outbox that this event did not answer.
func (m *machine) pending(kind EffectKind, prefix string) (Effect, bool) {
	i := slices.IndexFunc(m.s.Outbox, func(e Effect) bool {
		return e.Kind == kind && e.ID != m.ev.Effect && len(e.Key) > len(prefix) && e.Key[:len(prefix)] == prefix
	})
	if i < 0 {
		return Effect{}, false
	}
	return m.s.Outbox[i], true
}

// aligned is the first instant after t that is a whole number of intervals from
// the Unix epoch, so that rollouts with one interval ask at the same instants.
func aligned(t time.Time, interval time.Duration) time.Time {
	interval = max(interval, time.Second)
	ns := t.UnixNano()
	return time.Unix(0, ns-ns%int64(interval)+int64(interval)).UTC()
}

// stamp makes a key of an instant.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// cooldown is until when the version is refused after this end: its own, where it was
// put back, or the one that it has undone.
func (m *machine) cooldown() time.Time {
	failed := m.s.Phase == PhaseRolledBack || m.s.Phase == PhaseStopped
	undone := m.s.Phase == PhasePromoted && m.p.Release.Undoes != nil
	if !failed && !undone || m.s.Reason == decision.ReasonSuperseded || m.p.Rollback.Cooldown <= 0 {
		return time.Time{}
	}
	return m.s.PhaseSince.Add(m.p.Rollback.Cooldown)
}

// Settled reports whether the rollout has ended and everything of it was told: all
// that may be left is the page of a rollback, which waits for somebody or for time.
func (s State) Settled() bool {
	return s.Phase.Terminal() && !slices.ContainsFunc(s.Outbox, func(e Effect) bool { return e.Kind != EffectWake })
}

// Closed reports whether nothing is left to do: the rollout is terminal and its
// Outbox is empty.
func (s State) Closed() bool { return s.Phase.Terminal() && len(s.Outbox) == 0 }
