package notice

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/paging"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/split"
)

// gated is a plan whose second step a person lets begin.
func gated() *rollout.Plan {
	return &rollout.Plan{
		SchemaVersion: 1, ID: "r1",
		Policy:   rollout.PolicyRef{Name: "recommendations", Owner: "team-recommendations", Hash: "abc"},
		Release:  rollout.Release{Policy: "recommendations", Candidate: "green", Version: "v2", Requester: person.Person{ID: "ci"}, Source: "test"},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Stable: "auto",
		Steps: []rollout.Step{{Name: "canary", Share: split.Share{Weight: 5}}, {Name: "quarter", Share: split.Share{Weight: 25}, Requires: []string{"owner"}}, {Name: "full", Share: split.Share{Weight: 100}}},
		Panel: analysis.Panel{Guardrails: []analysis.Guardrail{
			{Name: "failures", Metric: "errors", Limit: analysis.Limit{Value: 0.01, Text: "<= 1%"}},
			{Name: "p95", Metric: "errors", Limit: analysis.Limit{Value: 0.45, Text: "<= 450ms"}},
			{Name: "slow", Metric: "errors", Limit: analysis.Limit{Value: 1, Text: "<= 1s"}},
		}},
		Approvals: []approval.Approval{{Name: "owner", Notifier: "chat", Users: []string{"U1"}, Quorum: 1, Expires: time.Hour, OnExpiry: approval.ExpiryHold}},
		Page:      []string{"pager"}, Notify: []string{"chat"},
	}
}

// What people are shown of a rollout: read the goldens as they would.
func TestNotice(t *testing.T) {
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	p := gated()
	p.Policy.Annotations = map[string]string{"runbook": "https://runbooks.example/recs"}
	p.Release.OnBehalfOf, p.Release.Labels = "registry/models", map[string]string{"tier": "1"}
	p.Approvals[0].Channel, p.Approvals[0].Groups = "#recs-release", []string{"product-owners"}
	shown := split.Split{Weights: map[string]int{"blue": 95, "green": 5}}
	q := approval.Question{Gate: "owner", Nonce: "n1", Step: "quarter", From: shown, To: split.Split{Weights: map[string]int{"blue": 75, "green": 25}},
		Expires: noon.Add(4 * time.Hour), Quorum: 1, State: approval.Open}
	s := rollout.State{
		SchemaVersion: 1, ID: "r1", Created: noon.Add(-2 * time.Hour), Phase: rollout.PhaseWaiting, Reason: decision.ReasonApproval,
		Sentence: "Waits for owner.", Stable: "blue", Manual: "put 100 on blue", Step: 0, StepSince: noon.Add(-30 * time.Minute), Confirmed: &shown,
		Gates:    map[string]approval.Question{"owner": q},
		Evidence: analysis.Evidence{Cursors: map[string]time.Time{"errors": noon.Add(-10 * time.Second)}},
		Verdicts: []analysis.Verdict{
			{Guardrail: "failures", Outcome: analysis.OutcomePass, Unit: "share", Limit: "<= 1%", Sentence: "failures is 0.31% on green.",
				Candidate: analysis.Estimate{N: 48210, Value: 0.0031, Low: 0.0024, High: 0.0039, Known: true},
				Stable:    analysis.Estimate{N: 916_000, Value: 0.0029, Low: 0.0028, High: 0.003, Known: true}},
			{Guardrail: "p95", Outcome: analysis.OutcomeUndecided, Unit: "s", Limit: "<= 450ms", Effective: "<= 500ms",
				LogE: -0.56, LogEThreshold: 5.7, LogEPass: 1.8, LogEPassNeeds: 3,
				Candidate: analysis.Estimate{N: 48210, Value: 0.183, Low: 0.176, High: 0.191, Known: true}},
			{Guardrail: "slow", Outcome: analysis.OutcomeBreach, Unit: "s", Limit: "<= 1s",
				Candidate: analysis.Estimate{N: 12, Value: 1.5, Low: 1.234, High: 2, Known: true}},
			{Guardrail: "revenue", Outcome: analysis.OutcomeResting, Unit: "mean", Limit: ">= 0.98x stable"},
		},
	}
	answered := q
	answered.State = approval.Approved
	answered.Answers = []approval.Vote{{By: person.Person{ID: "u1", Name: "Owner"}, At: noon, Approve: true, Reason: "fine"}}
	rolling := s
	rolling.Phase, rolling.Reason, rolling.Sentence, rolling.Gates = rollout.PhaseRollingBack, decision.ReasonBreach, "failures broke its limit.", nil
	rolling.Page, rolling.Acked = &paging.OpenPage{Since: noon.Add(-time.Minute)}, &paging.Acknowledgement{By: person.Person{ID: "ann", Name: "Ann"}, At: noon, Reason: "on it"}
	cold := rollout.State{SchemaVersion: 1, ID: "r1", Created: noon, Phase: rollout.PhaseRefused, Reason: decision.ReasonCooldown, Step: -1, Reached: -1,
		Sentence: "Version v2 is in its cooldown until 2026-11-25T10:00:00Z; wait, or clear it with `belay cooldown clear edge/recs --reason '…'`."}
	queued := rollout.State{SchemaVersion: 1, ID: "r1", Created: noon, Phase: rollout.PhaseQueued, Step: -1, Reached: -1, BlockedBy: "r0"}
	refused := rollout.State{SchemaVersion: 1, ID: "r1", Created: noon, Phase: rollout.PhaseRefused, Reason: decision.ReasonPreflight, Step: -1, Reached: -1,
		Sentence: "Check capacity: found 1 instance, expected 3.", Checks: []check.Result{{Check: "ready", OK: true, Found: "ready", Expected: "ready"},
			{Check: "capacity", Found: "1 instance", Expected: "3", Remedy: "Scale green out."}}}
	for _, c := range []struct {
		name   string
		state  rollout.State
		notice mailbox.Notice
	}{
		{"ask", s, mailbox.Notice{Key: "r1/ask/owner/n1", Topic: mailbox.TopicAsk, Severity: "info", Summary: "may green have 25%?", Question: &q}},
		{"approved", s, mailbox.Notice{Key: "r1/ask/owner/n1", Topic: mailbox.TopicAsk, Severity: "info", Summary: "approved", Ref: "C1/17", ThreadRef: "C1/16", Question: &answered}},
		{"page", rolling, mailbox.Notice{Key: "rollout/recs/r1", Topic: mailbox.TopicPage, Severity: "critical", Summary: "recs is rolled back"}},
		{"refused", refused, mailbox.Notice{Key: "r1/status", Topic: mailbox.TopicStatus, Severity: "warning", Summary: "refused"}},
		{"cooldown", cold, mailbox.Notice{Key: "r1/status", Topic: mailbox.TopicStatus, Severity: "warning", Summary: cold.Sentence}},
		{"queued", queued, mailbox.Notice{Key: "r1/status", Topic: mailbox.TopicStatus, Severity: "info", Summary: "waits"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := json.MarshalIndent(Of(p, &c.state, rollout.Effect{ID: "r1/7/1", Notice: &c.notice}, "https://belay.example/", noon), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			goldentest.Check(t, filepath.Join("testdata", c.name+".json"), string(append(got, '\n')))
		})
	}
}

// An approval before a step that mirrors asks for the copy.
func TestNoticeMirror(t *testing.T) {
	p := gated()
	q := approval.Question{Gate: "owner", From: split.Split{Weights: map[string]int{"blue": 100}},
		To: split.Split{Weights: map[string]int{"blue": 100}, Mirror: map[string]int{"green": 10}}}
	n := Of(p, &rollout.State{}, rollout.Effect{Notice: &mailbox.Notice{Question: &q}}, "", time.Time{})
	if got := n.Question.Before() + " to " + n.Question.After(); got != "0% to a copy of 10%" {
		t.Errorf("got %s, want 0%% to a copy of 10%%", got)
	}
}
