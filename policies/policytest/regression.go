package policytest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
)

// Regression writes a policy test out of a rollout that really happened: the
// readings of its journal as series, what people and others did as actions, and
// its turns as expectations. policy is the file that the test will name.
//
// Counts are kept to the event; histograms and means are reduced to their 95th
// percentile and mean. A rollout that was refused, or whose journal holds no
// readings, has nothing to be tested.
func Regression(plan *rollout.Plan, entries []journal.Entry, last rollout.State, policy string) (string, error) {
	r := &regression{plan: plan, last: last, every: plan.Interval, series: map[string]*recordedSeries{},
		asked: map[string]time.Time{}}
	if len(entries) == 0 {
		return "", errors.New("write regression test: the journal is empty")
	}
	r.start = entries[0].At
	end := entries[len(entries)-1].At
	if span := end.Sub(r.start); span/r.every > maxValues-64 {
		r.every *= span/(r.every*(maxValues-64)) + 1
	}
	for _, e := range entries {
		for _, ev := range e.Events {
			r.event(ev)
		}
		for _, d := range e.Decisions {
			r.decision(e, d)
		}
	}
	r.endOutage(end)
	if len(r.series) == 0 {
		return "", errors.New("write regression test: the journal holds no readings")
	}
	return r.text(policy), nil
}

// regression collects a rollout's journal.
type regression struct {
	plan    *rollout.Plan
	last    rollout.State
	start   time.Time
	every   time.Duration
	series  map[string]*recordedSeries
	asked   map[string]time.Time
	actions []string
	expect  []string
	outage  time.Time
	highest int
	// shown is the split that the endpoint showed last, whoever made it.
	shown *split.Split
}

func (r *regression) since(t time.Time) string {
	return document.FormatDuration(t.Sub(r.start).Round(time.Second))
}

// event keeps what the world did.
func (r *regression) event(ev rollout.Event) {
	r.shown = cmp.Or(ev.Split, r.shown)
	switch ev.Kind { //nolint:exhaustive // the others follow from these
	case rollout.EventMeasured:
		failed := false
		for _, x := range ev.Readings {
			failed = failed || x.Status != analysis.StatusOK
			r.reading(x)
		}
		switch {
		case failed && r.outage.IsZero():
			r.outage = ev.At.Add(-time.Second)
		case !failed:
			r.endOutage(ev.At.Add(-time.Second))
		}
	case rollout.EventAnswered:
		at := r.since(ev.At)
		if asked, ok := r.asked[ev.Gate]; ok {
			at = "asked:" + ev.Gate + "+" + document.FormatDuration(ev.At.Sub(asked).Round(time.Second))
		}
		answer := "reject: "
		if ev.Approve {
			answer = "approve: "
		}
		r.act(at, answer+strconv.Quote(ev.Gate)+r.groups(ev), ev.By, ev.Reason)
	case rollout.EventCommanded:
		what := "command: " + string(ev.Command)
		if ev.Command == rollout.CommandExtend {
			what += ", for: " + document.FormatDuration(ev.Extend)
		}
		if ev.To != "" {
			what += ", to: " + strconv.Quote(ev.To)
		}
		r.act(r.since(ev.At), what, ev.By, ev.Reason)
	}
}

// groups are those by which the gate asked who has answered, where it did not name them:
// the journal does not hold what the messenger knew.
func (r *regression) groups(ev rollout.Event) string {
	for _, a := range r.plan.Approvals {
		who := access.Actor{Person: *cmp.Or(ev.By, &person.Person{})}
		if a.Name == ev.Gate && len(a.Groups) > 0 && !who.AskedBy(a) {
			return fmt.Sprintf(", groups: [%s]", strconv.Quote(a.Groups[0]))
		}
	}
	return ""
}

func (r *regression) act(at, what string, by *person.Person, reason string) {
	line := fmt.Sprintf("{at: %s, %s", strconv.Quote(at), what)
	if by != nil {
		who := by.ID
		if who == r.plan.Release.Requester.ID {
			who = requester
		}
		line += ", by: " + strconv.Quote(who)
	}
	if reason != "" {
		line += ", reason: " + strconv.Quote(reason)
	}
	r.actions = append(r.actions, line+"}")
}

func (r *regression) endOutage(t time.Time) {
	if r.outage.IsZero() {
		return
	}
	d := max(t.Sub(r.outage).Round(time.Second), time.Second)
	r.actions = append(r.actions, fmt.Sprintf("{at: %s, sourceDown: %s}", r.since(r.outage),
		document.FormatDuration(d)))
	r.outage = time.Time{}
}

// decision keeps the turns.
func (r *regression) decision(e journal.Entry, d decision.Decision) {
	at := e.At
	if len(e.Events) == 1 {
		at = e.Events[0].At
	}
	switch d.Kind { //nolint:exhaustive // the others are no turns
	case decision.Ask:
		if _, again := r.asked[d.Gate]; !again {
			r.asked[d.Gate] = at
		}
	case decision.ForeignChange:
		if d.Split != nil {
			r.actions = append(r.actions, fmt.Sprintf("{at: %s, externalWrite: %s}", r.since(at.Add(-time.Second)),
				r.weights(*d.Split)))
		}
		r.turn(d, at)
	case decision.Hold, decision.Resume, decision.Rollback, decision.Promote:
		r.turn(d, at)
	}
}

// turn expects a decision within a few intervals of when it was made.
func (r *regression) turn(d decision.Decision, at time.Time) {
	slack := max(4*r.every, 2*time.Minute)
	line := "{event: " + string(d.Kind)
	if d.Guardrail != "" {
		line += ", guardrail: " + strconv.Quote(d.Guardrail)
	}
	if d.Reason != "" {
		line += ", reason: " + string(d.Reason)
	}
	since := at.Sub(r.start)
	r.expect = append(r.expect, fmt.Sprintf("%s, after: %s, before: %s}", line,
		document.FormatDuration(max(since-slack, 0).Truncate(time.Second)),
		document.FormatDuration((since+slack).Truncate(time.Second))))
}

// weights are a split in the deployments of tests.
func (r *regression) weights(s split.Split) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.Weights)) {
		as := name
		switch name {
		case r.last.Stable:
			as = stableIn(r.plan.Stable)
		case r.plan.Release.Candidate:
			as = candidateBeside(r.plan.Stable)
		}
		parts = append(parts, fmt.Sprintf("%s: %d", strconv.Quote(as), s.Weights[name]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// text writes the file.
func (r *regression) text(policy string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Rollout %s of %s, as it happened. Counts are exact; histograms and means are\n# reduced to "+
		"their 95th percentile and mean.\n", r.plan.ID, r.plan.Policy.Name)
	fmt.Fprintf(&b, "apiVersion: %s\nkind: %s\npolicy: %s\ninterval: %s\nstart: %s\nseries:\n", policies.APIVersion,
		policies.KindTest, strconv.Quote(policy),
		document.FormatDuration(r.every), strconv.Quote(r.start.Format(time.RFC3339Nano)))
	length := min(r.highest+1+int(10*time.Minute/r.every)+1, maxValues)
	for _, name := range slices.Sorted(maps.Keys(r.series)) {
		fmt.Fprintf(&b, "  %s: %s\n", strconv.Quote(name), strconv.Quote(r.series[name].fill(length).String()))
	}
	fmt.Fprintf(&b, "cases:\n  - name: %s\n", strconv.Quote("what happened in rollout "+r.plan.ID))
	if len(r.actions) > 0 {
		b.WriteString("    actions:\n")
		for _, a := range r.actions {
			b.WriteString("      - " + a + "\n")
		}
	}
	b.WriteString("    expect:\n")
	for _, e := range r.expect {
		b.WriteString("      - " + e + "\n")
	}
	weight := 0
	if shown := cmp.Or(r.shown, r.last.Confirmed); shown != nil {
		weight = shown.Weights[r.plan.Release.Candidate]
	}
	fmt.Fprintf(&b, "      - {finally: %s, weight: %d%%}\n", cmp.Or(string(r.last.Phase), "baking"), weight)
	return b.String()
}
