package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/split"
)

// preflightTries is how often a preflight that could not be made is tried.
const preflightTries = 5

// checksHold is for how long what a preflight found is believed while a gate of
// the first step is closed. It is longer than the checks may take (two minutes)
// and than a person needs who answers at once, and short beside the time in which
// deployments, capacity and splits change under somebody's hands. The age counts
// from the answer, so that slow or repeated checks are never asked for ever.
const checksHold = 5 * time.Minute

// awaitEvery is the longest pause between two looks at a candidate that is waited for.
const awaitEvery = 15 * time.Second

// started opens the history.
func (m *machine) started() {
	m.s.Created = m.now()
	m.decide(decision.Decision{Kind: decision.Start,
		Sentence: fmt.Sprintf("%s asked for %s (version %s) on %s/%s, policy %s%s.",
			m.p.Release.Requester, m.p.Release.Candidate, m.p.Release.Version,
			m.p.Endpoint.Router, m.p.Endpoint.Name, m.p.Policy.Name,
			m.p.Release.again())})
	if len(m.p.Steps) == 0 {
		m.refuse(decision.ReasonPreflight, "The plan has no steps.")
		return
	}
	if m.p.Schedule != nil {
		if at := m.p.Schedule.Next(m.now()); !at.IsZero() {
			m.s.Registered, m.s.StartAt = true, at
			m.enter(PhaseScheduled, decision.ReasonSchedule,
				fmt.Sprintf("Waits for the schedule: starts at %s.", at.UTC().Format(time.RFC3339)))
			return
		}
		m.refuse(decision.ReasonSchedule, fmt.Sprintf("The schedule %q never comes.", m.p.Schedule.Cron))
		return
	}
	m.s.Registered = true
	m.enter(PhaseQueued, "", "Asks for the endpoint.")
}

// claimed begins the checks: the endpoint is ours.
func (m *machine) claimed() {
	m.s.Claimed, m.s.BlockedBy = true, ""
	m.enter(PhasePreflight, decision.ReasonPreflight, "Is being checked; no traffic has moved.")
}

// queued keeps waiting behind another rollout.
func (m *machine) queued() {
	if m.s.BlockedBy == m.ev.BlockedBy {
		return
	}
	m.s.BlockedBy = m.ev.BlockedBy
	sentence := fmt.Sprintf("Waits behind %s.", m.ev.BlockedBy)
	m.enter(PhaseQueued, decision.ReasonBusy, sentence)
	m.decide(decision.Decision{Kind: decision.Queue, Reason: decision.ReasonBusy,
		Rule: fmt.Sprintf("concurrency: %s", m.p.Concurrency), Sentence: sentence})
}

// refused ends a rollout that does not get its endpoint. Who lost its place is owed that
// answer until it gives its claim back.
func (m *machine) refused() {
	m.s.Registered = m.ev.Code == decision.ReasonSuperseded
	m.refuse(m.ev.Code, m.ev.Reason)
}

// released notes that the endpoint was given back.
func (m *machine) released() { m.s.Registered, m.s.Claimed = false, false }

// refuse ends the rollout before any traffic moved.
func (m *machine) refuse(reason decision.Reason, sentence string) {
	m.s.Hold = nil
	m.closeGates("the rollout has ended.")
	m.enter(PhaseRefused, reason, sentence)
	m.decide(decision.Decision{Kind: decision.Refuse, Reason: reason, Sentence: sentence})
}

// preflighted reads the checks and goes on to the first step's gates.
func (m *machine) preflighted() {
	m.s.Checks = m.ev.Checks
	if m.ev.Versions != nil {
		m.s.Versions = m.ev.Versions
	}
	if m.ev.Manual != "" {
		m.s.Manual = m.ev.Manual
	}
	failed, by := check.Failures(m.ev.Checks)
	if m.ev.Split == nil || (len(failed) > 0 && by == check.RemedyRetry) {
		m.unchecked(failed)
		return
	}
	split := m.ev.Split.Clone()
	m.s.Observed = &split
	if was := m.s.Confirmed; was != nil && !was.Equal(split) {
		m.movedMeanwhile(*was, split)
		return
	}
	stable, err := split.Stable(m.p.Stable, m.p.Release.Candidate)
	if err != nil {
		m.refuse(decision.ReasonPreflight, sentenceOf(err))
		return
	}
	if len(failed) > 0 {
		m.failed(failed, by)
		return
	}
	if another := m.anotherVersion(); another != "" {
		m.refuse(decision.ReasonPreflight, another)
		return
	}
	m.s.Stable = stable
	m.described()
	m.s.Served = m.s.Facts[stable].Instances
	m.s.Confirmed, m.s.ConfirmedAt = &split, m.now()
	m.advance()
}

// movedMeanwhile refuses to start from another split than the one that the
// rollout was checked, and perhaps approved, for: somebody else moved the traffic
// while the first step waited.
func (m *machine) movedMeanwhile(was, is split.Split) {
	sentence := fmt.Sprintf("Somebody else changed the split from %s to %s while the first step waited. Start the "+
		"release again if it shall begin there.", was, is)
	m.decide(decision.Decision{Kind: decision.ForeignChange, Reason: decision.ReasonForeignChange, Split: &is,
		Sentence: sentence,
		Rule:     "a rollout begins from the split it was checked for"})
	m.refuse(decision.ReasonForeignChange, sentence)
}

// outdated reports whether the checks were made too long ago for the first
// traffic to be moved on their word. ConfirmedAt is when they were answered, as
// long as no step has begun.
func (m *machine) outdated() bool {
	return m.s.Step < 0 && m.s.Asked == nil && m.now().Sub(m.s.ConfirmedAt) > checksHold
}

// checkAgain makes the checks once more, right before the first step. The gates
// stay as they are: an approval that was given is not asked for again.
func (m *machine) checkAgain() {
	m.s.Tries = 0
	m.enter(PhasePreflight, decision.ReasonPreflight,
		fmt.Sprintf("The checks are %s old and are made again before any traffic moves.",
			m.now().Sub(m.s.ConfirmedAt).Round(time.Second)))
}

// unchecked counts a preflight that could not be made, and gives up after some. While
// the candidate is waited for anyway it is only made again.
func (m *machine) unchecked(failed []string) {
	why := m.ev.Reason
	if m.ev.Split != nil {
		why = strings.Join(failed, " ")
	}
	if a := m.s.Await; a != nil && m.now().Before(a.Until) {
		a.Checks++
		m.s.Sentence = m.awaits("the checks could not be made: " + why)
		return
	}
	m.s.Tries++
	if m.s.Tries >= preflightTries {
		m.refuse(decision.ReasonPreflight, fmt.Sprintf("The checks could not be made in %d tries: %s", m.s.Tries, why))
		return
	}
	m.s.Sentence = fmt.Sprintf("The checks could not be made (try %d of %d): %s", m.s.Tries, preflightTries, why)
}

// failed refuses a release whose checks failed, unless they pass once the candidate is
// ready: that is waited for, for as long as the policy says, from when it was first seen.
func (m *machine) failed(sentences []string, by check.Remedy) {
	within, why := m.p.Patience(), strings.Join(sentences, " ")
	switch a := m.s.Await; {
	case by != check.RemedyReady || within <= 0:
		m.refuse(decision.ReasonPreflight, why)
		return
	case a != nil && !m.now().Before(a.Until):
		m.refuse(decision.ReasonPreflight, fmt.Sprintf("%s was not ready within %s. %s", m.p.Release.Candidate, within, why))
		return
	}
	first := m.s.Await == nil
	if first {
		m.s.Await = &Await{Until: m.now().Add(within)}
	}
	m.s.Await.Checks, m.s.Tries = m.s.Await.Checks+m.s.Tries+1, 0
	i := slices.IndexFunc(m.s.Checks, func(c check.Result) bool { return c.Awaited && !c.OK })
	m.s.Sentence = m.awaits(m.s.Checks[i].Found + ".")
	if first {
		m.decide(decision.Decision{Kind: decision.Queue, Reason: decision.ReasonPreflight, Sentence: m.s.Sentence,
			Rule: fmt.Sprintf("preflight: {check: ready, within: %s}", within)})
	}
}

// awaits says what the release waits for, and what was seen last.
func (m *machine) awaits(seen string) string {
	return fmt.Sprintf("Waits for %s to be ready until %s: %s",
		m.p.Release.Candidate, m.s.Await.Until.UTC().Format(time.RFC3339), seen)
}

// sentenceOf makes a sentence of an error.
func sentenceOf(err error) string {
	t := err.Error()
	return strings.ToUpper(t[:1]) + t[1:] + "."
}
