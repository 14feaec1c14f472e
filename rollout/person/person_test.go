package person_test

import (
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/person"
)

// The names of a notifier in the ways that policies write them.
func TestShortNames(t *testing.T) {
	for said, want := range map[string]string{
		"slack:T1/U2": "slack:U2 T1/U2 U2", "slack:U2": "U2", "U2": "", "": "",
	} {
		if got := strings.Join(person.ShortNames(said), " "); got != want {
			t.Errorf("ShortNames(%q): got %q, want %q", said, got, want)
		}
	}
}

// People read names; records keep ids.
func TestPersonString(t *testing.T) {
	for p, want := range map[*person.Person]string{
		{ID: "slack:T1/U2", Name: "Ann"}: "Ann (slack:T1/U2)", {ID: "ann", Name: "ann"}: "ann", {ID: "ci"}: "ci", {}: "nobody named",
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v: got %q, want %q", *p, got, want)
		}
	}
}
