package daemon

import (
	"fmt"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
)

// person is who a notifier's or an authenticator's name is: "slack:T1/U2" by the
// user's id, "token:ci", "oidc:sub". A name that no entry of people claims is
// the person's id itself.
func (c *Config) person(who string) rollout.Person {
	for _, p := range c.People {
		if (p.Slack != "" && slackUser(who) == p.Slack) || (p.Token != "" && who == "token:"+p.Token) || (p.OIDC != "" && who == "oidc:"+p.OIDC) {
			return rollout.Person{ID: p.ID, Name: p.ID, Via: who, Groups: p.Groups}
		}
	}
	return rollout.Person{ID: who}
}

// slackUser is the user's id in "slack:T1/U2"; "" for other names.
func slackUser(who string) string {
	const prefix = "slack:"
	if len(who) < len(prefix) || who[:len(prefix)] != prefix {
		return ""
	}
	for i := len(who) - 1; i >= 0; i-- {
		if who[i] == '/' {
			return who[i+1:]
		}
	}
	return who[len(prefix):]
}

// authenticator tells who asks; nil when no auth is configured.
func (c *Config) authenticator() (api.Authenticator, error) {
	if len(c.Auth.Tokens) == 0 {
		return nil, nil //nolint:nilnil // no authenticator is a configuration, not an error
	}
	var tokens api.Tokens
	for i, t := range c.Auth.Tokens {
		sum, err := api.ParseSHA256(t.SHA256)
		if err != nil {
			return nil, fmt.Errorf("auth.tokens[%d].sha256: %w", i, err)
		}
		who := c.person("token:" + t.Name)
		if who.ID == "token:"+t.Name {
			who = rollout.Person{ID: t.Name, Name: t.Name, Via: "token"}
		}
		grant := api.Grant{Labels: t.Labels}
		for _, r := range t.Roles {
			grant.Roles = append(grant.Roles, api.Role(r))
		}
		tokens = append(tokens, api.Token{Actor: api.Actor{Person: who, Grants: []api.Grant{grant}}, SHA256: sum})
	}
	return tokens, nil
}
