package cli

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/view"
)

// number writes a figure in its unit: 0.31%, 183ms, 71.2.
func number(x *float64, unit string) string {
	if x == nil || math.IsNaN(*x) || math.IsInf(*x, 0) {
		return "–"
	}
	switch unit {
	case "share":
		if math.Abs(*x) < 5e-6 {
			return "0%"
		}
		return strconv.FormatFloat(round(*x*100, 3), 'f', -1, 64) + "%"
	case "s":
		if math.Abs(*x) < 1 {
			return strconv.FormatFloat(math.Round(*x*1000), 'f', 0, 64) + "ms"
		}
		return strconv.FormatFloat(*x, 'f', 2, 64) + "s"
	}
	return strconv.FormatFloat(*x, 'g', 4, 64)
}

// round keeps n significant digits of a figure below 100, and no digit after the
// point above.
func round(x float64, n int) float64 {
	if x == 0 {
		return 0
	}
	if math.Abs(x) >= 100 {
		return math.Round(x)
	}
	scale := math.Pow(10, float64(n)-math.Ceil(math.Log10(math.Abs(x))))
	return math.Round(x*scale) / scale
}

// between writes an interval: 0.1–0.4%.
func between(iv *[2]float64, unit string) string {
	if iv == nil {
		return "–"
	}
	low, high := number(&iv[0], unit), number(&iv[1], unit)
	for _, suffix := range []string{"%", "ms"} {
		if strings.HasSuffix(low, suffix) && strings.HasSuffix(high, suffix) {
			low = strings.TrimSuffix(low, suffix)
			break
		}
	}
	return low + "–" + high
}

// count writes a number of events with separators: 48,210.
func count(n float64) string {
	if !(n >= 0 && n < 1e15) {
		return strconv.FormatFloat(n, 'g', 3, 64)
	}
	s := strconv.FormatFloat(math.Round(n), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

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

// span writes a duration for people: 4s, 2m5s, 3h12m, 5d.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < 0:
		return "0s"
	case d < time.Hour:
		return d.String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// ago says how long before now t was.
func (e *env) ago(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return span(e.now().Sub(t)) + " ago"
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
		return e.clock(t) + " (in " + span(away) + ")"
	}
	return e.clock(t) + " (" + e.ago(t) + ")"
}

// told is a sentence of belayd's as it is printed here: its instants by the local
// clock, its commands with what reaches the same belayd.
func (e *env) told(sentence string) string { return safe(rollout.Told(sentence, e.reach, e.when)) }

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
	case rollout.PhaseQueued, rollout.PhaseScheduled, rollout.PhasePreflight, rollout.PhaseShifting, rollout.PhaseBaking:
		return e.paint(blue, string(p))
	}
	return string(p)
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
func byText(d rollout.Decision) string {
	if d.By == "" || strings.Contains(d.Sentence, d.By) {
		return ""
	}
	return " (by " + safe(d.By) + ")"
}
