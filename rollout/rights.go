package rollout

import (
	"fmt"
	"slices"
	"strings"
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
	Person Person
	Grants []Grant
	// Names are other names of the person by which a policy may name it; of whom a
	// notifier hears also the full one that it gives them.
	Names []string
	// Heard is the notifier through which the person spoke; "" for a request with a
	// credential of its own. In are the groups that this notifier vouches for.
	Heard string
	In    []string
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

// Roles are the roles of which one is needed to give the command: rolling back is
// allowed to more people than going on.
func (c Command) Roles() []Role {
	switch c {
	case CommandRollback:
		return []Role{RoleStart, RoleApprove, RoleOperate}
	case CommandPause, CommandResume, CommandAck:
		return []Role{RoleApprove, RoleOperate}
	case CommandPromote, CommandSkip, CommandExtend:
		return []Role{RoleOperate}
	}
	return []Role{RoleAdmin}
}

// Asks reports whether the approval's `from` names the actor: the person, one of
// their groups, or another of their names. One that names nobody asks nobody. Of
// whom a notifier hears the workspace is known, and must be the one that `from`
// names, where it names one. The groups that a notifier vouches for count where
// `from` names that notifier: another's may be called the same.
func (a Approval) Asks(who Actor) bool {
	named := func(u string) bool {
		return u == who.Person.ID || slices.ContainsFunc(who.Names, func(n string) bool {
			return strings.EqualFold(n, u) || who.Heard == "" && strings.EqualFold(n, unscoped(u))
		})
	}
	member := func(g string) bool {
		return slices.Contains(who.Person.Groups, g) || who.Heard != "" && who.Heard == a.Notifier && slices.Contains(who.In, g)
	}
	return who.Person.ID != "" && (slices.ContainsFunc(a.Users, named) || slices.ContainsFunc(a.Groups, member))
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
	return []string{unscoped(said), scoped, id}
}

// unscoped is a notifier's name for somebody without the workspace:
// "slack:T1/U2" is "slack:U2".
func unscoped(name string) string {
	kind, scoped, ok := strings.Cut(name, ":")
	if _, id, scope := strings.Cut(scoped, "/"); ok && scope {
		return kind + ":" + id
	}
	return name
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
func (p *Plan) Forbids(s *State, who Actor, ev Event) string {
	labels := p.Policy.Labels
	if ev.Kind == EventAnswered {
		ap := p.approval(ev.Gate)
		switch asked := ap.Asks(who); {
		case !asked && (who.Heard != "" || who.May(labels, RoleApprove)):
			return fmt.Sprintf("%s is not among those whom approval %s asks: %s", who.Person, ev.Gate, ap.whom())
		case asked && who.Heard != "", who.May(labels, AnswerRoles()...):
			return ""
		}
		return lacks(who, AnswerRoles())
	}
	roles := ev.Command.Roles()
	named := slices.ContainsFunc(p.Approvals, func(a Approval) bool { return a.Asks(who) })
	asked := named && who.Heard != "" && slices.Contains(roles, RoleApprove)
	switch {
	case !asked && !who.May(labels, roles...):
		return lacks(who, roles)
	case ev.Command == CommandResume && s.Phase != PhasePaused && !who.May(labels, RoleOperate):
		return fmt.Sprintf("a rollout that is %s is resumed with the role operate; approve resumes only what a person paused", s.Phase)
	case ev.Command == CommandAck && !named && !who.May(labels, RoleOperate):
		return fmt.Sprintf("a page is acknowledged with the role operate, or by whom an approval of its policy asks; %s is neither", who.Person)
	}
	return ""
}

// For is the event as it was allowed in the state s: a resume ends the hold that
// there was then and no later one, for which other rules may hold.
func (ev Event) For(s *State) Event {
	if ev.Command == CommandResume && s.Hold != nil {
		ev.Hold = s.Hold.Since
	}
	return ev
}

// lacks says which roles are missing.
func lacks(who Actor, roles []Role) string {
	return fmt.Sprintf("%s has none of the roles %v here", who.Person, append(slices.Clip(roles), RoleAdmin))
}

// whom are the people and groups that the approval names.
func (a Approval) whom() string {
	if names := slices.Concat(a.Users, a.Groups); len(names) > 0 {
		return strings.Join(names, ", ")
	}
	return "nobody"
}
