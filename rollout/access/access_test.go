package access

import (
	"strings"
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/person"
)

// Who may do what is one rule, whichever way people speak: by a credential over
// HTTP, or through a notifier that vouches for them. Each line is an actor, an act
// and what it is answered.
func TestForbids(t *testing.T) {
	plan := &rollout.Plan{ID: "r1", Policy: rollout.PolicyRef{Labels: map[string]string{"team": "a"}}, Approvals: []approval.Approval{
		{Name: "owner", Notifier: "slack", Users: []string{"ann", "slack:T1/U7"}, Groups: []string{"owners"}, Quorum: 1},
		{Name: "nobody", Quorum: 1},
	}}
	holds := func(labels map[string]string, roles ...Role) []Grant { return []Grant{{Roles: roles, Labels: labels}} }
	http := func(id string, roles ...Role) Actor {
		return Actor{Person: person.Person{ID: id}, Grants: holds(nil, roles...)}
	}
	slack := func(id string, roles ...Role) Actor {
		a := http(id, roles...)
		a.Via = "slack"
		return a
	}
	in := func(a Actor, group string) Actor {
		if a.Via != "" {
			a.ViaGroups = []string{group}
		} else {
			a.Person.Groups = []string{group}
		}
		return a
	}
	elsewhere := func(a Actor) Actor { a.Via = "slack-partners"; return a }
	named := func(a Actor, names ...string) Actor { a.Names = names; return a }
	limited := func(team string) Actor {
		return Actor{Person: person.Person{ID: "ann"}, Grants: holds(map[string]string{"team": team}, RoleApprove)}
	}
	yes := rollout.Event{Kind: rollout.EventAnswered, Gate: "owner", Approve: true}
	no := rollout.Event{Kind: rollout.EventAnswered, Gate: "owner"}
	unasked := rollout.Event{Kind: rollout.EventAnswered, Gate: "nobody", Approve: true}
	order := func(c rollout.Command) rollout.Event { return rollout.Event{Kind: rollout.EventCommanded, Command: c} }
	for _, c := range []struct {
		story string
		who   Actor
		ev    rollout.Event
		phase rollout.Phase
		want  string // "" is allowed
	}{
		{"named and with the role", http("ann", RoleApprove), yes, rollout.PhaseWaiting, ""},
		{"of a group and with the role", in(http("bob", RoleApprove), "owners"), yes, rollout.PhaseWaiting, ""},
		{"named by another of their names", named(http("cem", RoleApprove), "slack:U7"), yes, rollout.PhaseWaiting, ""},
		{"named, but the credential lacks the role", http("ann", RoleOperate), yes, rollout.PhaseWaiting, "ann has none of the roles [approve admin]"},
		{"with the role, but not asked", http("bob", RoleApprove), yes, rollout.PhaseWaiting, "bob is not among those whom approval owner asks: ann, slack:T1/U7, owners"},
		{"an admin is not asked either", http("root", RoleAdmin), yes, rollout.PhaseWaiting, "not among"},
		{"a no is an answer too", http("bob", RoleApprove), no, rollout.PhaseWaiting, "not among"},
		{"the role holds for other policies", limited("b"), yes, rollout.PhaseWaiting, "none of the roles"},
		{"the role holds for this policy", limited("a"), yes, rollout.PhaseWaiting, ""},
		{"nobody", Actor{}, yes, rollout.PhaseWaiting, "nobody named has none of the roles"},

		{"heard and named", slack("ann"), yes, rollout.PhaseWaiting, ""},
		{"heard, named as the notifier does", named(slack("slack:T1/U7"), person.ShortNames("slack:T1/U7")...), yes, rollout.PhaseWaiting, ""},
		{"heard, mapped, named as the notifier does", named(slack("dora"), append(person.ShortNames("slack:T1/U7"), "slack:T1/U7")...), yes, rollout.PhaseWaiting, ""},
		{"heard, the same user of another workspace", named(slack("slack:T2/U7"), append(person.ShortNames("slack:T2/U7"), "slack:T2/U7")...), yes, rollout.PhaseWaiting, "not among"},
		{"heard, mapped, the same user of another workspace", named(slack("dora"), append(person.ShortNames("slack:T2/U7"), "slack:T2/U7")...), yes, rollout.PhaseWaiting, "not among"},
		{"heard and of a group that the notifier verified", in(slack("slack:T1/U1"), "owners"), no, rollout.PhaseWaiting, ""},
		{"heard by another notifier, of a group of that name", elsewhere(in(slack("slack:T2/U1"), "owners")), yes, rollout.PhaseWaiting, "not among"},
		{"heard by another notifier, known to the config by that group", elsewhere(Actor{Person: person.Person{ID: "dia", Groups: []string{"owners"}}}), yes, rollout.PhaseWaiting, ""},
		{"heard, of another group", in(slack("slack:T1/U1"), "sales"), yes, rollout.PhaseWaiting, "not among"},
		{"heard, known as an operator, not asked", slack("sre", RoleOperate, RoleApprove), yes, rollout.PhaseWaiting, "not among"},
		{"a gate that names nobody asks nobody, heard", slack("ann", RoleApprove), unasked, rollout.PhaseWaiting, "asks: nobody"},
		{"a gate that names nobody asks nobody, by HTTP", http("root", RoleAdmin), unasked, rollout.PhaseWaiting, "asks: nobody"},

		{"an approver pauses", http("bob", RoleApprove), order(rollout.CommandPause), rollout.PhaseBaking, ""},
		{"whom the policy asks pauses by a button", slack("ann"), order(rollout.CommandPause), rollout.PhaseWaiting, ""},
		{"a stranger in the workspace", slack("eve", RoleView), order(rollout.CommandPause), rollout.PhaseBaking, "none of the roles [approve operate admin]"},
		{"a stranger rolls back", slack("eve", RoleView), order(rollout.CommandRollback), rollout.PhaseBaking, "none of the roles [start approve operate admin]"},
		{"whoever starts rolls back", http("ci", RoleStart), order(rollout.CommandRollback), rollout.PhaseBaking, ""},
		{"whom the policy asks rolls back", slack("ann"), order(rollout.CommandRollback), rollout.PhaseHeld, ""},
		{"whom the policy asks, by a credential without a role", http("ann", RoleView), order(rollout.CommandRollback), rollout.PhaseBaking, "none of the roles"},
		{"whom the policy asks goes on after a pause", slack("ann"), order(rollout.CommandResume), rollout.PhasePaused, ""},
		{"whom the policy asks overrides no breach", slack("ann"), order(rollout.CommandResume), rollout.PhaseHeld, "resumed with the role operate"},
		{"an approver overrides no breach", http("bob", RoleApprove), order(rollout.CommandResume), rollout.PhaseSuspect, "resumed with the role operate"},
		{"an operator does", slack("sre", RoleOperate), order(rollout.CommandResume), rollout.PhaseHeld, ""},
		{"an approver does not promote", http("ann", RoleApprove), order(rollout.CommandPromote), rollout.PhaseBaking, "none of the roles [operate admin]"},
		{"whom the policy asks does not promote", slack("ann"), order(rollout.CommandPromote), rollout.PhaseBaking, "none of the roles"},
		{"an approver does not extend", http("ann", RoleApprove), order(rollout.CommandExtend), rollout.PhaseBaking, "none of the roles"},
		{"an operator acknowledges", http("sre", RoleOperate), order(rollout.CommandAck), rollout.PhaseHeld, ""},
		{"whom the policy asks acknowledges", http("ann", RoleApprove), order(rollout.CommandAck), rollout.PhaseRolledBack, ""},
		{"whom the policy asks, heard", in(slack("slack:T1/U1"), "owners"), order(rollout.CommandAck), rollout.PhaseRolledBack, ""},
		{"an approver of other policies does not", http("bob", RoleApprove), order(rollout.CommandAck), rollout.PhaseHeld, "with the role operate, or by whom"},
		{"whom the policy asks, by a credential that only views", http("ann", RoleView), order(rollout.CommandAck), rollout.PhaseHeld, "none of the roles [approve operate admin]"},
		{"a stranger acknowledges", slack("eve", RoleView), order(rollout.CommandAck), rollout.PhaseHeld, "none of the roles"},
		{"an unknown command", http("sre", RoleOperate), order("dance"), rollout.PhaseBaking, "none of the roles [admin"},
	} {
		got := Forbids(plan, &rollout.State{Phase: c.phase}, c.who, c.ev)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.story, got, c.want)
		}
	}
}
