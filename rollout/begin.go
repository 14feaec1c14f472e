package rollout

import (
	"fmt"
	"strings"
	"time"
)

// preflightTries is how often a preflight that could not be made is tried.
const preflightTries = 5

// started opens the history.
func (m *machine) started() {
	m.s.Created = m.now()
	m.decide(Decision{Kind: DecisionStart, Sentence: fmt.Sprintf("%s asked for %s (version %s) on %s/%s, policy %s.",
		orNobody(m.p.Release.Requester.ID), m.p.Release.Candidate, m.p.Release.Version, m.p.Endpoint.Router, m.p.Endpoint.Name, m.p.Policy.Name)})
	if len(m.p.Steps) == 0 {
		m.refuse(ReasonPreflight, "The plan has no steps.")
		return
	}
	if m.p.Schedule != nil {
		if at := nextCron(m.p.Schedule.Cron, m.p.Schedule.Timezone, m.now()); !at.IsZero() {
			m.s.Registered, m.s.StartAt = true, at
			m.enter(PhaseScheduled, ReasonSchedule, fmt.Sprintf("Waits for the schedule: starts at %s.", at.UTC().Format(time.RFC3339)))
			return
		}
		m.refuse(ReasonSchedule, fmt.Sprintf("The schedule %q never comes.", m.p.Schedule.Cron))
		return
	}
	m.s.Registered = true
	m.enter(PhaseQueued, "", "Asks for the endpoint.")
}

// claimed begins the checks: the endpoint is ours. A claim for a schedule only
// registers.
func (m *machine) claimed() {
	if m.s.Phase != PhaseQueued {
		m.ignore("the rollout does not wait for its endpoint")
		return
	}
	m.s.Claimed, m.s.Ahead = true, ""
	m.enter(PhasePreflight, ReasonPreflight, "Is being checked; no traffic has moved.")
}

// queued keeps waiting behind another rollout.
func (m *machine) queued() {
	if m.s.Phase != PhaseQueued || m.s.Ahead == m.ev.Ahead {
		return
	}
	m.s.Ahead = m.ev.Ahead
	sentence := fmt.Sprintf("Waits behind %s.", m.ev.Ahead)
	m.enter(PhaseQueued, ReasonBusy, sentence)
	m.decide(Decision{Kind: DecisionQueue, Reason: ReasonBusy, Rule: fmt.Sprintf("concurrency: %s", m.p.Concurrency), Sentence: sentence})
}

// refuse ends the rollout before any traffic moved.
func (m *machine) refuse(reason Reason, sentence string) {
	m.enter(PhaseRefused, reason, sentence)
	m.decide(Decision{Kind: DecisionRefuse, Reason: reason, Sentence: sentence})
}

// preflighted reads the checks and goes on to the first step's gates.
func (m *machine) preflighted() {
	m.s.Checks = m.ev.Checks
	if m.ev.Manual != "" {
		m.s.Manual = m.ev.Manual
	}
	failed, transient := failures(m.ev.Checks)
	if m.ev.Split == nil || (len(failed) > 0 && transient) {
		m.s.Tries++
		why := m.ev.Reason
		if m.ev.Split != nil {
			why = strings.Join(failed, " ")
		}
		if m.s.Tries >= preflightTries {
			m.refuse(ReasonPreflight, fmt.Sprintf("The checks could not be made in %d tries: %s", m.s.Tries, why))
			return
		}
		m.s.Sentence = fmt.Sprintf("The checks could not be made (try %d of %d): %s", m.s.Tries, preflightTries, why)
		return
	}
	split := m.ev.Split.Clone()
	m.s.Observed = &split
	stable, err := Stable(split, m.p.Stable, m.p.Release.Candidate)
	if err != nil {
		m.refuse(ReasonPreflight, sentenceOf(err))
		return
	}
	if len(failed) > 0 {
		m.refuse(ReasonPreflight, strings.Join(failed, " "))
		return
	}
	m.s.Stable = stable
	m.s.Confirmed, m.s.ConfirmedAt = &split, m.now()
	m.advance()
}

// failures are the failed checks' sentences, and whether all of them may pass
// with time.
func failures(checks []CheckResult) (sentences []string, transient bool) {
	transient = true
	for _, c := range checks {
		if c.OK {
			continue
		}
		transient = transient && c.Transient
		text := fmt.Sprintf("Check %s: found %s, expected %s.", c.Check, c.Found, c.Expected)
		if c.Remedy != "" {
			text += " Remedy: " + c.Remedy
		}
		sentences = append(sentences, text)
	}
	return sentences, transient
}

// Stable resolves which deployment is stable: the one named, or with "auto" the
// one that has all of the traffic. Either must have 100% and not be the
// candidate: Belay starts only from a state to which it can return. The error is
// for people and names the remedy.
func Stable(split Split, named, candidate string) (string, error) {
	full := ""
	for name, w := range positive(split.Weights) {
		if w == 100 {
			full = name
		}
	}
	switch {
	case full == "" && named != "" && named != "auto":
		return "", fmt.Errorf("stable %q does not have 100%% of the traffic (%s); give it all of the traffic first", named, split)
	case full == "":
		return "", fmt.Errorf("no deployment has 100%% of the traffic (%s); give it all to the one that serves now", split)
	case full == candidate:
		return "", fmt.Errorf("the candidate %q already has 100%% of the traffic; there is nothing to roll out", candidate)
	case named != "" && named != "auto" && named != full:
		return "", fmt.Errorf("the policy says that stable is %q, but %q has 100%% of the traffic; correct endpoint.stable or the traffic", named, full)
	}
	if n := split.Mirror[candidate]; n > 0 {
		return "", fmt.Errorf("the candidate %q already gets %d%% of mirrored traffic; end the mirroring first", candidate, n)
	}
	return full, nil
}

func orNobody(id string) string {
	if id == "" {
		return "nobody named"
	}
	return id
}

// sentenceOf makes a sentence of an error.
func sentenceOf(err error) string {
	t := err.Error()
	return strings.ToUpper(t[:1]) + t[1:] + "."
}
