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
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
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
		return rollout.Told(sentence, flags, func(t time.Time) string { return instant(t, at) })
	}
	out := notifier.Notice{
		Key: n.Key, Delivery: e.ID, Topic: notifier.Topic(n.Topic), Severity: notifier.Severity(n.Severity),
		Resolve: n.Resolve, Ref: n.Ref, ThreadRef: n.ThreadRef, Summary: told(Clip(n.Summary, 200)), At: at,
		Rollout: view(p, s, external, told),
	}
	out.Rollout.BelayRollback = "belay rollback " + p.ID + " --reason '…'" + flags
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

// view is what a message may show of a rollout.
func view(p *rollout.Plan, s *rollout.State, external string, told func(string) string) notifier.Rollout {
	r := notifier.Rollout{
		ID: p.ID, Policy: p.Policy.Name, Owner: p.Policy.Owner, Router: p.Endpoint.Router, Endpoint: p.Endpoint.Name,
		Stable: s.Stable, Candidate: p.Release.Candidate, Version: p.Release.Version,
		Requester: p.Release.Requester.ID, OnBehalfOf: p.Release.OnBehalfOf, Labels: p.Release.Labels,
		Runbook: p.Policy.Annotations["runbook"],
		Phase:   string(s.Phase), Reason: string(s.Reason), Sentence: told(s.Sentence),
		WaitingFor: told(waitingFor(p, s)), ManualRollback: s.Manual, Started: s.Created, Server: external,
	}
	if s.Step >= 0 && s.Step < len(p.Steps) {
		r.Step = p.Steps[s.Step].Name
	}
	if s.Confirmed != nil {
		r.Weights = s.Confirmed.Weights
	}
	if external != "" {
		r.URL = external + "/v1/rollouts/" + p.ID
	}
	if s.Reached < 0 {
		for _, c := range s.Checks {
			check := notifier.Check{Name: c.Check, OK: c.OK, Found: c.Found, Expected: c.Expected, Remedy: c.Remedy}
			r.Checks = append(r.Checks, check)
		}
	}
	for _, v := range s.Verdicts {
		r.Guardrails = append(r.Guardrails, notifier.Guardrail{
			Plot: plot(p, v),
			Name: v.Guardrail, Verdict: string(v.Outcome), Limit: cmp.Or(v.Effective, v.Limit), N: size(v), Sentence: v.Sentence,
			Candidate: figure(v.Candidate, v.Candidate.Value, v.Unit), Stable: figure(v.Stable, v.Stable.Value, v.Unit),
			Interval: interval(v),
		})
	}
	return r
}

// waitingFor says for people what the rollout waits for; "" when it does not.
func waitingFor(p *rollout.Plan, s *rollout.State) string {
	switch s.Phase {
	case rollout.PhaseQueued:
		if s.Ahead != "" {
			return "its turn behind " + s.Ahead
		}
		return "its turn"
	case rollout.PhaseScheduled:
		return "the schedule"
	case rollout.PhaseWaiting:
		for _, a := range p.Approvals {
			if q, ok := s.Gates[a.Name]; ok && q.State == rollout.QuestionOpen {
				return a.Name + " until " + q.Expires.UTC().Format(time.RFC3339)
			}
		}
		return "a window"
	case rollout.PhaseHeld, rollout.PhasePaused, rollout.PhaseSuspect:
		return s.Hold.WaitsFor()
	case rollout.PhasePreflight, rollout.PhaseShifting, rollout.PhaseBaking, rollout.PhaseRollingBack,
		rollout.PhasePromoted, rollout.PhaseRolledBack, rollout.PhaseStopped, rollout.PhaseRefused:
	}
	return ""
}

// question is an approval request as it stands.
func question(p *rollout.Plan, s *rollout.State, q rollout.Question, at time.Time) *notifier.Question {
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
		voiced := notifier.Voiced{Who: cmp.Or(a.By.Name, a.By.ID), When: a.At, Approve: a.Approve, Reason: a.Reason}
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

// figure writes a number in its unit: "0.31%", "183ms", "71.2".
func figure(e analysis.Estimate, x float64, unit string) string {
	if !e.Known {
		return "–"
	}
	switch unit {
	case "share":
		return strconv.FormatFloat(x*100, 'g', 3, 64) + "%"
	case "s":
		if x < 1 {
			return strconv.FormatFloat(x*1000, 'f', 0, 64) + "ms"
		}
		return strconv.FormatFloat(x, 'f', 2, 64) + "s"
	}
	return strconv.FormatFloat(x, 'g', 4, 64)
}

// size is how much a figure rests on: events, or the time that was seen.
func size(v analysis.Verdict) string {
	if v.Unit == "rate" {
		return time.Duration(v.Candidate.N * float64(time.Second)).Round(time.Second).String()
	}
	return grouped(v.Candidate.N)
}

// interval writes the interval around the candidate's figure.
func interval(v analysis.Verdict) string {
	if !v.Candidate.Known {
		return "–"
	}
	return figure(v.Candidate, v.Candidate.Low, v.Unit) + "–" + figure(v.Candidate, v.Candidate.High, v.Unit)
}

// grouped writes a count with separators: "48,210".
func grouped(n float64) string {
	if n < 0 || n > 1e15 || math.IsNaN(n) {
		return fmt.Sprintf("%.3g", n)
	}
	s := strconv.FormatFloat(math.Round(n), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Clip bounds a line at n characters.
func Clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// plot is what a chart shows of a verdict; nil when nothing is known of the
// candidate or a figure is not finite.
func plot(p *rollout.Plan, v analysis.Verdict) *notifier.Plot {
	if !v.Candidate.Known || !plottable(v.Candidate) {
		return nil
	}
	out := &notifier.Plot{Candidate: estimate(v.Candidate)}
	if v.Stable.Known && plottable(v.Stable) {
		s := estimate(v.Stable)
		out.Stable = &s
	}
	for _, g := range p.Panel.Guardrails {
		if g.Name != v.Guardrail {
			continue
		}
		out.More = g.Limit.AtLeast
		limit := p.Panel.Shown(&g)
		if g.Limit.Relative {
			if out.Stable == nil {
				return out
			}
			limit *= out.Stable.Value
		}
		if !math.IsNaN(limit) && !math.IsInf(limit, 0) {
			out.Limit = &limit
		}
	}
	return out
}

func estimate(e analysis.Estimate) notifier.Estimate {
	return notifier.Estimate{Value: e.Value, Low: e.Low, High: e.High}
}

func plottable(e analysis.Estimate) bool {
	for _, x := range []float64{e.Value, e.Low, e.High} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}
