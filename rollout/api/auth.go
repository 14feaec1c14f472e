package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/person"
)

// The rights are the core's, under their own names for whoever builds a Server.
type (
	Role  = access.Role
	Grant = access.Grant
	Actor = access.Actor
)

// The roles; see package rollout.
const (
	RoleView    = access.RoleView
	RoleStart   = access.RoleStart
	RoleApprove = access.RoleApprove
	RoleOperate = access.RoleOperate
	RoleAdmin   = access.RoleAdmin
)

// local is the actor where no authentication is configured.
var local = Actor{Person: person.Person{ID: "local", Name: "local", Via: "loopback"},
	Grants: []Grant{{Roles: []Role{RoleAdmin}}}}

// The errors of an Authenticator.
var (
	// ErrNoCredentials: the request carries none of the authenticator's kind.
	ErrNoCredentials = errors.New("api: no credentials")
	// ErrCredentials: they are not valid.
	ErrCredentials = errors.New("the credentials are not valid")
)

// An Authenticator tells who sent a request: ErrNoCredentials when the request
// has none of its kind, an error that wraps ErrCredentials when they are not
// valid. It is safe for concurrent use and its errors hold no secret.
type Authenticator interface {
	Authenticate(r *http.Request) (Actor, error)
}

// Any asks several authenticators in turn; the first that finds credentials of
// its kind decides.
type Any []Authenticator

// Authenticate implements Authenticator.
func (as Any) Authenticate(r *http.Request) (Actor, error) {
	for _, a := range as {
		actor, err := a.Authenticate(r)
		if !errors.Is(err, ErrNoCredentials) {
			return actor, err
		}
	}
	return Actor{}, ErrNoCredentials
}

// A Token is a bearer token; only its SHA-256 is known.
type Token struct {
	SHA256 [sha256.Size]byte
	Actor  Actor
}

// ParseSHA256 reads the SHA-256 of a token, in hex.
func ParseSHA256(s string) (sum [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil || len(b) != len(sum) {
		return sum, errors.New("want a SHA-256 in hex (make one with: printf %s \"$TOKEN\" | sha256sum)")
	}
	copy(sum[:], b)
	return sum, nil
}

// Tokens authenticates bearer tokens.
type Tokens []Token

// Authenticate implements Authenticator. Every token is compared, in constant
// time.
func (ts Tokens) Authenticate(r *http.Request) (Actor, error) {
	bearer, ok := bearerOf(r)
	if !ok {
		return Actor{}, ErrNoCredentials
	}
	sum := sha256.Sum256([]byte(bearer))
	found := -1
	for i := range ts {
		if subtle.ConstantTimeCompare(sum[:], ts[i].SHA256[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return Actor{}, fmt.Errorf("%w: the token is not known", ErrCredentials)
	}
	return ts[found].Actor, nil
}

// bearerOf is the bearer token of a request.
func bearerOf(r *http.Request) (string, bool) {
	kind, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(kind, "Bearer") && token != ""
}

// bearerGiven reports whether there is a bearer token, of whatever kind.
func bearerGiven(r *http.Request) bool {
	_, ok := bearerOf(r)
	return ok
}

// authenticate tells who asks, as a problem when nobody does.
func (s *Server) authenticate(r *http.Request) (Actor, error) {
	if s.c.Auth == nil {
		return Loopback{}.Authenticate(r)
	}
	actor, err := s.c.Auth.Authenticate(r)
	switch {
	case err == nil:
		return actor, nil
	case errors.Is(err, ErrNoCredentials):
		s.strangers.count(r, bearerGiven(r))
		return Actor{},
			problem(http.StatusUnauthorized, TypeUnauthorized, "Who are you?", "send a bearer token: Authorization: Bearer …")
	case errors.Is(err, ErrCredentials):
		s.strangers.count(r, true)
		return Actor{}, problem(http.StatusUnauthorized, TypeUnauthorized, "Not recognised", err.Error())
	}
	return Actor{}, err
}

// loopbackHost reports whether a Host header names this machine: a page of a
// foreign name that resolves to loopback does not get in.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// requestID is the id that the client gave a request, or a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.", c)
	}
	if id == "" || len(id) > 64 || strings.ContainsFunc(id, func(c rune) bool { return !plain(c) }) {
		return strings.ToLower(rand.Text()[:16])
	}
	return id
}

// Loopback is the Authenticator of a server that only its own machine reaches:
// whoever asks is one person called local, who may do everything. A Config
// without Auth has it.
type Loopback struct{}

// Authenticate implements Authenticator. It refuses a Host that is not this
// machine: a page of a foreign name that resolves to loopback does not get in.
func (Loopback) Authenticate(r *http.Request) (Actor, error) {
	if !loopbackHost(r.Host) {
		return Actor{}, problem(http.StatusMisdirectedRequest, TypeMisdirected, "Not this host",
			"without authentication belayd answers to a loopback address only")
	}
	return local, nil
}
