package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/webhook"
	"github.com/belayd/belay/rollout/realtest"
)

// A write is one split that the endpoint took, when, and how many approvals had
// been given by then.
type write struct {
	weights   map[string]int
	at        time.Time
	approvals int
}

// A crashWorld is everything around one belayd: an endpoint over the webhook
// contract with a log of its own, the deployments' counters, and a receiver of
// notices. Unlike belayd it never dies.
type crashWorld struct {
	dir    string
	secret string
	server *httptest.Server
	// breach: green fails every other request from its first moment at 50% on.
	breach bool

	mu        sync.Mutex
	weights   map[string]int
	version   int
	writes    []write
	approvals int
	faultAt   time.Time
	notices   []notifier.Notice
	trouble   []string // what the world was asked that it should not have been
}

const crashPolicy = `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recs, owner: team-recs}
spec:
  endpoint: {router: edge, name: recs}
  preflight:
    - {check: ready}
    - {check: rollback-ready}
    - {check: invoke, request: {file: request.json, method: POST}, expect: {status: 200}}
  interval: 1s
  settle: 1s
  maxExtend: 5m
  metrics:
    failures: {source: pods, counts: {total: 'requests_total', bad: 'failed_total', deployment: deployment}}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%", detect: "20%"}
  steps:
    - {weight: 5%, bake: 2s}
    - {weight: 50%, bake: 3s, requires: [owner]}
    - {weight: 100%, bake: 2s}
  approvals:
    - {name: owner, from: {notifier: hook, users: [ann]}, expires: 1h}
  rollback: {verifyWithin: 1m, cooldown: 1h}
  page: [hook]
  notify: [hook]
`

// openCrashWorld writes a config into the folder and serves what it names, until
// Close.
func openCrashWorld(t testing.TB, dir string, breach bool) (*crashWorld, error) {
	w := &crashWorld{dir: dir, secret: "crash-test-of-belayd", breach: breach, weights: map[string]int{"blue": 100}, version: 1}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /endpoints/recs", w.show)
	mux.HandleFunc("PUT /endpoints/recs", w.put)
	mux.HandleFunc("POST /score", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, "{}")
	})
	mux.HandleFunc("GET /metrics/{deployment}", w.metrics)
	mux.HandleFunc("POST /notices", w.notice)
	w.server = httptest.NewServer(mux)
	url := w.server.URL
	for name, text := range map[string]string{
		"secret": w.secret, "policies/recs.yaml": crashPolicy, "policies/request.json": "{}",
		"belayd.yaml": fmt.Sprintf(`listen: %[4]s
store: {bolt: {path: belay.db}}
policies: [policies/recs.yaml]
sources: {pods: {scrape: {targets: {recs: {blue: ["%[1]s/metrics/blue"], green: ["%[1]s/metrics/green"]}}}}}
routers: {edge: {webhook: {url: "%[1]s", probe: {header: x-deployment}}}}
notifiers: {hook: {webhook: {url: "%[1]s/notices", secretFile: secret}}}
auth: {tokens: [{name: ci, roles: [view, start], sha256: %[2]x}, {name: ann, roles: [approve], sha256: %[3]x}]}
`, url, sha256.Sum256([]byte("ci")), sha256.Sum256([]byte("ann")), realtest.Address(t)),
	} {
		path := filepath.Join(w.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			w.Close()
			return nil, err
		}
	}
	return w, nil
}

// Close ends what is served.
func (w *crashWorld) Close() { w.server.Close() }

func (w *crashWorld) wrong(format string, args ...any) {
	w.trouble = append(w.trouble, fmt.Sprintf(format, args...))
}

// state is the endpoint as the contract shows it; with the lock held.
func (w *crashWorld) state(rw http.ResponseWriter) {
	ready := map[string]any{"ready": true, "instances": 2, "concurrency": 8}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(map[string]any{"weights": w.weights, "version": strconv.Itoa(w.version),
		"deployments": map[string]any{"blue": ready, "green": ready}, "scoringURI": w.server.URL + "/score"})
}

func (w *crashWorld) show(rw http.ResponseWriter, _ *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state(rw)
}

func (w *crashWorld) put(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var in struct{ Weights map[string]int }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		w.wrong("a split that is no JSON: %v", err)
		http.Error(rw, "want JSON", http.StatusBadRequest)
		return
	}
	if r.Header.Get("If-Match") != strconv.Quote(strconv.Itoa(w.version)) {
		http.Error(rw, "changed", http.StatusPreconditionFailed)
		return
	}
	w.weights = in.Weights
	w.version++
	w.writes = append(w.writes, write{in.Weights, time.Now(), w.approvals})
	if w.breach && in.Weights["green"] >= 50 && w.faultAt.IsZero() {
		w.faultAt = time.Now()
	}
	w.state(rw)
}

// metrics are counters of 500 requests a second, out of which green fails half
// once its fault has begun. They follow the clock alone, whoever asks.
func (w *crashWorld) metrics(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, bad := time.Now(), int64(0)
	if r.PathValue("deployment") == "green" && !w.faultAt.IsZero() {
		bad = now.Sub(w.faultAt).Milliseconds() / 4
	}
	fmt.Fprintf(rw, "# TYPE requests_total counter\nrequests_total{deployment=%[1]q} %[2]d\n# TYPE failed_total counter\nfailed_total{deployment=%[1]q} %[3]d\n",
		r.PathValue("deployment"), now.UnixMilli()/2, bad)
}

func (w *crashWorld) notice(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var e struct{ Data notifier.Notice }
	w.mu.Lock()
	defer w.mu.Unlock()
	if err = errors.Join(err, webhook.Verify(r.Header, body, w.secret, time.Now()), json.Unmarshal(body, &e)); err != nil {
		// A process that dies in the middle of a request leaves half a body.
		if r.Context().Err() == nil {
			w.wrong("a notice: %v", err)
		}
		http.Error(rw, "want a signed notice", http.StatusBadRequest)
		return
	}
	w.notices = append(w.notices, e.Data)
	_ = json.NewEncoder(rw).Encode(map[string]string{"ref": "ref-of-" + e.Data.Key})
}

// approved notes that a person is about to approve.
func (w *crashWorld) approved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.approvals++
}
