package policies_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/policies/policiestest"
)

// Each warning is given for what it is about, and for nothing else.
func TestWarnings(t *testing.T) {
	if _, ps := policiestest.Parse(t, policiestest.Clean, policiestest.Config()); len(ps) > 0 {
		t.Fatalf("got problems, want none:\n%s", ps.Text())
	}
	for _, tt := range []struct{ code, old, new string }{
		{policies.WarnUnresolved, "", ""},
		{policies.WarnFullUnwatched, `{name: cpu, metric: cpu, limit: "<= 85%"}`, `{name: cpu, metric: cpu, limit: "<= 85%", evidence: optional}`},
		{policies.WarnFullUnwatched, `{name: cpu, metric: cpu, limit: "<= 85%"}`, `{name: cpu, metric: cpu, limit: "<= 85%", onBreach: note}`},
		{policies.WarnNothingDecides, "weight: 5%}", "weight: 5%, guardrails: []}"},
		{policies.WarnNotJudged, "{name: nearly, weight: 95%}, {name: full, weight: 100%,", "{name: full, weight: 100%, guardrails: [failures, cpu],"},
		{policies.WarnThresholdCount, `"<= 1%"}`, `"<= 1%", test: threshold}`},
		{policies.WarnNoQuantile, "metric: cpu, limit", "metric: builtin/azureml/p95, source: azure, limit"},
		{policies.WarnNearDetect, `">= 0.98x stable"`, `">= 0.98x stable", detect: "0.975x stable"`},
		{policies.WarnSameForBoth, `{deployment="${deployment}"}`, ``},
		{policies.WarnEveryEndpoint, "    cpu: {source: prom", "    failures: {source: prom, counts: {total: a, bad: b, deployment: d}}\n    cpu: {source: prom"},
		{policies.WarnUnusedMetric, "    cpu: {source: prom", "    mem: {source: prom, value: {query: 'm{d=''${deployment}''}'}}\n    cpu: {source: prom"},
		{policies.WarnShortBake, "bake: 30m", "bake: 90s"},
		{policies.WarnBigFirstStep, "weight: 5%", "weight: 50%"},
		{policies.WarnShortLadder, "weight: 100%", "weight: 99%"},
		{policies.WarnLastCompared, "{name: nearly, weight: 95%}, ", ""},
		{policies.WarnLastCompared, "weight: 95%", "weight: 60%"},
		{policies.WarnLastCompared, "weight: 95%", "weight: 99%"},
		{policies.WarnLastCompared, "weight: 100%,", "weight: 100%, bake: 2h,"},
		{policies.WarnLastCompared, "steps: [{name: canary, weight: 5%}, {name: nearly, weight: 95%}, ", "steps: [{name: canary, mirror: 5%}, "},
		{policies.WarnDirection, `">= 0.98x stable"`, `"<= 0.98x stable"`},
		{policies.WarnDirection, `"<= 1%"`, `">= 1%"`},
		{policies.WarnDirection, `"<= 1%"`, `"<= 0.5x stable"`},
		{policies.WarnDirection, `">= 0.98x stable"`, `">= 1.05x stable"`},
		{policies.WarnNoInstance, "    cpu: {source: prom", "    failures: {source: prom, counts: {total: 'a{e=\"${endpoint}\"}', bad: b, deployment: d}}\n    cpu: {source: prom"},
		{policies.WarnUndecided, "  bake:", "  onUndecided: promote\n  bake:"},
		{policies.WarnMissing, "  bake:", "  onNoData: {then: page, rollbackAfter: never}\n  bake:"},
		{policies.WarnFlaps, "  bake:", "  onSourceError: {after: 30s, then: hold, rollbackAfter: never}\n  bake:"},
		{policies.WarnCountsFrom, "  bake:", "  onNoData: {after: 10m, then: hold, rollbackAfter: 1m}\n  bake:"},
		{policies.WarnManyFalse, "  bake:", "  falseRollback: 5%\n  bake:"},
		{policies.WarnMirror, "steps: [", "steps: [{mirror: 60%}, "},
		{policies.WarnNoCounter, "    cpu: {source: prom", "    failures: {source: prom, counts: {total: 'job:requests:rate5m', bad: b, deployment: d}}\n    cpu: {source: prom"},
		{policies.WarnNoCounter, "    cpu: {source: prom", "    failures: {source: prom, counts: {total: 'requests_in_flight', bad: b, deployment: d}}\n    cpu: {source: prom"},
		{policies.WarnUnit, "    cpu: {source: prom", "    lat: {source: prom, histogram: {series: 'h_milliseconds', unit: s, deployment: d}}\n    cpu: {source: prom"},
		{policies.WarnInexact, `max(cpu{deployment="${deployment}"})`, `sum(rate(a{d="${deployment}",code="500"}[1m])) / sum(rate(a{d="${deployment}"}[1m]))`},
		{policies.WarnEitherDay, `0 9 * * MON-THU`, `0 9 1 * MON`},
		{policies.WarnFixedZone, "timezone: UTC", "timezone: EST"},
		{policies.WarnNoZone, "    timezone: UTC\n", ""},
		{policies.WarnPastFreeze, "from: 2026-12-18T00:00, to: 2027-01-04T09:00", "from: 2025-12-18T00:00, to: 2026-01-04T09:00"},
		{policies.WarnDialect, "max(cpu{", "1.5 default (cpu{"},
		{policies.WarnQuorum, "users: [a, b]}", "users: [a, b]}, quorum: 3"},
		{policies.WarnQuorum, "users: [a, b]}", "users: [a]}"},
		{policies.WarnQuorum, "users: [a, b]}", "groups: [sre]}, quorum: 4"},
		{policies.WarnNobody, "users: [a, b]}", "groups: [nobodies]}"},
		{policies.WarnUnusedGate, ", requires: [po]", ""},
		{policies.WarnSelfApproval, "users: [a, b]}", "users: [a, b]}, notBy: []"},
		{policies.WarnFrozen, "to: 2027-01-04T09:00", "to: 2028-01-04T09:00"},
		{policies.WarnNoPage, "  page: [oncall]\n", ""},
		{policies.WarnNoRunbook, `, annotations: {runbook: "https://runbooks.example/recs"}`, ""},
		{policies.WarnNoWayBack, "rollback-ready", "ready"},
	} {
		t.Run(tt.code, func(t *testing.T) {
			text, env := strings.Replace(policiestest.Clean, tt.old, tt.new, 1), policiestest.Config()
			if tt.code == policies.WarnUnresolved {
				env = nil
			}
			if tt.code == policies.WarnFullUnwatched {
				text = strings.Replace(text, `"<= 1%"`, `"<= 1.5x stable"`, 1)
			}
			if tt.code == policies.WarnNotJudged {
				text = strings.Replace(text, "{name: canary, weight: 5%}", "{name: canary, weight: 5%, guardrails: [failures]}", 1)
			}
			if strings.Contains(tt.new, "groups: ") {
				env.Groups = map[string]int{"sre": 3}
			}
			if tt.code == policies.WarnPastFreeze {
				env.Now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
			}
			if tt.code == policies.WarnDialect {
				env.Dialects = map[string]string{"prom": policies.DialectMetricsQL}
			}
			p, ps := policiestest.Parse(t, text, env)
			if p == nil {
				t.Fatalf("got errors:\n%s", ps.Text())
			}
			var codes []string
			for _, w := range ps {
				codes = append(codes, w.Code)
				if policies.Describe(w.Code) == "" {
					t.Errorf("%s has no description", w.Code)
				}
			}
			if !slices.Contains(codes, tt.code) {
				t.Errorf("got warnings %v, want %s", codes, tt.code)
			}
		})
	}
}

// Azure Monitor's p95 is no quantile, with a config at hand or without, and it has
// no histogram to take one from, whatever a breach does; held or paged on, its p95
// is a tripwire as it should be.
func TestAzureMonitorIsNoQuantile(t *testing.T) {
	const straight, histogram = "metric: builtin/azureml/p95, source: azure, limit", `{source: azure, histogram: {series: 'RequestLatency_P95{d="${endpoint}"}', unit: s, deployment: d}}`
	cpu := `{name: cpu, metric: cpu, limit: "<= 85%"}`
	for _, tt := range []struct {
		name     string
		old, new string
		config   bool
		want     bool
	}{
		{"by the config", "metric: cpu, limit", straight, true, true},
		{"without a config", "metric: cpu, limit", straight, false, true},
		{"by a definition", `{source: prom, value: {query: 'max(cpu{deployment="${deployment}"})'}}`, "{source: azure, builtin: azureml/p95}", false, true},
		{"that holds", cpu, `{name: cpu, metric: builtin/azureml/p95, source: azure, limit: "<= 450", onBreach: hold}`, true, false},
		{"of a histogram that holds", cpu, `{name: cpu, metric: lat, quantile: p95, limit: "<= 450ms", onBreach: hold}`, true, true},
		{"of logs", "metric: cpu, limit", `metric: builtin/azureml/latency, source: logs, quantile: p95, limit`, true, false},
	} {
		text := strings.Replace(policiestest.Clean, tt.old, tt.new, 1)
		text = strings.Replace(text, "    cpu: {", "    lat: "+histogram+"\n    cpu: {", 1)
		text = strings.Replace(text, `quantile: p95, limit: "<= 85%"`, `quantile: p95, limit: "<= 450ms"`, 1)
		env := policiestest.Config()
		if !tt.config {
			env = nil
		}
		p, ps := policiestest.Parse(t, text, env)
		if p == nil {
			t.Errorf("%s: got errors:\n%s", tt.name, ps.Text())
			continue
		}
		if got := slices.ContainsFunc(ps, func(w document.Problem) bool { return w.Code == policies.WarnNoQuantile }); got != tt.want {
			t.Errorf("%s: got warned %v, want %v:\n%s", tt.name, got, tt.want, ps.Text())
		}
	}
}

// What is empty, spans lines or is not whole has one problem at its place.
func TestOneProblemEach(t *testing.T) {
	for _, tt := range []struct{ old, new, want string }{
		{"name: recommendations,", `name: "",`, `metadata.name: has no value`},
		{"owner: team-recommendations", `owner: "team\nrecommendations"`, "metadata.owner: must be one line of printable characters"},
		{"{name: failures, metric", `{name: "", metric`, "spec.guardrails[0].name: has no value"},
		{"weight: 5%", "weight: 5", "spec.steps[0].weight: a percentage needs its sign"},
		{"steps: [{name: canary, weight: 5%}, {name: nearly, weight: 95%}, {name: full, weight: 100%, requires: [po]}]", "steps: [5%, 25, {weight: 100%, requires: [po]}]", "spec.steps[1].weight: a percentage needs its sign"},
		{"weight: 5%", "weight: 0.5%", "spec.steps[0].weight: must be a whole percentage: weights are whole per cent, and Azure ML takes no others"},
		{`limit: "<= 1%"`, `limit: "<= 1"`, "spec.guardrails[0].limit"},
		{"MON-THU", "7", "Sunday is 0, or SUN"},
	} {
		_, ps := policiestest.Parse(t, strings.Replace(policiestest.Clean, tt.old, tt.new, 1), policiestest.Config())
		if len(ps.Errors()) != 1 || !strings.Contains(ps.Errors()[0].String(), tt.want) {
			t.Errorf("%s: got\n%swant one problem with %q", tt.new, ps.Errors().Text(), tt.want)
		}
	}
}

// What is wrong and what is unwise is told in one run, each once.
func TestErrorsAndWarningsTogether(t *testing.T) {
	text := strings.Replace(policiestest.Clean, "  page: [oncall]\n", "", 1)
	text = strings.Replace(text, "users: [a, b]}", "users: [a, b]}, quorum: 3", 1)
	text = strings.Replace(text, "0 9 * * MON-THU", "0 9 * * MON-THUR", 1)
	p, ps := policiestest.Parse(t, text, policiestest.Config())
	var codes []string
	for _, q := range ps {
		codes = append(codes, q.Code)
	}
	if want := []string{policies.WarnNoPage, policies.WarnQuorum, document.CodeValue}; p != nil || !slices.Equal(codes, want) {
		t.Errorf("got %v, want %v:\n%s", codes, want, ps.Text())
	}
}

// A rule on missing readings that a source can never keep is refused, with one that it
// can; one that a single late reading breaks is warned of.
func TestPatience(t *testing.T) {
	const lag = 3 * time.Minute
	env := policiestest.Config()
	env.Lags = map[string]time.Duration{"prom": lag}
	for _, tt := range []struct{ after, want string }{
		{"2m", "spec.onNoData.after: readings of prom are always 3m old or older, so the candidate would be missing for ever (got 2m); write at least 3m45s"},
		{"3m", "would be missing for ever"},
		{"3m30s", "W129: spec.onNoData.after: it is so short that a single late or missing reading counts as blindness (got 3m30s); write at least 3m45s: more than two intervals after what prom is always behind, 3m"},
		{"3m45s", ""},
	} {
		_, ps := policiestest.Parse(t, strings.Replace(policiestest.Clean, "  bake:", "  onNoData: {after: "+tt.after+", then: hold, rollbackAfter: 10m}\n  bake:", 1), env)
		if text := ps.Text(); !strings.Contains(text, tt.want) || (tt.want == "") != (text == "") {
			t.Errorf("after %s: got %q, want %q", tt.after, text, tt.want)
		}
	}
}

// Whom Slack cannot know can never answer: refused where it stands.
func TestSlackUsers(t *testing.T) {
	for who, bad := range map[string]bool{"slack:T1/U1": false, "slack:u0abc": false, "slack:W9": false, "ann": false, "slack:ann": true, "slack:T1/ann": true, "slack:U1 ": true, "slack:C0123": true, "slack:": true} {
		_, ps := policiestest.Parse(t, strings.Replace(policiestest.Clean, "users: [a, b]", fmt.Sprintf("users: [%q, b]", who), 1), policiestest.Config())
		text := ps.Text()
		if strings.Contains(text, "p.yaml:") != bad || bad && !strings.Contains(text, "spec.approvals[0].from.users[0]: no Slack user has this id") {
			t.Errorf("%q: got %q, want it refused: %t", who, text, bad)
		}
	}
}

// Where nobody has to say who they are, and no notifier takes answers, a gate opens for the
// one actor that there is, or for nobody.
func TestGateWithoutAuth(t *testing.T) {
	for users, nobody := range map[string]bool{"[a, b]": true, "[local, b]": false} {
		env := policiestest.Config()
		env.Anonymous = true
		_, ps := policiestest.Parse(t, strings.Replace(policiestest.Clean, "[a, b]", users, 1), env)
		if got := strings.Contains(ps.Text(), policies.WarnNobody+": spec.approvals[0].from"); got != nobody {
			t.Errorf("%s: got %q, want it warned of: %t", users, ps.Text(), nobody)
		}
	}
}
