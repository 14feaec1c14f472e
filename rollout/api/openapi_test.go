package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/paging"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/view"
)

// operation is what the tests need of the document.
type operation struct {
	method, path string
	OperationID  string   `yaml:"operationId"`
	Roles        []Role   `yaml:"x-roles"`
	Security     []any    `yaml:"security"`
	Body         any      `yaml:"requestBody"`
	Summary      string   `yaml:"summary"`
	Tags         []string `yaml:"tags"`
}

// operations reads the document's operations.
func operations(t testing.TB) []operation {
	t.Helper()
	var doc struct {
		OpenAPI string                          `yaml:"openapi"`
		Paths   map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Fatalf("openapi: got %q, want 3.1.0", doc.OpenAPI)
	}
	var out []operation
	for path, item := range doc.Paths {
		for method, node := range item {
			if method == "parameters" {
				continue
			}
			op := operation{method: strings.ToUpper(method), path: path}
			if err := node.Decode(&op); err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			out = append(out, op)
		}
	}
	slices.SortFunc(out, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return out
}

// The document and the table of routes say the same: no route without an
// operation, no operation without a route, the same names and roles.
func TestOpenAPIMatchesRoutes(t *testing.T) {
	type line struct{ at, id, roles string }
	var want, got []line
	roles := func(rs []Role) string {
		var out []string
		for _, r := range rs {
			out = append(out, string(r))
		}
		return strings.Join(out, ",")
	}
	for _, r := range serve(t, Config{}).routes() {
		want = append(want, line{r.method + " " + r.path, r.id, roles(r.roles)})
	}
	for _, op := range operations(t) {
		got = append(got, line{op.method + " " + op.path, op.OperationID, roles(op.Roles)})
		if op.Roles == nil && op.Security == nil {
			t.Errorf("%s %s: it has no x-roles and is not marked as open (security: [])", op.method, op.path)
		}
		if op.Summary == "" || len(op.Tags) == 0 {
			t.Errorf("%s %s: summary or tags are missing", op.method, op.path)
		}
	}
	sort := func(a, b line) int { return strings.Compare(a.at, b.at) }
	slices.SortFunc(want, sort)
	slices.SortFunc(got, sort)
	if !slices.Equal(got, want) {
		t.Errorf("operations: got\n%v\nwant the routes\n%v", got, want)
	}
}

// fill replaces the parameters of a path; name is an endpoint's. What is cleared is cleared
// for a reason.
func fill(path, id, name string) string {
	if strings.HasPrefix(path, "/v1/triggers") {
		name = "nats:RELEASES"
	}
	if strings.HasSuffix(path, "/cooldown") {
		path += "?reason=it+was+the+database"
	}
	return strings.NewReplacer("{id}", id, "{router}", "edge", "{name}", name).Replace(path)
}

// bodyOf is a sound body for an operation that takes one.
func bodyOf(operation, policy string) string {
	switch operation {
	case "startRollout":
		return `{"policy":"` + policy + `","candidate":"green","version":"8"}`
	case "checkPolicy":
		return `{"text":"kind: RolloutPolicy"}`
	case "extendRollout":
		return `{"reason":"more","extend":"30m"}`
	case "skipRollout":
		return `{"reason":"a fix","to":"full"}`
	case "testNotifiers":
		return `{}`
	}
	return `{"reason":"because"}`
}

// Every operation of the document asked by nobody, by an actor of every role, and
// by one whose role is limited to the labels of this rollout's policy, and of
// another's: allowed exactly where x-roles says so, and with the statuses that the
// golden shows. Streams are opened and left.
func TestAuthorizationTable(t *testing.T) {
	r := serve(t, Config{Auth: actors(), Rate: 1e6, Burst: 1e6, Triggers: fakeTriggers{}, AuditHead: fakeHead})
	id, other := r.started(t, "k", "recs", "7"), r.started(t, "k2", "ads", "7")
	for _, x := range []string{id, other} {
		r.engine.set(x, func(s *rollout.State) { s.Phase, s.Outbox = rollout.PhaseRefused, nil })
	}
	columns := []string{"nobody"}
	for _, role := range access.Roles {
		columns = append(columns, string(role))
	}
	columns = append(columns, "own", "other")
	var table strings.Builder
	fmt.Fprintf(&table, "%-20s%s\n", "", strings.Join(columns, " "))
	for _, op := range operations(t) {
		fmt.Fprintf(&table, "%-20s", op.OperationID)
		for i, column := range columns {
			token, of, name, role := "", id, "recs", Role(column)
			switch column {
			case "nobody":
			case "own", "other":
				token = "token-of-team-a-77aa" // operate and start, for the policies of team a
			default:
				token = tokenOf(role)
			}
			if column == "other" {
				of, name = other, "ads"
			}
			status := r.status(t, op, of, name, token)
			fmt.Fprintf(&table, "%-*d", len(column)+1, status)
			open := op.Roles == nil
			allowed := open || slices.Contains(op.Roles, role) || role == RoleAdmin || token != "" && slices.Contains(op.Roles, RoleView)
			denied := status == http.StatusForbidden || status == http.StatusUnauthorized
			// Whoever approves may acknowledge where an approval names them, and resume what
			// a person paused.
			finer := role == RoleApprove && (op.OperationID == "acknowledgeRollout" || op.OperationID == "resumeRollout")
			switch {
			case i == 0 && !open && status != http.StatusUnauthorized:
				t.Errorf("%s without a token: got %d, want 401", op.OperationID, status)
			case i > len(access.Roles), finer: // the golden has it
			case allowed == denied:
				t.Errorf("%s as %q: got %d, allowed should be %v", op.OperationID, column, status, allowed)
			}
		}
		table.WriteString("\n")
	}
	got := regexp.MustCompile(` +\n`).ReplaceAllString(table.String(), "\n")
	const golden = "testdata/rights.txt"
	goldentest.Check(t, golden, got)
	if strings.Contains(r.log.String(), "token-of-") {
		t.Error("the log shows a token")
	}
}

// status asks for an operation and leaves its answer, which may be a stream.
func (r *rig) status(t *testing.T, op operation, id, name, token string) int {
	t.Helper()
	var body io.Reader
	if op.method == http.MethodPost {
		body = strings.NewReader(bodyOf(op.OperationID, name))
	}
	req, err := http.NewRequestWithContext(t.Context(), op.method, r.url+fill(op.path, id, name), body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set(keyHeader, op.OperationID+token+id)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// schemas compiles the document's schemas.
func schemas(t testing.TB) func(name string) *jsonschema.Schema {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal(OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("openapi.json", parsed); err != nil {
		t.Fatal(err)
	}
	return func(name string) *jsonschema.Schema {
		s, err := c.Compile("openapi.json#/components/schemas/" + name)
		if err != nil {
			t.Fatalf("schema %s: %v", name, err)
		}
		return s
	}
}

// fits checks JSON against a schema of the document.
func fits(t testing.TB, s *jsonschema.Schema, body []byte) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("answer does not fit its schema: %v\n%s", err, body)
	}
}

// fakeHead is the head of a store that ends at 8.
func fakeHead(_ context.Context, at uint64) (AuditHead, error) {
	if at == 0 {
		at = 8
	}
	if at > 8 {
		return AuditHead{}, fmt.Errorf("it ends at 8: %w", ErrNoHead)
	}
	return AuditHead{Head: fmt.Sprintf("%d-2-%064x", at, at), Revision: at, Rollouts: 2}, nil
}

// What the handlers answer fits the schemas that the document gives for it.
func TestAnswersFitSchemas(t *testing.T) {
	r := serve(t, Config{Auth: actors(), Ready: func(context.Context) []string { return []string{"nats: disconnected"} },
		TestNotifiers: func(context.Context, person.Person) []NotifierTest {
			return []NotifierTest{{Name: "pager", OK: true, Look: "an incident", Ends: begun}, {Name: "slack", Error: "channel_not_found"}}
		}, Triggers: fakeTriggers{}, AuditHead: fakeHead})
	schema := schemas(t)
	id := r.started(t, "k", "recs", "7")
	r.engine.set(id, fullState)
	admin := tokenOf(RoleAdmin)
	for _, c := range []struct{ method, path, body, schema string }{
		{"GET", "/v1/rollouts", "", "List"},
		{"GET", "/v1/rollouts/" + id, "", "Rollout"},
		{"GET", "/v1/rollouts/" + id + "/plan", "", "Plan"},
		{"GET", "/v1/rollouts/" + id + "/history", "", "History"},
		{"GET", "/v1/policies", "", "PolicyList"},
		{"GET", "/v1/policies/recs", "", "PolicyDetail"},
		{"GET", "/v1/policies/nobody", "", "Problem"},
		{"GET", "/v1/policies/recs?x=1", "", "Problem"},
		{"GET", "/v1/endpoints", "", "EndpointList"},
		{"GET", "/v1/endpoints/edge/recs", "", "EndpointDetail"},
		{"GET", "/v1/endpoints/edge/ads", "", "EndpointDetail"},
		{"GET", "/v1/endpoints/edge/nobody", "", "Problem"},
		{"GET", "/v1/sources", "", "SourceList"},
		{"GET", "/v1/sources?x=1", "", "Problem"},
		{"GET", "/v1/audit/head", "", "AuditHead"},
		{"GET", "/v1/audit/head?at=7", "", "AuditHead"},
		{"GET", "/v1/audit/head?at=99", "", "Problem"},
		{"GET", "/v1/audit/head?at=x", "", "Problem"},
		{"GET", "/v1/triggers", "", "TriggerList"},
		{"GET", "/v1/triggers/nats:RELEASES/refused", "", "RefusedList"},
		{"GET", "/v1/triggers/nats:RELEASES/refused?cursor=9", "", "RefusedList"},
		{"GET", "/v1/triggers/nobody/refused", "", "Problem"},
		{"POST", "/v1/policies/check", `{"text":"bad"}`, "CheckResult"},
		{"POST", "/v1/policies/check", `{"text":"good","file":"a.yaml"}`, "CheckResult"},
		{"POST", "/v1/notifiers/test", "{}", "NotifierTests"},
		{"GET", "/healthz", "", "Health"},
		{"GET", "/readyz", "", "Health"},
		{"GET", "/v1/rollouts/nobody", "", "Problem"},
		{"POST", "/v1/rollouts", `{"policyText":"bad","candidate":"g","version":"1"}`, "Problem"},
		{"GET", "/nowhere", "", "Problem"},
		{"PATCH", "/v1/rollouts", "", "Problem"},
	} {
		_, body := r.ask(t, c.method, c.path, admin, c.body, "Idempotency-Key", "k9")
		fits(t, schema(c.schema), body)
		if c.schema == "EndpointList" && (!strings.Contains(string(body), `"queue":["r2"]`) || strings.Contains(string(body), "stale")) {
			t.Errorf("endpoints: got %s, want the queue of the endpoint's record", body)
		}
	}
}

// Every field of the Go types stands in the document, and no other.
func TestSchemasHaveAllFields(t *testing.T) {
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any `yaml:"properties"`
			} `yaml:"schemas"`
		} `yaml:"components"`
	}
	if err := yaml.Unmarshal(OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	st := rollout.Start(fakePlan("r1", rollout.Release{Policy: "recs"}, ""), begun)
	fullState(&st)
	full := view.Of(fakePlan("r1", rollout.Release{Policy: "recs", OnBehalfOf: "x", Retries: "r0", Undoes: &rollout.Undone{Rollout: "r0"}}, ""), st)
	full.Revision, full.Unconfirmed, full.FalseRollback = 1, true, &view.FalseRollback{Limit: 0.01, Spent: 0.004}
	b, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(maps.Keys(fields))
	want := slices.Sorted(maps.Keys(doc.Components.Schemas["Rollout"].Properties))
	if !slices.Equal(got, want) {
		t.Errorf("fields of a full rollout: got %v, want %v", got, want)
	}
}

// fullState sets everything that a rollout can show.
func fullState(s *rollout.State) {
	s.Phase, s.PhaseSince, s.Reason, s.Sentence = rollout.PhaseWaiting, begun, decision.ReasonApproval, "waits"
	s.Stable, s.Manual, s.Step, s.Reached, s.StepSince = "blue", "curl …", 0, 0, begun
	s.Confirmed, s.ConfirmedAt = &split.Split{Weights: map[string]int{"blue": 95, "green": 5}}, begun
	s.Asked, s.Observed = s.Confirmed, &split.Split{}
	s.Verdicts = []analysis.Verdict{
		{
			Guardrail: "failures", Outcome: analysis.OutcomePass, Unit: "share", Limit: "<= 1%", Sentence: "fine", Cause: analysis.CauseCandidate, Needed: "nothing",
			LogE: 1, LogEThreshold: 5.7, LogEPass: 2, LogEPassNeeds: 3,
			Candidate: analysis.Estimate{N: 10, Value: 0.1, Low: 0.05, High: 0.2, Known: true}, Stable: analysis.Estimate{N: 20, Value: 0.1, Known: true},
		},
		{Guardrail: "p95", Outcome: analysis.OutcomeNoData, Unit: "s", Limit: "<= 300ms"},
	}
	s.Gates = map[string]approval.Question{"owner": {
		Gate: "owner", Nonce: "n1", State: approval.Open, Step: "full", Quorum: 1, Expires: begun.Add(time.Hour),
		Answers: []approval.Vote{{By: person.Person{ID: "ann"}, At: begun, Approve: true, Reason: "ok"}},
	}}
	s.Page = &paging.OpenPage{Since: begun, Summary: "look", Reason: decision.ReasonBreach}
	s.Checks = []check.Result{{Check: "ready", OK: true, Found: "ready", Expected: "ready"}}
	s.Bake.Needs = 60e9
}
