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
		out.Question = question(p, s, *n.Question)
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
			Guardrail: g, N: g.Size(), Plot: g.Plot,
			Candidate: view.Figure(g.Candidate, g.Unit), Stable: view.Figure(g.Stable, g.Unit),
			Interval: view.Between(g.Interval, g.Unit),
		})
	}
	return r
}

// question is an approval request as it stands, with its people by name.
func question(p *rollout.Plan, s *rollout.State, q approval.Question) *notifier.Question {
	out := &notifier.Question{Question: view.Asked(p, *s, q), Gate: q.Gate}
	for _, a := range q.Answers {
		shown := notifier.ShownVote{Who: cmp.Or(a.By.Name, a.By.ID), When: a.At, Approve: a.Approve, Reason: a.Reason}
		out.Answers = append(out.Answers, shown)
	}
	return out
}
