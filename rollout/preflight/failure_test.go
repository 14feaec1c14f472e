package preflight_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/preflight"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

// change breaks a request.
type change func(*preflight.Request)

func probed(h http.HandlerFunc) change {
	return func(r *preflight.Request) { r.Router.(*traffictest.Fake).Probed = h }
}

func deployment(name string, alter func(*traffic.Deployment)) change {
	return func(r *preflight.Request) {
		d := r.Description.Deployments[name]
		alter(&d)
		r.Description.Deployments[name] = d
	}
}

func untold(fields ...string) change {
	return func(r *preflight.Request) { r.Description.Unknown = fields }
}

func reading(alter func(*analysis.Reading)) change {
	return func(r *preflight.Request) {
		r.Metrics = func(ctx context.Context, from, to time.Time) []analysis.Reading {
			rs := fresh(ctx, from, to)
			alter(&rs[0])
			return rs
		}
	}
}

// answers lets the candidate answer, and refuses anonymous clients.
func answers(status int, body string) change {
	return probed(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Fake-Deployment") == "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func steps(weights ...int) change {
	return func(r *preflight.Request) {
		r.Plan.Steps = nil
		for _, w := range weights {
			r.Plan.Steps = append(r.Plan.Steps, rollout.Step{Share: split.Share{Weight: w}})
		}
	}
}

func and(changes ...change) change {
	return func(r *preflight.Request) {
		for _, c := range changes {
			c(r)
		}
	}
}

// failures are what can be wrong: one thing each time.
var failures = []struct {
	name   string
	change change
	// check: found, one per failed check.
	want      map[string]string
	transient bool
}{
	{"candidate not ready", deployment("green", func(d *traffic.Deployment) { d.Ready, d.Reason = false, "Updating" }),
		map[string]string{"ready": "green is not ready: Updating"}, false},
	{"candidate has no instances", func(r *preflight.Request) {
		deployment("green", func(d *traffic.Deployment) { d.Instances = 0 })(r)
		r.Plan.Preflight = r.Plan.Preflight[:1]
	}, map[string]string{"ready": "green with 0 instances"}, false},
	{"candidate spelt wrong", func(r *preflight.Request) {
		r.Plan.Release.Candidate = "Green"
		r.Plan.Preflight = r.Plan.Preflight[:1]
	},
		map[string]string{"ready": "no deployment Green, but green"}, false},
	{"no candidate", func(r *preflight.Request) { r.Plan.Release.Candidate = "red"; r.Plan.Preflight = r.Plan.Preflight[:1] },
		map[string]string{"ready": "no deployment red; there are blue, green"}, false},
	{"health untold", untold("deployments.green.ready"),
		map[string]string{"ready": "does not tell deployments.green.ready"}, false},
	{"deployments untold", untold("deployments"), map[string]string{
		"ready": "does not tell deployments.green", "rollback-ready": "does not tell deployments.blue", "capacity": "does not tell deployments.green",
	}, false},
	{"stable not ready", deployment("blue", func(d *traffic.Deployment) { d.Ready = false }),
		map[string]string{"rollback-ready": "blue is not ready"}, false},
	{"stable has no instances", deployment("blue", func(d *traffic.Deployment) { d.Instances = 0 }),
		map[string]string{"rollback-ready": "blue with 0 instances"}, false},
	{"no stable", func(r *preflight.Request) { r.Stable = "" }, map[string]string{
		"rollback-ready": "no deployment that is stable", "capacity": "no stable", "fresh-metrics": "no stable", "rollback-command": "no stable",
	}, false},
	{"too small for the largest step", deployment("green", func(d *traffic.Deployment) { d.Instances = 2 }), // needs 24×60%×1.3 = 18.72
		map[string]string{"capacity": "green takes 16 (2 instances × 8)"}, false},
	{"too small for 100%", and(steps(5, 100), deployment("green", func(d *traffic.Deployment) { d.Concurrency = 7 })),
		map[string]string{"capacity": "green takes 21 (3 instances × 7)"}, false},
	{"too small for a mirror", and(func(r *preflight.Request) { r.Plan.Steps = r.Plan.Steps[:1] },
		deployment("green", func(d *traffic.Deployment) { d.Instances, d.Concurrency = 1, 3 })), // needs 24×10%×1.3 = 3.12
		map[string]string{"capacity": "green takes 3"}, false},
	{"concurrency untold", untold("deployments.blue.concurrency"),
		map[string]string{"capacity": "does not tell deployments.blue.concurrency"}, false},
	{"metrics stale", reading(func(rd *analysis.Reading) { rd.Stable = analysis.Sample{} }),
		map[string]string{"fresh-metrics": "no sample of failures"}, false},
	{"metrics not of stable", reading(func(rd *analysis.Reading) { rd.Candidate, rd.Stable = rd.Stable, analysis.Sample{} }),
		map[string]string{"fresh-metrics": "no sample of failures"}, false},
	{"source down", reading(func(rd *analysis.Reading) { rd.Status, rd.Reason = analysis.StatusError, "Connection refused." }),
		map[string]string{"fresh-metrics": "failures could not be read: Connection refused"}, true},
	{"question refused", reading(func(rd *analysis.Reading) {
		rd.Status, rd.Reason, rd.Permanent = analysis.StatusError, "Bad query.", true
	}), map[string]string{"fresh-metrics": "failures could not be read: Bad query"}, false},
	{"source just started", reading(func(rd *analysis.Reading) { rd.To = rd.From }),
		map[string]string{"fresh-metrics": "failures has not been seen for long enough yet"}, true},
	{"buckets that no release passes", func(r *preflight.Request) {
		m, g := &r.Plan.Panel.Metrics[0], &r.Plan.Panel.Guardrails[0]
		m.Histogram = &analysis.Histogram{Series: "s", Unit: "s"}
		g.Quantile, g.Limit, g.Detect = 0.95, analysis.Limit{Value: 0.2, Text: "<= 200ms"}, 0.1
		g.Evidence, g.Test = analysis.EvidenceRequired, analysis.TestSequential
		reading(func(rd *analysis.Reading) {
			rd.Stable = analysis.Sample{Fresh: true, N: 1000, Buckets: []analysis.Bucket{{Upper: 0.1, Count: 700}, {Upper: 0.25, Count: 290}, {Upper: 0.5, Count: 10}}}
		})(r)
	}, map[string]string{"fresh-metrics": "no release as good as stable can pass failures (<= 200ms): 30.0% of stable's are slower than 100 ms"}, false},
	{"a share of a loss", func(r *preflight.Request) {
		m, g := &r.Plan.Panel.Metrics[0], &r.Plan.Panel.Guardrails[0]
		m.Mean, g.Evidence, g.Test = &analysis.Mean{Count: "c", Sum: "s"}, analysis.EvidenceRequired, analysis.TestSequential
		g.Limit, g.Detect = analysis.Limit{AtLeast: true, Relative: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.95
		reading(func(rd *analysis.Reading) { rd.Stable = analysis.Sample{Fresh: true, N: 1000, Sum: -3000} })(r)
	}, map[string]string{"fresh-metrics": "stable's mean is -3, and a share of that is no limit"}, false},
	{"metric not answered", func(r *preflight.Request) {
		r.Metrics = func(context.Context, time.Time, time.Time) []analysis.Reading { return nil }
	}, map[string]string{"fresh-metrics": "failures was not read"}, false},
	{"no guardrail", func(r *preflight.Request) { r.Plan.Panel.Guardrails = nil },
		map[string]string{"fresh-metrics": "no guardrail"}, false},
	{"tag missing", func(r *preflight.Request) { delete(r.Description.Tags, "dataClass") },
		map[string]string{"tags": "no value for dataClass"}, false},
	{"tag blank", func(r *preflight.Request) { r.Description.Tags["owner"] = "  " },
		map[string]string{"tags": "no value for owner"}, false},
	{"tags untold", untold("tags"), map[string]string{"tags": "does not tell tags"}, false},
	{"candidate fails", answers(500, "boom"), map[string]string{"invoke": "status 500"}, false},
	{"answer is not JSON", answers(200, "<html>"), map[string]string{"invoke": "status 200, but the answer is not JSON"}, false},
	{"answer breaks the schema", answers(200, `{"scores":[1,"secret"]}`),
		map[string]string{"invoke": "status 200, but the answer is not what the schema says: /scores/1 (type)"}, false},
	{"answer lacks a field", answers(200, `{}`), map[string]string{"invoke": "/ (required)"}, false},
	{"answer too large", answers(200, strings.Repeat(" ", 2<<20)), map[string]string{"invoke": "larger than"}, false},
	{"candidate slow", probed(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Fake-Deployment") == "" {
			w.WriteHeader(401)
			return
		}
		time.Sleep(500 * time.Millisecond)
		_, _ = io.WriteString(w, `{"scores":[]}`)
	}), map[string]string{"invoke": "status 200 after 500ms, the fastest of 3"}, false},
	{"schema refers elsewhere", func(r *preflight.Request) { r.Plan.Preflight[5].Schema = []byte(`{"$ref":"http://169.254.169.254/"}`) },
		map[string]string{"invoke": "a schema stands alone"}, false},
	{"address untold", untold("scoringURI"),
		map[string]string{"invoke": "does not tell scoringURI", "refuses-anonymous": "does not tell scoringURI"}, false},
	{"lets anybody in", probed(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"scores":[]}`) }),
		map[string]string{"refuses-anonymous": "status 200, authentication mode key"}, false},
	{"sends anybody to a login", probed(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Fake-Deployment") == "" {
			w.WriteHeader(http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, `{"scores":[]}`)
	}), map[string]string{"refuses-anonymous": "status 302"}, false},
	{"router cannot probe", func(r *preflight.Request) {
		r.Router.(*traffictest.Fake).Hook = traffictest.Refuse(fmt.Errorf("no prober is configured: %w", traffic.ErrPermanent))
	}, map[string]string{"invoke": "no prober", "refuses-anonymous": "no prober"}, false},
	{"scoring address not reachable", func(r *preflight.Request) {
		r.Description.PublicNetwork = false
		r.Router.(*traffictest.Fake).Hook = traffictest.Refuse(errors.New("dial: no route"))
	}, map[string]string{"invoke": "no route", "refuses-anonymous": "no route"}, true},
	{"endpoint not described", func(r *preflight.Request) {
		r.Description, r.DescribeErr = traffic.Description{}, errors.New("describe recs: 503")
		r.Plan.Preflight = r.Plan.Preflight[:3]
	}, map[string]string{
		"ready": "describe recs", "rollback-ready": "describe recs", "capacity": "describe recs", "rollback-command": "describe recs", "mirror": "describe recs",
	}, true},
	{"no owner", func(r *preflight.Request) { r.Plan.Policy.Owner = " " }, map[string]string{"owner": "no owner"}, false},
	{"approval names nobody", func(r *preflight.Request) { r.Plan.Approvals[0].Groups, r.Plan.Approvals[0].Channel = nil, "" },
		map[string]string{"approval-contact": "approval product-owner names nobody"}, false},
	{"nobody to ask", func(r *preflight.Request) {
		r.Plan.Approvals, r.Plan.Page, r.Plan.Preflight = nil, nil, nil
		delete(r.Description.Tags, "approvalContact")
	}, map[string]string{"approval-contact": "nobody to page"}, false},
	{"no way back by hand", func(r *preflight.Request) { r.Description.ManualRollback = func(string) string { return "" } },
		map[string]string{"rollback-command": "the router knows none"}, false},
	{"cannot mirror", func(r *preflight.Request) { r.Description.CanMirror = false },
		map[string]string{"mirror": "cannot mirror"}, false},
	{"mirror untold", untold("canMirror"), map[string]string{"mirror": "does not tell canMirror"}, false},
	{"check of unknown kind", func(r *preflight.Request) { r.Plan.Preflight = []check.Check{{Kind: "vibes"}} },
		map[string]string{"vibes": "unknown kind"}, false},
}

// awaited are the failures that may pass by themselves.
var awaited = []string{"candidate not ready", "candidate has no instances", "no candidate"}

// One thing is wrong each time: the check that is about it fails, says so and
// names a remedy, and no other check fails.
func TestRunFails(t *testing.T) {
	for _, tt := range failures {
		synctest.Test(t, func(t *testing.T) {
			r := request()
			tt.change(&r)
			want := maps.Clone(tt.want)
			for _, c := range preflight.Run(t.Context(), r) {
				found, fails := want[c.Check]
				delete(want, c.Check)
				switch {
				case !fails && !c.OK:
					t.Errorf("%s: %s: got found %s, want it to pass", tt.name, c.Check, c.Found)
				case fails && c.OK:
					t.Errorf("%s: %s: got a pass (%s), want it to fail", tt.name, c.Check, c.Found)
				case fails && (!strings.Contains(c.Found, found) || c.Remedy == "" || c.Expected == "" || c.Transient != tt.transient):
					t.Errorf("%s: %s: got %+v, want found %q, a remedy, transient %v", tt.name, c.Check, c, found, tt.transient)
				}
				if c.Awaited != (c.Check == "ready" && slices.Contains(awaited, tt.name)) {
					t.Errorf("%s: %s: got awaited %v", tt.name, c.Check, c.Awaited)
				}
				if strings.Contains(c.Found, "secret") {
					t.Errorf("%s: %s: found repeats the answer: %s", tt.name, c.Check, c.Found)
				}
			}
			for check := range want {
				t.Errorf("%s: check %s was not made", tt.name, check)
			}
		})
	}
}
