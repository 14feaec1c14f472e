// Package notice says what people are told: the messages that the core wants, with
// the rollout as it is now.
//
// The rules of the package:
//   - It is pure, and knows no notifier: what a message shows does not depend on who
//     delivers it.
//   - What is shown is bounded, and instants and numbers are in people's units.
package notice

import (
	"cmp"
	"math"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/view"
)

// Of is what a notifier gets: the core's message with the rollout as it is at an
// instant. external is where people can look at it; "" when there is none.
func Of(p *rollout.Plan, s *rollout.State, e rollout.Effect, external string, at time.Time) notifier.Notice {
	n := e.Notice
	flags := ""
	if external = strings.TrimRight(external, "/"); external != "" {
		flags = " --server " + external
	}
	told := func(sentence string) string {
		return view.Told(sentence, flags, func(t time.Time) string { return instant(t, at) })
	}
	out := notifier.Notice{
		Key: n.Key, Delivery: e.ID, Topic: n.Topic, Severity: n.Severity,
		Resolve: n.Resolve, Ref: n.Ref, ThreadRef: n.ThreadRef, Summary: told(notifier.Truncate(n.Summary, 200)), At: at,
		Rollout: shown(p, s, external, told),
	}
	out.Rollout.BelayRollback = view.RollbackCommand(p.ID) + flags
	if n.Question != nil {
		out.Question = question(p, s, *n.Question, at)
	}
	if n.Key == p.PageKey() && !n.Resolve && s.Page != nil {
		out.Since, out.Rollout.BelayAck = s.Page.Since, "belay ack "+p.ID+flags
		if a := s.Acknowledged(); a != nil {
			out.Acknowledged = &notifier.Acknowledgement{Who: cmp.Or(a.By.Name, a.By.ID), When: a.At, Reason: a.Reason}
		}
	}
	return out
}

// instant shows an instant of a message that is sent now: readers may be anywhere.
func instant(t, now time.Time) string {
	away := t.Sub(now).Round(time.Minute)
	how := "in " + strings.TrimSuffix(away.String(), "0s")
	switch {
	case away < 0:
		how = strings.TrimSuffix((-away).String(), "0s") + " ago"
	case away == 0:
		how = "now"
	}
	return t.UTC().Format("2006-01-02 15:04 UTC") + " (" + how + ")"
}

// shown is what a message may show of a rollout: its picture, in words.
func shown(p *rollout.Plan, s *rollout.State, external string, told func(string) string) notifier.Rollout {
	v := view.Of(p, *s)
	r := notifier.Rollout{
		ID: v.ID, Policy: v.Policy, Owner: v.Owner, Router: v.Endpoint.Router, Endpoint: v.Endpoint.Name,
		Stable: v.Stable, Candidate: v.Candidate, Version: v.Version,
		Requester: v.Requester, OnBehalfOf: v.OnBehalfOf, Labels: p.Release.Labels, Runbook: p.Policy.Annotations["runbook"],
		Phase: string(v.Phase), Reason: string(v.Reason), Sentence: told(v.Sentence), Weights: v.Weights.Confirmed,
		ManualRollback: v.ManualRollback, Started: v.CreatedAt, Server: external, AsOf: view.ReadTo(v.Guardrails),
	}
	if v.Phase != rollout.PhaseBaking { // what is left of a bake is another in a minute, and the message stays
		r.WaitingFor = told(v.WaitingFor)
	}
	if v.Step != nil {
		r.Step = v.Step.Name
	}
	if external != "" {
		r.URL = external + "/v1/rollouts/" + p.ID
	}
	if s.Reached < 0 {
		for _, c := range v.Checks {
			check := notifier.Check{Name: c.Check, OK: c.OK, Found: c.Found, Expected: c.Expected, Remedy: c.Remedy}
			r.Checks = append(r.Checks, check)
		}
	}
	for _, g := range v.Guardrails {
		r.Guardrails = append(r.Guardrails, notifier.Guardrail{
			Name: g.Name, Verdict: string(g.Verdict), Limit: g.Limit, N: g.Size(), Sentence: g.Sentence,
			Candidate: view.Figure(g.Candidate, g.Unit), Stable: view.Figure(g.Stable, g.Unit),
			Interval: view.Between(g.Interval, g.Unit), Evidence: g.Evidence, Plot: g.Plot,
		})
	}
	return r
}

// question is an approval request as it stands.
func question(p *rollout.Plan, s *rollout.State, q approval.Question, at time.Time) *notifier.Question {
	candidate := p.Release.Candidate
	out := &notifier.Question{
		Gate: q.Gate, Nonce: q.Nonce, Quorum: q.Quorum, Step: q.Step, Expires: q.Expires, State: string(q.State),
		FromWeight: q.From.Weights[candidate], ToWeight: q.To.Weights[candidate],
		FromMirror: q.From.Mirror[candidate], ToMirror: q.To.Mirror[candidate],
	}
	for _, a := range p.Approvals {
		if a.Name == q.Gate {
			out.Channel, out.Users, out.Groups, out.OnExpiry = a.Channel, a.Users, a.Groups, string(a.OnExpiry)
		}
	}
	for _, a := range q.Answers {
		voiced := notifier.ShownVote{Who: cmp.Or(a.By.Name, a.By.ID), When: a.At, Approve: a.Approve, Reason: a.Reason}
		out.Answers = append(out.Answers, voiced)
	}
	out.RequestsPerHour = requestsPerHour(s, out.FromWeight, out.ToWeight, at)
	return out
}

// requestsPerHour is what the candidate would serve at the next weight, judged by
// what was counted in the present step; 0 when that is unknown.
func requestsPerHour(s *rollout.State, from, to int, at time.Time) float64 {
	elapsed := at.Sub(s.StepSince)
	if from <= 0 || s.StepSince.IsZero() || elapsed <= 0 {
		return 0
	}
	most := 0.0
	for _, v := range s.Verdicts {
		if v.Unit == "share" || v.Unit == "s" {
			most = max(most, v.Candidate.N)
		}
	}
	return math.Round(most / elapsed.Hours() * float64(to) / float64(from))
}
