package rollout

import (
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/sight"
)

// unseen are the things that have not been seen for longer than their rules allow, counted
// from `from` where that is later, by cause.
func (s *State) unseen(p *Plan, from time.Time) []sight.Blindness {
	return s.Sights.Blind(s.rules(p), s.At, from)
}

// rules are the plan's for what is missing, as things are.
func (s *State) rules(p *Plan) sight.Rules {
	return sight.Rules{NoData: p.OnNoData, SourceError: p.OnSourceError, Overdue: s.overdue() >= p.Interval}
}

// overdue is for how long the reading that is wanted is due and has not come; one
// that is two intervals late counts as one that failed.
func (s *State) overdue() time.Duration {
	i := slices.IndexFunc(s.Outbox, func(e Effect) bool { return e.Kind == EffectMeasure })
	if i < 0 {
		return 0
	}
	return s.At.Sub(s.Outbox[i].NotBefore)
}

// keepSights makes the list of things that are seen what must be seen now: the split
// as soon as the candidate may have traffic, and what is judged. What is new
// in it is due from now on; a deployment's series appear with its first requests, so
// that the time in which a step settles does not count.
func (m *machine) keepSights() {
	if !m.exposed() {
		m.s.Sights = nil
		return
	}
	var judged []analysis.Sighting
	if m.s.Reached >= 0 {
		judged = m.p.Panel.Judged(m.moment())
	}
	m.s.Sights = m.s.Sights.Keep(judged, m.now(), m.s.StepSince.Add(m.p.Settle))
}

// see notes what a reading brought.
func (m *machine) see(vs analysis.Verdicts) {
	m.keepSights()
	for _, got := range vs.Sights {
		v := m.s.Sights.Of(got.Name)
		switch {
		case got.Read || got.Idle && got.Trouble == "":
			v.SeenTo(m.answeredTo(got.Name), m.now(), m.p.OnNoData.After)
			v.Read = v.Read || got.Read
		case got.Trouble != "":
			v.Lacks = got.Trouble
		}
	}
}

// answeredTo is the end of this event's reading for a thing that is judged.
func (m *machine) answeredTo(name string) time.Time {
	metric := m.p.Panel.MetricOf(name)
	for _, r := range m.ev.Readings {
		if r.Metric == metric {
			return r.To
		}
	}
	return time.Time{}
}

// sawSplit notes whether the endpoint could be read.
func (m *machine) sawSplit(read bool) {
	switch v := m.s.Sights.Of(sight.Split); {
	case v == nil:
	case read:
		v.SeenTo(m.now(), m.now(), m.p.OnNoData.After)
	default:
		v.Lacks = analysis.OutcomeError
	}
}

// lookMissing applies onNoData and onSourceError to everything that has not been
// seen for too long, and ends a hold that ends by itself once everything is seen. It
// is looked at after every event, in every phase in which the candidate may have
// traffic. After a person went on in spite of what was missing, the rules count from
// there.
func (m *machine) lookMissing() {
	m.keepSights()
	for _, b := range m.s.unseen(m.p, m.s.Excused) {
		if m.missed(b); m.s.Phase == PhaseRollingBack || m.s.Phase.Terminal() {
			return
		}
	}
	h := m.s.Hold
	if h == nil || !h.Self || len(m.s.unseen(m.p, time.Time{})) > 0 {
		return
	}
	if down := h.Reason == decision.ReasonNotReady && m.unready() != ""; !down &&
		(h.Reason != decision.ReasonWayBack || m.unready()+m.short() == "") {
		m.resumeSelf()
	}
}

// missed applies one rule to what is missing, once for each spell.
func (m *machine) missed(b sight.Blindness) {
	d := decision.Decision{Kind: decision.SourceError, Reason: decision.Reason(b.Cause), Sentence: b.Sentence(),
		Rule: b.Text(), Verdicts: m.s.Verdicts}
	if b.Cause == sight.AbsentNoData {
		d.Kind = decision.NoData
	}
	for _, v := range m.s.Verdicts {
		if d.Guardrail == "" && slices.Contains(b.Names, v.Guardrail) {
			d.Guardrail = v.Guardrail
		}
	}

	lasted := m.now().Sub(later(b.Since, m.s.Excused))
	back := b.Rule.Then == analysis.ActionRollback || b.Rule.RollbackAfter > 0 &&
		lasted >= b.Rule.After+b.Rule.RollbackAfter
	hold := b.Rule.Then == analysis.ActionHold && m.s.Hold == nil
	if first := m.s.Sights.Notify(b.Names, m.now()); back || hold || first {
		m.decide(d)
	}
	switch {
	case back:
		m.rollback(d.Reason, d.Sentence, d.Rule, PhaseRolledBack)
	case hold:
		m.hold(Hold{Reason: d.Reason, Sentence: d.Sentence, Self: true, Guardrail: d.Guardrail}, d.Rule)
	}
}

// unsighted reports whether something that the step needs has not been read in it, or
// is missing now: then the step does not end on what was read before.
func (m *machine) unsighted() bool {
	return m.s.overdue() >= 2*m.p.Interval || m.s.Sights.Unread(m.s.rules(m.p), m.now())
}

// sightTimes are the instants at which time alone makes something missing too long,
// and one heartbeat an interval while the reading that is wanted does not come.
func (m *machine) sightTimes(at func(time.Time)) {
	m.s.Sights.Times(m.s.rules(m.p), m.s.Excused, at)
	if m.monitored() {
		at(m.heartbeat())
	}
}

// heartbeat is half an interval after the reading that is wanted was due, and again
// after each interval: it comes only while the reading does not.
func (m *machine) heartbeat() time.Time {
	every := max(m.p.Interval, time.Second)
	due := aligned(m.now(), every)
	if e, ok := m.pending(EffectMeasure, "measure@"); ok {
		due = e.NotBefore
	}
	beat := due.Add(every / 2)
	if late := m.now().Sub(beat); late >= 0 {
		beat = beat.Add(late.Truncate(every) + every)
	}
	return beat
}
