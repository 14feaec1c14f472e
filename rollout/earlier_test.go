package rollout_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/shift"
	"github.com/belayd/belay/rollout/split"
)

// The states in testdata/earlier were written by versions that did not know who shows a
// page as open, whose page it was, which notifier did not take it, or stages of a shift.
// This version carries each of them on to its end: a person rolls back, every message is
// taken, and wherever a page is open its end arrives.
func TestEarlierStates(t *testing.T) {
	files, err := filepath.Glob("testdata/earlier/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("states: got %v, %v", files, err)
	}
	openAt := map[string]string{"page-at-second": "backup", "end-waits": "oncall", "question-mute": "oncall", "rolling-back": "oncall"}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var in struct {
			Plan  *rollout.Plan
			State rollout.State
		}
		if err := json.Unmarshal(text, &in); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		open := map[string]bool{}
		if at := openAt[name]; at != "" {
			open[at] = true
		}
		s := in.State
		fold := func(ev rollout.Event) {
			ev.At = s.At.Add(time.Second)
			if s = rollout.Next(in.Plan, s, ev); strings.HasPrefix(s.Sentence, "Internal") || strings.HasPrefix(s.Last.Ignored, "internal") {
				t.Fatalf("%s: %s: got %s %s", name, ev.Kind, s.Sentence, s.Last.Ignored)
			}
		}
		fold(rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "ann"}, Reason: "enough"})
		for range 200 {
			i := slices.IndexFunc(s.Outbox, func(e rollout.Effect) bool { return e.Kind != rollout.EffectWake && e.Kind != rollout.EffectMeasure })
			if i < 0 && s.Phase.Terminal() && s.Page != nil { // nobody acknowledges the page of a rollback: it ends by itself
				s = rollout.Next(in.Plan, s, rollout.Event{Kind: rollout.EventWoken, At: s.At.Add(15 * time.Minute), Effect: s.Outbox[0].ID})
				continue
			}
			if i < 0 {
				break
			}
			e := s.Outbox[i]
			ev := rollout.Event{Effect: e.ID, Attempt: e.Attempt}
			switch e.Kind {
			case rollout.EffectSetTraffic, rollout.EffectReadTraffic:
				ev.Kind, ev.Split = rollout.EventTraffic, &split.Split{Weights: map[string]int{"blue": 100}}
			case rollout.EffectRelease:
				ev.Kind = rollout.EventReleased
			case rollout.EffectClaim, rollout.EffectPreflight, rollout.EffectMeasure, rollout.EffectWake:
				t.Fatalf("%s: got the effect %s of a rollout that has ended", name, e.Kind)
			case rollout.EffectAsk, rollout.EffectTell, rollout.EffectPage:
				ev.Kind, ev.Notifier, ev.Ref = rollout.EventDelivered, e.Notifiers[0], "ref"
			}
			if e.Kind == rollout.EffectPage {
				open[e.Notifiers[0]] = !e.Notice.Resolve
			}
			fold(ev)
		}
		if !s.Closed() {
			t.Errorf("%s: got phase %s with %d effects, want it over", name, s.Phase, len(s.Outbox))
		}
		for at, is := range open {
			if is {
				t.Errorf("%s: the page is still open at %s", name, at)
			}
		}
		if u, ok := s.UndeliveredPage(); ok {
			t.Errorf("%s: got %+v, want nothing undelivered", name, u)
		}
	}
}

// What earlier versions wrote as flags of a shift is a stage now.
func TestEarlierShifts(t *testing.T) {
	for name, want := range map[string]shift.Stage{
		"rolling-back": shift.Writing, "rollback-late": shift.Writing, "rollback-ordered": shift.Writing,
		"rollback-withheld": shift.Withheld, "shift-settling": shift.Settling,
		"shift-recalled": shift.Recalled, "shift-stopping": shift.Stopping,
	} {
		text, err := os.ReadFile(filepath.Join("testdata/earlier", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var in struct {
			Plan  *rollout.Plan
			State rollout.State
		}
		if err := json.Unmarshal(text, &in); err != nil {
			t.Fatal(err)
		}
		if s := in.State; s.SchemaVersion != rollout.StateVersion || s.Shift == nil || s.Shift.Stage != want {
			t.Errorf("%s: got version %d, shift %+v, want version %d at stage %s", name, s.SchemaVersion, s.Shift, rollout.StateVersion, want)
		}
		if late := in.State.Unconfirmed(in.Plan); late != (name == "rollback-late" || name == "rolling-back") {
			t.Errorf("%s: unconfirmed: got %v", name, late)
		}
	}
}
