package rollout

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/deployment"
)

// factsEvery is how often the deployments are described while a rollout is carried.
const factsEvery = 30 * time.Second

// described takes what the router tells of stable and the candidate. What is asked of a
// deployment from now on is asked of the version that it has.
func (m *machine) described() {
	if m.ev.Deployments == nil {
		return
	}
	was := m.s.Facts
	m.s.Facts, m.s.FactsAt = map[string]deployment.Fact{}, m.now()
	for _, name := range []string{m.s.Stable, m.p.Release.Candidate} {
		fact, told := m.ev.Deployments[name]
		if !told {
			continue
		}
		switch old := was[name].Version; {
		case fact.Version == "":
			fact.Version = old // a version that is not told now has not changed
		case fact.Version != old:
			m.s.Versions = maps.Clone(m.s.Versions)
			if m.s.Versions == nil {
				m.s.Versions = map[string]string{}
			}
			m.s.Versions[name] = fact.Version
			m.becameAnother(name, old, fact.Version)
		}
		m.s.Facts[name] = fact
	}
}

// anotherVersion says that the candidate runs another version than the release is of, and
// the cure; "" when it does not, or when either is not told.
func (m *machine) anotherVersion() string {
	r := m.p.Release
	told := m.ev.Deployments[r.Candidate].Version
	if told == "" {
		told = m.ev.Versions[r.Candidate]
	}
	if told == "" || r.Version == "" || deployment.SameVersion(told, r.Version) {
		return ""
	}
	return fmt.Sprintf("%s runs version %s, and the release is of version %s. Deploy %s to %s and start the release "+
		"again, or start one of %s.",
		r.Candidate, told, r.Version, r.Version, r.Candidate, told)
}

// becameAnother voids what was measured of a deployment that is another one now, or that
// shows first under its rollout (was is "") that it is not the one released, and holds:
// nobody checked or approved it.
func (m *machine) becameAnother(name, was, is string) {
	sentence := ""
	switch {
	case was != "":
		sentence = fmt.Sprintf("%s became version %s under the rollout; it was %s. What was measured before counts no more.",
			name, is, was)
	case name == m.p.Release.Candidate:
		sentence = m.anotherVersion()
	}
	if sentence == "" || !m.exposed() {
		return
	}
	if m.s.Reached >= 0 {
		for _, group := range []analysis.Action{analysis.ActionRollback, analysis.ActionHold, analysis.ActionPage,
			analysis.ActionNote} {
			m.s.Evidence = m.s.Evidence.Restart(m.p.Panel, group, m.moment())
		}
		m.s.Bake.Watched, m.s.Bake.FullSince, m.s.Bake.Extended = 0, time.Time{}, false
	}
	m.s.MayEnd = false
	m.waitAgain()
	m.closeGates(sentence)
	m.hold(Hold{Reason: decision.ReasonVersionChanged, Sentence: sentence}, "a rollout is of one version")
}

// lookReady holds while stable cannot serve: the candidate may then have all of the
// traffic, whatever the weights say, and there is nothing to go back to.
func (m *machine) lookReady() {
	why := m.s.stableDown()
	if why == "" || m.s.Hold != nil || !m.exposed() {
		return
	}
	m.hold(Hold{Reason: decision.ReasonNotReady, Self: true, Sentence: why},
		"stable is ready as long as a rollout is under way")
}

// stableDown says that stable cannot serve while the candidate may; "" when it can, as
// far as is known.
func (s *State) stableDown() string {
	why := s.Facts[s.Stable].Unfit()
	if why == "" || s.Asked == nil {
		return ""
	}
	return fmt.Sprintf("%s %s: the way back is gone, and the candidate may serve everything.", s.Stable, why)
}

// barred holds when the step may not begin: a deployment that must serve cannot, or
// stable could not take all of the traffic back; of the latter a person's promote is
// word enough.
func (m *machine) barred(step string) bool {
	why, reason, rule := m.unready(), decision.ReasonNotReady, "before every step stable and the candidate are ready"
	if why == "" && !m.s.Overridden {
		why, reason, rule = m.short(), decision.ReasonWayBack, "before every step stable can take all of the traffic back"
	}
	if why == "" {
		return false
	}
	m.hold(Hold{Reason: reason, Self: true, Sentence: fmt.Sprintf("Step %s does not begin: %s", step, why)}, rule)
	return true
}

// short says that stable could not take all of the traffic back: it has fewer instances
// than it served everything with, right before the first step. That is all that is
// judged: where the router does not tell one of the two numbers nothing is concluded, and
// the size of an instance, its load and what the traffic has grown to are not looked at.
func (m *machine) short() string {
	has := m.s.Facts[m.s.Stable].Instances
	if m.s.Served == nil || has == nil || *has >= *m.s.Served {
		return ""
	}
	return fmt.Sprintf("%s has %d of the %d instances with which it served everything: it could not take all of the "+
		"traffic back. Scale it up, or promote with a reason.",
		m.s.Stable, *has, *m.s.Served)
}

// unready says why no step may begin: a deployment that must serve cannot.
func (m *machine) unready() string {
	for _, name := range []string{m.s.Stable, m.p.Release.Candidate} {
		if why := m.s.Facts[name].Unfit(); why != "" {
			return fmt.Sprintf("%s %s.", name, why)
		}
	}
	return ""
}

// wayBack is the way back for the record, with whom to call about it.
func (m *machine) wayBack() string {
	owner := m.p.Policy.Owner
	if owner == "" {
		owner = "nobody"
	}
	contact := "nobody"
	if len(m.p.Page) > 0 {
		contact = strings.Join(m.p.Page, ", ")
	}
	able := ""
	switch {
	case m.short() != "":
		able = fmt.Sprintf("; fewer than the %d that served everything", *m.s.Served)
	case m.s.Served != nil && m.s.Facts[m.s.Stable].Instances != nil:
		able = fmt.Sprintf("; no fewer than the %d that served everything", *m.s.Served)
	}
	return fmt.Sprintf("way back: %s (%s%s), owner %s, paged %s", m.s.Stable, m.s.Facts[m.s.Stable], able, owner, contact)
}
