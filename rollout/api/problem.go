package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/failure"
)

// ProblemDetails are an error as application/problem+json (RFC 9457). They are an error,
// for the client.
type ProblemDetails struct {
	// Type is a relative reference that names the kind of problem.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail says what happened and what to do about it.
	Detail string `json:"detail,omitempty"`
	// Instance is the request's id, as in the daemon's log.
	Instance string `json:"instance,omitempty"`
	// Problems are those of a policy.
	Problems document.Problems `json:"problems,omitempty"`

	retryAfter time.Duration
}

// The types of problems.
const (
	TypeBadRequest     = "/problems/bad-request"
	TypeUnauthorized   = "/problems/unauthorized"
	TypeForbidden      = "/problems/forbidden"
	TypeNotFound       = "/problems/not-found"
	TypeConflict       = "/problems/conflict"
	TypeEnded          = "/problems/ended"
	TypeNoEffect       = "/problems/no-effect"
	TypeTooLarge       = "/problems/too-large"
	TypeInvalidPolicy  = "/problems/invalid-policy"
	TypeTooMany        = "/problems/too-many-requests"
	TypeUnavailable    = "/problems/unavailable"
	TypeInternal       = "/problems/internal"
	TypeKeyRequired    = "/problems/idempotency-key-required"
	TypeMisdirected    = "/problems/misdirected"
	TypeUnsupported    = "/problems/unsupported-media-type"
	TypeNotAcceptable  = "/problems/not-acceptable"
	problemContentType = "application/problem+json"
)

// Error says what the server said.
func (p *ProblemDetails) Error() string {
	return fmt.Sprintf("%s (%d): %s", p.Title, p.Status, cmp.Or(p.Detail, p.Type))
}

// Is lets errors.Is recognise what the server's problem means.
func (p *ProblemDetails) Is(target error) bool {
	switch p.Type {
	case TypeNotFound:
		return target == rollout.ErrNotFound
	case TypeConflict:
		return target == rollout.ErrDifferent
	case TypeEnded:
		return target == rollout.ErrEnded
	}
	return false
}

func problem(status int, kind, title, detail string) *ProblemDetails {
	return &ProblemDetails{Type: kind, Title: title, Status: status, Detail: detail}
}

func badRequest(detail string) *ProblemDetails {
	return problem(http.StatusBadRequest, TypeBadRequest, "The request is not valid", detail)
}

func notFound(detail string) *ProblemDetails {
	return problem(http.StatusNotFound, TypeNotFound, "Not found", detail)
}

func unavailable(detail string, after time.Duration) *ProblemDetails {
	p := problem(http.StatusServiceUnavailable, TypeUnavailable, "Not available now", detail)
	p.retryAfter = after
	return p
}

// problemOf is what an error means over HTTP. What it does not know is internal:
// its text stays in the log.
func problemOf(err error) *ProblemDetails {
	var p *ProblemDetails
	var tooLarge *http.MaxBytesError
	var unrecorded *failure.UnrecordedError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLarge):
		return problem(http.StatusRequestEntityTooLarge, TypeTooLarge, "The body is too large",
			fmt.Sprintf("at most %d bytes are read", tooLarge.Limit))
	case errors.Is(err, rollout.ErrNotFound):
		return notFound("there is no such rollout")
	case errors.Is(err, ErrNoPolicy):
		return problem(http.StatusNotFound, TypeNotFound, "No such policy", err.Error())
	case errors.Is(err, rollout.ErrDifferent):
		return problem(http.StatusConflict, TypeConflict, "The key was used for something else", err.Error())
	case errors.Is(err, rollout.ErrEnded):
		return problem(http.StatusConflict, TypeEnded, "The rollout has ended", "it takes no orders any more")
	case errors.As(err, &unrecorded):
		detail := "belayd's store did not take the order, and nothing was done: "
		if errors.Is(err, rollout.ErrFull) {
			detail += "there is no space left on its disk; free some, then "
		}
		detail += "ask again with the same key"
		if unrecorded.Manual != "" {
			detail += "; to roll back by hand: " + unrecorded.Manual
		}
		return unavailable(detail, 10*time.Second)
	case errors.Is(err, rollout.ErrFull):
		return unavailable("belayd's store has no space left on its disk; free some, then ask again with the same key",
			10*time.Second)
	case errors.Is(err, rollout.ErrStopped):
		return unavailable("the daemon is starting or stopping", time.Second)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable("it took too long; whether it took effect is unknown: ask again with the same key", time.Second)
	}
	return problem(http.StatusInternalServerError, TypeInternal, "Internal error",
		"the daemon's log has the cause under this request's id")
}

// fail answers with a problem and logs what is the daemon's own fault.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := *problemOf(err)
	p.Instance = w.Header().Get("X-Request-Id")
	if p.Status >= http.StatusInternalServerError {
		s.c.Log.Error("request failed", "request", p.Instance, "method", r.Method, "path", r.URL.Path, "status", p.Status,
			"err", err)
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="belay"`)
	}
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(max(p.retryAfter.Round(time.Second), time.Second)/time.Second)))
	}
	w.Header().Set("Content-Type", problemContentType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client has gone; there is nobody to tell
}
