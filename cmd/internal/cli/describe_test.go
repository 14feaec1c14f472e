package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/view"
)

// endpoint answers for one endpoint: recs tells most of itself, ads cannot be
// read, and there is no other.
func (d *fakeDaemon) endpoint(w http.ResponseWriter, name string) {
	out := api.EndpointDetail{SchemaVersion: 1, Endpoint: api.Endpoint{Router: "edge", Name: strings.TrimPrefix(name, "edge/")}}
	switch name {
	case "edge/ads":
		out.Error = "connection refused"
	case "edge/recs":
		out.Weights, out.Active = map[string]int{"blue": 95, "green": 5}, "kq3x7m2p5j4dhz6wvnra"
		out.Facts = &view.Facts{
			Deployments: map[string]view.Deployment{
				"blue":  {Ready: true, Instances: 4, Concurrency: 16, Version: "ranker:16"},
				"green": {Ready: false, Reason: "provisioning state Updating", Instances: 2, Version: "ranker:17"},
			},
			ScoringURI: "https://recs.example/score", AuthMode: "key", CanMirror: true,
			Unknown:        []string{"deployments.green.concurrency", "publicNetwork", "tags"},
			ManualRollback: map[string]string{"blue": `az ml online-endpoint update --name recs --traffic "blue=100 green=0"`},
		}
	default:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(api.ProblemDetails{Type: api.TypeNotFound, Title: "Not found", Status: 404, Detail: "there is no such endpoint"})
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

// show prints what the router tells, names what it does not, and gives the
// command that rolls back without Belay; its JSON is a list of one with the
// facts.
func TestEndpointShow(t *testing.T) {
	d := newFakeDaemon(t)
	s := newShell(t)
	golden(t, "endpoint.txt", s.want(exitOK, "endpoint", "show", "edge/recs", "--server", d.URL))
	var l api.EndpointList
	if err := json.Unmarshal([]byte(s.want(exitOK, "endpoint", "show", "edge/recs", "--server", d.URL, "--output", "json")), &l); err != nil {
		t.Fatal(err)
	}
	if len(l.Endpoints) != 1 || l.Endpoints[0].Facts == nil || len(l.Endpoints[0].Facts.Unknown) != 3 {
		t.Errorf("json: got %+v, want recs with its facts", l)
	}
	if got := s.want(exitOK, "endpoint", "show", "ads", "--server", d.URL); !strings.Contains(got, "connection refused") || strings.Contains(got, "DEPLOYMENT") {
		t.Errorf("an endpoint that cannot be read: got %s, want the error alone", got)
	}
	s.want(exitError, "endpoint", "show", "edge/nobody", "--server", d.URL)
	if !strings.Contains(s.err.String(), "there is no such endpoint") {
		t.Errorf("no endpoint: got %q", s.err.String())
	}
}

// A cause is said once, where it leads to several decisions one after the other; what
// comes to pass again is said again.
func TestACauseIsSaidOnce(t *testing.T) {
	var before []decided
	for _, c := range []struct {
		kind           decision.Kind
		sentence, want string
	}{
		{decision.Breach, "failures broke its limit.", "failures broke its limit."},
		{decision.Rollback, "failures broke its limit.", ""},
		{decision.Confirm, "The endpoint shows blue 100.", "The endpoint shows blue 100."},
		{decision.End, "failures broke its limit. Confirmed after 32ms.", "Confirmed after 32ms."},
		{decision.Hold, "Paused by ann.", "Paused by ann."},
		{decision.Hold, "Paused by ann.", "Paused by ann."},
	} {
		d := decision.Decision{Kind: c.kind, Sentence: c.sentence}
		if got := unsaid(before, d); got != c.want {
			t.Errorf("%s: got %q, want %q", c.kind, got, c.want)
		}
		before = append(before, decided{Decision: d})
	}
}
