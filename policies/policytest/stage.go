package policytest

import (
	"cmp"
	"fmt"
	"time"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

// check says why an expectation is not met, and which decision of the timeline
// is the first wrong one (-1 when none is to blame); "" when it is met.
func (s *stage) check(e Expectation) (why string, wrong int) {
	switch {
	case e.Event != "":
		return s.checkEvent(e)
	case e.Never != "":
		for i, d := range s.timeline {
			if ok, _ := s.matches(e, e.Never, d); ok {
				return "it happened at " + d.clock(), i
			}
		}
		return "", -1
	case e.Finally != "":
		return s.checkFinally(e)
	}
	for _, n := range s.world.Notices {
		if n.Notifier == e.Notified {
			return "", -1
		}
	}
	return "it got no message", -1
}

func (s *stage) checkEvent(e Expectation) (string, int) {
	near, nearWhy := -1, ""
	for i, d := range s.timeline {
		ok, why := s.matches(e, e.Event, d)
		if ok {
			return "", -1
		}
		if d.Kind == e.Event && near < 0 {
			near, nearWhy = i, why
		}
	}
	if near >= 0 {
		return nearWhy, near
	}
	return "it never happened; the rollout ended " + string(s.run.State.Phase), s.turn()
}

// matches compares a decision with what an expectation gives.
func (s *stage) matches(e Expectation, kind decision.Kind, d Decided) (ok bool, why string) {
	at := d.clock()
	if d.Kind != kind {
		return false, ""
	}
	switch {
	case e.Guardrail != "" && d.Guardrail != e.Guardrail:
		return false, fmt.Sprintf("at %s it was guardrail %s", at, cmp.Or(d.Guardrail, "none"))
	case e.Reason != "" && d.Reason != e.Reason:
		return false, fmt.Sprintf("at %s its reason was %s", at, cmp.Or(d.Reason, "none"))
	case e.Step != "" && d.Step != e.Step:
		return false, fmt.Sprintf("at %s it was step %s", at, cmp.Or(d.Step, "none"))
	}
	for _, bound := range []struct {
		w     *When
		after bool
	}{{e.After, true}, {e.Before, false}} {
		if bound.w == nil {
			continue
		}
		t, known := s.when(*bound.w)
		switch {
		case !known:
			return false, bound.w.Text + " never came"
		case bound.after && time.Duration(d.At) < t:
			return false, fmt.Sprintf("it happened at %s, before %s", at, document.FormatDuration(t))
		case !bound.after && time.Duration(d.At) > t:
			return false, fmt.Sprintf("it happened at %s, after %s", at, document.FormatDuration(t))
		}
	}
	return true, ""
}

// when is a time since the start; unknown when its anchor never came.
func (s *stage) when(w When) (time.Duration, bool) {
	name := anchorOf(w)
	if name == "" {
		return w.Offset, true
	}
	at, ok := s.anchors[name]
	return at.Sub(s.source.start) + w.Offset, ok
}

func (s *stage) checkFinally(e Expectation) (string, int) {
	st := s.run.State
	since := document.FormatDuration(st.PhaseSince.Sub(s.source.start).Round(time.Second))
	if st.Phase != e.Finally {
		return fmt.Sprintf("it ended %s, since %s: %s", st.Phase, since, st.Sentence), s.turn()
	}
	if e.Weight != nil {
		if got := s.world.Endpoint.Split.Weights[candidateOf(s.policy)]; got != int(*e.Weight) {
			return fmt.Sprintf("the candidate ended with %d%%", got), s.turn()
		}
	}
	if e.Within != nil {
		t, known := s.when(*e.Within)
		if at := st.PhaseSince.Sub(s.source.start); !known || at > t {
			return fmt.Sprintf("it was %s only at %s", st.Phase, since), s.turn()
		}
	}
	return "", -1
}

// turn is the decision that turned the rollout to its end: the first rollback,
// hold or refusal, else the last decision.
func (s *stage) turn() int {
	for i, d := range s.timeline {
		switch d.Kind { //nolint:exhaustive // the others do not turn a rollout
		case decision.Rollback, decision.Hold, decision.Refuse:
			return i
		}
	}
	return len(s.timeline) - 1
}

// A stage is one run of one case.
type stage struct {
	policy   *policies.Policy
	source   *seriesSource
	world    *sim.World
	run      *sim.Run
	actions  []Action
	done     []bool
	anchors  map[string]time.Time
	timeline []Decided
	notes    []string
	coverage *coverage
}

func newStage(p *policies.Policy, play *seriesSource, actions []Action, cov *coverage) *stage {
	return &stage{policy: p, source: play, actions: actions, done: make([]bool, len(actions)),
		anchors: map[string]time.Time{}, coverage: cov}
}

// playOnce plays the case once.
func (s *stage) playOnce(plan *rollout.Plan, anchors map[string]time.Time) {
	stable := stableOf(s.policy)
	s.world = sim.New(sim.Config{Start: arrival(plan, s.source.start),
		Split: split.Split{Weights: map[string]int{stable: 100}}, Source: s.source})
	s.world.Watch = s.watch
	for i, a := range s.actions {
		switch at, known := anchors[anchorOf(a.At)]; {
		case anchorOf(a.At) == "":
			s.schedule(i, s.source.start.Add(a.At.Offset))
		case known && a.At.Offset < 0:
			s.schedule(i, at.Add(a.At.Offset))
		}
	}
	s.run = s.world.Begin(plan)
	s.world.Run(s.source.end())
}

// arrival is when the release comes: at the start of the test, or a second
// before it where that is the instant of the policy's schedule.
func arrival(plan *rollout.Plan, start time.Time) time.Time {
	if plan.Schedule == nil {
		return start
	}
	if before := start.Add(-time.Second); plan.Schedule.Next(before).Equal(start) {
		return before
	}
	return start
}

// anchorOf names what a time counts from; "" is the start.
func anchorOf(w When) string {
	switch {
	case w.Gate != "":
		return "asked:" + w.Gate
	case w.Step != "":
		return "step:" + w.Step
	}
	return ""
}

// watch notes every decision and starts what counts from it.
func (s *stage) watch(_ *sim.World, r *sim.Run, l sim.Line) {
	blamed := ""
	for _, d := range l.Decisions {
		if d.Kind == decision.Breach {
			blamed = d.Guardrail
		} else if d.Guardrail == "" && d.Reason != "" && blamed != "" {
			d.Guardrail = blamed // what a breach led to is that guardrail's
		}
		s.timeline = append(s.timeline, Decided{At: document.Span(l.Event.At.Sub(s.source.start)), Decision: d})
		switch d.Kind { //nolint:exhaustive // only these are anchors
		case decision.Confirm:
			s.anchor("step:"+d.Step, l.Event.At)
		case decision.Ask:
			s.anchor("asked:"+d.Gate, l.Event.At)
		}
	}
	if s.coverage != nil {
		s.coverage.see(r.State.Verdicts, l.Decisions)
	}
}

// anchor notes the first time of an anchor and schedules what counts from it.
func (s *stage) anchor(name string, at time.Time) {
	if _, again := s.anchors[name]; again {
		return
	}
	s.anchors[name] = at
	for i, a := range s.actions {
		if anchorOf(a.At) == name && a.At.Offset >= 0 {
			s.schedule(i, at.Add(a.At.Offset))
		}
	}
}

func (s *stage) schedule(i int, at time.Time) {
	s.world.At(at, func(w *sim.World) {
		s.done[i] = true
		if why := s.act(w, s.actions[i]); why != "" {
			s.notes = append(s.notes, fmt.Sprintf("actions[%d] at %s: %s", i, s.actions[i].At.Text, why))
		}
	})
}

// order hands over what a person wants where the policy lets them, as the daemon does;
// it returns why not. The roles are belayd's to give: here everybody has them.
func (s *stage) order(w *sim.World, by *person.Person, ev rollout.Event) string {
	everything := []access.Grant{{Roles: []access.Role{access.RoleApprove, access.RoleOperate}}}
	if why := access.Forbids(s.run.Plan, &s.run.State, access.Actor{Person: *by, Grants: everything}, ev); why != "" {
		return why
	}
	w.Fold(s.run, ev)
	return ""
}

// act does what an action says; it returns why it could not.
func (s *stage) act(w *sim.World, a Action) string {
	by := &person.Person{ID: a.By, Name: a.By, Via: "test", Groups: a.Groups}
	switch {
	case a.Approve != "" || a.Reject != "":
		gate := a.Approve + a.Reject
		q, asked := s.run.State.Gates[gate]
		if !asked || q.State != approval.Open {
			return "no question about " + gate + " is open"
		}
		return s.order(w, by, rollout.Event{Kind: rollout.EventAnswered, Gate: gate, Nonce: q.Nonce,
			Approve: a.Approve != "", By: by, Reason: a.Reason})
	case a.Command != "":
		ev := rollout.Event{Kind: rollout.EventCommanded, Command: rollout.Command(a.Command), By: by,
			Reason: cmp.Or(a.Reason, "test")}
		if ev.Command == rollout.CommandExtend {
			ev.Extend = cmp.Or(a.For, 30*time.Minute)
		}
		ev.To = a.To
		return s.order(w, by, ev)
	case a.ExternalWrite != nil:
		w.Write(split.Split{Weights: a.ExternalWrite})
		return ""
	case a.SourceDown > 0:
		s.source.down = append(s.source.down, silence{w.Now, w.Now.Add(a.SourceDown)})
		return ""
	case a.Restart > 0:
		w.Away(a.Restart)
		return ""
	}
	return s.run.State.Last.Ignored
}
