package daemon

import (
	"slices"
	"strings"

	"github.com/belayd/belay/rollout"
)

// person is who a notifier's or an authenticator's name is: "slack:T1/U2" by the
// user's id, "token:ci", "oidc:sub". A name that no entry of people claims is
// the person's id itself.
func (c *Config) person(who string) rollout.Person {
	for _, p := range c.People {
		if (p.Slack != "" && slackUser(who) == p.Slack) || (p.Token != "" && who == "token:"+p.Token) || (p.OIDC != "" && who == "oidc:"+p.OIDC) || (p.MTLS != "" && who == "mtls:"+p.MTLS) {
			return rollout.Person{ID: p.ID, Name: p.ID, Via: who, Groups: p.Groups}
		}
	}
	return rollout.Person{ID: who}
}

// canonical is the id of whom people know by this name, in whichever way it was
// written: "U2", "slack:T1/U2", an OIDC subject, a token's name. A name that no
// entry of people claims is itself.
func (c *Config) canonical(who string) string {
	if who == "" {
		return ""
	}
	for _, p := range c.People {
		names := []string{p.ID}
		for prefix, name := range map[string]string{"slack": p.Slack, "oidc": p.OIDC, "token": p.Token, "mtls": p.MTLS} {
			if name != "" {
				names = append(names, name, prefix+":"+name)
			}
		}
		same := func(n string) bool { return strings.EqualFold(n, who) }
		if slices.ContainsFunc(names, same) || p.Slack != "" && slackUser(who) == p.Slack {
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
