// Package person says who did something: people as they stand on record, and the names
// under which notifiers and policies know them.
package person

import (
	"slices"
	"strings"
)

// A Person is who did something. ID is canonical: one person's Slack id, OIDC
// subject and token map to one ID.
type Person struct {
	ID string `json:"id"`
	// As is the name that ID was resolved from, "" where it is the same: who a name is
	// may change while what they said is on record.
	As     string   `json:"as,omitempty"`
	Name   string   `json:"name,omitempty"`
	Via    string   `json:"via,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// String is the person for people: the name, where there is one, and the id that
// stands in records.
func (p Person) String() string {
	switch {
	case p.ID == "":
		return "nobody named"
	case p.Name == "" || p.Name == p.ID:
		return p.ID
	}
	return p.Name + " (" + p.ID + ")"
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

// A Directory holds the present ids of names on record that people gives another one: who
// answered before may have been called otherwise then.
type Directory map[string]string

// names are all the names under which a person is on record, and the id that each of them
// has at present.
func (d Directory) names(p Person) []string {
	names := []string{p.ID, p.As, d[p.ID], d[p.As]}
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

// overlap reports whether two lists have a name in common.
func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(n string) bool { return slices.Contains(b, n) })
}

// Same reports whether both are one person by any of their names.
func (d Directory) Same(a, b Person) bool { return overlap(d.names(a), d.names(b)) }

// Called reports whether the person is the one called so, in whichever way a policy or a
// request may write it.
func (d Directory) Called(p Person, name string) bool {
	mine := slices.Concat(d.names(p), []string{p.Name}, ShortNames(p.ID), ShortNames(p.As))
	return slices.ContainsFunc(d.names(Person{ID: name}), func(n string) bool {
		return slices.ContainsFunc(mine, func(x string) bool { return strings.EqualFold(x, n) })
	})
}

// Count counts people, each once whichever names they used: two that share a name are one,
// and so are two that each share one with a third.
func (d Directory) Count(people []Person) int {
	var known [][]string
	for _, p := range people {
		one := d.names(p)
		known = slices.DeleteFunc(known, func(other []string) bool {
			same := overlap(other, one)
			if same {
				one = append(one, other...)
			}
			return same
		})
		known = append(known, one)
	}
	return len(known)
}
