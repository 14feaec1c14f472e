package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/view"
)

// weights writes a split, the stable deployment first: blue 95% green 5%.
func weights(w map[string]int, stable string) string {
	if w == nil {
		return "unknown"
	}
	names := slices.SortedFunc(maps.Keys(w), func(a, b string) int {
		switch {
		case a == b:
			return 0
		case a == stable:
			return -1
		case b == stable:
			return 1
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, n := range names {
		if w[n] != 0 {
			parts = append(parts, fmt.Sprintf("%s %d%%", safe(n), w[n]))
		}
	}
	if len(parts) == 0 {
		return "off"
	}
	return strings.Join(parts, " ")
}

// ago says how long before now t was.
func (e *env) ago(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return view.Span(e.now().Sub(t)) + " ago"
}

// clock writes the time of day, with the date where it is not today's.
func (e *env) clock(t time.Time) string {
	t, now := t.In(e.zone), e.now().In(e.zone)
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format("2006-01-02 15:04:05")
}

// when writes an instant for who reads it here: by the clock on the wall, and how long
// from now.
func (e *env) when(t time.Time) string {
	if away := t.Sub(e.now()); away >= 0 {
		return e.clock(t) + " (in " + view.Span(away) + ")"
	}
	return e.clock(t) + " (" + e.ago(t) + ")"
}

// told is a sentence of belayd's as it is printed here: its instants by the local
// clock, its commands with what reaches the same belayd.
func (e *env) told(sentence string) string { return safe(view.Told(sentence, e.reach, e.when)) }

// belay is a command line that reaches the belayd that this one reached.
func (e *env) belay(words ...string) string {
	return cmp.Or(e.program, "belay") + " " + strings.Join(words, " ") + e.reach
}

// phase colours a phase by what it means for whoever looks.
func (e *env) phase(p rollout.Phase) string {
	switch p {
	case rollout.PhasePromoted:
		return e.paint(green, string(p))
	case rollout.PhaseRolledBack, rollout.PhaseStopped, rollout.PhaseRollingBack, rollout.PhaseRefused:
		return e.paint(red, string(p))
	case rollout.PhaseHeld, rollout.PhasePaused, rollout.PhaseWaiting, rollout.PhaseSuspect:
		return e.paint(yellow, string(p))
	case rollout.PhaseQueued, rollout.PhaseScheduled, rollout.PhasePreflight, rollout.PhaseShifting,
		rollout.PhaseBaking:
		return e.paint(blue, string(p))
	}
	return string(p)
}

// progress colours a guardrail's verdict, with how far the evidence is.
func (e *env) progress(g view.Guardrail) string {
	return e.verdict(g.Verdict) + strings.TrimPrefix(g.Evidence.Progress(g.Verdict), string(g.Verdict))
}

// verdict colours an outcome.
func (e *env) verdict(o analysis.Outcome) string {
	switch o {
	case analysis.OutcomePass:
		return e.paint(green, string(o))
	case analysis.OutcomeBreach, analysis.OutcomeError:
		return e.paint(red, string(o))
	case analysis.OutcomeNoData:
		return e.paint(yellow, string(o))
	case analysis.OutcomeUndecided, analysis.OutcomeResting:
		return e.paint(faint, string(o))
	}
	return string(o)
}

// wrap breaks text at spaces into lines of at most width characters, at most n of
// them; the rest is cut.
func wrap(s string, width, n int) []string {
	var out []string
	line := ""
	for w := range strings.FieldsSeq(s) {
		switch {
		case line == "":
			line = w
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) <= width:
			line += " " + w
		default:
			out = append(out, line)
			line = w
		}
	}
	out = append(out, line)
	if len(out) > n {
		out = out[:n]
		out[n-1] = fit(out[n-1]+strings.Repeat(" ", width)+"…", width)
		out[n-1] = strings.TrimRight(strings.TrimSuffix(out[n-1], "…"), " ") + "…"
	}
	return out
}

// stepText is the step that a rollout stands on: canary 5%.
func stepText(s *view.Step) string {
	if s == nil {
		return "–"
	}
	return safe(s.Name) + " " + s.Words()
}

// byText names the person of a decision where its sentence does not.
func byText(d decision.Decision) string {
	if d.By == "" || strings.Contains(d.Sentence, d.By) {
		return ""
	}
	return " (by " + safe(d.By) + ")"
}
