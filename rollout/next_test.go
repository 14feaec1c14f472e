package rollout_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/calendar"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

// FuzzNext folds whatever events come, sensible and not. Next must never panic,
// never change the state it was given, give the same answer twice, survive JSON,
// and never reach a state that its own check refuses.
func FuzzNext(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add([]byte{0, 1, 4, 5, 5, 6, 6, 6, 5, 6, 20, 6, 5, 6})
	f.Add([]byte{0, 1, 4, 5, 13, 9, 9, 10, 5, 5, 5})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 400 {
			return
		}
		p := demoPlan()
		p.Steps[1].Requires = []string{"owner"}
		p.Approvals = []approval.Approval{{Name: "owner", Notifier: "slack", Quorum: 1, Expires: time.Hour}}
		at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
		s := rollout.Start(p, at)
		r := sim.NewRandom(uint64(len(script)))
		for _, b := range script {
			at = at.Add(time.Duration(r.IntN(40)-5) * time.Second)
			ev := fuzzEvent(b, s, r, at)
			before := encode(t, s)
			n := rollout.Next(p, s, ev)
			if encode(t, s) != before {
				t.Fatalf("Next changed the state it was given, at %+v", ev)
			}
			if again := rollout.Next(p, s, ev); encode(t, again) != encode(t, n) {
				t.Fatalf("Next answers differently the second time, at %+v:\n%s", ev, cmp.Diff(again, n))
			}
			var back rollout.State
			if err := json.Unmarshal([]byte(encode(t, n)), &back); err != nil || encode(t, back) != encode(t, n) {
				t.Fatalf("the state does not survive JSON: %v", err)
			}
			if strings.HasPrefix(n.Sentence, "Internal") || strings.HasPrefix(n.Last.Ignored, "internal") {
				t.Fatalf("an invariant was about to break at %+v: %s %s", ev, n.Sentence, n.Last.Ignored)
			}
			if !ev.MayLead(s.Phase, n.Phase) {
				t.Fatalf("%s %s leads from %q to %q, which is not on the map", ev.Kind, ev.Command, s.Phase, n.Phase)
			}
			s = back
		}
	})
}

func encode(t *testing.T, s rollout.State) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fuzzEvent makes an event of a byte: mostly an answer to something wanted.
func fuzzEvent(b byte, s rollout.State, r *sim.Random, at time.Time) rollout.Event {
	kinds := []rollout.EventKind{
		rollout.EventStarted, rollout.EventClaimed, rollout.EventQueued, rollout.EventRefused, rollout.EventPreflighted, rollout.EventTraffic,
		rollout.EventMeasured, rollout.EventDelivered, rollout.EventUndelivered, rollout.EventAnswered, rollout.EventCommanded, rollout.EventSuperseded,
		rollout.EventSuspected, rollout.EventWoken, rollout.EventReleased, rollout.EventCarried, "nonsense",
	}
	ev := rollout.Event{Kind: kinds[int(b)%len(kinds)], At: at, Reason: "because", Gate: "owner", Approve: b > 100, Notifier: "slack", Ref: "x"}
	splits := []split.Split{
		{Weights: map[string]int{"blue": 100}}, {Weights: map[string]int{"blue": 95, "green": 5}}, {Weights: map[string]int{"blue": 75, "green": 25}},
		{Weights: map[string]int{"green": 100}}, {}, {Weights: map[string]int{"blue": -3, "green": 500}},
	}
	if r.Chance(0.9) {
		split := splits[r.IntN(len(splits))]
		if s.Shift != nil && r.Chance(0.6) {
			split = s.Shift.To
		}
		ev.Split = &split
	}
	if r.Chance(0.2) {
		ev.Failure = &failure.Failure{Kind: []failure.Kind{failure.Foreign, failure.Permanent, failure.Transient, failure.Busy}[r.IntN(4)], Message: "no"}
	}
	if r.Chance(0.9) {
		ev.By = &person.Person{ID: []string{"ann", "ci", ""}[r.IntN(3)]}
	}
	ev.Command = []rollout.Command{rollout.CommandPause, rollout.CommandResume, rollout.CommandRollback, rollout.CommandPromote, rollout.CommandExtend, "?"}[r.IntN(6)]
	if q, ok := s.Gates["owner"]; ok && r.Chance(0.7) {
		ev.Nonce = q.Nonce
	}
	for _, m := range []string{"failures", "latency", "watched"} {
		ev.Readings = append(ev.Readings, fuzzReading(m, r, at))
	}
	for _, e := range s.Outbox {
		if r.Chance(0.7) && matching(ev.Kind, e.Kind) {
			ev.Effect, ev.Attempt = e.ID, e.Attempt
		}
	}
	return ev
}

func matching(k rollout.EventKind, e rollout.EffectKind) bool {
	switch k {
	case rollout.EventTraffic:
		return e == rollout.EffectSetTraffic || e == rollout.EffectReadTraffic
	case rollout.EventClaimed, rollout.EventQueued, rollout.EventRefused:
		return e == rollout.EffectClaim
	case rollout.EventPreflighted:
		return e == rollout.EffectPreflight
	case rollout.EventMeasured:
		return e == rollout.EffectMeasure
	case rollout.EventDelivered, rollout.EventUndelivered:
		return e == rollout.EffectTell || e == rollout.EffectPage || e == rollout.EffectAsk
	case rollout.EventReleased:
		return e == rollout.EffectRelease
	case rollout.EventWoken, rollout.EventStarted, rollout.EventAnswered, rollout.EventCommanded, rollout.EventSuperseded,
		rollout.EventSuspected, rollout.EventCarried:
	}
	return e == rollout.EffectWake
}

func fuzzReading(metric string, r *sim.Random, at time.Time) analysis.Reading {
	out := analysis.Reading{Metric: metric, From: at.Add(-10 * time.Second), To: at, Status: analysis.StatusOK}
	if r.Chance(0.1) {
		return analysis.Reading{Metric: metric, From: out.From, To: at, Status: analysis.StatusError, Reason: "timeout"}
	}
	sample := func() analysis.Sample {
		n := float64(r.IntN(500))
		return analysis.Sample{Fresh: r.Chance(0.9), N: n, K: float64(r.IntN(int(n) + 1)), Buckets: []analysis.Bucket{{Upper: 0.1, Count: n / 2}, {Upper: 0.3, Count: n / 4}}}
	}
	out.Stable, out.Candidate = sample(), sample()
	return out
}

// TestWindows: when steps may start, with zones, freezes and the hour that a
// clock change takes away.
func TestWindows(t *testing.T) {
	berlin := &calendar.Windows{Timezone: "Europe/Berlin", Open: []calendar.Window{{Cron: "0 9 * * MON-THU", For: 7 * time.Hour}},
		Freezes: []calendar.Freeze{{Name: "year-end", From: date("2026-12-17T23:00:00Z"), To: date("2027-01-04T08:00:00Z")}}}
	for _, c := range []struct {
		w    *calendar.Windows
		at   string
		open bool
		next string
	}{
		{nil, "2026-11-24T03:00:00Z", true, ""},
		{berlin, "2026-11-24T08:00:00Z", true, "2026-11-24T08:00:00Z"},
		{berlin, "2026-11-24T07:59:59Z", false, "2026-11-24T08:00:00Z"},
		{berlin, "2026-11-24T15:00:00Z", false, "2026-11-25T08:00:00Z"},
		{berlin, "2026-11-26T16:00:00Z", false, "2026-11-30T08:00:00Z"},
		{berlin, "2026-12-21T10:00:00Z", false, "2027-01-04T08:00:00Z"},
		{berlin, "2026-03-30T07:00:00Z", true, "2026-03-30T07:00:00Z"},
		{&calendar.Windows{Open: []calendar.Window{{Cron: "0 0 30 2 *", For: time.Hour}}}, "2026-11-24T00:00:00Z", false, ""},
	} {
		open, next := c.w.OpenAt(date(c.at))
		want := time.Time{}
		if c.next != "" {
			want = date(c.next)
		}
		if open != c.open || !next.Equal(want) {
			t.Errorf("OpenAt(%s): got %v, %s; want %v, %s", c.at, open, next.UTC(), c.open, want)
		}
	}
}

func date(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}
