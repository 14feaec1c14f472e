package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/view"
)

var begun = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

// fakeEngine folds events with the real core and keeps the journal in memory.
type fakeEngine struct {
	mu       sync.Mutex
	rollouts map[string]*rollout.Snapshot
	journal  []journal.Change
	acts     map[string]rollout.Event
	cooldown map[string]string // endpoint key to who cleared it
	changed  chan struct{}
	fail     error // of Start and Deliver
	erased   chan string
	// behind holds what Rollout says of a rollout for so many more calls, though the
	// journal has more.
	behind map[string][]rollout.Snapshot
	read   func() // called when all rollouts have been read, before they are yielded
	scans  int
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{rollouts: map[string]*rollout.Snapshot{}, acts: map[string]rollout.Event{}, cooldown: map[string]string{}, changed: make(chan struct{}), erased: make(chan string, 64)}
}

// fold commits one event; with the lock held.
func (e *fakeEngine) fold(id string, ev rollout.Event) rollout.Snapshot {
	snap := e.rollouts[id]
	snap.State = rollout.Next(snap.Plan, snap.State, ev)
	e.commit(id, ev)
	return *snap
}

func (e *fakeEngine) commit(id string, ev rollout.Event) {
	snap := e.rollouts[id]
	seq := 1
	for _, c := range e.journal {
		if c.Rollout == id {
			seq++
		}
	}
	snap.Revision = uint64(len(e.journal)) + 1
	e.journal = append(e.journal, journal.Change{Revision: snap.Revision, Rollout: id, Entry: journal.Entry{
		Seq: seq, At: ev.At, Owner: "a", Version: "test", Epoch: 1, Events: []rollout.Event{ev}, Decisions: snap.State.Last.Decisions,
	}})
	close(e.changed)
	e.changed = make(chan struct{})
}

// set changes a rollout's state as a test wants it.
func (e *fakeEngine) set(id string, change func(*rollout.State)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.rollouts[id].State)
	e.commit(id, rollout.Event{Kind: rollout.EventWoken, At: begun})
}

func (e *fakeEngine) Start(_ context.Context, p *rollout.Plan) (rollout.Snapshot, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		return rollout.Snapshot{}, false, e.fail
	}
	if there, ok := e.rollouts[p.ID]; ok {
		return *there, false, nil
	}
	at := begun.Add(time.Duration(len(e.rollouts)) * time.Second)
	e.rollouts[p.ID] = &rollout.Snapshot{Plan: p, State: rollout.Start(p, at)}
	return e.fold(p.ID, rollout.Event{Kind: rollout.EventStarted, At: at}), true, nil
}

func (e *fakeEngine) Release(ctx context.Context, id string, r rollout.Release, resolve func(context.Context) (*rollout.Plan, error)) (rollout.Snapshot, bool, error) {
	snap, err := e.Rollout(ctx, id)
	switch {
	case err == nil && !snap.Plan.Release.Same(r):
		return rollout.Snapshot{}, false, rollout.ErrDifferent
	case err == nil:
		return snap, false, nil
	case !errors.Is(err, rollout.ErrNotFound):
		return rollout.Snapshot{}, false, err
	}
	plan, err := resolve(ctx)
	if err != nil {
		return rollout.Snapshot{}, false, err
	}
	return e.Start(ctx, plan)
}

func (e *fakeEngine) Rollout(_ context.Context, id string) (rollout.Snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.behind[id]; len(old) > 0 {
		e.behind[id] = old[1:]
		return old[0], nil
	}
	if snap, ok := e.rollouts[id]; ok {
		return *snap, nil
	}
	return rollout.Snapshot{}, fmt.Errorf("read rollout %s: %w", id, rollout.ErrNotFound)
}

func (e *fakeEngine) Rollouts(context.Context) iter.Seq2[rollout.Snapshot, error] {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scans++
	read := e.read
	var all []rollout.Snapshot
	for _, id := range slices.Sorted(maps.Keys(e.rollouts)) {
		all = append(all, *e.rollouts[id])
	}
	return func(yield func(rollout.Snapshot, error) bool) {
		if read != nil {
			read()
		}
		for _, s := range all {
			if !yield(s, nil) {
				return
			}
		}
	}
}

func (e *fakeEngine) Journal(_ context.Context, id string) iter.Seq2[journal.Entry, error] {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []journal.Entry
	for _, c := range e.journal {
		if c.Rollout == id {
			all = append(all, c.Entry)
		}
	}
	return func(yield func(journal.Entry, error) bool) {
		for _, x := range all {
			if !yield(x, nil) {
				return
			}
		}
	}
}

func (e *fakeEngine) Act(
	_ context.Context, id, key string, who Actor, ask func(rollout.Snapshot, *rollout.Event) (rollout.Event, error),
) (rollout.Snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	snap, ok := e.rollouts[id]
	if !ok {
		return rollout.Snapshot{}, rollout.ErrNotFound
	}
	var was *rollout.Event
	if before, ok := e.acts[key]; ok {
		was = &before
	}
	ev, err := ask(*snap, was)
	switch {
	case err != nil:
		return rollout.Snapshot{}, err
	case was == nil && access.Forbids(snap.Plan, &snap.State, who, ev) != "":
		return rollout.Snapshot{}, &access.ForbiddenError{Why: access.Forbids(snap.Plan, &snap.State, who, ev)}
	case e.fail != nil:
		return rollout.Snapshot{}, e.fail
	case was != nil:
		return *snap, nil
	case snap.State.Phase.Terminal():
		return rollout.Snapshot{}, rollout.ErrEnded
	}
	ev = ev.For(&snap.State)
	e.acts[key] = ev
	ev.Key, ev.At = key, snap.State.At.Add(time.Second)
	return e.fold(id, ev), nil
}

func (e *fakeEngine) Changes(ctx context.Context, after uint64) iter.Seq2[journal.Change, error] {
	return func(yield func(journal.Change, error) bool) {
		for ctx.Err() == nil {
			e.mu.Lock()
			var news []journal.Change
			for _, c := range e.journal {
				if c.Revision > after {
					news = append(news, c)
				}
			}
			changed := e.changed
			e.mu.Unlock()
			for _, c := range news {
				if !yield(c, nil) {
					return
				}
				after = c.Revision
			}
			if len(news) == 0 {
				select {
				case <-changed:
				case <-ctx.Done():
				}
			}
		}
	}
}

// erase deletes a rollout as retention does; told: as this process does.
func (e *fakeEngine) erase(id string, told bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.rollouts, id)
	if told {
		e.erased <- id
	}
}

func (e *fakeEngine) Erased(ctx context.Context) iter.Seq[string] {
	return func(yield func(string) bool) {
		for {
			select {
			case id := <-e.erased:
				if !yield(id) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func (e *fakeEngine) Endpoint(_ context.Context, ref rollout.EndpointRef) (claim.Record, error) {
	return claim.Record{
		SchemaVersion: 1, Endpoint: ref, Active: "r1", Queue: []claim.Waiting{{Rollout: "r2", Since: begun}},
		Cooldowns: map[string]time.Time{"6": begun},
	}, nil
}

func (e *fakeEngine) ClearCooldown(_ context.Context, ref rollout.EndpointRef, version string, by person.Person, reason string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ref.Name == "none" {
		return rollout.ErrNotFound
	}
	e.cooldown[ref.Key()+" "+version] = by.ID + ": " + reason
	return nil
}

// fakeCatalog has the policies recs (of team a) and ads (of team b).
type fakeCatalog struct{}

func (fakeCatalog) Plan(_ context.Context, id string, r rollout.Release) (*rollout.Plan, error) {
	if r.Policy != "recs" && r.Policy != "ads" {
		return nil, fmt.Errorf("policy %q: %w", r.Policy, ErrNoPolicy)
	}
	if r.Candidate == "blue" {
		return nil, fmt.Errorf("candidate blue is the stable deployment")
	}
	return fakePlan(id, r, "text of "+r.Policy), nil
}

func (fakeCatalog) PlanText(_ context.Context, id string, r rollout.Release, text []byte) (*rollout.Plan, document.Problems) {
	if strings.Contains(string(text), "bad") {
		return nil, document.Problems{{File: "policy.yaml", Line: 1, Col: 1, Severity: document.SeverityError, Code: "E100", Why: "bad"}}
	}
	return fakePlan(id, r, string(text)), nil
}

func (fakeCatalog) Policies(context.Context) []Policy {
	return []Policy{
		{Name: "ads", Owner: "team-b", Labels: map[string]string{"team": "b"}, Endpoint: rollout.EndpointRef{Router: "edge", Name: "ads"}, File: "ads.yaml", Hash: "1"},
		{Name: "recs", Owner: "team-a", Labels: map[string]string{"team": "a"}, Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, File: "recs.yaml", Hash: "2"},
	}
}

func (fakeCatalog) PolicyText(_ context.Context, name string) (string, bool) {
	return "kind: RolloutPolicy\nmetadata: {name: " + name + "}\n", name != "gone"
}

func (fakeCatalog) Check(_ context.Context, file string, text []byte) document.Problems {
	if strings.Contains(string(text), "bad") {
		return document.Problems{{File: file, Line: 1, Col: 2, Path: "spec", Severity: document.SeverityError, Code: "E100", Why: "bad"}}
	}
	return nil
}

func (fakeCatalog) Endpoints(context.Context) []Endpoint {
	return []Endpoint{
		{Router: "edge", Name: "ads", Error: "no route to host"},
		{Router: "edge", Name: "recs", Weights: map[string]int{"blue": 95, "green": 5}, Mirror: map[string]int{"green": 10}, Queue: []string{"stale"}},
	}
}

func (c fakeCatalog) Endpoint(ctx context.Context, ref rollout.EndpointRef) (Endpoint, bool) {
	for _, e := range c.Endpoints(ctx) {
		if e.Router != ref.Router || e.Name != ref.Name {
			continue
		}
		if e.Error == "" {
			e.Facts = &view.Facts{
				Deployments: map[string]view.Deployment{"blue": {Ready: true, Instances: 2, Concurrency: 8, Version: "6"}, "green": {Reason: "it starts"}},
				Tags:        map[string]string{"owner": "team-a"}, ScoringURI: "https://recs.example/score", AuthMode: "key", PublicNetwork: true, CanMirror: true,
				Unknown: []string{"deployments.green.instances"}, ManualRollback: map[string]string{"blue": "edge set recs blue=100"},
			}
		}
		return e, true
	}
	return Endpoint{}, false
}

func (fakeCatalog) Sources(context.Context) []SourceLook {
	recs := rollout.EndpointRef{Router: "edge", Name: "recs"}
	return []SourceLook{
		{Name: "logs", Kind: "loganalytics", Error: "401", Remedy: "check the identity", Metrics: []MetricLook{}},
		{Name: "prom", Kind: "prometheus", Took: "20ms", Metrics: []MetricLook{
			{Policy: "recs", Metric: "latency", Kind: analysis.KindHistogram, Endpoint: recs, From: begun, To: begun.Add(time.Minute), Behind: "20s", ScrapeInterval: "15s",
				Stable:     &DeploymentLook{Name: "blue", Fresh: true, N: 600, PerSecond: 10, Instances: 2, Buckets: 8},
				Guardrails: []GuardrailLook{{Name: "p95", Limit: "<= 450ms", Effective: "500ms", Judgeable: true, Sentence: "it can be judged"}},
				AATest:     &AATest{Instances: 2, Alarms: []string{"a"}, Dispersion: 3, Sentence: "1 of 2", Remedy: "look"}},
			{Policy: "recs", Metric: "failures", Kind: analysis.KindCounts, Endpoint: recs, Error: "no such series", Remedy: "correct the metric", Guardrails: []GuardrailLook{}},
		}},
	}
}

func fakePlan(id string, r rollout.Release, text string) *rollout.Plan {
	sum := sha256.Sum256([]byte(text))
	team := map[string]string{"recs": "a", "ads": "b"}[r.Policy]
	return &rollout.Plan{
		SchemaVersion: 1, ID: id, Release: r,
		Policy:   rollout.PolicyRef{Name: r.Policy, Owner: "team-" + team, Labels: map[string]string{"team": team}, Text: text, Hash: hex.EncodeToString(sum[:])},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: r.Policy}, Stable: "auto",
		OnForeignChange: rollout.ForeignHold, Concurrency: rollout.ConcurrencyQueue, OnUndecided: rollout.UndecidedHold,
		Interval: time.Second, Settle: time.Second, MaxExtend: time.Minute,
		Steps:     []rollout.Step{{Name: "canary", Share: split.Share{Weight: 5}, Bake: time.Minute}, {Name: "full", Share: split.Share{Weight: 100}, Bake: time.Minute, Requires: []string{"owner"}}},
		Approvals: []approval.Approval{{Name: "owner", Users: []string{"ann"}, Groups: []string{"owners"}, Quorum: 1, Expires: time.Hour, OnExpiry: approval.ExpiryHold}, {Name: "free", Quorum: 1}},
		Panel:     analysis.Panel{Alpha: 0.01, Beta: 0.05, Steps: 2, Interval: time.Second},
		Rollback:  rollout.RollbackPolicy{VerifyWithin: time.Minute, Cooldown: time.Hour}, Page: []string{"pager"},
	}
}

// tokenOf is the token of the actor who has just this role.
func tokenOf(role Role) string { return "token-of-" + string(role) + "-3f81" }

// actors has one token per role, one for team a only, and ann of the owners.
func actors() Tokens {
	var ts Tokens
	add := func(token string, p person.Person, g Grant) {
		ts = append(ts, Token{SHA256: sha256.Sum256([]byte(token)), Actor: Actor{Person: p, Grants: []Grant{g}}})
	}
	for _, role := range access.Roles {
		add(tokenOf(role), person.Person{ID: "of-" + string(role)}, Grant{Roles: []Role{role}})
	}
	add("token-of-team-a-77aa", person.Person{ID: "bob"}, Grant{Roles: []Role{RoleOperate, RoleStart}, Labels: map[string]string{"team": "a"}})
	add("token-of-ann-0b5d", person.Person{ID: "ann"}, Grant{Roles: []Role{RoleApprove}})
	add("token-of-zoe-91c2", person.Person{ID: "zoe", Groups: []string{"owners"}}, Grant{Roles: []Role{RoleApprove}})
	return ts
}

// rig is a server under test, over real HTTP.
type rig struct {
	*Server
	engine *fakeEngine
	url    string
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// serve runs a server for the life of the test.
func serve(t testing.TB, c Config) *rig {
	t.Helper()
	r := &rig{engine: newFakeEngine(), log: &lockedBuffer{}}
	if c.Engine == nil {
		c.Engine = r.engine
	}
	c.Catalog, c.Log = fakeCatalog{}, slog.New(slog.NewTextHandler(r.log, nil))
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	h := httptest.NewServer(s)
	r.url = h.URL
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		h.Close()
	})
	return r
}

// client returns a client with a token.
func (r *rig) client(t testing.TB, token string) *Client {
	t.Helper()
	c, err := NewClient(r.url, http.DefaultClient, token)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ask makes a request as it stands and returns the answer with its body.
func (r *rig) ask(t testing.TB, method, path, token, body string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

// problem decodes a problem and fails the test when the answer is none.
func asProblem(t testing.TB, resp *http.Response, body []byte) ProblemDetails {
	t.Helper()
	var p ProblemDetails
	if got := resp.Header.Get("Content-Type"); got != problemContentType {
		t.Fatalf("%s: got Content-Type %q, want %s: %s", resp.Request.URL, got, problemContentType, body)
	}
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("%s: %v: %s", resp.Request.URL, err, body)
	}
	return p
}

// started starts a rollout and returns its id.
func (r *rig) started(t testing.TB, key, policy, version string) string {
	t.Helper()
	token := ""
	if r.c.Auth != nil {
		token = tokenOf(RoleStart)
	}
	got, _, err := r.client(t, token).Start(t.Context(), key, StartRequest{Policy: policy, Candidate: "green", Version: version})
	if err != nil {
		t.Fatal(err)
	}
	return got.ID
}
