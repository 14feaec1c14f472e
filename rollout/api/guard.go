package api

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"unicode/utf8"
)

// The bounds of a body, in bytes: a policy's text may be escaped to twice its
// length.
const (
	bodyMax       = 64 << 10
	policyBodyMax = 1 << 20
)

// guard lets a request through to a route when it may: it does not come from a page
// of another site, who asks is known, has one of the route's roles, and keeps the
// rate.
func (s *Server) guard(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recovered(w, r)
		if err := s.serve(rt, w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

func (s *Server) serve(rt route, w http.ResponseWriter, r *http.Request) error {
	if rt.roles == nil {
		return rt.handle(w, r, Actor{})
	}
	if foreign(r) {
		return problem(http.StatusForbidden, TypeForbidden, "Not from another site",
			"the request comes from a page of another origin")
	}
	actor, err := s.authenticate(r)
	if err != nil {
		return err
	}
	for _, name := range []string{"id", "router", "name"} {
		if v := r.PathValue(name); len(v) > nameMax || !utf8.ValidString(v) || !printable(v) {
			return notFound("there is nothing of that name")
		}
	}
	if !actor.MayAnywhere(rt.roles...) {
		return forbidden(actor, rt.roles)
	}
	if err := s.limits.admit(r, actor, lanes[rt.id]); err != nil {
		return err
	}
	if slots := s.slotsOf(rt.id); slots != nil {
		leave, err := s.turns.After(func() (func(), error) { return slots.enter(r.Context(), actor.Person.ID) })
		if err != nil {
			return err
		}
		defer leave()
	}
	if r.Method == http.MethodPost {
		if err := checkBody(w, r); err != nil {
			return err
		}
	}
	return rt.handle(w, r, actor)
}

// foreign reports whether a browser sends the request for a page of another site,
// reading or not: also what is only read costs something, and counts.
func foreign(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site != "same-origin" && site != "none"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false // no browser, or an old one that follows a link
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host != r.Host
}

// forbidden says which role is missing.
func forbidden(a Actor, roles []Role) *ProblemDetails {
	return problem(http.StatusForbidden, TypeForbidden, "Not allowed",
		fmt.Sprintf("%s has none of the roles %v here", a.Person.ID, append(slices.Clip(roles), RoleAdmin)))
}

// checkBody bounds a body and wants it to be JSON.
func checkBody(w http.ResponseWriter, r *http.Request) error {
	if kind := r.Header.Get("Content-Type"); kind != "" || r.ContentLength != 0 {
		media, _, err := mime.ParseMediaType(kind)
		if err != nil || media != "application/json" {
			return problem(http.StatusUnsupportedMediaType, TypeUnsupported, "Not JSON", "want Content-Type: application/json")
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, policyBodyMax)
	return nil
}

// recovered turns a panic of a handler into a 500 that the log explains.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	s.c.Log.Error("handler panicked", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	s.fail(w, r, fmt.Errorf("handler panicked: %v", v))
}
