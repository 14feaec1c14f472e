package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
)

// A Sight says when one thing that is judged was last seen. Blindness is an age: the
// time since then, whatever kept the readings away. The labels only choose whose rule
// applies. A reading that is later than onNoData allows shows nothing.
type Sight struct {
	// Name is a guardrail's, analysis.BudgetName, or splitName.
	Name string `json:"name"`
	// Seen is the instant of the last usable reading, or from when on one was due. Due is
	// later where a deployment's series are still to appear for the first time: their
	// absence counts from there.
	Seen time.Time `json:"seen"`
	Due  time.Time `json:"due,omitzero"`
	// Lacks is why the last reading was of no use: OutcomeNoData or OutcomeError; ""
	// when it was of use, or brought nothing new.
	Lacks analysis.Outcome `json:"lacks,omitempty"`
	// Late: since then a reading came that is later than onNoData allows.
	Late bool `json:"late,omitempty"`
	// Read: a usable reading came in the present step.
	Read bool `json:"read,omitempty"`
	// Optional: the step may end without it.
	Optional bool `json:"optional,omitempty"`
	// NotifiedAt is when the rule was last applied to this spell; zero when it was not. What
	// was told stays missing until it is seen, whatever is said of it meanwhile.
	NotifiedAt time.Time `json:"told,omitzero"`
}

// splitName is the endpoint's split among the things that are seen; no guardrail can
// be called so.
const splitName = "the split"

// unreadAfter is how long the endpoint may be unreadable before the rollout is held.
const unreadAfter = 2 * time.Minute

// A blindness is what has not been seen for longer than its rule allows.
type blindness struct {
	// since is the oldest sight's; names are all that are missing for the same reason;
	// late is true when one of them came too late.
	since  time.Time
	names  []string
	late   bool
	reason Reason
	rule   MissingPolicy
}

// rule is whose `after`, `then` and `rollbackAfter` apply to a sight, and why it is
// missing: absent and late data and readings that bring nothing new are no data;
// everything else that keeps a reading away is an error of the source.
func (s *State) rule(p *Plan, v Sight) (MissingPolicy, Reason) {
	switch {
	case v.Name == splitName:
		return MissingPolicy{After: unreadAfter, Then: analysis.ActionHold}, ReasonRouter
	case v.Lacks == analysis.OutcomeError, v.Lacks == "" && s.overdue() >= p.Interval:
		return p.OnSourceError, ReasonSourceError
	}
	return p.OnNoData, ReasonNoData
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

// missing reports whether the thing has not been seen for longer than the rule allows,
// counted from `from` where that is later.
func (v Sight) missing(rule MissingPolicy, at, from time.Time) bool {
	since := later(v.Seen, from)
	if v.Lacks != analysis.OutcomeError {
		since = later(since, v.Due)
	}
	return at.Sub(since) >= rule.After || v.NotifiedAt.After(from)
}

// blind are the things that have not been seen for longer than their rules allow,
// counted from `from` where that is later, by reason.
func (s *State) blind(p *Plan, from time.Time) []blindness {
	var bs []blindness
	for _, v := range s.Sights {
		rule, reason := s.rule(p, v)
		if !v.missing(rule, s.At, from) {
			continue
		}
		i := slices.IndexFunc(bs, func(b blindness) bool { return b.reason == reason })
		if i < 0 {
			bs = append(bs, blindness{since: v.Seen, reason: reason, rule: rule})
			i = len(bs) - 1
		}
		b := &bs[i]
		b.names, b.late = append(b.names, v.Name), b.late || v.Late
		if v.Seen.Before(b.since) {
			b.since = v.Seen
		}
	}
	return bs
}

// sentence says what is missing since when, in words that stay as they are while it
// is missing.
func (b blindness) sentence() string {
	since, what := b.since.UTC().Format("15:04:05 UTC"), strings.Join(b.names, ", ")
	switch {
	case b.reason == ReasonRouter:
		return fmt.Sprintf("The endpoint could not be read since %s.", since)
	case b.reason == ReasonNoData && b.late:
		return fmt.Sprintf("What the source answers is %s old or older since %s (%s): it is behind, or this host's clock is ahead.",
			b.rule.After, since, what)
	case b.reason == ReasonNoData:
		return fmt.Sprintf("The candidate is missing in what the source answers since %s (%s).", since, what)
	default:
		return fmt.Sprintf("The source does not answer, or only partly, since %s (%s).", since, what)
	}
}

// text is the rule as the policy writes it.
func (b blindness) text() string {
	name := "onSourceError"
	switch b.reason {
	case ReasonRouter:
		return "the split is read at every interval"
	case ReasonNoData:
		name = "onNoData"
	default:
	}
	return fmt.Sprintf("%s: {after: %s, then: %s, rollbackAfter: %s}", name, b.rule.After, b.rule.Then, orNever(b.rule.RollbackAfter))
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
	old := m.s.Sights
	m.s.Sights = make([]Sight, 0, len(old)+1)
	keep := func(name string, optional bool, due time.Time) {
		v := Sight{Name: name, Seen: m.now(), Due: due}
		if i := slices.IndexFunc(old, func(o Sight) bool { return o.Name == name }); i >= 0 {
			v = old[i]
		}
		v.Optional = optional
		m.s.Sights = append(m.s.Sights, v)
	}
	keep(splitName, true, time.Time{})
	if m.s.Reached < 0 {
		return
	}
	settled := m.s.StepSince.Add(m.p.Settle)
	for _, thing := range m.p.Panel.Judged(m.moment()) {
		keep(thing.Name, thing.Optional, settled)
	}
}

// see notes what a reading brought.
func (m *machine) see(vs analysis.Verdicts) {
	m.keepSights()
	for _, got := range vs.Sights {
		i := slices.IndexFunc(m.s.Sights, func(v Sight) bool { return v.Name == got.Name })
		v := &m.s.Sights[i]
		switch {
		case got.Read || got.Idle && got.Trouble == "":
			m.sawUpTo(v, m.answeredTo(got.Name))
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

// sawUpTo notes a reading that ends at `to`. One that is later than onNoData allows is of
// no use: what it tells of is over, and the thing stays missing for as long as it was.
func (m *machine) sawUpTo(v *Sight, to time.Time) {
	v.Due, v.Lacks = time.Time{}, ""
	if v.Late = v.Name != splitName && m.now().Sub(to) >= m.p.OnNoData.After; v.Late {
		return
	}
	v.Seen, v.NotifiedAt = later(v.Seen, m.now()), time.Time{}
}

// sawSplit notes whether the endpoint could be read.
func (m *machine) sawSplit(read bool) {
	i := slices.IndexFunc(m.s.Sights, func(v Sight) bool { return v.Name == splitName })
	switch {
	case i < 0:
	case read:
		m.sawUpTo(&m.s.Sights[i], m.now())
	default:
		m.s.Sights[i].Lacks = analysis.OutcomeError
	}
}

// lookMissing applies onNoData and onSourceError to everything that has not been
// seen for too long, and ends a hold that ends by itself once everything is seen. It
// is looked at after every event, in every phase in which the candidate may have
// traffic. After a person went on in spite of what was missing, the rules count from
// there.
func (m *machine) lookMissing() {
	m.keepSights()
	for _, b := range m.s.blind(m.p, m.s.Excused) {
		if m.missed(b); m.s.Phase == PhaseRollingBack || m.s.Phase.Terminal() {
			return
		}
	}
	h := m.s.Hold
	if h == nil || !h.Self || len(m.s.blind(m.p, time.Time{})) > 0 {
		return
	}
	if down := h.Reason == ReasonNotReady && m.unready() != ""; !down && (h.Reason != ReasonWayBack || m.unready()+m.short() == "") {
		m.resumeSelf()
	}
}

// missed applies one rule to what is missing, once for each spell.
func (m *machine) missed(b blindness) {
	d := Decision{Kind: DecisionSourceError, Reason: b.reason, Sentence: b.sentence(), Rule: b.text(), Verdicts: m.s.Verdicts}
	if b.reason == ReasonNoData {
		d.Kind = DecisionNoData
	}
	for _, v := range m.s.Verdicts {
		if d.Guardrail == "" && slices.Contains(b.names, v.Guardrail) {
			d.Guardrail = v.Guardrail
		}
	}

	lasted := m.now().Sub(later(b.since, m.s.Excused))
	back := b.rule.Then == analysis.ActionRollback || b.rule.RollbackAfter > 0 && lasted >= b.rule.After+b.rule.RollbackAfter
	hold := b.rule.Then == analysis.ActionHold && m.s.Hold == nil
	if first := m.tellMissing(b); back || hold || first {
		m.decide(d)
	}
	switch {
	case back:
		m.rollback(b.reason, d.Sentence, d.Rule, PhaseRolledBack)
	case hold:
		m.hold(Hold{Reason: b.reason, Sentence: d.Sentence, Self: true, Guardrail: d.Guardrail}, d.Rule)
	}
}

// tellMissing notes that the journal says what is missing; first is true when it does
// not say so of anything yet.
func (m *machine) tellMissing(b blindness) (first bool) {
	first = true
	for i := range m.s.Sights {
		if v := &m.s.Sights[i]; slices.Contains(b.names, v.Name) {
			first = first && v.NotifiedAt.IsZero()
			v.NotifiedAt = m.now()
		}
	}
	return first
}

func orNever(d time.Duration) string {
	if d == 0 {
		return "never"
	}
	return d.String()
}

// unsighted reports whether something that the step needs has not been read in it, or
// is missing now: then the step does not end on what was read before.
func (m *machine) unsighted() bool {
	if m.s.overdue() >= 2*m.p.Interval {
		return true
	}
	judged, read := 0, 0
	for _, v := range m.s.Sights {
		if v.Name == splitName {
			continue
		}
		judged++
		if v.Read {
			read++
		} else if !v.Optional {
			return true
		}
		if rule, _ := m.s.rule(m.p, v); !v.Optional && v.missing(rule, m.now(), time.Time{}) {
			return true
		}
	}
	return judged > 0 && read == 0
}

// sightTimes are the instants at which time alone makes something missing too long,
// and one heartbeat an interval while the reading that is wanted does not come.
func (m *machine) sightTimes(at func(time.Time)) {
	for _, v := range m.s.Sights {
		rule, _ := m.s.rule(m.p, v)
		due := later(v.Seen, m.s.Excused).Add(rule.After)
		at(v.Seen.Add(rule.After))
		at(due)
		at(v.Due.Add(rule.After))
		if rule.RollbackAfter > 0 {
			at(due.Add(rule.RollbackAfter))
		}
	}
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
