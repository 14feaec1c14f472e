package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A place is what a belayd of these tests reaches, at an address of its own: an
// endpoint called recs behind the webhook contract, its metrics, and whoever is
// paged. Places of one estate show the same endpoint.
type place struct {
	*httptest.Server
	estate *estate

	mu    sync.Mutex
	down  bool
	puts  int
	pages []string
}

// An estate is the truth behind places.
type estate struct {
	mu      sync.Mutex
	weights map[string]int
	version int
	// failing: green fails one request in five from then on.
	failing bool
	bad     float64
	seen    time.Time
}

func newEstate() *estate { return &estate{weights: map[string]int{"blue": 100}, seen: time.Now()} }

func (e *estate) green() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.weights["green"]
}

func (e *estate) fail() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failing = true
}

func (e *estate) place(t testing.TB) *place {
	p := &place{estate: e}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /endpoints", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"endpoints":["recs"]}`) })
	mux.HandleFunc("GET /endpoints/recs", func(w http.ResponseWriter, _ *http.Request) { e.show(w) })
	mux.HandleFunc("PUT /endpoints/recs", p.put)
	mux.HandleFunc("GET /metrics/{deployment}", e.metrics)
	mux.HandleFunc("POST /pages", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pages = append(p.pages, string(b))
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// refuse makes the place take no writes any more.
func (p *place) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
}

// paged is how many messages came with a text in them.
func (p *place) paged(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, m := range p.pages {
		if strings.Contains(m, text) {
			n++
		}
	}
	return n
}

func (p *place) written() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.puts
}

func (p *place) put(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.puts++
	down := p.down
	p.mu.Unlock()
	e := p.estate
	var in struct{ Weights map[string]int }
	e.mu.Lock()
	switch {
	case down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case r.Header.Get("If-Match") != `"`+strconv.Itoa(e.version)+`"`:
		http.Error(w, "changed", http.StatusPreconditionFailed)
	case json.NewDecoder(r.Body).Decode(&in) != nil:
		http.Error(w, "bad", http.StatusBadRequest)
	default:
		e.weights = in.Weights
		e.version++
		e.mu.Unlock()
		e.show(w)
		return
	}
	e.mu.Unlock()
}

func (e *estate) show(w http.ResponseWriter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ready := map[string]any{"ready": true, "instances": 2, "concurrency": 8}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"weights": e.weights, "version": strconv.Itoa(e.version), "deployments": map[string]any{"blue": ready, "green": ready}})
}

// metrics are those of a deployment with 500 requests a second.
func (e *estate) metrics(w http.ResponseWriter, r *http.Request) {
	d := r.PathValue("deployment")
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failing {
		e.bad += now.Sub(e.seen).Seconds() * 100
	}
	e.seen = now
	bad := 0
	if d == "green" {
		bad = int(e.bad)
	}
	fmt.Fprintf(w, "# TYPE requests_total counter\nrequests_total{deployment=%q} %d\n# TYPE failed_total counter\nfailed_total{deployment=%q} %d\n", d, now.UnixMilli()/2, d, bad)
}

// swift is a policy that is over in seconds; with a gate before 25%.
const swift = `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recs, owner: team-a, annotations: {runbook: "https://runbooks.example/recs"}}
spec:
  endpoint: {router: edge, name: recs}
  preflight: [{check: rollback-ready}]
  interval: 1s
  settle: 1s
  maxExtend: 1m
  metrics:
    failures: {source: pods, counts: {total: 'requests_total', bad: 'failed_total', deployment: deployment}}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%", detect: "20%"}
  steps: [{name: canary, weight: 5%, bake: 2s}, {name: half, weight: 50%, bake: 1s, requires: [owner]}, {name: full, weight: 100%, bake: 1s}]
  approvals: [{name: owner, from: {notifier: hook, users: [ann]}, expires: 1h}]
  rollback: {verifyWithin: 30s, cooldown: 1h}
  page: [hook]
`

// A belayd is a daemon that runs, with its folder.
type belayd struct {
	t       *testing.T
	dir     string
	address string
	reload  chan struct{}
	log     lockedBuilder
}

// settings are what the config of a test says.
type settings struct {
	listen           string
	router, pages    string // addresses
	scraped          string
	tokens           []string
	people           string
	policies, extras string
	noRouter         bool
}

// config is the text of the config.
func (s settings) config() string {
	var b strings.Builder
	if s.listen == "" {
		s.listen = "127.0.0.1:0"
	}
	if s.policies == "" {
		s.policies = `"policies/*.yaml"`
	}
	fmt.Fprintf(&b, "listen: %s\nstore: {bolt: {path: belay.db}}\npolicies: [%s]\n", s.listen, s.policies)
	fmt.Fprintf(&b, "sources:\n  pods: {scrape: {targets: {recs: {blue: [%q], green: [%q]}}}}\n", s.scraped+"/metrics/blue", s.scraped+"/metrics/green")
	if !s.noRouter {
		fmt.Fprintf(&b, "routers: {edge: {webhook: {url: %q}}}\n", s.router)
	}
	fmt.Fprintf(&b, "notifiers: {hook: {webhook: {url: %q, secretFile: secret}}}\n", s.pages+"/pages")
	if len(s.tokens) > 0 {
		b.WriteString("auth:\n  tokens:\n")
	}
	for _, name := range s.tokens {
		sum := sha256.Sum256([]byte(tokenOf(name)))
		fmt.Fprintf(&b, "    - {name: %s, roles: [admin], sha256: %s}\n", name, hex.EncodeToString(sum[:]))
	}
	return b.String() + s.people + s.extras
}

func tokenOf(name string) string { return canary + "-" + name }

// at is a config for one place.
func at(p *place, tokens ...string) settings {
	return settings{router: p.URL, pages: p.URL, scraped: p.URL, tokens: tokens}
}

// run starts a daemon with the config and waits until it serves; it is stopped
// with the test, and must stop well and have said no secret.
func run(t *testing.T, s settings) *belayd {
	t.Helper()
	b := &belayd{t: t, dir: t.TempDir(), reload: make(chan struct{})}
	b.write("policies/recs.yaml", swift)
	b.write("secret", canary)
	b.write("belayd.yaml", s.config())
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{ConfigFile: filepath.Join(b.dir, "belayd.yaml"), Version: "test", Reload: b.reload,
			Logger: slog.New(slog.NewTextHandler(&b.log, nil)), Ready: func(a string) { ready <- a }})
	}()
	select {
	case b.address = <-ready:
	case err := <-done:
		cancel()
		t.Fatalf("run: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
		if strings.Contains(b.log.String(), canary) {
			t.Errorf("a secret is in the log:\n%s", b.log.String())
		}
		if t.Failed() {
			t.Logf("the log:\n%s", b.log.String())
		}
	})
	return b
}

// write puts a whole file in place of what was there: belayd may be reading it.
func (b *belayd) write(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		b.t.Fatal(err)
	}
}

// hup asks for a reload and waits until it was made: the second signal is taken
// when the first was dealt with, and the third when the second was.
func (b *belayd) hup() {
	for range 3 {
		b.reload <- struct{}{}
	}
}

// take writes a config and reloads.
func (b *belayd) take(s settings) {
	b.t.Helper()
	b.write("belayd.yaml", s.config())
	b.hup()
}

// ask makes a request as the owner of a token, "" as nobody. Where there is no
// answer the code is 0 and the text says why.
func (b *belayd) ask(method, path, token, body string) (int, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, "http://"+b.address+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, err.Error()
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+tokenOf(token))
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", strconv.FormatInt(time.Now().UnixNano(), 10))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// release starts a rollout of green and returns its id.
func (b *belayd) release(token string) string {
	b.t.Helper()
	code, body := b.ask("POST", "/v1/rollouts", token, `{"policy":"recs","candidate":"green","version":"v2"}`)
	var r struct{ ID string }
	if err := json.Unmarshal([]byte(body), &r); err != nil || code != http.StatusCreated {
		b.t.Fatalf("start: got %d %s", code, body)
	}
	return r.ID
}

// act gives an order.
func (b *belayd) act(token, id, verb, body string) {
	b.t.Helper()
	if code, text := b.ask("POST", "/v1/rollouts/"+id+"/"+verb, token, body); code != http.StatusOK {
		b.t.Fatalf("%s: got %d %s", verb, code, text)
	}
}

// phase is the phase of a rollout.
func (b *belayd) phase(token, id string) string {
	b.t.Helper()
	_, body := b.ask("GET", "/v1/rollouts/"+id, token, "")
	var r struct{ Phase string }
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		b.t.Fatalf("status: %v: %s", err, body)
	}
	return r.Phase
}

// metric is the value of a series, "" when there is none.
func (b *belayd) metric(series string) string {
	b.t.Helper()
	_, body := b.ask("GET", "/metrics", "", "")
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			return v
		}
	}
	return ""
}

// eventually waits until ok, at most a generous while.
func (b *belayd) eventually(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	b.t.Fatalf("waited a minute for: %s", what)
}

// discard is a log that nobody reads.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// edit replaces a file beside the config.
func edit(t *testing.T, config, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(config), name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
