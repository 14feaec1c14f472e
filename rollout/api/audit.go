package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

// ErrNoHead marks that nobody can say any more what the head was at a revision.
var ErrNoHead = errors.New("api: no head at this revision")

// An AuditHead is one hash over all journals at one revision.
type AuditHead struct {
	SchemaVersion int `json:"schemaVersion"`
	// Head is all of it on one word, as `belay audit verify --against` takes it.
	Head     string `json:"head"`
	Revision uint64 `json:"revision"`
	// Rollouts counts the rollouts there were.
	Rollouts int `json:"rollouts"`
}

// auditHead says what the head is, or was at a revision. One is reckoned at a time.
func (s *Server) auditHead(w http.ResponseWriter, r *http.Request, _ Actor) error {
	q, err := query(r, "at")
	if err != nil {
		return err
	}
	at := uint64(0)
	if q["at"] != "" {
		if at, err = strconv.ParseUint(q["at"], 10, 64); err != nil || at == 0 {
			return badRequest("at: want a revision")
		}
	}
	if s.c.AuditHead == nil {
		return notFound("there are no journals")
	}
	select {
	case s.reckoning <- struct{}{}:
		defer func() { <-s.reckoning }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	head, err := s.c.AuditHead(r.Context(), at)
	if errors.Is(err, ErrNoHead) {
		return problem(http.StatusConflict, TypeConflict, "No such head", clip(err.Error(), 300))
	}
	if err != nil {
		return err
	}
	head.SchemaVersion = SchemaVersion
	return send(w, http.StatusOK, head)
}

// AuditHead asks for the head of all journals at a revision; 0 is now.
func (c *Client) AuditHead(ctx context.Context, at uint64) (h AuditHead, err error) {
	one := call{method: "GET", path: "/v1/audit/head", out: &h}
	if at > 0 {
		one.query = url.Values{"at": {strconv.FormatUint(at, 10)}}
	}
	_, err = c.call(ctx, one)
	return h, err
}
