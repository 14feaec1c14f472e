package policytest

import (
	"fmt"
	"strings"
	"time"

	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/decision"
)

// Decided is a decision with its time since the rollout's start.
type Decided struct {
	At document.Span `json:"at"`
	decision.Decision
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
