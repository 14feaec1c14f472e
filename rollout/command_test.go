package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sim"
)

// A resume was given, and allowed, while the rollout was paused, and is folded in
// after a guardrail broke: with the store away, or at another replica, minutes lie
// between. It overrides nothing that nobody saw when it was given.
func TestResumeOfEarlierHold(t *testing.T) {
	s := newScenario(t)
	for _, line := range []string{"policy onBreach=hold", "model green from=4m failures=25%", "begin", "at 3m command=pause by=ann"} {
		s.line(line)
	}
	resume := rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandResume, By: &person.Person{ID: "ann"}}
	at := func(after time.Duration, do func(w *sim.World, r *sim.Run)) {
		s.world.At(s.start.Add(after), func(w *sim.World) { do(w, w.Runs[0]) })
	}
	var early rollout.Event
	at(3*time.Minute+30*time.Second, func(_ *sim.World, r *sim.Run) {
		if r.State.Phase != rollout.PhasePaused {
			t.Errorf("before the breach: got %s, want paused", r.State.Phase)
		}
		early = resume.For(&r.State)
	})
	at(20*time.Minute, func(w *sim.World, r *sim.Run) {
		if r.State.Hold == nil || r.State.Hold.Guardrail != "failures" {
			t.Errorf("after the breach: got hold %+v, want that of the breach", r.State.Hold)
		}
		w.Fold(r, early)
		if got := r.State.Last.Ignored; r.State.Phase != rollout.PhaseHeld || !strings.Contains(got, "held for another reason since: ") {
			t.Errorf("the early resume: got %s, ignored %q, want held", r.State.Phase, got)
		}
		w.Fold(r, resume.For(&r.State))
		if r.State.Phase == rollout.PhaseHeld {
			t.Errorf("a resume of the breach: got %s, ignored %q", r.State.Phase, r.State.Last.Ignored)
		}
	})
	s.line("run 21m")
}
