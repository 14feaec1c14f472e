package blackbox

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/view"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(attackEnv); name != "" {
		os.Exit(runAttack(name))
	}
	if os.Getenv(sourceEnv) != "" {
		os.Exit(runSource())
	}
	os.Exit(realtest.Main(m))
}

// endpoints keeps the webhook router's contract for any number of endpoints, and
// gives each deployment counters that grow with every scrape.
type endpoints struct {
	*httptest.Server
	mu      sync.Mutex
	weights map[string]map[string]int
	version map[string]int
	// writes are the weights of green that were written, per endpoint; wrote gets
	// the time of each, where somebody wants it.
	writes map[string][]int
	wrote  chan time.Time
	// last is when an endpoint was last written.
	last map[string]time.Time
	// broken is the count of green's requests from which on every other one fails; 0
	// while none does.
	broken atomic.Int64
}

func newEndpoints(t testing.TB, names ...string) *endpoints {
	e := &endpoints{weights: map[string]map[string]int{}, version: map[string]int{}, writes: map[string][]int{}, last: map[string]time.Time{}}
	for _, n := range names {
		e.weights[n] = map[string]int{"blue": 100}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /endpoints", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{"endpoints": names}) })
	mux.HandleFunc("GET /endpoints/{name}", e.get)
	mux.HandleFunc("PUT /endpoints/{name}", e.put)
	mux.HandleFunc("GET /metrics/{deployment}", e.metrics)
	e.Server = httptest.NewServer(mux)
	t.Cleanup(e.Close)
	return e
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// state is an endpoint as the contract shows it; with the lock held.
func (e *endpoints) state(name string) map[string]any {
	ready := map[string]any{"ready": true, "instances": 2, "concurrency": 8}
	return map[string]any{"weights": e.weights[name], "version": strconv.Itoa(e.version[name]), "deployments": map[string]any{"blue": ready, "green": ready}}
}

func (e *endpoints) get(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.weights[r.PathValue("name")] == nil {
		http.Error(w, "none", http.StatusNotFound)
		return
	}
	answer(w, e.state(r.PathValue("name")))
}

func (e *endpoints) put(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	name := r.PathValue("name")
	var in struct{ Weights map[string]int }
	switch {
	case e.weights[name] == nil:
		http.Error(w, "none", http.StatusNotFound)
	case r.Header.Get("If-Match") != `"`+strconv.Itoa(e.version[name])+`"`:
		http.Error(w, "changed", http.StatusPreconditionFailed)
	case json.NewDecoder(r.Body).Decode(&in) != nil:
		http.Error(w, "bad", http.StatusBadRequest)
	default:
		e.weights[name] = in.Weights
		e.version[name]++
		e.last[name] = time.Now()
		e.writes[name] = append(e.writes[name], in.Weights["green"])
		if e.wrote != nil {
			e.wrote <- time.Now()
		}
		answer(w, e.state(name))
	}
}

// requests is how many requests a deployment had: 500 a second.
func requests() int64 { return time.Now().UnixMilli() / 2 }

// metrics are those of a deployment with much traffic, healthy but for a green that
// is broken.
func (e *endpoints) metrics(w http.ResponseWriter, r *http.Request) {
	name, n := r.PathValue("deployment"), requests()
	fmt.Fprintf(w, "# TYPE requests_total counter\nrequests_total{deployment=%q} %d\n", name, n)
	if from := e.broken.Load(); from > 0 && name == "green" {
		fmt.Fprintf(w, "# TYPE failed_total counter\nfailed_total{deployment=%q} %d\n", name, (n-from)/2)
	}
}

func (e *endpoints) green(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.weights[name]["green"]
}

// written is how often an endpoint was written.
func (e *endpoints) written(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.writes[name])
}

// at is when an endpoint was last written.
func (e *endpoints) at(name string) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last[name]
}

// policy is a policy that is over in seconds, with an approval where gate says
// so.
func policy(name, endpoint, extra, steps string) string {
	return fmt.Sprintf(`apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: %s, owner: team-a, labels: {team: a}, annotations: {approvalContact: "#team-a"}}
spec:
  endpoint: {router: edge, name: %s}
  preflight: [{check: ready}, {check: rollback-ready}]
  interval: 1s
  settle: 1s
  maxExtend: 1m
  metrics:
    failures: {source: pods, counts: {total: 'requests_total', bad: 'failed_total', deployment: deployment}}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%%", detect: "20%%"}
  steps: %s
  rollback: {verifyWithin: 30s, cooldown: 1h}
%s`, name, endpoint, steps, extra)
}

// A world is a belayd with its config, as a process.
type world struct {
	t       testing.TB
	dir     string
	belayd  string
	belay   string
	address string
	// env is what belayd has in its environment besides the test's own.
	env  []string
	cmd  *exec.Cmd
	logs *logs
}

// logs are the lines that belayd wrote.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// String is all of them.
func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// newWorld prepares a world and starts its belayd.
func newWorld(t testing.TB, e *endpoints, extra string, policies ...string) *world {
	t.Helper()
	w := prepare(t, e, extra, policies...)
	w.start()
	return w
}

// prepare writes a config for the endpoints with these policies and more lines of
// config.
func prepare(t testing.TB, e *endpoints, extra string, policies ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), belayd: realtest.Build(t, "belayd"), belay: realtest.Build(t, "belay"), logs: &logs{}}
	targets := &strings.Builder{}
	for name := range e.weights {
		fmt.Fprintf(targets, "        %s: {blue: [%q], green: [%q]}\n", name, e.URL+"/metrics/blue", e.URL+"/metrics/green")
	}
	for i, p := range policies {
		w.write(fmt.Sprintf("policies/%d.yaml", i), p)
	}
	w.write("belayd.yaml", fmt.Sprintf(`listen: %s
store: {bolt: {path: belay.db}}
policies: ["policies/*.yaml"]
sources:
  pods:
    scrape:
      targets:
%s
routers: {edge: {webhook: {url: %q}}}
%s`, realtest.Address(t), targets, e.URL, extra))
	t.Cleanup(func() { w.kill(syscall.SIGKILL) })
	return w
}

// release starts a release of the policy recs and returns the rollout's id.
func (w *world) release(version string) string {
	w.t.Helper()
	return strings.TrimSpace(w.want(0, "", "start", "--policy", "recs", "--candidate", "green", "--version", version, "--output", "name"))
}

// metrics is what belayd's /metrics shows.
func (w *world) metrics() string {
	w.t.Helper()
	resp, err := http.Get("http://" + w.address + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		w.t.Fatal(err)
	}
}

// rename puts one of the world's files in another's place.
func (w *world) rename(from, to string) {
	w.t.Helper()
	if err := os.Rename(filepath.Join(w.dir, from), filepath.Join(w.dir, to)); err != nil {
		w.t.Fatal(err)
	}
}

var serving = regexp.MustCompile(`msg=serving address=(\S+)`)

// start starts belayd and waits until it serves.
func (w *world) start() {
	w.t.Helper()
	select {
	case a, ok := <-w.spawn():
		if !ok {
			w.t.Fatalf("belayd ended: %s", w.logs)
		}
		w.address = a
	case <-time.After(30 * time.Second):
		w.t.Fatal("belayd does not serve after 30 s")
	}
}

// spawn starts belayd; address tells where it serves, and is closed when it ends.
func (w *world) spawn() <-chan string {
	w.t.Helper()
	w.cmd = exec.Command(w.belayd, "--config", filepath.Join(w.dir, "belayd.yaml"))
	w.cmd.Env = append(os.Environ(), w.env...)
	out, err := w.cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	address := make(chan string, 1)
	go func() {
		defer close(address)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if m := serving.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
			w.logs.add(lines.Text())
		}
	}()
	return address
}

// kill ends belayd with a signal and waits for it.
func (w *world) kill(sig syscall.Signal) {
	if w.cmd != nil && w.cmd.ProcessState == nil {
		_ = w.cmd.Process.Signal(sig)
		_ = w.cmd.Wait() // how it ends is the signal's doing
	}
}

// run runs belay as one of the tokens' actors ("" is nobody) and returns its
// exit code and what it printed.
func (w *world) run(actor string, args ...string) (int, string) {
	w.t.Helper()
	cmd := exec.Command(w.belay, args...)
	cmd.Env = append(os.Environ(), "BELAY_SERVER=http://"+w.address, "HOME="+w.dir, "XDG_CONFIG_HOME=")
	if actor != "" {
		cmd.Env = append(cmd.Env, "BELAY_TOKEN_FILE="+filepath.Join(w.dir, "token-"+actor))
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		w.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// want runs belay, which must end with a code.
func (w *world) want(code int, actor string, args ...string) string {
	w.t.Helper()
	got, out := w.run(actor, args...)
	if got != code {
		w.t.Fatalf("belay %s as %q: got exit code %d, want %d: %s", strings.Join(args, " "), actor, got, code, out)
	}
	return out
}

// rollout is a rollout as `belay status --output json` prints it.
func (w *world) rollout(id string) view.Rollout {
	w.t.Helper()
	_, out := w.run("viewer", "status", id, "--output", "json")
	var r view.Rollout
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		w.t.Fatalf("status %s: %v: %s", id, err, out)
	}
	return r
}

// tokenOf is an actor's token.
func tokenOf(actor string) string { return "token-of-" + actor + "-5f0c" }

// tokens is the config that knows the actors' tokens, with their roles.
func tokens(roles map[string]string) string {
	var b strings.Builder
	b.WriteString("auth:\n  tokens:\n")
	for actor, r := range roles {
		sum := sha256.Sum256([]byte(tokenOf(actor)))
		fmt.Fprintf(&b, "    - {name: %s, roles: [%s], sha256: %s}\n", actor, r, hex.EncodeToString(sum[:]))
	}
	return b.String()
}
