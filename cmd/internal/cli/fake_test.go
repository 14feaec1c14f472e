package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/view"
)

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	goldentest.Check(t, file, got)
}

var now = time.Date(2026, 11, 24, 10, 0, 30, 0, time.UTC)

// shell runs commands as a person would, without a terminal.
type shell struct {
	t    *testing.T
	vars map[string]string
	out  bytes.Buffer
	err  bytes.Buffer
}

func newShell(t *testing.T) *shell {
	return &shell{t: t, vars: map[string]string{"HOME": t.TempDir(), "XDG_CONFIG_HOME": ""}}
}

func (s *shell) env() *env {
	return &env{stdin: strings.NewReader(""), stdout: &s.out, stderr: &s.err, getenv: func(k string) string { return s.vars[k] },
		now: func() time.Time { return now }, zone: time.UTC, width: 80, height: 24}
}

// run runs one command line and returns its exit code.
func (s *shell) run(args ...string) int {
	s.out.Reset()
	s.err.Reset()
	return s.env().run(s.t.Context(), args)
}

// want runs a command line that must end with a code.
func (s *shell) want(code int, args ...string) string {
	s.t.Helper()
	if got := s.run(args...); got != code {
		s.t.Fatalf("belay %s: got exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, s.out.String(), s.err.String())
	}
	return s.out.String()
}

// baking is a rollout on its second step, with all that a screen can show.
func baking() view.Rollout {
	share := func(x float64) *float64 { return &x }
	return view.Rollout{
		SchemaVersion: 1, ID: "kq3x7m2p5j4dhz6wvnra", Policy: "recommendations", Owner: "team-recommendations",
		Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Stable: "blue", Candidate: "green", Version: "2026.11.2",
		Requester: "nats:RELEASES", OnBehalfOf: "/pipelines/recommendations", Phase: rollout.PhaseBaking, Since: now.Add(-12 * time.Second),
		Reason: decision.ReasonPassed, Sentence: "Step quarter serves at blue 75, green 25 and is watched.",
		Step: &view.Step{Name: "quarter", Share: split.Share{Weight: 25}, Since: now.Add(-12 * time.Second), BakeLeft: "18s"},
		Steps: []view.LadderStep{
			{Name: "shadow", Share: split.Share{Mirror: 10}, Bake: "20s", State: view.StepDone},
			{Name: "canary", Share: split.Share{Weight: 5}, Bake: "20s", State: view.StepDone},
			{Name: "quarter", Share: split.Share{Weight: 25}, Bake: "30s", State: view.StepCurrent},
			{Name: "majority", Share: split.Share{Weight: 60}, Bake: "30s", Requires: []string{"product-owner"}, State: view.StepAhead},
			{Name: "full", Share: split.Share{Weight: 100}, Bake: "2h0m0s", State: view.StepAhead},
		},
		Weights: view.Weights{Asked: map[string]int{"blue": 75, "green": 25}, Confirmed: map[string]int{"blue": 75, "green": 25}, ConfirmedAt: now},
		Guardrails: []view.Guardrail{
			{Name: "failures", Verdict: analysis.OutcomePass, Unit: "share", Candidate: share(0.0012), Stable: share(0.001), Interval: &[2]float64{0.00031, 0.0047}, Limit: "<= 1%", N: 48210, Sentence: "keeps its limit"},
			{Name: "p95", Verdict: analysis.OutcomeUndecided, Unit: "s", Candidate: share(0.183), Stable: share(0.179), Interval: &[2]float64{0.15, 1.2}, Limit: "<= 300ms", N: 48210, Sentence: "undecided", Evidence: &view.Evidence{Breach: 0.02, Pass: 0.62}},
			{Name: "watch-through", Verdict: analysis.OutcomeNoData, Unit: "share", Limit: ">= 0.95x stable", Sentence: "no data"},
		},
		WaitingFor: "the bake: 18s of watched time", RollbackCommand: "belay rollback kq3x7m2p5j4dhz6wvnra --reason '…'",
		CreatedAt: now.Add(-time.Minute), UpdatedAt: now, Revision: 7,
	}
}

// rollingBack is the same rollout while stable is put back, paged and late.
func rollingBack() view.Rollout {
	r := baking()
	r.Phase, r.Reason = rollout.PhaseRollingBack, decision.ReasonBreach
	r.Sentence = "failures broke its limit <= 1%: 19.4% (8.50% to 34.8%) of 191 requests, stable 0.00%; a release within the limit would look this bad less than once in 1,900 rollouts."
	r.Page = &view.Page{Since: now.Add(-5 * time.Second), Summary: "recs is rolled back: " + r.Sentence, Reason: decision.ReasonBreach}
	r.Weights.Asked = map[string]int{"blue": 100}
	r.Weights.Observed = map[string]int{"blue": 50, "green": 50}
	r.Unconfirmed, r.WaitingFor = true, "the endpoint to show stable at 100%"
	r.ManualRollback = `curl -X PUT http://127.0.0.1:1234/endpoints/recs -d '{"weights":{"blue":100}}'`
	r.Guardrails[0].Verdict = analysis.OutcomeBreach
	return r
}

// promoted is the same rollout at its end.
func promoted() view.Rollout {
	r := baking()
	r.Phase, r.Sentence, r.WaitingFor, r.RollbackCommand, r.Closed = rollout.PhasePromoted, "All steps are done.", "", "", true
	r.Step = &view.Step{Name: "full", Share: split.Share{Weight: 100}, Since: now}
	for i := range r.Steps {
		r.Steps[i].State = view.StepDone
	}
	r.Weights.Asked, r.Weights.Confirmed = map[string]int{"green": 100}, map[string]int{"green": 100}
	return r
}

// request is what a fake belayd was asked.
type request struct{ method, path, key, token, body string }

// fakeDaemon answers like belayd with what a test gives it.
type fakeDaemon struct {
	*httptest.Server
	mu       sync.Mutex
	asked    []request
	rollouts []view.Rollout
	entries  []journal.Entry
	// stream is what /events sends.
	stream []api.StreamEvent
	// hang keeps the stream open after that.
	hang bool
	fail *api.ProblemDetails
	// onList runs once a list has been answered.
	onList func()
}

func newFakeDaemon(t *testing.T, rs ...view.Rollout) *fakeDaemon {
	d := &fakeDaemon{rollouts: rs}
	d.Server = httptest.NewServer(d)
	t.Cleanup(d.Close)
	return d
}

func (d *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d.mu.Lock()
	d.asked = append(d.asked, request{r.Method, r.URL.RequestURI(), r.Header.Get("Idempotency-Key"), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), string(body)})
	fail, entries := d.fail, slices.Clone(d.entries)
	d.mu.Unlock()
	answer := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	id, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/rollouts/"), "/")
	i := slices.IndexFunc(d.rollouts, func(x view.Rollout) bool { return x.ID == id })
	switch {
	case fail != nil:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(fail.Status)
		answer(fail)
	case r.URL.Path == "/v1/rollouts" && r.Method == "POST":
		w.WriteHeader(http.StatusCreated)
		answer(d.rollouts[0])
	case r.URL.Path == "/v1/rollouts":
		begins := r.URL.Query().Get("id")
		answer(api.List{SchemaVersion: 1, Rollouts: slices.DeleteFunc(slices.Clone(d.rollouts), func(x view.Rollout) bool {
			return !strings.HasPrefix(x.ID, begins)
		})})
		if d.onList != nil {
			d.onList()
		}
	case r.URL.Path == "/v1/endpoints":
		answer(api.EndpointList{SchemaVersion: 1, Endpoints: []api.Endpoint{
			{Router: "edge", Name: "recs", Weights: map[string]int{"blue": 95, "green": 5}, Active: "kq3x7m2p5j4dhz6wvnra", Cooldowns: map[string]time.Time{"6": now.Add(90 * time.Minute)}},
			{Router: "edge", Name: "ads", Error: "connection refused"}, {Router: "other", Name: "recs", Weights: map[string]int{}},
		}})
	case r.Method == "GET" && strings.HasPrefix(r.URL.Path, "/v1/endpoints/"):
		d.endpoint(w, strings.TrimPrefix(r.URL.Path, "/v1/endpoints/"))
	case r.URL.Path == "/v1/policies":
		answer(api.PolicyList{SchemaVersion: 1, Policies: []api.Policy{{Name: "recommendations", Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}}, {Name: "lost", Endpoint: rollout.EndpointRef{Router: "edge", Name: "gone"}}}})
	case r.URL.Path == "/v1/policies/recommendations":
		answer(api.PolicyDetail{SchemaVersion: 1, Policy: api.Policy{Name: "recommendations"}, Text: "kind: RolloutPolicy # default\n"})
	case r.URL.Path == "/v1/triggers":
		answer(api.TriggerList{SchemaVersion: 1, Triggers: []api.Trigger{
			{Name: "nats:RELEASES", Kind: "nats", Stream: "RELEASES", Subjects: []string{"models.approved.>"}, Durable: "belay", Error: "disconnected", Refused: 3},
			{Name: "nats:NIGHTLY", Kind: "nats", Stream: "NIGHTLY", Subjects: []string{"a", "b"}, Durable: "belay"},
		}})
	case strings.HasPrefix(r.URL.Path, "/v1/triggers/"):
		answer(refusedPage(strings.Split(r.URL.Path, "/")[3], r.URL.Query()))
	case r.URL.Path == "/v1/sources":
		answer(api.SourceList{SchemaVersion: 1, Sources: sourceLooks()})
	case r.URL.Path == "/readyz":
		w.WriteHeader(http.StatusServiceUnavailable)
		answer(api.Health{SchemaVersion: 1, Status: "not ready", Version: "1.0", Problems: []string{"trigger nats:RELEASES: disconnected"}})
	case r.URL.Path == "/v1/notifiers/test":
		answer(api.NotifierTests{SchemaVersion: 1, Notifiers: []api.NotifierTest{{Name: "pager", OK: true, Look: "an incident [TEST]", Ends: now.Add(10 * time.Minute)}, {Name: "slack", Error: "channel_not_found"}}})
	case r.Method == "DELETE":
		w.WriteHeader(http.StatusNoContent)
	case i < 0:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		answer(api.ProblemDetails{Type: api.TypeNotFound, Title: "Not found", Status: 404, Detail: "there is no such rollout"})
	case what == "history":
		answer(api.History{SchemaVersion: 1, Rollout: id, Entries: entries})
	case what == "events":
		d.events(w, r)
	default:
		answer(d.rollouts[i])
	}
}

// set changes what the daemon answers.
func (d *fakeDaemon) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// events sends the stream.
func (d *fakeDaemon) events(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	stream, hang := slices.Clone(d.stream), d.hang
	d.mu.Unlock()
	for _, ev := range stream {
		kind, v := "rollout", any(ev.Rollout)
		if ev.Entry != nil {
			kind, v = "entry", ev.Entry
		}
		b, _ := json.Marshal(v)
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind, b)
		w.(http.Flusher).Flush()
	}
	if hang {
		<-r.Context().Done()
		return
	}
	fmt.Fprint(w, "event: end\ndata: {}\n\n")
}

// last is the last request of a method.
func (d *fakeDaemon) last(method string) request {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range slices.Backward(d.asked) {
		if r.method == method {
			return r
		}
	}
	return request{}
}

// fakeReader is a journal in memory.
type fakeReader struct {
	plan    *rollout.Plan
	state   rollout.State
	entries []journal.Entry
	heads   map[uint64]string
}

// AuditHead is what the test says it is; of other revisions nobody knows.
func (f *fakeReader) AuditHead(_ context.Context, at uint64) (api.AuditHead, error) {
	h, ok := f.heads[at]
	if !ok {
		return api.AuditHead{}, fmt.Errorf("head at %d: %w", at, api.ErrNoHead)
	}
	return api.AuditHead{SchemaVersion: 1, Head: h}, nil
}

func (f *fakeReader) Rollout(context.Context, string) (view.Rollout, error) {
	return view.Of(f.plan, f.state), nil
}

func (f *fakeReader) Rollouts(context.Context, view.Filter) iter.Seq2[view.Rollout, error] {
	return func(yield func(view.Rollout, error) bool) { yield(view.Of(f.plan, f.state), nil) }
}

func (f *fakeReader) Plan(context.Context, string) (*rollout.Plan, error) { return f.plan, nil }

func (f *fakeReader) Journal(context.Context, string) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for _, e := range f.entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}
