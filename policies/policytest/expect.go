package policytest

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
)

// Decided is a decision with its time since the rollout's start.
type Decided struct {
	At document.Span `json:"at"`
	rollout.Decision
}

// clock is the time for people; before the start it is negative.
func (d Decided) clock() string {
	return document.FormatDuration(time.Duration(d.At).Round(time.Second))
}

// String is the decision on one line.
func (d Decided) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%10s  %-14s", d.clock(), d.Kind)
	for _, part := range []string{d.Step, d.Guardrail, d.Gate} {
		if part != "" {
			b.WriteString(" " + part)
		}
	}
	if d.Reason != "" {
		b.WriteString(" [" + string(d.Reason) + "]")
	}
	if d.Sentence != "" {
		b.WriteString(": " + d.Sentence)
	}
	return b.String()
}

// String is the expectation for people.
func (e Expectation) String() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch {
	case e.Event != "":
		add("event: %s", e.Event)
	case e.Never != "":
		add("never: %s", e.Never)
	case e.Finally != "":
		add("finally: %s", e.Finally)
	default:
		add("notified: %s", e.Notified)
	}
	for _, kv := range [][2]string{{"guardrail", e.Guardrail}, {"reason", string(e.Reason)}, {"step", e.Step}} {
		if kv[1] != "" {
			add("%s: %s", kv[0], kv[1])
		}
	}
	for _, kv := range []struct {
		key string
		w   *When
	}{{"after", e.After}, {"before", e.Before}, {"within", e.Within}} {
		if kv.w != nil {
			add("%s: %s", kv.key, kv.w.Text)
		}
	}
	if e.Weight != nil {
		add("weight: %s", *e.Weight)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

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
func (s *stage) matches(e Expectation, kind rollout.DecisionKind, d Decided) (ok bool, why string) {
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
	return at.Sub(s.play.start) + w.Offset, ok
}

func (s *stage) checkFinally(e Expectation) (string, int) {
	st := s.run.State
	since := document.FormatDuration(st.PhaseSince.Sub(s.play.start).Round(time.Second))
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
		if at := st.PhaseSince.Sub(s.play.start); !known || at > t {
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
		case rollout.DecisionRollback, rollout.DecisionHold, rollout.DecisionRefuse:
			return i
		}
	}
	return len(s.timeline) - 1
}
