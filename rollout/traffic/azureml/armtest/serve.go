package armtest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (s *Server) workspace() string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.MachineLearningServices/workspaces/%s",
		s.Subscription, s.ResourceGroup, s.Workspace)
}

func (s *Server) operations() string {
	return fmt.Sprintf("/subscriptions/%s/providers/Microsoft.MachineLearningServices"+
		"/locations/westeurope/mfeOperationsStatus/", s.Subscription)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || s.Token != "" && bearer != s.Token {
		w.Header().Set("WWW-Authenticate", `Bearer authorization_uri="https://login.example"`)
		refuse(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is missing or not valid.")
		return
	}
	if r.URL.Query().Get("api-version") == "" {
		refuse(w, http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter is required.")
		return
	}
	if id, ok := strings.CutPrefix(r.URL.Path, s.operations()); ok && r.Method == http.MethodGet {
		s.status(w, id)
		return
	}
	path, ok := cutPrefixFold(r.URL.Path, s.workspace()+"/onlineEndpoints")
	if !ok {
		refuse(w, http.StatusNotFound, "ResourceNotFound", "The resource was not found.")
		return
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "" && r.Method == http.MethodGet:
		s.listEndpoints(w, r)
	case len(parts) == 1 && r.Method == http.MethodGet:
		s.get(w, r, parts[0])
	case len(parts) == 1 && r.Method == http.MethodPut:
		s.put(w, r, parts[0])
	case len(parts) == 1 && r.Method == http.MethodPatch:
		s.patch(w, r, parts[0])
	case len(parts) == 2 && strings.EqualFold(parts[1], "deployments") && r.Method == http.MethodGet:
		s.listDeployments(w, r, parts[0])
	default:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "The emulator does not do this.")
	}
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

// open finds an endpoint, settled as far as it is time, with the lock held.
func (s *Server) open(w http.ResponseWriter, name string) *endpoint {
	e := s.endpoints[strings.ToLower(name)]
	if e == nil {
		refuse(w, http.StatusNotFound, "ResourceNotFound", "The online endpoint was not found.")
		return nil
	}
	e.settle(time.Now())
	return e
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.open(w, name); e != nil {
		answer(w, http.StatusOK, s.show(e, base(r)))
	}
}

// show is the whole resource as GET tells it, with the lock held.
func (s *Server) show(e *endpoint, base string) map[string]any {
	out := maps.Clone(e.resource)
	props := maps.Clone(member(out, "properties"))
	state := e.state
	if e.pending != nil {
		state = "Updating"
		if !s.ShowsOld {
			props["traffic"] = member(e.pending.resource, "properties")["traffic"]
			props["mirrorTraffic"] = member(e.pending.resource, "properties")["mirrorTraffic"]
		}
	}
	props["provisioningState"] = state
	fill(props, "swaggerUri", strings.TrimSuffix(fmt.Sprint(props["scoringUri"]), "/score")+"/swagger.json")
	props["keys"] = nil
	if s.operation > 0 {
		bag := maps.Clone(member(props, "properties"))
		bag["AzureAsyncOperationUri"] = s.operationURL(base)
		props["properties"] = bag
	}
	out["properties"] = props
	out["id"] = s.workspace() + "/onlineEndpoints/" + e.name
	out["name"] = e.name
	out["type"] = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
	out["systemData"] = map[string]any{"lastModifiedAt": e.changed.UTC().Format(time.RFC3339Nano)}
	return out
}

func (s *Server) operationURL(base string) string {
	return fmt.Sprintf("%s%soeidp:%06d?api-version=2024-04-01", base, s.operations(), s.operation)
}

// base is the address by which the client came.
func base(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// status answers for the last operation; an earlier one has ended.
func (s *Server) status(w http.ResponseWriter, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := "Succeeded"
	for _, e := range s.endpoints {
		e.settle(time.Now())
		if e.pending != nil && id == fmt.Sprintf("oeidp:%06d", s.operation) {
			status = "InProgress"
		}
	}
	answer(w, http.StatusOK, map[string]any{"status": status, "id": s.operations() + id})
}

func (s *Server) patch(w http.ResponseWriter, r *http.Request, name string) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	var body struct {
		Tags map[string]any `json:"tags"`
	}
	if err != nil || decode(raw, &body) != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequestContent", "The body is not JSON.")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.open(w, name)
	if e == nil {
		return
	}
	if e.pending != nil {
		conflict(w, 0)
		return
	}
	if body.Tags != nil {
		e.resource["tags"] = body.Tags
		e.changed = time.Now()
	}
	answer(w, http.StatusOK, s.show(e, base(r)))
}

func (s *Server) listEndpoints(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []map[string]any
	for _, name := range slices.Sorted(maps.Keys(s.endpoints)) {
		e := s.endpoints[name]
		e.settle(time.Now())
		all = append(all, s.show(e, base(r)))
	}
	s.page(w, r, all)
}

func (s *Server) listDeployments(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.open(w, name)
	if e == nil {
		return
	}
	var all []map[string]any
	for _, d := range slices.Sorted(maps.Keys(e.deployments)) {
		all = append(all, e.deployments[d])
	}
	s.page(w, r, all)
}

// page answers with a part of a list and where it goes on.
func (s *Server) page(w http.ResponseWriter, r *http.Request, all []map[string]any) {
	size := s.PageSize
	if size <= 0 {
		size = 100
	}
	skip, err := strconv.Atoi(r.URL.Query().Get("$skip"))
	if err != nil || skip < 0 {
		skip = 0
	}
	skip = min(skip, len(all))
	end := min(skip+size, len(all))
	out := map[string]any{"value": append([]map[string]any{}, all[skip:end]...)}
	if end < len(all) {
		next := *r.URL
		q := next.Query()
		q.Set("$skip", strconv.Itoa(end))
		next.RawQuery = q.Encode()
		out["nextLink"] = base(r) + next.RequestURI()
	}
	answer(w, http.StatusOK, out)
}

// answer writes JSON; an error means that the client has gone.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// refuse writes an error as ARM does.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Ms-Error-Code", code)
	answer(w, status, map[string]any{"error": map[string]any{"code": code, "message": message}})
}

// conflict refuses a write because another operation runs.
func conflict(w http.ResponseWriter, after time.Duration) {
	if after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	refuse(w, http.StatusConflict, "Conflict", "Another operation is in progress on the online endpoint.")
}
