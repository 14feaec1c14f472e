package policies_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/policies/policiestest"
)

const diffed = `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recommendations, owner: team-recommendations}
spec:
  endpoint: {router: azureml-prod, name: recs}
  preflight: [{check: ready}, {check: capacity, headroom: 30%}]
  steps: [{name: canary, weight: 5%}, {name: half, weight: 50%, requires: [po]}, {name: full, weight: 100%}]
  bake: 30m
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%"}
    - {name: p95, metric: latency, quantile: p95, limit: "<= 450ms"}
    - {name: watch-through, metric: watched, limit: ">= 0.98x stable", from: half}
  budget: {metric: failures, atMost: 500}
  approvals: [{name: po, from: {notifier: slack, groups: [owners]}, quorum: 2}]
  page: [oncall]
`

// What a change does to the safety of releases is said in words.
func TestDiff(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"a higher limit", `"<= 1%"`, `"<= 2%"`, "LOOSER    guardrail failures: limit <= 1% → <= 2%\nLOOSER    guardrail failures: detect 2% → 4% (what a promotion rules out)"},
		{"a lower latency", `450ms`, `400ms`, "TIGHTER   guardrail p95: limit <= 450ms → <= 400ms"},
		{"a lower share of stable", `0.98x`, `0.97x`, "LOOSER    guardrail watch-through: limit >= 0.98x stable → >= 0.97x stable\nLOOSER    guardrail watch-through: detect 0.95x stable → 0.9409x stable (what a promotion rules out)"},
		{"watched from the beginning", `, from: half`, ``, "TIGHTER   guardrail watch-through: steps [half, full] → [canary, half, full] (the steps that it watches)"},
		{"a share becomes relative", `"<= 1%"`, `"<= 1.2x stable"`, "DIFFERENT guardrail failures: limit <= 1% → <= 1.2x stable (limits of different kinds)\nDIFFERENT guardrail failures: detect 2% → 2x stable"},
		{"a gate loses a person", `quorum: 2`, `quorum: 1`, "LOOSER    gate po: quorum 2 → 1"},
		{"more may answer", `[owners]`, `[owners, sre]`, "LOOSER    gate po: from [group owners] → [group owners, group sre] (who may answer)"},
		{"a step is gone", `{name: half, weight: 50%, requires: [po]}, `, ``, "LOOSER    step half: removed 50% for 30m (one step less to be noticed in)"},
		{"a larger first step", `weight: 5%`, `weight: 10%`, "LOOSER    step canary: weight 5% → 10%"},
		{"a longer bake", `bake: 30m`, `bake: 1h`, "TIGHTER   step canary: bake 30m → 1h\nTIGHTER   step half: bake 30m → 1h\nTIGHTER   step full: bake 30m → 1h"},
		{"a step is called otherwise, and another comes", `{name: canary, weight: 5%}`, `{name: one, weight: 1%}, {name: first, weight: 5%}`,
			"DIFFERENT step canary: name canary → first\nTIGHTER   step one: added 1% for 30m"},
		{"a metric of its own", "  guardrails:", "  metrics:\n    failures: {source: prom, counts: {total: 'http_requests_total{endpoint=\"${endpoint}\"}', bad: 'http_requests_total{endpoint=\"${endpoint}\",code=~\"5..|429\"}', deployment: deployment, instance: pod}}\n  guardrails:",
			"DIFFERENT guardrail failures: metric.counts.bad http_requests_total{endpoint=\"${endpoint}\",code=~\"5..\"} → http_requests_total{endpoint=\"${endpoint}\",code=~\"5..|429\"} (it measures something else)\n" +
				"DIFFERENT guardrail failures: metric.counts.instance none → pod (it measures something else)"},
		{"a check is gone", `{check: ready}, `, ``, "LOOSER    check ready: removed ready"},
		{"no budget", "  budget: {metric: failures, atMost: 500}\n", ``, "LOOSER    budget: removed at most 500 of failures"},
		{"windows appear", "  page:", "  windows: {open: [{cron: \"0 9 * * *\", for: 7h}]}\n  page:", "TIGHTER   windows: open always → [0 9 * * * for 7h]"},
		{"nobody is called", "  page: [oncall]\n", ``, "LOOSER    people: page [oncall] → [] (who is called)"},
		{"holds for ever", "  page:", "  onNoData: {rollbackAfter: never}\n  page:", "LOOSER    policy: onNoData.rollbackAfter 10m → never"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := strings.Replace(diffed, tt.old, tt.new, 1)
			if tt.name == "a step is gone" {
				changed = strings.Replace(changed, ", from: half", ", from: full", 1)
			}
			var got []string
			for _, c := range policies.Diff(policiestest.MustParse(t, diffed), policiestest.MustParse(t, changed)) {
				if c.Direction != policies.Same && !strings.Contains(c.Path, "watch-through.steps") || c.Direction != policies.Same && tt.name == "watched from the beginning" {
					got = append(got, c.String())
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("changes differ (-want +got):\n%s", diff)
			}
		})
	}
}

// A policy compared with itself is the same everywhere, and says so by name.
func TestDiffSame(t *testing.T) {
	var got []string
	for _, c := range policies.Diff(policiestest.MustParse(t, diffed), policiestest.MustParse(t, diffed)) {
		if c.Direction != policies.Same {
			t.Errorf("got %s, want nothing but SAME", c)
		}
		got = append(got, c.Subject)
	}
	want := []string{"guardrail failures", "guardrail p95", "guardrail watch-through", "gate po", "step canary", "step half", "step full"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("subjects differ (-want +got):\n%s", diff)
	}
}

const baseFile = `apiVersion: belay/v1
kind: PolicyBase
locked: [guardrails.failures, onNoData, approvals.po, bake]
metadata: {name: base, owner: sre, labels: {managed: "yes"}}
spec:
  bake: 30m
  onNoData: {after: 1m}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%"}
  approvals: [{name: po, from: {notifier: slack, groups: [owners]}, quorum: 2}]
  page: [oncall]
`

const childFile = `apiVersion: belay/v1
kind: RolloutPolicy
extends: [base.yaml]
metadata: {name: recommendations, owner: team-recommendations}
spec:
  endpoint: {router: azureml-prod, name: recs}
  steps: [5%, {weight: 100%, requires: [po]}]
  guardrails:
    - {name: failures, limit: "<= 0.5%"}
    - {name: p95, metric: latency, quantile: p95, limit: "<= 450ms"}
`

func parseTwo(base, child string) (*policies.Policy, document.Problems) {
	return policies.Parse(fstest.MapFS{"base.yaml": {Data: []byte(base)}, "p.yaml": {Data: []byte(child)}}, "p.yaml", policiestest.Config())
}

// A child tightens what its base locks, and every value knows its file.
func TestExtends(t *testing.T) {
	p, ps := parseTwo(baseFile, childFile)
	if p == nil {
		t.Fatalf("got problems:\n%s", ps.Text())
	}
	for _, line := range []string{
		"  name: recommendations  # p.yaml:4", "    managed: \"yes\"  # base.yaml:4", "    after: 1m  # base.yaml:7", "    rollbackAfter: 10m  # default",
		"      limit: \"<= 0.5%\"  # p.yaml:9", "      metric: failures  # base.yaml:9", "  bake: 30m  # base.yaml:6",
	} {
		if !strings.Contains(p.Render(true), line+"\n") {
			t.Errorf("got no line %q in:\n%s", line, p.Render(true))
		}
	}
	if p.Text() != p.Render(true) || p.Hash() == "" {
		t.Error("the text of a policy that extends others is what Render writes")
	}
}

// What a base locks cannot be loosened, replaced or made incomparable.
func TestLocked(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"looser limit", `"<= 0.5%"`, `"<= 2%"`, "p.yaml:9:31: spec.guardrails[0].limit: base.yaml locks guardrails.failures: it may only be tightened, and this is looser (got <= 1% → <= 2%)"},
		{"another kind of limit", `"<= 0.5%"`, `"<= 1.1x stable"`, "p.yaml:9:31: spec.guardrails[0].limit: base.yaml locks guardrails.failures: it may only be tightened, and this is different (got <= 1% → <= 1.1x stable)"},
		{"holds instead", `"<= 0.5%"`, `"<= 1%", onBreach: page`, "p.yaml:9:50: spec.guardrails[0].onBreach: base.yaml locks guardrails.failures: it may only be tightened, and this is looser (got rollback → page)"},
		{"waits longer", "  steps:", "  onNoData: {after: 5m}\n  steps:", "p.yaml:7:21: spec.onNoData.after: base.yaml locks onNoData: it may only be tightened, and this is looser (got 1m → 5m)"},
		{"not judged anywhere", "steps: [5%,", "steps: [{weight: 5%, guardrails: [p95]},", "p.yaml:7:11: spec.steps[0]: base.yaml locks guardrails.failures, and this step does not judge failures"},
		{"judged late", `"<= 0.5%"`, `"<= 0.5%", from: 100%`, "p.yaml:7:11: spec.steps[0]: base.yaml locks guardrails.failures, and this step does not judge failures"},
		{"nobody is asked", ", requires: [po]", "", "p.yaml:7:10: spec.steps: base.yaml locks approvals.po, and no step requires po"},
		{"a short bake", "{weight: 100%,", "{weight: 100%, bake: 1m,", "p.yaml:7:36: spec.steps[1].bake: base.yaml locks bake, and this step bakes only 1m of 30m"},
		{"one person suffices", "  steps:", "  approvals: [{name: po, quorum: 1}]\n  steps:", "p.yaml:7:34: spec.approvals[0].quorum: base.yaml locks approvals.po: it may only be tightened, and this is looser (got 2 → 1)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, ps := parseTwo(baseFile, strings.Replace(childFile, tt.old, tt.new, 1))
			if p != nil || len(ps.Errors()) == 0 {
				t.Fatalf("got a policy, want it refused: %v", ps)
			}
			found := false
			for _, e := range ps.Errors() {
				found = found || e.String() == tt.want
			}
			if !found {
				t.Errorf("got:\n%swant:\n%s", ps.Errors().Text(), tt.want)
			}
		})
	}
}

func TestExtendsProblems(t *testing.T) {
	for _, tt := range []struct{ name, base, child, want string }{
		{"itself", baseFile, strings.Replace(childFile, "base.yaml", "p.yaml", 1), "circle"},
		{"outside", baseFile, strings.Replace(childFile, "base.yaml", "../base.yaml", 1), "must lie in the policy's folder"},
		{"not there", baseFile, strings.Replace(childFile, "base.yaml", "bas.yaml", 1), "there is no such file"},
		{"locks nothing", strings.Replace(baseFile, "onNoData, ", "onNoDate, ", 1), childFile, "did you mean onNoData?"},
		{"locks what it lacks", strings.Replace(baseFile, "guardrails.failures", "guardrails.p95", 1), childFile, "the file locks what it does not have"},
		{"the base's mistakes", strings.Replace(baseFile, "after: 1m", "after: 1", 1), childFile, "base.yaml:7:21: spec.onNoData.after: a duration needs a unit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, ps := parseTwo(tt.base, tt.child)
			if p != nil || !strings.Contains(ps.Errors().Text(), tt.want) {
				t.Errorf("got:\n%swant %q", ps.Text(), tt.want)
			}
		})
	}
}

// A base alone is checked for what is there; it never runs.
func TestBaseAlone(t *testing.T) {
	p, ps := policiestest.Parse(t, baseFile, policiestest.Config())
	if p == nil || !p.Base {
		t.Fatalf("got problems:\n%s", ps.Text())
	}
}
