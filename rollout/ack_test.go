package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sim"
)

// A page opens at 7m50s, Ann acknowledges it, it ends, and opens again: her word
// is on record with her name and time, was told where the page is shown, and counts
// for the first page only.
func TestAcknowledge(t *testing.T) {
	s := newScenario(t)
	for line := range strings.SplitSeq(`policy onNoData=page
model green from=7m gone=1
model green from=9m failures=0.1%
model green from=11m gone=1
begin
at 5m command=ack by=ann
at 8m30s command=ack by=ann reason="looking"`, "\n") {
		s.line(line)
	}
	var got []string
	for _, after := range []time.Duration{7 * time.Minute, 8*time.Minute + 20*time.Second, 8*time.Minute + 40*time.Second, 10 * time.Minute, 13 * time.Minute} {
		s.world.At(s.start.Add(after), func(w *sim.World) {
			st := &w.Runs[0].State
			line := fmt.Sprintf("%s: page %v", after, st.Page != nil)
			if a := st.Acknowledged(); a != nil {
				line += fmt.Sprintf(", acknowledged by %s at %s: %s", a.By, s.since(a.At), a.Reason)
			}
			got = append(got, line)
		})
	}
	s.line("run 14m")
	want := []string{"7m0s: page false", "8m20s: page true", "8m40s: page true, acknowledged by ann at 8m30s: looking", "10m0s: page false", "13m0s: page true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("acknowledged (-want +got):\n%s", diff)
	}
	if !strings.Contains(s.out.String(), "The page is acknowledged by ann") {
		t.Errorf("got no decision about the acknowledgement in:\n%s", s.out.String())
	}
	told := slices.ContainsFunc(s.world.Notices, func(d sim.Delivered) bool {
		return d.Effect.Kind == rollout.EffectPage && !d.Effect.Notice.Resolve && s.since(d.At) == "8m30.1s"
	})
	if !told {
		t.Error("got no page after the acknowledgement, want its text told anew")
	}
}

// Nobody is called, so nobody can acknowledge; the rollout does not change.
func TestAcknowledgeNothing(t *testing.T) {
	s := newScenario(t)
	s.line("begin")
	s.world.At(s.start.Add(2*time.Minute), func(w *sim.World) {
		w.Fold(w.Runs[0], rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandAck, By: &person.Person{ID: "ann"}})
		if got := w.Runs[0].State.Last.Ignored; !strings.Contains(got, "no open page") || w.Runs[0].State.Acked != nil {
			t.Errorf("got ignored %q, acked %+v, want that nobody is called", got, w.Runs[0].State.Acked)
		}
	})
	s.line("run 3m")
}
