// Package access says who may do what to a rollout. It is one rule for every way in which
// people speak: with a credential over HTTP, or through a notifier that vouches for them.
// Who somebody is was found out before, by whoever heard them.
package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/person"
)

// Role is what an actor may do.
type Role string

// The roles. Every role may view; admin has all of them.
const (
	RoleView    Role = "view"
	RoleStart   Role = "start"   // start rollouts, and roll back
	RoleApprove Role = "approve" // answer approvals, pause and go on from there, acknowledge pages, and roll back
	RoleOperate Role = "operate" // pause, resume, promote, skip, extend, acknowledge, roll back, clear cooldowns
	RoleAdmin   Role = "admin"   // everything; start with a policy of the request's own
)

// Roles lists all roles.
var Roles = []Role{RoleView, RoleStart, RoleApprove, RoleOperate, RoleAdmin}

// ParseRole returns the role with the name s.
func ParseRole(s string) (Role, error) {
	if r := Role(s); slices.Contains(Roles, r) {
		return r, nil
	}
	return "", fmt.Errorf("want one of view, start, approve, operate, admin (got %q)", s)
}

// A Grant is what an actor may do, and to what.
type Grant struct {
	Roles []Role
	// Labels limit the grant to rollouts and policies that have all of them; none:
	// to everything.
	Labels map[string]string
}

// An Actor is who asks for something, over whichever way.
type Actor struct {
	// Person is who it is; its Groups are those that the configuration or the
	// credential vouches for.
	Person person.Person
	Grants []Grant
	// Names are other names of the person by which a policy may name it; of whom a
	// notifier hears also the full one that it gives them.
	Names []string
	// Via is the notifier through which the person spoke; "" for a request with a
	// credential of its own. ViaGroups are the groups that this notifier vouches for.
	Via       string
	ViaGroups []string
}

// May reports whether the actor has one of the roles for something with these
// labels.
func (a Actor) May(labels map[string]string, roles ...Role) bool {
	return slices.ContainsFunc(a.Grants, func(g Grant) bool { return g.has(roles) && covers(g.Labels, labels) })
}

// MayAnywhere reports whether the actor has one of the roles for anything.
func (a Actor) MayAnywhere(roles ...Role) bool {
	return slices.ContainsFunc(a.Grants, func(g Grant) bool { return g.has(roles) })
}

func (g Grant) has(roles []Role) bool {
	if slices.Contains(g.Roles, RoleAdmin) {
		return true
	}
	return slices.ContainsFunc(roles, func(r Role) bool {
		return slices.Contains(g.Roles, r) || r == RoleView && len(g.Roles) > 0
	})
}

func covers(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// AnswerRoles are the roles of which one is needed to answer an approval.
func AnswerRoles() []Role { return []Role{RoleApprove} }

// CommandRoles are the roles of which one is needed to give the command: rolling back is
// allowed to more people than going on.
func CommandRoles(c rollout.Command) []Role {
	switch c {
	case rollout.CommandRollback:
		return []Role{RoleStart, RoleApprove, RoleOperate}
	case rollout.CommandPause, rollout.CommandResume, rollout.CommandAck:
		return []Role{RoleApprove, RoleOperate}
	case rollout.CommandPromote, rollout.CommandSkip, rollout.CommandExtend:
		return []Role{RoleOperate}
	}
	return []Role{RoleAdmin}
}

// AskedBy reports whether the approval's `from` names the actor: the person, one of
// their groups, or another of their names. One that names nobody asks nobody. Of
// whom a notifier hears the workspace is known, and must be the one that `from`
// names, where it names one. The groups that a notifier vouches for count where
// `from` names that notifier: another's may be called the same.
func (who Actor) AskedBy(a approval.Approval) bool {
	named := func(u string) bool {
		return u == who.Person.ID || slices.ContainsFunc(who.Names, func(n string) bool {
			return strings.EqualFold(n, u) || who.Via == "" && strings.EqualFold(n, person.Unscoped(u))
		})
	}
	member := func(g string) bool {
		return slices.Contains(who.Person.Groups, g) ||
			who.Via != "" && who.Via == a.Notifier && slices.Contains(who.ViaGroups, g)
	}
	return who.Person.ID != "" && (slices.ContainsFunc(a.Users, named) || slices.ContainsFunc(a.Groups, member))
}

// Forbids says why an actor may not give this answer or command to a rollout of
// the plan in the state s; "" when it may. It is the one rule for all ways in
// which people speak:
//   - every act needs one of its roles, granted for the policy's labels;
//   - an answer also needs that the approval asks the actor;
//   - whom an approval asks and a notifier vouches for has the role approve for
//     this rollout: their right is the policy's word, and there is no credential
//     that could limit it;
//   - the role approve alone resumes only what a person paused: to go on after
//     anything else is an override, and an operator's;
//   - the role approve alone acknowledges only the pages of rollouts of which an
//     approval asks the actor.
func Forbids(p *rollout.Plan, s *rollout.State, who Actor, ev rollout.Event) string {
	labels := p.Policy.Labels
	if ev.Kind == rollout.EventAnswered {
		ap := p.Approval(ev.Gate)
		switch asked := who.AskedBy(ap); {
		case !asked && (who.Via != "" || who.May(labels, RoleApprove)):
			return fmt.Sprintf("%s is not among those whom approval %s asks: %s", who.Person, ev.Gate, whom(ap))
		case asked && who.Via != "", who.May(labels, AnswerRoles()...):
			return ""
		}
		return lacks(who, AnswerRoles())
	}
	roles := CommandRoles(ev.Command)
	named := slices.ContainsFunc(p.Approvals, func(a approval.Approval) bool { return who.AskedBy(a) })
	asked := named && who.Via != "" && slices.Contains(roles, RoleApprove)
	switch {
	case !asked && !who.May(labels, roles...):
		return lacks(who, roles)
	case ev.Command == rollout.CommandResume && s.Phase != rollout.PhasePaused && !who.May(labels, RoleOperate):
		return fmt.Sprintf("a rollout that is %s is resumed with the role operate; approve resumes only what a person "+
			"paused", s.Phase)
	case ev.Command == rollout.CommandAck && !named && !who.May(labels, RoleOperate):
		return fmt.Sprintf("a page is acknowledged with the role operate, or by whom an approval of its policy asks; %s "+
			"is neither", who.Person)
	}
	return ""
}

// lacks says which roles are missing.
func lacks(who Actor, roles []Role) string {
	return fmt.Sprintf("%s has none of the roles %v here", who.Person, append(slices.Clip(roles), RoleAdmin))
}

// whom are the people and groups that the approval names.
func whom(a approval.Approval) string {
	if names := slices.Concat(a.Users, a.Groups); len(names) > 0 {
		return strings.Join(names, ", ")
	}
	return "nobody"
}
