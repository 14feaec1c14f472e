package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/belayd/belay/cmd/internal/secret"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/person"
)

// AuthConfig says who may do what.
type AuthConfig struct {
	Tokens []TokenConfig `yaml:"tokens" doc:"Bearer tokens, stored as their SHA-256."`
	OIDC   *OIDCConfig   `yaml:"oidc" doc:"Bearer JWTs of an OpenID Connect issuer."`
	MTLS   *MTLSConfig   `yaml:"mtls" doc:"Client certificates; needs tls."`
	TLS    *TLSConfig    `yaml:"tls" doc:"The server's own certificate. Without it belayd speaks plain HTTP: put a proxy that ends TLS before it."`
}

// TokenConfig is one bearer token.
type TokenConfig struct {
	Name   string            `yaml:"name" required:"true" doc:"Whose token it is."`
	Roles  []string          `yaml:"roles" required:"true" doc:"view, start, approve, operate, admin."`
	SHA256 string            `yaml:"sha256" required:"true" doc:"SHA-256 of the token, in hex."`
	Labels map[string]string `yaml:"labels" doc:"The roles hold only for policies with these labels."`
}

// OIDCConfig says whose JWTs are believed and what they are worth.
type OIDCConfig struct {
	Issuer      string       `yaml:"issuer" required:"true" doc:"The exact iss of the tokens; its keys are found at its .well-known/openid-configuration."`
	Audience    string       `yaml:"audience" required:"true" doc:"What aud must hold: the name of this belayd at the issuer."`
	Algorithms  []string     `yaml:"algorithms" doc:"The only signatures accepted; RS256 and ES256 when missing."`
	JWKS        string       `yaml:"jwks" doc:"Where the keys are, when the issuer has no discovery."`
	GroupsClaim string       `yaml:"groupsClaim" default:"groups" doc:"The claim that holds the groups."`
	Grants      []OIDCGrant  `yaml:"grants" required:"true" doc:"What subjects and groups may do."`
	HTTP        document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig, for the issuer."`
}

// OIDCGrant is what a subject or a group may do.
type OIDCGrant struct {
	Subject  string            `yaml:"subject" doc:"Whoever has this sub."`
	Group    string            `yaml:"group" doc:"Whoever is in this group."`
	Everyone bool              `yaml:"everyone" doc:"Everybody whom the issuer knows; in place of subject and group."`
	Roles    []string          `yaml:"roles" required:"true" doc:"view, start, approve, operate, admin."`
	Labels   map[string]string `yaml:"labels" doc:"The roles hold only for policies with these labels."`
}

// MTLSConfig says whose certificates are believed.
type MTLSConfig struct {
	ClientCAFile string         `yaml:"clientCAFile" required:"true" doc:"Certificates of the authority that signs clients' certificates; read again when it changes."`
	Clients      []ClientConfig `yaml:"clients" required:"true" doc:"Who has which certificate."`
}

// ClientConfig is one client certificate, named by exactly one of its names.
type ClientConfig struct {
	Name       string            `yaml:"name" required:"true" doc:"Whose certificate it is."`
	URI        string            `yaml:"uri" oneof:"certificate" doc:"A URI among its subject alternative names, as of SPIFFE."`
	DNS        string            `yaml:"dns" oneof:"certificate" doc:"A DNS name among its subject alternative names."`
	CommonName string            `yaml:"commonName" oneof:"certificate" doc:"Its subject's common name."`
	Roles      []string          `yaml:"roles" required:"true" doc:"view, start, approve, operate, admin."`
	Labels     map[string]string `yaml:"labels" doc:"The roles hold only for policies with these labels."`
}

// TLSConfig is the server's certificate.
type TLSConfig struct {
	CertFile string `yaml:"certFile" required:"true" doc:"Certificate chain, PEM; read again when it changes."`
	KeyFile  string `yaml:"keyFile" required:"true" doc:"Private key, PEM; nobody else may read it."`
}

// open reports whether nobody has to say who they are.
func (a AuthConfig) open() bool { return len(a.Tokens) == 0 && a.OIDC == nil && a.MTLS == nil }

// checkAuth looks at who may reach the API and who may do what.
func (c *Config) checkAuth() []error {
	var errs []error
	if c.Auth.open() && !isLoopbackAddress(c.Listen) {
		errs = append(errs, fmt.Errorf("listen: %q is not a loopback address and no auth is configured; add auth or listen "+
			"on 127.0.0.1", c.Listen))
	}
	if c.Auth.MTLS != nil && c.Auth.TLS == nil {
		errs = append(errs, errors.New("auth.mtls: clients show certificates only over TLS; add auth.tls"))
	}
	roles := func(field string, names []string) {
		for _, r := range names {
			if _, err := access.ParseRole(r); err != nil {
				errs = append(errs, fmt.Errorf("%s.roles: %w", field, err))
			}
		}
	}
	for i, t := range c.Auth.Tokens {
		roles(fmt.Sprintf("auth.tokens[%d]", i), t.Roles)
	}
	for i, p := range c.People {
		roles(fmt.Sprintf("people[%d]", i), p.Roles)
	}
	for _, name := range sortedKeys(c.Notifiers) {
		if s := c.Notifiers[name].Slack; s != nil {
			roles("notifiers."+name+".slack", s.Roles)
		}
		if p := c.Notifiers[name].PagerDuty; p != nil {
			roles("notifiers."+name+".pagerduty", p.Roles)
		}
	}
	if o := c.Auth.OIDC; o != nil {
		for i, g := range o.Grants {
			field := fmt.Sprintf("auth.oidc.grants[%d]", i)
			roles(field, g.Roles)
			switch named := g.Subject != "" || g.Group != ""; {
			case !named && !g.Everyone:
				errs = append(errs, fmt.Errorf("%s: want a subject, a group, or everyone: true", field))
			case named && g.Everyone:
				errs = append(errs, fmt.Errorf("%s: everyone stands in place of subject and group", field))
			}
		}
	}
	if m := c.Auth.MTLS; m != nil {
		for i, cl := range m.Clients {
			roles(fmt.Sprintf("auth.mtls.clients[%d]", i), cl.Roles)
		}
	}
	return errs
}

// isLoopbackAddress reports whether nobody but this machine reaches an address.
func isLoopbackAddress(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// checkNATSAddress refuses what is no list of addresses. What stands there is not
// shown: it may hold a password.
func checkNATSAddress(field, list string) error {
	if secret.IsEnv(list) || isNATSAddress(list) {
		return nil
	}
	return fmt.Errorf("%s: want nats://HOST:PORT, or several with commas (what is there is not shown: it may hold a "+
		"password)", field)
}

// isNATSAddress reports whether every address of a list is one. It keeps errors
// that quote an address, with the password in it, from being made.
func isNATSAddress(list string) bool {
	return !slices.ContainsFunc(strings.Split(list, ","), func(a string) bool {
		if a = strings.TrimSpace(a); !strings.Contains(a, "://") {
			a = "nats://" + a
		}
		u, err := url.Parse(a)
		return err != nil || u.Host == ""
	})
}

// Exposure says who may reach the API, for the log.
func (c *Config) Exposure(log *slog.Logger) string {
	if c.Auth.open() {
		return "no auth is configured: loopback only, everybody is local"
	}
	if c.Auth.TLS == nil && !isLoopbackAddress(c.Listen) {
		log.Warn("plain HTTP beyond loopback", "address", c.Listen, "outcome",
			"credentials can be read on the way unless a proxy before belayd ends TLS")
	}
	var kinds []string
	for _, k := range []struct {
		name string
		on   bool
	}{{"tokens", len(c.Auth.Tokens) > 0}, {"oidc", c.Auth.OIDC != nil}, {"mtls", c.Auth.MTLS != nil}, {"tls",
		c.Auth.TLS != nil}} {
		if k.on {
			kinds = append(kinds, k.name)
		}
	}
	return "auth is configured: " + strings.Join(kinds, ", ")
}

// Authenticator tells who asks; nil when no auth is configured. A bearer token
// that is a JWT is the issuer's; every other one is looked for among the tokens.
func (c *Config) Authenticator() (api.Authenticator, error) {
	if c.Auth.open() {
		return nil, nil //nolint:nilnil // no authenticator is a configuration, not an error
	}
	var all api.Any
	if c.Auth.OIDC != nil {
		o, err := c.oidc(c.Auth.OIDC)
		if err != nil {
			return nil, fmt.Errorf("auth.%w", err)
		}
		all = append(all, o)
	}
	if len(c.Auth.Tokens) > 0 {
		tokens, err := c.tokens()
		if err != nil {
			return nil, err
		}
		all = append(all, tokens)
	}
	if c.Auth.MTLS != nil {
		all = append(all, c.certificates(c.Auth.MTLS))
	}
	return all, nil
}

func (c *Config) tokens() (api.Tokens, error) {
	var tokens api.Tokens
	for i, t := range c.Auth.Tokens {
		sum, err := api.ParseSHA256(t.SHA256)
		if err != nil {
			return nil, fmt.Errorf("auth.tokens[%d].sha256: %w", i, err)
		}
		actor := api.Actor{Person: c.named("token", t.Name), Names: c.namesOf("token:" + t.Name),
			Grants: []api.Grant{grant(t.Roles, t.Labels)}}
		tokens = append(tokens, api.Token{Actor: actor, SHA256: sum})
	}
	return tokens, nil
}

func (c *Config) oidc(o *OIDCConfig) (*api.OIDC, error) {
	client, err := c.client("oidc.http", o.HTTP)
	if err != nil {
		return nil, err
	}
	out := api.OIDCConfig{
		Issuer: o.Issuer, Audience: o.Audience, Algorithms: o.Algorithms,
		JWKS: o.JWKS, GroupsClaim: o.GroupsClaim, Client: client,
		Person: func(subject string) (person.Person, []string) {
			who := "oidc:" + subject
			p := c.person(who)
			if p.Via == "" {
				p.Via = "oidc"
			}
			return p, c.namesOf(who)
		},
	}
	for _, g := range o.Grants {
		out.Grants = append(out.Grants, api.OIDCGrant{Subject: g.Subject, Group: g.Group, Grant: grant(g.Roles, g.Labels)})
	}
	return api.NewOIDC(out)
}

func (c *Config) certificates(m *MTLSConfig) api.ClientCertificates {
	var out api.ClientCertificates
	for _, cl := range m.Clients {
		out = append(out, api.ClientCertificate{URI: cl.URI, DNS: cl.DNS, CommonName: cl.CommonName,
			Actor: api.Actor{Person: c.named("mtls", cl.Name), Names: c.namesOf("mtls:" + cl.Name),
				Grants: []api.Grant{grant(cl.Roles, cl.Labels)}}})
	}
	return out
}

// named is the person of a credential that the config names; without an entry in
// people the name is the person's.
func (c *Config) named(kind, name string) person.Person {
	if p := c.person(kind + ":" + name); p.ID != kind+":"+name {
		return p
	}
	return person.Person{ID: name, As: kind + ":" + name, Name: name, Via: kind}
}

func grant(roles []string, labels map[string]string) api.Grant {
	g := api.Grant{Labels: labels}
	for _, r := range roles {
		g.Roles = append(g.Roles, access.Role(r))
	}
	return g
}
