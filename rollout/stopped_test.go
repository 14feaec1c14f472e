package rollout_test

import (
	"slices"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/shift"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

// stateAt is a rollout's state right after the first event for which the test holds.
func stateAt(t *testing.T, s *scenario, test func(rollout.State) bool) rollout.State {
	t.Helper()
	s.line("begin")
	var found *rollout.State
	watch := s.world.Watch
	s.world.Watch = func(w *sim.World, r *sim.Run, l sim.Line) {
		watch(w, r, l)
		if found == nil && test(r.State) {
			st := r.State
			found = &st
		}
	}
	s.line("run 20m")
	if found == nil {
		t.Fatalf("the story never gets there:\n%s", s.out.String())
	}
	return *found
}

// kind is the first effect of the kind that is wanted.
func kind(s rollout.State, k rollout.EffectKind) (rollout.Effect, bool) {
	i := slices.IndexFunc(s.Outbox, func(e rollout.Effect) bool { return e.Kind == k })
	if i < 0 {
		return rollout.Effect{}, false
	}
	return s.Outbox[i], true
}

// TestStoppedWhileUnwatched: the daemon dies right before it writes the second step
// and is away for an hour, so that the write waits until the guardrails were read
// again. A person pauses the rollout meanwhile, or had paused it before the daemon
// died, or the last of these readings holds it: when the guardrails were read, nothing
// is written any more.
func TestStoppedWhileUnwatched(t *testing.T) {
	for _, c := range []struct {
		name   string
		before bool
		held   bool
	}{{"paused while the guardrails are read again", false, false}, {"paused before the daemon died", true, false}, {"held by the last reading", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			sc := newScenario(t)
			sc.plan.OnNoData.After, sc.plan.OnSourceError.After = 20*time.Second, 20*time.Second
			s := stateAt(t, sc, func(s rollout.State) bool {
				return s.Step == 1 && s.Shift != nil && s.Shift.Stage == shift.Writing
			})
			pause := rollout.Event{Kind: rollout.EventCommanded, At: s.At.Add(time.Second), Command: rollout.CommandPause, By: &person.Person{ID: "ann"}}
			if c.before {
				s = rollout.Next(sc.plan, s, pause)
			}
			s = rollout.Next(sc.plan, s, rollout.Event{Kind: rollout.EventWoken, At: s.At.Add(time.Hour)})
			if !c.before && !c.held {
				pause.At = s.At.Add(time.Second)
				s = rollout.Next(sc.plan, s, pause)
			}
			if (s.Phase == rollout.PhasePaused) == c.held || s.ReadingsRequired == 0 {
				t.Fatalf("the story is another one: %s, %d looks to come", s.Phase, s.ReadingsRequired)
			}
			for range 3 { // readings that bring nothing
				e, ok := kind(s, rollout.EffectMeasure)
				if !ok {
					t.Fatalf("no reading is wanted: %+v", s.Outbox)
				}
				ev := rollout.Event{Kind: rollout.EventMeasured, At: e.NotBefore.Add(time.Millisecond), Effect: e.ID, Attempt: e.Attempt}
				for name, from := range e.Since {
					ev.Readings = append(ev.Readings, analysis.ErrorReading(analysis.Query{Metric: analysis.Metric{Name: name}, From: from, To: e.NotBefore}, "down"))
				}
				s = rollout.Next(sc.plan, s, ev)
			}
			if (s.Phase == rollout.PhaseHeld) != c.held {
				t.Fatalf("the story is another one: %s", s.Phase)
			}
			if e, ok := kind(s, rollout.EffectSetTraffic); ok {
				t.Errorf("a stopped rollout (%s) got %s, want no write", s.Phase, e.To)
			}
		})
	}
}

// TestHoldAfterPage: a guardrail that pages breaks, and later one that holds. Whoever
// was called for the first learns from the same page that the rollout is held.
func TestHoldAfterPage(t *testing.T) {
	s := newScenario(t)
	for i, g := range s.plan.Panel.Guardrails {
		s.plan.Panel.Guardrails[i].OnBreach = "hold"
		if g.Name == "p95" {
			s.plan.Panel.Guardrails[i].OnBreach = "page"
		}
	}
	s.line("model green from=1m p95=900ms")
	s.line("model green from=3m p95=900ms failures=30%")
	st := stateAt(t, s, func(s rollout.State) bool { return s.Phase == rollout.PhaseHeld })
	if st.Page == nil || len(st.Breached) != 1 || st.Breached[0].Guardrail != "p95" || st.Hold.Guardrail != "failures" {
		t.Fatalf("the story is another one: page %+v, hold %+v", st.Page, st.Hold)
	}
	if want := "recs is held: "; len(st.Page.Summary) < len(want) || st.Page.Summary[:len(want)] != want {
		t.Errorf("the page of a held rollout says %q, want one that begins with %q", st.Page.Summary, want)
	}
}

// TestResumeAmidSuspicion: the store lost records while a write of ours was on its
// way, and the endpoint shows what somebody else made. A person lets the rollout go on
// before the write was read back: the foreign split is reported, and does not leave the
// rollout without anything to do.
func TestResumeAmidSuspicion(t *testing.T) {
	sc := newScenario(t)
	s := stateAt(t, sc, func(s rollout.State) bool {
		return s.Step == 1 && s.Shift != nil && s.Shift.Stage == shift.Writing
	})
	foreign := split.Split{Weights: map[string]int{"blue": 50, "green": 50}}
	ann := &person.Person{ID: "ann"}
	s = rollout.Next(sc.plan, s, rollout.Event{Kind: rollout.EventSuspected, At: s.At, Split: &foreign, Reason: "records were lost"})
	s = rollout.Next(sc.plan, s, rollout.Event{Kind: rollout.EventCommanded, At: s.At.Add(time.Second), Command: rollout.CommandResume, By: ann})
	e, ok := kind(s, rollout.EffectSetTraffic)
	if !ok {
		t.Fatalf("the story is another one: %+v", s.Outbox)
	}
	s = rollout.Next(sc.plan, s, rollout.Event{Kind: rollout.EventTraffic, At: s.At.Add(time.Second), Effect: e.ID, Attempt: e.Attempt, Split: &foreign,
		Failure: &failure.Failure{Kind: failure.Foreign, Message: "another split"}})
	if s.Phase != rollout.PhaseHeld || s.Page == nil {
		t.Errorf("got %s with page %+v, want held with a page: %s", s.Phase, s.Page, s.Sentence)
	}
}

// TestResumeBeforeSchedule: a rollout that waits for its schedule and is suspect goes
// on waiting for it when a person resumes it.
func TestResumeBeforeSchedule(t *testing.T) {
	sc := newScenario(t)
	sc.line(`policy schedule="0 12 * * *"`)
	s := stateAt(t, sc, func(s rollout.State) bool { return s.Phase == rollout.PhaseScheduled })
	s = rollout.Next(sc.plan, s, rollout.Event{Kind: rollout.EventSuspected, At: s.At, Reason: "records were lost"})
	s = rollout.Next(sc.plan, s, rollout.Event{Kind: rollout.EventCommanded, At: s.At.Add(time.Second), Command: rollout.CommandResume, By: &person.Person{ID: "ann"}})
	if e, ok := kind(s, rollout.EffectClaim); s.Phase != rollout.PhaseScheduled || !ok || !e.Wait {
		t.Errorf("got %s with %+v, want scheduled until %s", s.Phase, s.Outbox, s.StartAt)
	}
}
