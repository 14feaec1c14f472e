package api

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The bounds of a body, in bytes: a policy's text may be escaped to twice its
// length.
const (
	bodyMax       = 64 << 10
	policyBodyMax = 1 << 20
)

// guard lets a request through to a route when it may: who asks is known, has
// one of the route's roles, keeps the rate, and does not come from a page of
// another site.
func (s *Server) guard(rt route) http.Handler {
	foreign := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recovered(w, r)
		if err := s.serve(rt, foreign, w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

func (s *Server) serve(rt route, foreign *http.CrossOriginProtection, w http.ResponseWriter, r *http.Request) error {
	if rt.roles == nil {
		return rt.handle(w, r, Actor{})
	}
	if err := foreign.Check(r); err != nil {
		return problem(http.StatusForbidden, TypeForbidden, "Not from another site", "the request comes from a page of another origin")
	}
	actor, err := s.authenticate(r)
	if err != nil {
		return err
	}
	if wait := s.limits.take(actor.Person.ID); wait > 0 {
		p := problem(http.StatusTooManyRequests, TypeTooMany, "Too many requests", fmt.Sprintf("at most %g a second", s.c.Rate))
		p.retryAfter = wait
		return p
	}
	if !actor.MayAnywhere(rt.roles...) {
		return forbidden(actor, rt.roles)
	}
	if r.Method == http.MethodPost {
		if err := checkBody(w, r); err != nil {
			return err
		}
	}
	return rt.handle(w, r, actor)
}

// forbidden says which role is missing.
func forbidden(a Actor, roles []Role) *Problem {
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

// limits keeps the rate of every actor.
type limits struct {
	rate  rate.Limit
	burst int

	mu  sync.Mutex
	all map[string]*rate.Limiter
}

// actorsMax bounds the actors that are remembered; beyond it all start afresh.
const actorsMax = 4096

func newLimits(perSecond float64, burst int) *limits {
	return &limits{rate: rate.Limit(perSecond), burst: burst, all: map[string]*rate.Limiter{}}
}

// take counts a request; it returns how long to wait when it came too soon.
func (l *limits) take(actor string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.all[actor]
	if one == nil {
		if len(l.all) >= actorsMax {
			clear(l.all)
		}
		one = rate.NewLimiter(l.rate, l.burst)
		l.all[actor] = one
	}
	if one.Allow() {
		return 0
	}
	return time.Duration(float64(time.Second) / float64(l.rate))
}
