package slack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/slack-go/slack"
)

// groupsFor is how long user groups are believed without asking again.
const groupsFor = 5 * time.Minute

// maxGroups bounds how many groups are kept in mind.
const maxGroups = 5000

// people knows who is who in the workspace. Every doubt is a no.
type people struct {
	api *slack.Client

	mu         sync.Mutex
	team       string
	enterprise string
	groups     map[string][]string // members by group id
	names      map[string][]string // ids by handle
	groupsAt   time.Time
	// asking holds one token, so that those who need the groups at once ask once.
	asking chan struct{}
}

// A person is somebody whom Slack has vouched for just now.
type person struct {
	who  string // "slack:T1/U2"
	name string
}

// errRefused is wrapped by what a person is told when they may not act.
var errRefused = errors.New("refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errRefused}, args...)...)
}

// person asks Slack who a user is. An error that wraps errRefused is a no for a
// reason that the person may know; any other means that Slack did not say.
func (p *people) person(ctx context.Context, user string) (person, error) {
	if !isUser(user) || user == "USLACKBOT" {
		return person{}, refuse("only people can act here")
	}
	team, enterprise, err := p.workspace(ctx)
	if err != nil {
		return person{}, fmt.Errorf("ask slack for the workspace: %w", err)
	}
	u, err := p.api.GetUserInfoContext(ctx, user)
	if err != nil {
		return person{}, fmt.Errorf("ask slack for the user: %w", err)
	}
	home := u.TeamID == team || enterprise != "" && u.Enterprise.EnterpriseID == enterprise &&
		slices.Contains(u.Enterprise.Teams, team)
	switch {
	case u.ID != user:
		return person{}, refuse("Slack answered for somebody else")
	case u.Deleted:
		return person{}, refuse("your account is deactivated")
	case u.IsBot || u.IsWorkflowBot || u.IsConnectorBot:
		return person{}, refuse("bots and workflows cannot act here; a person must")
	case u.IsRestricted || u.IsUltraRestricted:
		return person{}, refuse("guests cannot act here")
	case u.IsStranger || !home:
		return person{}, refuse("people of other workspaces cannot act here")
	case u.IsInvitedUser:
		return person{}, refuse("your account is not set up yet")
	}
	name := u.Profile.DisplayName
	for _, n := range []string{u.RealName, u.Name} {
		name = orElse(name, n)
	}
	return person{who: "slack:" + team + "/" + user, name: name}, nil
}

// workspace is the one that the bot token belongs to; it never changes.
func (p *people) workspace(ctx context.Context) (team, enterprise string, err error) {
	p.mu.Lock()
	team, enterprise = p.team, p.enterprise
	p.mu.Unlock()
	if team != "" {
		return team, enterprise, nil
	}
	t, err := p.api.AuthTestContext(ctx)
	if err != nil {
		return "", "", err
	}
	if t.TeamID == "" {
		return "", "", errors.New("no team in the answer")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.team, p.enterprise = t.TeamID, t.EnterpriseID
	return p.team, p.enterprise, nil
}

// memberOf gives the user groups that hold a user, each by its id and its handle,
// as policies may write them. When Slack does not say, the user is in none of
// those it does not tell, and the error says so.
func (p *people) memberOf(ctx context.Context, user string) ([]string, error) {
	failed := p.renew(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	var in []string
	for id, members := range p.groups {
		if slices.Contains(members, user) {
			in = append(in, id)
		}
	}
	for handle, ids := range p.names {
		// Two groups of one handle, as an enterprise may have, are nobody's group.
		if len(ids) == 1 && slices.Contains(p.groups[ids[0]], user) {
			in = append(in, handle, "@"+handle)
		}
	}
	sort.Strings(in)
	return in, failed
}

// ids gives the ids of groups that are named by their handles, for messages; a
// group that Slack does not tell keeps its name.
func (p *people) ids(ctx context.Context, groups []string) []string {
	if !slices.ContainsFunc(groups, func(g string) bool { return !isGroup(g) }) {
		return groups
	}
	_ = p.renew(ctx) // without an answer there is a name in the message
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Clone(groups)
	for i, g := range out {
		if ids := p.names[strings.TrimPrefix(g, "@")]; len(ids) == 1 {
			out[i] = ids[0]
		}
	}
	return out
}

// renew asks for the groups again where what is known is too old.
func (p *people) renew(ctx context.Context) error {
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	fresh := p.groups != nil && time.Since(p.groupsAt) < groupsFor
	p.mu.Unlock()
	if fresh {
		return nil
	}
	return p.refresh(ctx)
}

// refresh asks Slack for the groups and their members. What it cannot have is
// empty afterwards, and asked for again at the next need.
func (p *people) refresh(ctx context.Context) error {
	groups, names, failed := map[string][]string{}, map[string][]string{}, error(nil)
	all, err := p.api.GetUserGroupsContext(ctx, slack.GetUserGroupsOptionIncludeUsers(true),
		slack.GetUserGroupsOptionIncludeCount(true))
	if err != nil {
		failed = fmt.Errorf("ask slack for the user groups: %w", err)
	}
	for _, g := range all[:min(len(all), maxGroups)] {
		if g.DateDelete != 0 || !isGroup(g.ID) {
			continue
		}
		members := g.Users
		if len(members) != g.UserCount {
			// The list does not hold them all: ask for this group.
			if members, err = p.api.GetUserGroupMembersContext(ctx, g.ID); err != nil {
				members, failed = nil, fmt.Errorf("ask slack for the members of %s: %w", g.Handle, err)
			}
		}
		groups[g.ID] = members
		if h := strings.TrimSpace(g.Handle); h != "" {
			names[h] = append(names[h], g.ID)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups, p.names, p.groupsAt = groups, names, time.Now()
	if failed != nil {
		p.groupsAt = time.Time{}
	}
	return failed
}
