package preflight_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/preflight"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

const schema = `{"type":"object","required":["scores"],"properties":{"scores":{"type":"array","items":{"type":"number"}}}}`

// request is one in which every check passes; each test breaks one thing.
func request() preflight.Request {
	d := traffic.Description{
		Deployments: map[string]traffic.Deployment{
			"blue":  {Ready: true, Instances: 3, Concurrency: 8, Version: "v1"},
			"green": {Ready: true, Instances: 3, Concurrency: 8, Version: "v2"},
		},
		Tags:       map[string]string{"owner": "team-recommendations", "approvalContact": "recs-release", "dataClass": "internal"},
		ScoringURI: "https://recs.example/score", AuthMode: "key", PublicNetwork: true, CanMirror: true,
		ManualRollback: func(stable string) string { return "shift recs --all-to " + stable },
	}
	f := &traffictest.Fake{Probed: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Header.Get("Fake-Deployment") == "":
			w.WriteHeader(http.StatusUnauthorized)
		case string(body) != `{"user":1}` || r.Header.Get("Content-Type") != "application/json":
			w.WriteHeader(http.StatusBadRequest)
		default:
			_, _ = io.WriteString(w, `{"scores":[0.5,0.25]}`)
		}
	})}
	f.Set("recs", traffic.Split{Weights: map[string]int{"blue": 100}}, d)
	plan := &rollout.Plan{
		Policy:   rollout.PolicyRef{Name: "recommendations", Owner: "team-recommendations"},
		Release:  rollout.Release{Candidate: "green", Version: "v2"},
		Endpoint: rollout.EndpointRef{Router: "fake", Name: "recs"},
		Steps:    []rollout.Step{{Name: "shadow", Share: split.Share{Mirror: 10}}, {Name: "canary", Share: split.Share{Weight: 5}}, {Name: "majority", Share: split.Share{Weight: 60}, Requires: []string{"product-owner"}}},
		Panel: analysis.Panel{
			Metrics:    []analysis.Metric{{Name: "failures", Source: "prom"}},
			Guardrails: []analysis.Guardrail{{Name: "failures", Metric: "failures"}},
		},
		Approvals: []approval.Approval{{Name: "product-owner", Groups: []string{"product-owners"}, Channel: "#recs-release"}},
		Page:      []string{"oncall"},
		Preflight: []check.Check{
			{Kind: "ready"},
			{Kind: "rollback-ready"},
			{Kind: "capacity", Headroom: 30},
			{Kind: "fresh-metrics", Within: 5 * time.Minute},
			{Kind: "tags", Required: []string{"owner", "approvalContact", "dataClass"}},
			{Kind: "invoke", Method: http.MethodPost, Body: []byte(`{"user":1}`), Status: 200, Within: 450 * time.Millisecond, Schema: []byte(schema)},
			{Kind: "refuses-anonymous"},
		},
	}
	return preflight.Request{Plan: plan, Stable: "blue", Router: f, Description: d, Metrics: fresh}
}

func fresh(_ context.Context, from, to time.Time) []analysis.Reading {
	return []analysis.Reading{{
		Metric: "failures", From: from, To: to, Status: analysis.StatusOK, Stable: analysis.Sample{Fresh: true, N: 100},
	}}
}

// Everything is as it should be: every check of the plan passes, then the
// launch checklist does.
func TestRunPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := request()
		results := preflight.Run(t.Context(), r)
		var names []string
		for _, c := range results {
			t.Logf("%-18s found %s; expected %s", c.Check, c.Found, c.Expected)
			if !c.OK || c.Found == "" || c.Expected == "" || c.Remedy != "" {
				t.Errorf("%s: got %+v, want it to pass, say what was found and expected, and have no remedy", c.Check, c)
			}
			names = append(names, c.Check)
		}
		want := "ready rollback-ready capacity fresh-metrics tags invoke refuses-anonymous owner approval-contact rollback-command mirror"
		if got := strings.Join(names, " "); got != want {
			t.Errorf("checks: got %s, want %s", got, want)
		}
	})
}

// A limit that stable itself breaks is said and refuses nothing: the release may be there to
// mend just that.
func TestStableBreaksTheLimit(t *testing.T) {
	r := request()
	r.Plan.Panel.Metrics[0].Counts = &analysis.Counts{Total: "t", Bad: "b"}
	r.Plan.Panel.Guardrails[0].Limit = analysis.Limit{Value: 0.01, Text: "<= 1%"}
	r.Plan.Preflight = []check.Check{{Kind: "fresh-metrics", Within: 5 * time.Minute}}
	r.Metrics = func(ctx context.Context, from, to time.Time) []analysis.Reading {
		rs := fresh(ctx, from, to)
		rs[0].Stable.K = 5
		return rs
	}
	const want = "(stable itself breaks failures: 5.00%, beyond <= 1%)"
	if c := preflight.Run(t.Context(), r)[0]; !c.OK || !strings.Contains(c.Found, want) {
		t.Errorf("got %+v, want it to pass and to say %q", c, want)
	}
}

// When the time for the checks is over, those that are left may pass later.
func TestRunCancelled(t *testing.T) {
	r := request()
	r.Plan.Preflight = r.Plan.Preflight[5:]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range preflight.Run(ctx, r) {
		if !c.OK && !c.Transient {
			t.Errorf("%s: got %+v, want it to be transient", c.Check, c)
		}
	}
}

// A candidate that is slow once and then fast was only warming up.
func TestInvokeForgivesTheFirstRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := request()
		first := true
		r.Router.(*traffictest.Fake).Probed = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if first {
				time.Sleep(2 * time.Second)
			}
			first = false
			_, _ = io.WriteString(w, `{"scores":[]}`)
		})
		r.Plan.Preflight = r.Plan.Preflight[5:6]
		if c := preflight.Run(t.Context(), r)[0]; !c.OK {
			t.Errorf("invoke: got %+v, want it to pass", c)
		}
	})
}

// A candidate that the policy waits for is asked nothing and measured by nothing before it
// is ready; what is not about it is checked at once, and fails at once.
func TestRunEarly(t *testing.T) {
	for name, alter := range map[string]func(map[string]traffic.Deployment){
		"not there":    func(d map[string]traffic.Deployment) { delete(d, "green") },
		"not ready":    func(d map[string]traffic.Deployment) { d["green"] = traffic.Deployment{Instances: 1} },
		"no instances": func(d map[string]traffic.Deployment) { d["green"] = traffic.Deployment{Ready: true} },
	} {
		r := request()
		r.Plan.Preflight[0].Within = time.Minute
		alter(r.Description.Deployments)
		r.Router.(*traffictest.Fake).Probed = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Fake-Deployment") != "" {
				t.Errorf("%s: the candidate was asked", name)
			}
			w.WriteHeader(http.StatusUnauthorized)
		})
		for _, c := range preflight.Run(t.Context(), r) {
			awaited, unmade := c.Check == "ready", c.Check == "capacity" || c.Check == "invoke"
			if c.OK == (awaited || unmade) || c.Awaited != awaited || c.Transient != unmade {
				t.Errorf("%s: got %+v, want ready to be awaited, capacity and invoke not made, and the others to pass", name, c)
			}
		}
	}
}
