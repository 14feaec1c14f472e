package cli

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/view"
)

func explainCommand() *command {
	return &command{
		name: "explain", args: "ID",
		short: "Say why a rollout is where it is: each decision with its rule and evidence.", min: 1, max: 1,
		long: "With --at the journal is folded up to that instant and the rollout is shown as it was then.",
		examples: []string{
			"belay explain ID", "belay explain ID --at 15:04:05          # today, local time",
			"belay explain ID --at +2m30s             # after the start",
			"belay explain ID --at 2026-11-24T14:03:00Z --store belay.db",
		},
		setup: func(f *flags) run {
			from := f.source()
			at := f.String("at", "", "show the rollout as it was at `TIME`: RFC 3339, a time of today, or +duration "+
				"after the start")
			output := f.choice("output", "how to print", "table", "json", "yaml")
			return func(ctx context.Context, e *env, args []string) error {
				r, done, err := from.open(e)
				if err != nil {
					return err
				}
				defer func() { _ = done() }() // a store that was only read
				return explain(ctx, e, r, args[0], *at, *output)
			}
		},
	}
}

// An explanation is what explain prints as JSON.
type explanation struct {
	SchemaVersion int          `json:"schemaVersion"`
	At            *time.Time   `json:"at,omitempty"`
	Rollout       view.Rollout `json:"rollout"`
	Decisions     []decided    `json:"decisions"`
}

type decided struct {
	Seq int       `json:"seq"`
	At  time.Time `json:"at"`
	decision.Decision
}

func explain(ctx context.Context, e *env, r reader, id, at, output string) error {
	now, err := r.Rollout(ctx, id)
	if err != nil {
		return err
	}
	out := explanation{SchemaVersion: api.SchemaVersion, Rollout: now, Decisions: []decided{}}
	until := time.Time{}
	if at != "" {
		if until, err = e.instant(at, now.CreatedAt); err != nil {
			return err
		}
		if out.Rollout, err = asOf(ctx, r, id, until); err != nil {
			return err
		}
		out.At = &until
	}
	for entry, err := range r.Journal(ctx, id) {
		if err != nil {
			return err
		}
		if !until.IsZero() && entry.At.After(until) {
			break
		}
		for _, d := range entry.Decisions {
			out.Decisions = append(out.Decisions, decided{entry.Seq, entry.At.UTC(), d})
		}
	}
	return e.print(output, out, func(w io.Writer) error { return explainText(e, w, out) }, nil)
}

// instant reads a time as people write it.
func (e *env) instant(s string, start time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(strings.TrimPrefix(s, "+")); err == nil && strings.HasPrefix(s, "+") {
		return start.Add(d), nil
	}
	if t, ok := e.parseClock(s); ok {
		return t, nil
	}
	return time.Time{}, usageError("--at: want a time like 15:04:05, 2026-11-24T15:04:05Z or +2m30s (got %q)", s)
}

// past is an instant as people write it, or a duration for how long ago; zero where
// nothing is written.
func (e *env) past(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return e.now().Add(-d), nil
	}
	if t, ok := e.parseClock(s); ok {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("want a time like 15:04, 2026-11-24T15:04:05Z, or 24h for a day ago (got %q)", s)
}

// parseClock reads a time in RFC 3339, or one of here, today's where no day is written.
func (e *env) parseClock(s string) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, true
	}
	now := e.now().In(e.zone)
	for _, layout := range []string{"15:04:05", "15:04", "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		t, err := time.ParseInLocation(layout, s, e.zone)
		if err != nil {
			continue
		}
		if t.Year() == 0 {
			t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, e.zone)
		}
		return t, true
	}
	return time.Time{}, false
}

// asOf folds the journal up to an instant.
func asOf(ctx context.Context, r reader, id string, until time.Time) (view.Rollout, error) {
	plan, err := r.Plan(ctx, id)
	if err != nil {
		return view.Rollout{}, err
	}
	var s rollout.State
	begun := false
	for entry, err := range r.Journal(ctx, id) {
		if err != nil {
			return view.Rollout{}, err
		}
		for _, ev := range entry.Events {
			if ev.At.After(until) {
				break
			}
			if !begun {
				s, begun = rollout.Start(plan, ev.At), true
			}
			s = rollout.Next(plan, s, ev)
		}
	}
	if !begun {
		return view.Rollout{}, fmt.Errorf("explain %s: it began after %s", id, until.UTC().Format(time.RFC3339))
	}
	return view.Of(plan, s), nil
}

// explainText prints the decisions in order, each with its rule and evidence,
// and then where the rollout stands.
func explainText(e *env, w io.Writer, x explanation) error {
	var b strings.Builder
	for i, d := range x.Decisions {
		fmt.Fprintf(&b, "%s  #%d  %s%s\n", e.clock(d.At), d.Seq, e.paint(bold, string(d.Kind)), byText(d.Decision))
		if text := unsaid(x.Decisions[:i], d.Decision); text != "" {
			fmt.Fprintf(&b, "    %s\n", e.told(text))
		}
		if d.Rule != "" {
			fmt.Fprintf(&b, "    rule      %s\n", safe(d.Rule))
		}
		if d.Split != nil {
			fmt.Fprintf(&b, "    traffic   %s\n", weights(d.Split.Weights, x.Rollout.Stable))
		}
		if i > 0 && reflect.DeepEqual(d.Verdicts, x.Decisions[i-1].Verdicts) {
			continue // said just above
		}
		for _, v := range d.Verdicts {
			for _, l := range verdictLines(e, v) {
				fmt.Fprintf(&b, "    %s\n", l)
			}
		}
	}
	when := "now"
	if x.At != nil {
		when = "at " + e.clock(*x.At)
	}
	if text := checksText(x.Rollout.Checks); text != "" {
		fmt.Fprintf(&b, "\nchecks before any traffic moved: %s\n", text)
	}
	fmt.Fprintf(&b, "\n%s:\n", when)
	s := screen{env: e, width: e.textWidth()}
	for _, l := range s.lines(x.Rollout, nil) {
		fmt.Fprintf(&b, "%s\n", l)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// checksText names what preflight found to be right; what it did not is said with
// where the rollout stands.
func checksText(checks []check.Result) string {
	var passed, failed []string
	for _, c := range checks {
		if c.OK {
			passed = append(passed, safe(c.Check))
		} else {
			failed = append(failed, safe(c.Check))
		}
	}
	var parts []string
	if len(passed) > 0 {
		parts = append(parts, strings.Join(passed, ", ")+" passed")
	}
	if len(failed) > 0 {
		parts = append(parts, strings.Join(failed, ", ")+" failed")
	}
	return strings.Join(parts, "; ")
}

// unsaidAmong is among how many decisions before it a sentence is looked for.
const unsaidAmong = 4

// unsaid is what a decision's sentence says beyond those just before it: a breach, the
// rollback that it leads to and the end of that begin with the same cause. What comes to
// pass again is said again.
func unsaid(before []decided, d decision.Decision) string {
	said := ""
	for _, b := range before[max(len(before)-unsaidAmong, 0):] {
		if b.Kind != d.Kind && len(b.Sentence) > len(said) && strings.HasPrefix(d.Sentence, b.Sentence) {
			said = b.Sentence
		}
	}
	return strings.TrimSpace(strings.TrimPrefix(d.Sentence, said))
}

// verdictLines say what one verdict rested on.
func verdictLines(e *env, v analysis.Verdict) []string {
	const indent = "          "
	g := view.Judged(v)
	head := fmt.Sprintf("%s%s %s", e.verdict(v.Outcome), strings.Repeat(" ", max(9-len(v.Outcome), 0)),
		safe(v.Sentence))
	if v.Sentence == "" {
		head += safe(v.Guardrail)
	}
	of := func(figure string, iv *[2]float64, size string) string {
		if iv == nil {
			return figure
		}
		joint := " of "
		if v.Unit == "rate" {
			joint = " over "
		}
		return figure + " [" + view.Between(iv, v.Unit) + "]" + joint + size
	}
	figures := indent + "candidate " + of(view.Figure(g.Candidate, g.Unit), g.Interval, g.Size())
	if g.Stable != nil {
		figures += ", stable " + of(view.Figure(g.Stable, g.Unit), &[2]float64{v.Stable.Low, v.Stable.High},
			g.StableSize())
	}
	figures += "; limit " + safe(g.Limit)
	if v.Effective != "" {
		figures += " (" + safe(v.Effective) + ")"
	}
	out := []string{head, figures}
	if words := g.Evidence.Words(); words != "" {
		out = append(out, indent+words)
	}
	if v.Instance != "" {
		out = append(out, indent+"instance "+safe(v.Instance))
	}
	return out
}
