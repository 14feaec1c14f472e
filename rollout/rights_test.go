package rollout

import (
	"strings"
	"testing"
)

// Who may do what is one rule, whichever way people speak: by a credential over
// HTTP, or through a notifier that vouches for them. Each line is an actor, an act
// and what it is answered.
func TestForbids(t *testing.T) {
	plan := &Plan{ID: "r1", Policy: PolicyRef{Labels: map[string]string{"team": "a"}}, Approvals: []Approval{
		{Name: "owner", Notifier: "slack", Users: []string{"ann", "slack:T1/U7"}, Groups: []string{"owners"}, Quorum: 1},
		{Name: "nobody", Quorum: 1},
	}}
	holds := func(labels map[string]string, roles ...Role) []Grant { return []Grant{{Roles: roles, Labels: labels}} }
	http := func(id string, roles ...Role) Actor {
		return Actor{Person: Person{ID: id}, Grants: holds(nil, roles...)}
	}
	slack := func(id string, roles ...Role) Actor {
		a := http(id, roles...)
		a.Heard = "slack"
		return a
	}
	in := func(a Actor, group string) Actor {
		if a.Heard != "" {
			a.In = []string{group}
		} else {
			a.Person.Groups = []string{group}
		}
		return a
	}
	elsewhere := func(a Actor) Actor { a.Heard = "slack-partners"; return a }
	named := func(a Actor, names ...string) Actor { a.Names = names; return a }
	limited := func(team string) Actor {
		return Actor{Person: Person{ID: "ann"}, Grants: holds(map[string]string{"team": team}, RoleApprove)}
	}
	yes := Event{Kind: EventAnswered, Gate: "owner", Approve: true}
	no := Event{Kind: EventAnswered, Gate: "owner"}
	unasked := Event{Kind: EventAnswered, Gate: "nobody", Approve: true}
	order := func(c Command) Event { return Event{Kind: EventCommanded, Command: c} }
	for _, c := range []struct {
		story string
		who   Actor
		ev    Event
		phase Phase
		want  string // "" is allowed
	}{
		{"named and with the role", http("ann", RoleApprove), yes, PhaseWaiting, ""},
		{"of a group and with the role", in(http("bob", RoleApprove), "owners"), yes, PhaseWaiting, ""},
		{"named by another of their names", named(http("cem", RoleApprove), "slack:U7"), yes, PhaseWaiting, ""},
		{"named, but the credential lacks the role", http("ann", RoleOperate), yes, PhaseWaiting, "ann has none of the roles [approve admin]"},
		{"with the role, but not asked", http("bob", RoleApprove), yes, PhaseWaiting, "bob is not among those whom approval owner asks: ann, slack:T1/U7, owners"},
		{"an admin is not asked either", http("root", RoleAdmin), yes, PhaseWaiting, "not among"},
		{"a no is an answer too", http("bob", RoleApprove), no, PhaseWaiting, "not among"},
		{"the role holds for other policies", limited("b"), yes, PhaseWaiting, "none of the roles"},
		{"the role holds for this policy", limited("a"), yes, PhaseWaiting, ""},
		{"nobody", Actor{}, yes, PhaseWaiting, "nobody named has none of the roles"},

		{"heard and named", slack("ann"), yes, PhaseWaiting, ""},
		{"heard, named as the notifier does", named(slack("slack:T1/U7"), ShortNames("slack:T1/U7")...), yes, PhaseWaiting, ""},
		{"heard, mapped, named as the notifier does", named(slack("dora"), append(ShortNames("slack:T1/U7"), "slack:T1/U7")...), yes, PhaseWaiting, ""},
		{"heard, the same user of another workspace", named(slack("slack:T2/U7"), append(ShortNames("slack:T2/U7"), "slack:T2/U7")...), yes, PhaseWaiting, "not among"},
		{"heard, mapped, the same user of another workspace", named(slack("dora"), append(ShortNames("slack:T2/U7"), "slack:T2/U7")...), yes, PhaseWaiting, "not among"},
		{"heard and of a group that the notifier verified", in(slack("slack:T1/U1"), "owners"), no, PhaseWaiting, ""},
		{"heard by another notifier, of a group of that name", elsewhere(in(slack("slack:T2/U1"), "owners")), yes, PhaseWaiting, "not among"},
		{"heard by another notifier, known to the config by that group", elsewhere(Actor{Person: Person{ID: "dia", Groups: []string{"owners"}}}), yes, PhaseWaiting, ""},
		{"heard, of another group", in(slack("slack:T1/U1"), "sales"), yes, PhaseWaiting, "not among"},
		{"heard, known as an operator, not asked", slack("sre", RoleOperate, RoleApprove), yes, PhaseWaiting, "not among"},
		{"a gate that names nobody asks nobody, heard", slack("ann", RoleApprove), unasked, PhaseWaiting, "asks: nobody"},
		{"a gate that names nobody asks nobody, by HTTP", http("root", RoleAdmin), unasked, PhaseWaiting, "asks: nobody"},

		{"an approver pauses", http("bob", RoleApprove), order(CommandPause), PhaseBaking, ""},
		{"whom the policy asks pauses by a button", slack("ann"), order(CommandPause), PhaseWaiting, ""},
		{"a stranger in the workspace", slack("eve", RoleView), order(CommandPause), PhaseBaking, "none of the roles [approve operate admin]"},
		{"a stranger rolls back", slack("eve", RoleView), order(CommandRollback), PhaseBaking, "none of the roles [start approve operate admin]"},
		{"whoever starts rolls back", http("ci", RoleStart), order(CommandRollback), PhaseBaking, ""},
		{"whom the policy asks rolls back", slack("ann"), order(CommandRollback), PhaseHeld, ""},
		{"whom the policy asks, by a credential without a role", http("ann", RoleView), order(CommandRollback), PhaseBaking, "none of the roles"},
		{"whom the policy asks goes on after a pause", slack("ann"), order(CommandResume), PhasePaused, ""},
		{"whom the policy asks overrides no breach", slack("ann"), order(CommandResume), PhaseHeld, "resumed with the role operate"},
		{"an approver overrides no breach", http("bob", RoleApprove), order(CommandResume), PhaseSuspect, "resumed with the role operate"},
		{"an operator does", slack("sre", RoleOperate), order(CommandResume), PhaseHeld, ""},
		{"an approver does not promote", http("ann", RoleApprove), order(CommandPromote), PhaseBaking, "none of the roles [operate admin]"},
		{"whom the policy asks does not promote", slack("ann"), order(CommandPromote), PhaseBaking, "none of the roles"},
		{"an approver does not extend", http("ann", RoleApprove), order(CommandExtend), PhaseBaking, "none of the roles"},
		{"an operator acknowledges", http("sre", RoleOperate), order(CommandAck), PhaseHeld, ""},
		{"whom the policy asks acknowledges", http("ann", RoleApprove), order(CommandAck), PhaseRolledBack, ""},
		{"whom the policy asks, heard", in(slack("slack:T1/U1"), "owners"), order(CommandAck), PhaseRolledBack, ""},
		{"an approver of other policies does not", http("bob", RoleApprove), order(CommandAck), PhaseHeld, "with the role operate, or by whom"},
		{"whom the policy asks, by a credential that only views", http("ann", RoleView), order(CommandAck), PhaseHeld, "none of the roles [approve operate admin]"},
		{"a stranger acknowledges", slack("eve", RoleView), order(CommandAck), PhaseHeld, "none of the roles"},
		{"an unknown command", http("sre", RoleOperate), order("dance"), PhaseBaking, "none of the roles [admin"},
	} {
		got := plan.Forbids(&State{Phase: c.phase}, c.who, c.ev)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.story, got, c.want)
		}
	}
}

// The names of a notifier in the ways that policies write them.
func TestShortNames(t *testing.T) {
	for said, want := range map[string]string{
		"slack:T1/U2": "slack:U2 T1/U2 U2", "slack:U2": "U2", "U2": "", "": "",
	} {
		if got := strings.Join(ShortNames(said), " "); got != want {
			t.Errorf("ShortNames(%q): got %q, want %q", said, got, want)
		}
	}
}

// People read names; records keep ids.
func TestPersonString(t *testing.T) {
	for p, want := range map[*Person]string{
		{ID: "slack:T1/U2", Name: "Ann"}: "Ann (slack:T1/U2)", {ID: "ann", Name: "ann"}: "ann", {ID: "ci"}: "ci", {}: "nobody named",
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v: got %q, want %q", *p, got, want)
		}
	}
}
