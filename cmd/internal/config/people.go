package config

import (
	"slices"
	"strings"

	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/person"
)

// known is the entry of people that claims a notifier's or an authenticator's
// name: "slack:T1/U2" by the user's id, "token:ci", "oidc:sub", "mtls:card"; nil
// when none does.
func (c *Config) known(who string) *PersonConfig {
	for i, p := range c.People {
		if (p.Slack != "" && slackUser(who) == p.Slack) || (p.Token != "" && who == "token:"+p.Token) ||
			(p.PagerDuty != "" && who == "pagerduty:"+p.PagerDuty) ||
			(p.OIDC != "" && who == "oidc:"+p.OIDC) || (p.MTLS != "" && who == "mtls:"+p.MTLS) {
			return &c.People[i]
		}
	}
	return nil
}

// person is who a notifier's or an authenticator's name is. A name that no entry
// of people claims is the person's id itself.
func (c *Config) person(who string) person.Person {
	if p := c.known(who); p != nil {
		return person.Person{ID: p.ID, As: who, Name: p.ID, Via: who, Groups: p.Groups}
	}
	return person.Person{ID: who}
}

// Heard is whom a notifier vouches for and what they may do: what everybody there
// may, and where people knows them, what their entry and their credentials give.
func (c *Config) Heard(notifier, who string) access.Actor {
	a := access.Actor{Person: c.person(who), Names: c.namesOf(who)}
	if roles := c.Notifiers[notifier].roles(); len(roles) > 0 {
		a.Grants = append(a.Grants, grant(roles, nil))
	}
	if p := c.known(who); p != nil {
		a.Grants = append(a.Grants, c.grantsOf(p)...)
	}
	return a
}

// grantsOf are the grants of a person: their own, and those of each of their
// credentials.
func (c *Config) grantsOf(p *PersonConfig) []access.Grant {
	var out []access.Grant
	if len(p.Roles) > 0 {
		out = append(out, grant(p.Roles, p.Labels))
	}
	for _, t := range c.Auth.Tokens {
		if p.Token != "" && t.Name == p.Token {
			out = append(out, grant(t.Roles, t.Labels))
		}
	}
	if c.Auth.MTLS != nil {
		for _, cl := range c.Auth.MTLS.Clients {
			if p.MTLS != "" && cl.Name == p.MTLS {
				out = append(out, grant(cl.Roles, cl.Labels))
			}
		}
	}
	if c.Auth.OIDC != nil && p.OIDC != "" {
		for _, g := range c.Auth.OIDC.Grants {
			if (g.Subject == "" || g.Subject == p.OIDC) && (g.Group == "" || slices.Contains(p.Groups, g.Group)) {
				out = append(out, grant(g.Roles, g.Labels))
			}
		}
	}
	return out
}

// names are all the names by which a policy may name the person.
func (p PersonConfig) names() []string {
	names := []string{p.ID}
	for _, n := range [][2]string{{"slack", p.Slack}, {"pagerduty", p.PagerDuty}, {"oidc", p.OIDC}, {"token", p.Token},
		{"mtls", p.MTLS}} {
		if n[1] != "" {
			names = append(names, n[1], n[0]+":"+n[1])
		}
	}
	return names
}

// namesOf are the names of whom a notifier or an authenticator calls who.
func (c *Config) namesOf(who string) []string {
	if p := c.known(who); p != nil {
		return p.names()
	}
	return nil
}

// Canonical is the id of whom people know by this name, in whichever way it was
// written: "U2", "slack:T1/U2", an OIDC subject, a token's name, with blanks around
// it. A name that no entry of people claims is itself.
func (c *Config) Canonical(who string) string {
	if who = strings.TrimSpace(who); who == "" {
		return ""
	}
	for _, p := range c.People {
		same := func(n string) bool { return strings.EqualFold(n, who) }
		if slices.ContainsFunc(p.names(), same) || p.Slack != "" && slackUser(who) == p.Slack {
			return p.ID
		}
	}
	return who
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
