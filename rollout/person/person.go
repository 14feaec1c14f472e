// Package person says who did something: people as they stand on record, and the names
// under which notifiers and policies know them.
package person

import "strings"

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
