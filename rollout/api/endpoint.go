package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/belayd/belay/rollout"
)

// EndpointDetail is one endpoint with its facts.
type EndpointDetail struct {
	SchemaVersion int `json:"schemaVersion"`
	Endpoint
}

// endpoint shows one endpoint with its facts.
func (s *Server) endpoint(w http.ResponseWriter, r *http.Request, a Actor) error {
	if _, err := query(r); err != nil {
		return err
	}
	ref := rollout.EndpointRef{Router: r.PathValue("router"), Name: r.PathValue("name")}
	noEndpoint := problem(http.StatusNotFound, TypeNotFound, "Not found", "there is no such endpoint")
	if !s.endpointsOf(r.Context(), a)(ref) {
		return noEndpoint
	}
	e, ok := s.c.Catalog.Endpoint(r.Context(), ref)
	if !ok {
		return noEndpoint
	}
	if err := s.recorded(r.Context(), a, &e); err != nil {
		return err
	}
	return send(w, http.StatusOK, EndpointDetail{SchemaVersion: SchemaVersion, Endpoint: e})
}

// endpointsOf tells which endpoints the actor may see: those of the policies that
// they may view, and all of them with a role that no label limits.
func (s *Server) endpointsOf(ctx context.Context, a Actor) func(rollout.EndpointRef) bool {
	if a.May(nil, RoleView) {
		return func(rollout.EndpointRef) bool { return true }
	}
	seen := map[rollout.EndpointRef]bool{}
	for _, p := range s.c.Catalog.Policies(ctx) {
		if a.May(p.Labels, RoleView) {
			seen[p.Endpoint] = true
		}
	}
	return func(ref rollout.EndpointRef) bool { return seen[ref] }
}

// recorded adds what Belay's own record says of an endpoint. Rollouts that the actor
// may not view are left out.
func (s *Server) recorded(ctx context.Context, a Actor, e *Endpoint) error {
	rec, err := s.c.Engine.Endpoint(ctx, rollout.EndpointRef{Router: e.Router, Name: e.Name})
	if err != nil {
		return err
	}
	sees := func(id string) bool {
		if a.May(nil, RoleView) {
			return true
		}
		labels, known := s.labelsOf(ctx, id)
		return known && a.May(labels, RoleView)
	}
	e.Active, e.Cooldowns, e.Queue = "", rec.Cooldowns, nil
	if rec.Active != "" && sees(rec.Active) {
		e.Active = rec.Active
	}
	for _, q := range rec.Queue {
		if sees(q.Rollout) {
			e.Queue = append(e.Queue, q.Rollout)
		}
	}
	return nil
}

// Endpoint shows one endpoint with its facts.
func (c *Client) Endpoint(ctx context.Context, ref rollout.EndpointRef) (d EndpointDetail, err error) {
	_, err = c.call(ctx,
		call{method: "GET", path: "/v1/endpoints/" + url.PathEscape(ref.Router) + "/" + url.PathEscape(ref.Name), out: &d})
	return d, err
}
