package rollout

import (
	"slices"
	"strings"
)

// HeardMax is how many acts a state remembers by their keys. Whoever hands acts to
// Next does not let more of them wait for a mark of their own.
const HeardMax = 32

// IsAct reports whether the event is what a person, or a newer release, wants of the
// rollout: it happens once for each Key, however often it is told.
func (ev Event) IsAct() bool {
	return ev.Kind == EventAnswered || ev.Kind == EventCommanded || ev.Kind == EventSuperseded
}

// Heard reports whether the act with the key is among the last that were folded in.
func (s State) Heard(key string) bool { return key != "" && slices.Contains(s.Acts, key) }

// repeated reports whether the event is an act that was folded in before, and
// remembers one that was not.
func (m *machine) repeated() bool {
	if !m.ev.IsAct() || m.ev.Key == "" {
		return false
	}
	if m.s.Heard(m.ev.Key) {
		return true
	}
	m.s.Acts = append(slices.Clone(m.s.Acts), m.ev.Key)
	m.s.Acts = m.s.Acts[max(len(m.s.Acts)-HeardMax, 0):]
	return false
}

// names are all the names under which a person is on record, and the id that each of
// them has at present.
func (m *machine) names(p Person) []string {
	names := []string{p.ID, p.As, m.ev.Known[p.ID], m.ev.Known[p.As]}
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

// share reports whether two lists have a name in common.
func share(a, b []string) bool {
	return slices.ContainsFunc(a, func(n string) bool { return slices.Contains(b, n) })
}

// isRequester reports whether the person asked for the release, or is the one
// it was asked for, by any of their names.
func (m *machine) isRequester(by Person) bool {
	mine := m.names(by)
	if share(mine, m.names(m.p.Release.Requester)) {
		return true
	}
	mine = slices.Concat(mine, []string{by.Name}, ShortNames(by.ID), ShortNames(by.As))
	return slices.ContainsFunc(m.names(Person{ID: m.p.Release.OnBehalfOf}), func(n string) bool {
		return slices.ContainsFunc(mine, func(x string) bool { return strings.EqualFold(x, n) })
	})
}

// voices counts the people who said yes and may, each once whichever names they used:
// two answers that share a name are one person's, and so are two that each share one
// with a third.
func (m *machine) voices(q Question) int {
	byRequester := !m.p.Approval(q.Gate).NotByRequester
	var people [][]string
	for _, a := range q.Answers {
		if !a.Approve || !byRequester && m.isRequester(a.By) {
			continue
		}
		one := m.names(a.By)
		people = slices.DeleteFunc(people, func(other []string) bool {
			same := share(other, one)
			if same {
				one = append(one, other...)
			}
			return same
		})
		people = append(people, one)
	}
	return len(people)
}

// hasAnswered reports whether the person has answered the question, under whichever
// name.
func (m *machine) hasAnswered(q Question, by Person) bool {
	mine := m.names(by)
	return slices.ContainsFunc(q.Answers, func(a GateAnswer) bool { return share(mine, m.names(a.By)) })
}

// Speakers are the names under which the people are on record on whom it depends which
// gates are open: who asked for the release, who answered, and who speaks in the event;
// none while nothing is asked.
func (s State) Speakers(p *Plan, ev Event) []string {
	if len(s.Gates) == 0 {
		return nil
	}
	r := p.Release
	names := []string{r.Requester.ID, r.Requester.As, r.OnBehalfOf}
	if ev.By != nil {
		names = append(names, ev.By.ID, ev.By.As)
	}
	for _, q := range s.Gates {
		for _, a := range q.Answers {
			names = append(names, a.By.ID, a.By.As)
		}
	}
	slices.Sort(names)
	return slices.Compact(slices.DeleteFunc(names, func(n string) bool { return n == "" }))
}

// ShortNames are the other ways in which a policy may write the name that a
// notifier gives somebody: "slack:T1/U2" is also "slack:U2", "T1/U2" and "U2".
func ShortNames(said string) []string {
	_, scoped, ok := strings.Cut(said, ":")
	if !ok {
		return nil
	}
	_, id, ok := strings.Cut(scoped, "/")
	if !ok {
		return []string{scoped}
	}
	return []string{Unscoped(said), scoped, id}
}

// Unscoped is a notifier's name for somebody without the workspace:
// "slack:T1/U2" is "slack:U2".
func Unscoped(name string) string {
	kind, scoped, ok := strings.Cut(name, ":")
	if _, id, scope := strings.Cut(scoped, "/"); ok && scope {
		return kind + ":" + id
	}
	return name
}
