package config

import (
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/approval"
)

// A token's, a subject's and a certificate's owner may be one person.
func TestOnePerson(t *testing.T) {
	c := &Config{People: []PersonConfig{{ID: "ann", Token: "ann-laptop", OIDC: "sub-1", MTLS: "ann-card", Groups: []string{"owners"}}}}
	for _, who := range []string{"token:ann-laptop", "oidc:sub-1", "mtls:ann-card"} {
		if p := c.person(who); p.ID != "ann" || len(p.Groups) != 1 {
			t.Errorf("%s: got %+v, want ann", who, p)
		}
	}
	if p := c.named("mtls", "robot"); p.ID != "robot" || p.Via != "mtls" {
		t.Errorf("a certificate of nobody in people: got %+v", p)
	}
}

// Whoever is heard through Slack may do what every member may, what their entry in
// people says, and what each of their credentials may; nobody has more because
// somebody else of the workspace has.
func TestHeard(t *testing.T) {
	c := &Config{
		Notifiers: map[string]NotifierConfig{"slack": {Slack: &SlackNotifier{Roles: []string{"view"}}}, "closed": {Slack: &SlackNotifier{}}},
		People: []PersonConfig{
			{ID: "ann", Slack: "U1", Token: "ann-laptop", OIDC: "sub-1", MTLS: "ann-card", Groups: []string{"owners"}},
			{ID: "bob", Slack: "U2", Roles: []string{"operate"}, Labels: map[string]string{"team": "a"}},
			{ID: "cem", Slack: "U3", OIDC: "sub-3"},
		},
		Auth: AuthConfig{
			Tokens: []TokenConfig{{Name: "ann-laptop", Roles: []string{"start"}}, {Name: "ci", Roles: []string{"admin"}}},
			MTLS:   &MTLSConfig{Clients: []ClientConfig{{Name: "ann-card", Roles: []string{"operate"}}, {Name: "robot", Roles: []string{"admin"}}}},
			OIDC: &OIDCConfig{Grants: []OIDCGrant{{Group: "owners", Roles: []string{"approve"}}, {Subject: "sub-2", Roles: []string{"admin"}},
				{Subject: "sub-3", Group: "owners", Roles: []string{"admin"}}, {Everyone: true, Roles: []string{"view"}}}},
		},
	}
	teamA := map[string]string{"team": "a"}
	for _, x := range []struct {
		via, who string
		labels   map[string]string
		may      string
	}{
		{"slack", "slack:T1/U1", nil, "view start approve operate"},
		{"closed", "slack:T1/U1", nil, "view start approve operate"},
		{"slack", "slack:T1/U2", nil, "view"},
		{"slack", "slack:T1/U2", teamA, "view operate"},
		{"closed", "slack:T1/U2", nil, ""},
		{"closed", "slack:T1/U3", nil, "view"},
		{"slack", "slack:T1/U9", teamA, "view"},
		{"closed", "slack:T1/U9", teamA, ""},
		{"other", "slack:T1/U9", teamA, ""},
	} {
		a := c.Heard(x.via, x.who)
		var may []string
		for _, r := range access.Roles {
			if a.May(x.labels, r) {
				may = append(may, string(r))
			}
		}
		if got := strings.Join(may, " "); got != x.may {
			t.Errorf("%s by %s with labels %v: may %q, want %q", x.who, x.via, x.labels, got, x.may)
		}
	}
	gate := approval.Approval{Users: []string{"oidc:sub-1"}}
	if a := c.Heard("slack", "slack:T1/U1"); !a.AskedBy(gate) || a.Person.ID != "ann" {
		t.Errorf("a gate that names %v: %+v is not asked", gate.Users, a)
	}
	if c.Heard("slack", "slack:T1/U2").AskedBy(gate) {
		t.Errorf("a gate that names %v: bob is asked", gate.Users)
	}
}

// TestCanonical: whoever a release was asked for is known by one id, however the
// request wrote the name.
func TestCanonical(t *testing.T) {
	c := &Config{People: []PersonConfig{{ID: "alice", Slack: "U1", OIDC: "alice@example.com", Token: "alice-laptop"}}}
	for _, who := range []string{"alice", "ALICE", "U1", "slack:T1/U1", "alice@example.com", "oidc:alice@example.com", "token:alice-laptop", " alice", "\tU1 "} {
		if got := c.Canonical(who); got != "alice" {
			t.Errorf("canonical(%q): got %q, want alice", who, got)
		}
	}
	for _, who := range []string{"", "bob", "slack:T1/U2", "/pipelines/recs"} {
		if got := c.Canonical(who); got != who {
			t.Errorf("canonical(%q): got %q, want it unchanged", who, got)
		}
	}
}

// Whoever asked for a release is the one who answers it, under every name that they
// have on either side: by whichever credential they answer, it is by the id that
// their name in the request stands for.
func TestRequesterUnderEveryName(t *testing.T) {
	p := PersonConfig{ID: "ann", Slack: "U1", PagerDuty: "PANN1", OIDC: "ann@example.com", Token: "ann-laptop", MTLS: "ann-card"}
	c := &Config{
		People:    []PersonConfig{{ID: "bob", Slack: "U2", OIDC: "bob@example.com", Token: "bob-laptop", MTLS: "bob-card"}, p},
		Notifiers: map[string]NotifierConfig{"slack": {Slack: &SlackNotifier{Roles: []string{"view"}}}},
	}
	answering := map[string]string{
		"slack": c.Heard("slack", "slack:T1/U1").Person.ID, "another workspace": c.Heard("slack", "slack:T2/U1").Person.ID,
		"pagerduty": c.Heard("pager", "pagerduty:PANN1").Person.ID,
		"a token":   c.named("token", "ann-laptop").ID, "a certificate": c.named("mtls", "ann-card").ID, "a subject": c.named("oidc", "ann@example.com").ID,
	}
	asking := append(p.names(), "slack:T1/U1")
	if len(asking) < 12 {
		t.Fatalf("got the names %q, want each bare and with its kind", asking)
	}
	for _, name := range asking {
		for _, written := range []string{name, " " + name + "\n", strings.ToUpper(name[:1]) + name[1:]} {
			if strings.HasPrefix(written, "Slack:T1/") {
				continue // not how any notifier writes it
			}
			for by, id := range answering {
				if got := c.Canonical(written); got != id {
					t.Errorf("asked for by %q, answered by %s: got %s and %s, want one person", written, by, got, id)
				}
			}
		}
	}
	for _, other := range c.People[0].names() {
		if got := c.Canonical(other); got != "bob" {
			t.Errorf("%q: got %s, want bob", other, got)
		}
	}
}

// Policies are checked against who there is: the groups of people where nobody else knows
// groups, and whether anybody has to say who they are.
func TestEnvironmentKnowsWhoAnswers(t *testing.T) {
	people := []PersonConfig{{ID: "ann", Groups: []string{"sre", "owners"}}, {ID: "ben", Groups: []string{"sre"}}}
	token := AuthConfig{Tokens: []TokenConfig{{Name: "ci"}}}
	for name, tt := range map[string]struct {
		c         Config
		anonymous bool
		sre       int // -1: not known
	}{
		"no auth":       {Config{People: people}, true, 2},
		"tokens":        {Config{People: people, Auth: token}, false, 2},
		"Slack":         {Config{People: people, Notifiers: map[string]NotifierConfig{"slack": {Slack: &SlackNotifier{}}, "mail": {Email: &EmailNotifier{}}}}, false, -1},
		"an issuer":     {Config{People: people, Auth: AuthConfig{OIDC: &OIDCConfig{}}}, false, -1},
		"who only hear": {Config{Notifiers: map[string]NotifierConfig{"mail": {Email: &EmailNotifier{}}}}, true, 0},
	} {
		e := tt.c.Environment()
		if e.Anonymous != tt.anonymous || (e.Groups == nil) != (tt.sre < 0) || tt.sre >= 0 && e.Groups["sre"] != tt.sre {
			t.Errorf("%s: got anonymous %t and groups %v, want %t and %d in sre", name, e.Anonymous, e.Groups, tt.anonymous, tt.sre)
		}
	}
}
