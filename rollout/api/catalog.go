package api

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/turn"
)

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI is the OpenAPI 3.1 document of the API.
func OpenAPI() []byte { return slices.Clone(openAPI) }

// policies lists the policies in force that the actor may see.
func (s *Server) policies(w http.ResponseWriter, r *http.Request, a Actor) error {
	if _, err := query(r); err != nil {
		return err
	}
	out := PolicyList{SchemaVersion: SchemaVersion, Policies: []Policy{}}
	for _, p := range s.c.Catalog.Policies(r.Context()) {
		if a.May(p.Labels, RoleView) {
			out.Policies = append(out.Policies, p)
		}
	}
	return send(w, http.StatusOK, out)
}

// policy answers with a policy in force as it runs.
func (s *Server) policy(w http.ResponseWriter, r *http.Request, a Actor) error {
	if _, err := query(r); err != nil {
		return err
	}
	name := r.PathValue("name")
	all := s.c.Catalog.Policies(r.Context())
	i := slices.IndexFunc(all, func(p Policy) bool { return p.Name == name && a.May(p.Labels, RoleView) })
	if i < 0 {
		return problem(http.StatusNotFound, TypeNotFound, "No such policy", fmt.Sprintf("there is no policy %q in force",
			clip(name, nameMax)))
	}
	text, ok := s.c.Catalog.PolicyText(r.Context(), name)
	if !ok { // a reload has come between
		return unavailable("the policies are being replaced", time.Second)
	}
	return send(w, http.StatusOK, PolicyDetail{SchemaVersion: SchemaVersion, Policy: all[i], Text: text})
}

// check says what is wrong with a policy. All that is made of what has come is made
// in the actor's turn.
func (s *Server) check(w http.ResponseWriter, r *http.Request, a Actor) error {
	body, err := receive(r, policyBodyMax)
	if err != nil {
		return err
	}
	var out CheckResult
	err = s.inTurn(r.Context(), a, func(*turn.Turn) error {
		out, err = s.checked(r.Context(), body)
		return err
	})
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, out)
}

// checked is the answer to a CheckRequest.
func (s *Server) checked(ctx context.Context, body []byte) (CheckResult, error) {
	var in CheckRequest
	if err := decode(body, &in); err != nil {
		return CheckResult{}, err
	}
	if in.Text == "" {
		return CheckResult{}, badRequest("text: is missing")
	}
	if in.File == "" {
		in.File = "policy.yaml"
	}
	if len(in.File) > nameMax || !printable(in.File) || strings.ContainsAny(in.File, `/\`) {
		return CheckResult{}, badRequest("file: want a file's name without folders")
	}
	found := s.c.Catalog.Check(ctx, in.File, []byte(in.Text))
	if found == nil {
		found = document.Problems{}
	}
	return CheckResult{SchemaVersion: SchemaVersion, Valid: !found.HasErrors(), Problems: found}, nil
}

// endpoints lists the endpoints that the actor may see, with who may move them.
func (s *Server) endpoints(w http.ResponseWriter, r *http.Request, a Actor) error {
	if _, err := query(r); err != nil {
		return err
	}
	out := EndpointList{SchemaVersion: SchemaVersion, Endpoints: []Endpoint{}}
	sees := s.endpointsOf(r.Context(), a)
	for _, e := range s.c.Catalog.Endpoints(r.Context()) {
		if !sees(rollout.EndpointRef{Router: e.Router, Name: e.Name}) {
			continue
		}
		if err := s.recorded(r.Context(), a, &e); err != nil {
			return err
		}
		out.Endpoints = append(out.Endpoints, e)
	}
	return send(w, http.StatusOK, out)
}

// clearCooldown ends the cooldown of one version, or of all.
func (s *Server) clearCooldown(w http.ResponseWriter, r *http.Request, a Actor) error {
	q, err := query(r, "version", "reason")
	if err != nil {
		return err
	}
	if !a.May(nil, RoleOperate) {
		return forbidden(a, []Role{RoleOperate})
	}
	if reason := q["reason"]; strings.TrimSpace(reason) == "" || len(reason) > reasonMax {
		return badRequest(fmt.Sprintf("reason: say why, in at most %d bytes; it is on record", reasonMax))
	}
	ref := rollout.EndpointRef{Router: r.PathValue("router"), Name: r.PathValue("name")}
	err = s.c.Engine.ClearCooldown(r.Context(), ref, q["version"], a.Person, q["reason"])
	if errors.Is(err, rollout.ErrNotFound) {
		return problem(http.StatusNotFound, TypeNotFound, "Not found",
			"no such cooldown is under way at "+clip(ref.Router+"/"+ref.Name, 100))
	}
	if err != nil {
		return err
	}
	s.c.Log.Info("cooldown cleared", "endpoint", ref.Router+"/"+ref.Name, "version", q["version"], "by", a.Person.ID)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// testNotifiers sends a test message to every notifier.
func (s *Server) testNotifiers(w http.ResponseWriter, r *http.Request, a Actor) error {
	if !a.May(nil, RoleOperate) {
		return forbidden(a, []Role{RoleOperate})
	}
	out := NotifierTests{SchemaVersion: SchemaVersion, Notifiers: []NotifierTest{}}
	if s.c.TestNotifiers != nil {
		out.Notifiers = append(out.Notifiers, s.c.TestNotifiers(r.Context(), a.Person)...)
	}
	s.c.Log.Info("notifiers tested", "by", a.Person.ID)
	return send(w, http.StatusOK, out)
}

// openapi answers with the OpenAPI document.
func (s *Server) openapi(w http.ResponseWriter, _ *http.Request, _ Actor) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openAPI)
	return nil
}

// health says that the process is alive; it asks nobody.
func (s *Server) health(w http.ResponseWriter, _ *http.Request, _ Actor) error {
	return send(w, http.StatusOK, Health{SchemaVersion: SchemaVersion, Status: "ok", Version: s.c.Version})
}

// mayView reports whether who asks may view something. Nobody has to say who they
// are to ask: who does not is a stranger, and no refusal.
func (s *Server) mayView(r *http.Request) bool {
	var auth Authenticator = Loopback{}
	if s.c.Auth != nil {
		auth = s.c.Auth
	}
	a, err := auth.Authenticate(r)
	return err == nil && a.MayAnywhere(RoleView)
}

// readiness says whether the daemon can do its work and, to those who may view, what
// is wrong: that may name files, addresses and people.
func (s *Server) readiness(w http.ResponseWriter, r *http.Request, _ Actor) error {
	out := Health{SchemaVersion: SchemaVersion, Status: "ready", Version: s.c.Version}
	if s.c.Ready != nil {
		out.Problems = s.c.Ready(r.Context())
	}
	if len(out.Problems) > 0 {
		out.Status = "not ready"
		if !s.mayView(r) {
			out.Problems = nil
		}
		return send(w, http.StatusServiceUnavailable, out)
	}
	return send(w, http.StatusOK, out)
}
