package cli

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/webhook"
)

// edge is an endpoint of somebody's own, behind the contract's Handler.
type edge struct {
	mu      sync.Mutex
	state   webhook.EndpointState
	version int
	// deaf: every write is taken, whatever version it names.
	deaf bool
	// token, where set, must come with every request.
	token string
	names []string
}

func newEdge() *edge {
	yes, two, eight, v1, score := true, 2, 8, "v1", "http://127.0.0.1:1/score"
	d := webhook.Deployment{Ready: &yes, Instances: &two, Concurrency: &eight, Version: &v1}
	return &edge{version: 1, names: []string{"recs"}, state: webhook.EndpointState{
		Weights: map[string]int{"blue": 100}, Mirror: map[string]int{}, ScoringURI: &score,
		Deployments: map[string]webhook.Deployment{"blue": d, "green": d}, Tags: map[string]string{"owner": "team-recommendations"},
	}}
}

// serve starts the endpoint and returns its address.
func (x *edge) serve(t *testing.T) string {
	h := webhook.NewHandler(x, nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if x.token != "" && r.Header.Get("Authorization") != "Bearer "+x.token {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func (x *edge) Endpoints(context.Context) ([]string, error) { return x.names, nil }

func (x *edge) Endpoint(_ context.Context, name string) (webhook.EndpointState, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if name != x.names[0] {
		return webhook.EndpointState{}, traffic.ErrNotFound
	}
	return x.show(), nil
}

func (x *edge) Shift(_ context.Context, name, version string, to traffic.Split) (webhook.EndpointState, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if name != x.names[0] {
		return webhook.EndpointState{}, traffic.ErrNotFound
	}
	if strconv.Itoa(x.version) != version && !x.deaf {
		return webhook.EndpointState{}, traffic.ErrForeignChange
	}
	for d := range to.Weights {
		if _, ok := x.state.Deployments[d]; !ok {
			return webhook.EndpointState{}, traffic.ErrPermanent
		}
	}
	x.version++
	x.state.Weights = maps.Clone(to.Weights)
	return x.show(), nil
}

func (x *edge) show() webhook.EndpointState {
	s := x.state
	s.Version, s.Weights = strconv.Itoa(x.version), maps.Clone(s.Weights)
	return s
}

// An endpoint that keeps the contract passes every rule; what is said before
// anything is written names the split, and the split is as it was.
func TestRouterConform(t *testing.T) {
	x := newEdge()
	url := x.serve(t)
	s := newShell(t)
	out := s.want(exitOK, "router", "conform", url)
	golden(t, "conform.txt", out)
	for _, want := range []string{"recs shows blue 100. This test WRITES to it", "14 rules: 14 pass, 0 fail, 0 advice, 0 skipped"} {
		if !strings.Contains(s.err.String(), want) {
			t.Errorf("standard error: got %q, want it to say %q", s.err.String(), want)
		}
	}
	if got := x.show().Weights; !maps.Equal(got, map[string]int{"blue": 100}) || x.version == 1 {
		t.Errorf("in the end: got %v at version %d, want blue 100 and some writes", got, x.version)
	}
}

// An endpoint that takes every write fails the rules that fence it, and so does
// the command, in whatever form it prints.
func TestRouterConformFails(t *testing.T) {
	x := newEdge()
	x.deaf = true
	url := x.serve(t)
	s := newShell(t)
	var got conformity
	if err := json.Unmarshal([]byte(s.want(exitError, "router", "conform", url, "--endpoint", "recs", "--output", "json")), &got); err != nil {
		t.Fatal(err)
	}
	verdicts := map[string]webhook.RuleOutcome{}
	for _, f := range got.Findings {
		verdicts[f.Rule] = f.Verdict
	}
	if got.SchemaVersion != 1 || got.OK || got.Endpoint != "recs" || verdicts["stale version"] != webhook.Fail || verdicts["two writers"] != webhook.Fail || verdicts["split put back"] != webhook.Pass {
		t.Errorf("got %+v, want a failure of stale version and two writers, and the split put back", got)
	}
	if table := s.want(exitError, "router", "conform", url); !strings.Contains(table, "\nstale version            fail     412 and no change") {
		t.Errorf("table: got %s, want stale version to fail", table)
	}
}

// What cannot be tried says why, and no token shows.
func TestRouterConformRefused(t *testing.T) {
	x := newEdge()
	x.token, x.names = "tok-5f2c9a", []string{"recs", "ads"}
	url := x.serve(t)
	s := newShell(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(x.token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{"router conform " + url, exitError, "401"},
		{"router conform " + url + " --token-file " + file, exitUsage, "--endpoint: name one of recs, ads"},
		{"router conform " + url + " --token-file " + file + " --endpoint recs", exitOK, "14 pass"},
		{"router conform " + url + " --token-file " + file + " --endpoint ads", exitError, "nothing will be written"},
		{"router conform ftp://x --endpoint recs", exitUsage, "http or https"},
		{"router conform http://u:tok-5f2c9a@127.0.0.1:1 --endpoint recs", exitUsage, "credentials"},
	} {
		s.want(c.code, strings.Fields(c.line)...)
		if said := s.out.String() + s.err.String(); !strings.Contains(said, c.want) || strings.Contains(said, x.token) {
			t.Errorf("belay %s: got %q, want %q and no token", c.line, said, c.want)
		}
	}
}
