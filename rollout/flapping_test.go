package rollout_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/sim"
)

// TestFlapping: for a day the source is away for 80 s and back for 20, and no pager takes
// anything. The rollout keeps what people must know now and not what they would have been
// told: its state stays small, nobody is owed more than one message of the page, and when
// the pagers are back each is told once how it stands.
func TestFlapping(t *testing.T) {
	s := newScenario(t)
	for line := range strings.SplitSeq(`policy requires=1:owner expires=48h page=oncall,backup
fault oncall from=0s to=24h
fault backup from=0s to=24h
fault source from=10m to=11m20s every=100s until=24h
begin`, "\n") {
		s.line(line)
	}
	largest := 0
	watch := s.world.Watch
	s.world.Watch = func(w *sim.World, r *sim.Run, l sim.Line) {
		watch(w, r, l)
		if b, err := json.Marshal(r.State); err != nil || len(b) > largest {
			largest = len(b)
		}
		owed := map[string]int{}
		for _, e := range r.State.Outbox {
			if e.Kind == rollout.EffectPage {
				owed[e.Notifiers[0]]++
			}
		}
		for to, n := range owed {
			if n > 1 {
				t.Fatalf("%s: %s is owed %d messages of one page", s.since(w.Now), to, n)
			}
		}
	}
	s.world.Run(s.start.Add(24*time.Hour + 10*time.Minute))
	for _, v := range s.inv.Violations {
		t.Errorf("invariant: %s", v)
	}
	if largest > 64<<10 {
		t.Errorf("got a state of %d bytes, want at most 64 KiB", largest)
	}
	pages := slices.DeleteFunc(slices.Clone(s.world.Notices), func(d sim.Delivered) bool { return d.Effect.Kind != rollout.EffectPage })
	if len(pages) > 2 {
		t.Errorf("got %d pages and ends when the pagers were back, want at most one to each of two", len(pages))
	}
	t.Logf("the largest state has %d bytes; %d messages of the page were delivered", largest, len(pages))
}
