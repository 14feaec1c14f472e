package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/belayd/belay/analysis/unique"
	"github.com/belayd/belay/rollout/person"
)

// The defaults and bounds of OIDC.
const (
	jwtMax    = 16 << 10         // bytes of a token
	jwtLeeway = 30 * time.Second // of clocks that differ
)

// algorithms are those that may be pinned: signatures of keys that only the
// issuer has.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// OIDCConfig says whose tokens are believed and what they are worth.
type OIDCConfig struct {
	// Issuer is the exact `iss`; Audience must be in `aud`. Both are required.
	Issuer, Audience string
	// Algorithms are the only ones accepted; none: RS256 and ES256.
	Algorithms []string
	// JWKS is where the keys are; "" discovers it at the issuer.
	JWKS string
	// GroupsClaim holds the groups; "" is "groups".
	GroupsClaim string
	// Grants give rights to subjects and groups.
	Grants []OIDCGrant
	// Person maps a subject to who it is and to the other names by which policies may
	// name it; nil takes "oidc:<subject>".
	Person func(subject string) (p person.Person, names []string)
	// Client asks the issuer; required.
	Client *http.Client
}

// An OIDCGrant gives rights to a subject, to a group, or, where both are empty,
// to everybody whom the issuer knows.
type OIDCGrant struct {
	Subject, Group string
	Grant
}

// OIDC authenticates bearer JWTs of one issuer.
type OIDC struct {
	c      OIDCConfig
	parser *jwt.Parser
	keys   *keySet
}

// NewOIDC checks the configuration and asks nobody.
func NewOIDC(c OIDCConfig) (*OIDC, error) {
	var errs []error
	u, err := url.Parse(c.Issuer)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(u.Host)) {
		errs = append(errs, fmt.Errorf("issuer: want an https address (got %q)", c.Issuer))
	}
	if c.Audience == "" {
		errs = append(errs, errors.New("audience: is missing; without it a token for anything else would do"))
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []string{"RS256", "ES256"}
	}
	for _, a := range c.Algorithms {
		if !slices.Contains(algorithms, a) {
			errs = append(errs, fmt.Errorf("algorithms: want some of %s (got %q)", strings.Join(algorithms, ", "), a))
		}
	}
	if c.Client == nil {
		errs = append(errs, errors.New("client: want an HTTP client"))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("oidc: %w", errors.Join(errs...))
	}
	c.GroupsClaim = cmp.Or(c.GroupsClaim, "groups")
	return &OIDC{
		c:    c,
		keys: &keySet{issuer: c.Issuer, url: c.JWKS, client: c.Client},
		parser: jwt.NewParser(jwt.WithValidMethods(c.Algorithms), jwt.WithIssuer(c.Issuer), jwt.WithAudience(c.Audience),
			jwt.WithExpirationRequired(), jwt.WithLeeway(jwtLeeway), jwt.WithIssuedAt()),
	}, nil
}

// ShareKeys makes o use, and renew, the keys that before knows, where both ask the
// same issuer: the issuer need not be there at the moment at which what its tokens
// are worth changes. Both must ask by equal clients. It is called before o is used.
func (o *OIDC) ShareKeys(before *OIDC) {
	if o.c.Issuer == before.c.Issuer && o.c.JWKS == before.c.JWKS {
		o.keys = before.keys
	}
}

// Authenticate implements Authenticator. A bearer token that is no JWT is not of
// its kind.
func (o *OIDC) Authenticate(r *http.Request) (Actor, error) {
	bearer, ok := bearerOf(r)
	if !ok || strings.Count(bearer, ".") != 2 || len(bearer) > jwtMax {
		return Actor{}, ErrNoCredentials
	}
	claims := jwt.MapClaims{}
	_, err := o.parser.ParseWithClaims(bearer, claims,
		func(t *jwt.Token) (any, error) { return o.verifyWith(r.Context(), t) })
	var away *issuerError
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return Actor{}, ErrNoCredentials
	case errors.As(err, &away):
		return Actor{}, fmt.Errorf("%w: %w", unavailable("who you are cannot be checked now: the issuer of the token does "+
			"not give its keys", 5*time.Second), away)
	case err != nil:
		return Actor{}, fmt.Errorf("%w: %s", ErrCredentials, reasonOf(err))
	case !unambiguous(bearer):
		return Actor{}, fmt.Errorf("%w: a claim stands twice in the token", ErrCredentials)
	}
	return o.actor(claims)
}

// unambiguous reports whether no field of a token's header or claims stands twice:
// whoever issued it may have meant the other one.
func unambiguous(token string) bool {
	for _, part := range strings.Split(token, ".")[:2] {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || unique.Fields(text, false) != nil {
			return false
		}
	}
	return true
}

// An issuerError says that the issuer could not be asked.
type issuerError struct{ error }

// verifyWith finds the key that a token names.
func (o *OIDC) verifyWith(ctx context.Context, t *jwt.Token) (any, error) {
	kid, _ := t.Header["kid"].(string)
	key, err := o.keys.key(ctx, kid)
	if err != nil && !errors.Is(err, ErrCredentials) {
		return nil, &issuerError{err}
	}
	return key, err
}

// reasonOf says why a token is not valid, in words that hold nothing of it.
func reasonOf(err error) string {
	for _, x := range []struct {
		is  error
		why string
	}{
		{jwt.ErrTokenExpired, "the token has expired"},
		{jwt.ErrTokenNotValidYet, "the token is not valid yet"},
		{jwt.ErrTokenUsedBeforeIssued, "the token was issued in the future"},
		{jwt.ErrTokenInvalidIssuer, "the token is of another issuer"},
		{jwt.ErrTokenInvalidAudience, "the token is for another audience"},
		{jwt.ErrTokenRequiredClaimMissing, "the token lacks a claim that is required"},
		{ErrCredentials, "the issuer has no key of the token's name"},
	} {
		if errors.Is(err, x.is) {
			return x.why
		}
	}
	return "the signature is not valid, or of an algorithm that is not accepted"
}

// actor is who the claims say it is, with what that is granted.
func (o *OIDC) actor(claims jwt.MapClaims) (Actor, error) {
	subject, err := claims.GetSubject()
	if err != nil || subject == "" || len(subject) > nameMax || !printable(subject) {
		return Actor{}, fmt.Errorf("%w: the token names no subject", ErrCredentials)
	}
	groups := texts(claims[o.c.GroupsClaim])
	a := Actor{Person: person.Person{ID: "oidc:" + subject, Via: "oidc"}}
	if o.c.Person != nil {
		a.Person, a.Names = o.c.Person(subject)
	}
	a.Person.Groups = slices.Concat(a.Person.Groups, groups)
	if a.Person.Name == "" {
		for _, claim := range []string{"name", "preferred_username", "email"} {
			if s, ok := claims[claim].(string); ok && s != "" && len(s) <= nameMax && printable(s) {
				a.Person.Name = s
				break
			}
		}
	}
	for _, g := range o.c.Grants {
		if (g.Subject == "" || g.Subject == subject) && (g.Group == "" || slices.Contains(groups, g.Group)) {
			a.Grants = append(a.Grants, g.Grant)
		}
	}
	return a, nil
}

// texts reads a claim that is a string or a list of strings.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, x := range v[:min(len(v), 1000)] {
			if s, ok := x.(string); ok && s != "" {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// ClientCertificates authenticates by the client's certificate. The server's TLS
// has verified it against the operator's own authority.
type ClientCertificates []ClientCertificate

// A ClientCertificate names a certificate by one of its subject alternative
// names, or by its common name, and says who has it.
type ClientCertificate struct {
	// URI (as of SPIFFE), DNS and CommonName: the one that is set must match
	// exactly.
	URI, DNS, CommonName string
	Actor                Actor
}

// Authenticate implements Authenticator.
func (cs ClientCertificates) Authenticate(r *http.Request) (Actor, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return Actor{}, ErrNoCredentials
	}
	leaf := r.TLS.VerifiedChains[0][0]
	for _, c := range cs {
		uri := slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == c.URI })
		if c.URI != "" && uri || c.DNS != "" && slices.Contains(leaf.DNSNames, c.DNS) || c.CommonName != "" &&
			leaf.Subject.CommonName == c.CommonName {
			return c.Actor, nil
		}
	}
	return Actor{},
		fmt.Errorf("%w: the certificate of %q is not known", ErrCredentials, clip(leaf.Subject.CommonName, 100))
}
