package api

import (
	"testing"

	"github.com/belayd/belay/rollout"
)

// TestMember: a gate asks a person whichever of their names the policy wrote.
func TestMember(t *testing.T) {
	s := &Server{c: Config{Canonical: func(name string) string {
		if name == "U1" {
			return "alice"
		}
		return name
	}}}
	alice := rollout.Person{ID: "alice", Groups: []string{"product-owners"}}
	for _, c := range []struct {
		gate rollout.Approval
		who  rollout.Person
		want bool
	}{
		{rollout.Approval{}, rollout.Person{ID: "bob"}, true},
		{rollout.Approval{Users: []string{"alice"}}, alice, true},
		{rollout.Approval{Users: []string{"U1"}}, alice, true},
		{rollout.Approval{Users: []string{"U2"}}, alice, false},
		{rollout.Approval{Groups: []string{"product-owners"}}, alice, true},
		{rollout.Approval{Groups: []string{"product-owners"}}, rollout.Person{ID: "bob"}, false},
		{rollout.Approval{Users: []string{"U1"}}, rollout.Person{ID: "bob"}, false},
	} {
		if got := s.member(c.who, c.gate); got != c.want {
			t.Errorf("member(%s, %+v): got %v, want %v", c.who.ID, c.gate, got, c.want)
		}
	}
}
