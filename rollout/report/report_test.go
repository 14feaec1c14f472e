package report_test

import (
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/report"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

var start = time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)

// plan is a ladder of three steps with one guardrail that counts.
func plan() *rollout.Plan {
	p := &rollout.Plan{SchemaVersion: 1, ID: "r1", Policy: rollout.PolicyRef{Name: "recs", Owner: "team-recs"},
		Release:  rollout.Release{Candidate: "green", Version: "7", Requester: person.Person{ID: "ci"}},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Stable: "auto", OnForeignChange: rollout.ForeignHold,
		Concurrency: rollout.ConcurrencyQueue, Interval: 10 * time.Second, Settle: 10 * time.Second, MaxExtend: 5 * time.Minute,
		OnUndecided: rollout.UndecidedHold, OnNoData: sight.MissingPolicy{After: time.Minute, Then: analysis.ActionHold},
		OnSourceError: sight.MissingPolicy{After: time.Minute, Then: analysis.ActionHold},
		Rollback:      rollout.RollbackPolicy{VerifyWithin: 2 * time.Minute}, Page: []string{"oncall"}, Notify: []string{"slack"}}
	for _, s := range []struct {
		name   string
		weight int
	}{{"canary", 5}, {"quarter", 25}, {"full", 100}} {
		p.Steps = append(p.Steps, rollout.Step{Name: s.name, Share: split.Share{Weight: s.weight}, Bake: 5 * time.Minute})
	}
	p.Panel = analysis.Panel{Alpha: 0.01, Beta: 0.05, Steps: 3, Interval: p.Interval, OnSharedBreach: analysis.ActionHold,
		Metrics: []analysis.Metric{{Name: "failures", Source: "sim", Counts: &analysis.Counts{Total: "t", Bad: "b", Deployment: "d"}}},
		Guardrails: []analysis.Guardrail{{Name: "failures", Metric: "failures", Limit: analysis.Limit{Value: 0.02, Text: "<= 2%"},
			Detect: 0.06, OnBreach: analysis.ActionRollback, Evidence: analysis.EvidenceRequired, Steps: []int{0, 1, 2}}}}
	return p
}

// story is the journal of a rollout whose candidate fails a share of its requests from an
// instant on, one event an entry.
func story(t *testing.T, p *rollout.Plan, from time.Time, share float64) []journal.Entry {
	t.Helper()
	w := sim.New(sim.Config{Start: start, Split: split.AllOn("blue"), Source: &sim.Traffic{Seed: 7, RPS: sim.Steady(200),
		Model: func(d string, at time.Time, _ int) sim.Model {
			if d == "green" && !at.Before(from) {
				return sim.Model{Rates: map[string]float64{"failures": share}}
			}
			return sim.Model{Rates: map[string]float64{"failures": 0.002}}
		}}})
	w.Begin(p)
	w.Run(start.Add(2 * time.Hour))
	var out []journal.Entry
	for i, l := range w.Journal {
		out = append(out, journal.Entry{Seq: i + 1, Epoch: 1, At: l.Event.At, Events: []rollout.Event{l.Event}, Decisions: l.Decisions})
	}
	return out
}

func all(entries []journal.Entry) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// A fault is dated by what served it: the report's beginning of it is within a reading of
// the true one, everything after it is in order, and its cost is what the source counted.
func TestFault(t *testing.T) {
	from := start.Add(8*time.Minute + 3*time.Second) // while a quarter is served
	p := plan()
	r, err := report.Of(p, all(story(t, p, from, 0.30)))
	if err != nil {
		t.Fatal(err)
	}
	f := r.Fault
	if f == nil || f.Guardrail != "failures" || f.Step != "quarter" || r.Rollout.Phase != rollout.PhaseRolledBack {
		t.Fatalf("got %+v of a rollout that is %s, want failures broken in step quarter", f, r.Rollout.Phase)
	}
	if d := f.Since.Sub(from); d < -2*p.Interval || d > p.Interval {
		t.Errorf("since %s, want about %s", f.Since, from)
	}
	for _, x := range []struct {
		name          string
		before, after time.Time
	}{
		{"decided", f.Since, f.Decided}, {"asked", f.Decided, f.Asked}, {"back", f.Asked, f.Back}, {"paged", f.Decided, f.Paged},
	} {
		if x.after.IsZero() || x.after.Before(x.before) {
			t.Errorf("%s: got %s, want it at or after %s", x.name, x.after, x.before)
		}
	}
	// About 50 requests a second, 0.3 of them bad, from the fault to the last reading.
	want := f.Decided.Sub(from).Seconds() * 50 * 0.298
	if f.Excess == nil || *f.Excess < want/2 || *f.Excess > 1.5*want {
		t.Fatalf("excess: got %v, want about %.0f", f.Excess, want)
	}
	if f.Next == nil || *f.Next != *f.Excess*4 {
		t.Errorf("at the next step: got %v, want 100/25 of %v", f.Next, *f.Excess)
	}
	var counted report.Cost
	for _, c := range r.Costs {
		if c.Step == "canary" && c.CandidateBad > c.Candidate/50 {
			t.Errorf("canary: got %+v, want nearly nothing bad", c)
		}
		counted.Candidate += c.Candidate
		counted.Stable += c.Stable
	}
	if counted.Candidate < 5*60*10 || counted.Stable < counted.Candidate {
		t.Errorf("counted %+v", counted)
	}
	if len(r.Told) == 0 || r.Told[0].Topic == "" {
		t.Errorf("told: got %+v", r.Told)
	}
	page := false
	for _, m := range r.Told {
		page = page || m.Topic == mailbox.TopicPage && m.Notifier == "oncall" && !m.Delivered.Before(m.Wanted)
	}
	if !page {
		t.Errorf("told: got %+v, want a page that reached oncall", r.Told)
	}
}

// A rollout without a fault has none, and its splits are the ladder.
func TestPromoted(t *testing.T) {
	p := plan()
	r, err := report.Of(p, all(story(t, p, start.Add(24*time.Hour), 1)))
	if err != nil {
		t.Fatal(err)
	}
	var served []int
	for _, s := range r.Splits {
		served = append(served, s.Weights["green"])
	}
	if d := cmp.Diff([]int{0, 5, 25, 100}, served); r.Fault != nil || r.Rollout.Phase != rollout.PhasePromoted || d != "" {
		t.Errorf("got %s with the fault %+v, splits (-want +got):\n%s", r.Rollout.Phase, r.Fault, d)
	}
	text := r.Markdown()
	if strings.Contains(text, "could have been seen") || !strings.Contains(text, "| full |") {
		t.Errorf("got\n%s", text)
	}
}

// The words of a whole report.
func TestMarkdown(t *testing.T) {
	p := plan()
	r, err := report.Of(p, all(story(t, p, start.Add(8*time.Minute), 0.30)))
	if err != nil {
		t.Fatal(err)
	}
	got := r.Markdown()
	const golden = "testdata/rolled-back.md"
	goldentest.Check(t, golden, got)
}

// What comes from outside means nothing in Markdown: no cell, tag, link or line of its own.
func TestMarkdownEscapes(t *testing.T) {
	const hostile = "a|b\n# c <script>x</script> [l](http://e) ![i](http://e) `code` *b* \u202eabc &lt;"
	p := plan()
	p.Release.Version, p.Policy.Owner, p.Release.Requester.ID, p.Policy.Name = hostile, hostile, hostile, hostile
	p.Steps[1].Name, p.Page = hostile, []string{hostile}
	r, err := report.Of(p, all(story(t, p, start.Add(8*time.Minute), 0.30)))
	if err != nil {
		t.Fatal(err)
	}
	text := r.Markdown()
	for _, bad := range []string{"<script", "](http", "\n# c", "\u202e", " `code`", "&lt;"} {
		if strings.Contains(strings.ReplaceAll(text, `\`+bad[:1], ""), bad) {
			t.Errorf("%q stands in the report:\n%s", bad, text)
		}
	}
	cells := 0
	for line := range strings.SplitSeq(text, "\n") {
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if cells > 0 && n > 0 && n != cells {
			t.Errorf("a row of %d bars in a table of %d: %s", n, cells, line)
		}
		cells = n
	}
}

// A journal that cannot be read, or is empty, is an error with the rollout's id.
func TestErrors(t *testing.T) {
	p := plan()
	if _, err := report.Of(p, all(nil)); !errors.Is(err, rollout.ErrNotFound) || !strings.Contains(err.Error(), "r1") {
		t.Errorf("empty: got %v", err)
	}
	broken := errors.New("broken")
	_, err := report.Of(p, func(yield func(journal.Entry, error) bool) { yield(journal.Entry{}, broken) })
	if !errors.Is(err, broken) {
		t.Errorf("broken: got %v", err)
	}
}
