package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/deployment"
	"github.com/belayd/belay/rollout/person"
)

// facts are those of two deployments that serve.
func facts(change func(map[string]deployment.Fact)) map[string]deployment.Fact {
	two := 2
	f := map[string]deployment.Fact{
		"blue":  {Ready: deployment.Ready, Instances: &two, Version: "v1"},
		"green": {Ready: deployment.Ready, Instances: &two, Version: "v2"},
	}
	change(f)
	return f
}

// describe answers the read of the split that is wanted, at its time, with facts.
func describe(t *testing.T, sc *scenario, s rollout.State, f map[string]deployment.Fact) rollout.State {
	t.Helper()
	e, ok := kind(s, rollout.EffectReadTraffic)
	if !ok {
		t.Fatalf("no read of the split is wanted: %+v", s.Outbox)
	}
	at := e.NotBefore
	if at.Before(s.At) {
		at = s.At
	}
	split := s.Confirmed.Clone()
	return rollout.Next(sc.plan, s, rollout.Event{Kind: rollout.EventTraffic, At: at.Add(time.Millisecond), Effect: e.ID, Attempt: e.Attempt, Split: &split, Deployments: f})
}

// Stable goes down in the middle of a step: whatever the weights say, the candidate may
// serve everything. The rollout is held and people are called; it goes on by itself
// when stable is back.
func TestStableGoesDown(t *testing.T) {
	sc := newScenario(t)
	s := stateAt(t, sc, func(s rollout.State) bool { return s.Phase == rollout.PhaseBaking && s.Reached == 0 })
	s = describe(t, sc, s, facts(func(map[string]deployment.Fact) {}))
	if s.Phase != rollout.PhaseBaking {
		t.Fatalf("while both are ready: got %s: %s", s.Phase, s.Sentence)
	}
	for _, down := range []func(map[string]deployment.Fact){
		func(f map[string]deployment.Fact) {
			f["blue"] = deployment.Fact{Ready: deployment.NotReady, Reason: "DOWN"}
		},
		func(f map[string]deployment.Fact) {
			none := 0
			f["blue"] = deployment.Fact{Ready: deployment.Ready, Instances: &none}
		},
	} {
		held := describe(t, sc, s, facts(down))
		if held.Phase != rollout.PhaseHeld || held.Hold.Reason != decision.ReasonNotReady || held.Page == nil || !strings.Contains(held.Page.Summary, "the way back is gone") {
			t.Errorf("stable down: got %s, page %+v, want held and paged", held.Phase, held.Page)
		}
		if back := describe(t, sc, held, facts(func(map[string]deployment.Fact) {})); back.Phase != rollout.PhaseBaking || back.Page != nil {
			t.Errorf("stable back: got %s, page %+v, want it to go on", back.Phase, back.Page)
		}
	}
}

// The candidate becomes another version under the rollout: nothing that was measured of
// the old one promotes the new one. It is held until a person decides.
func TestVersionChanges(t *testing.T) {
	sc := newScenario(t)
	s := stateAt(t, sc, func(s rollout.State) bool { return s.Phase == rollout.PhaseBaking && s.Reached == 0 && s.MayEnd })
	s = describe(t, sc, s, facts(func(map[string]deployment.Fact) {}))
	s = describe(t, sc, s, facts(func(f map[string]deployment.Fact) {
		g := f["green"]
		g.Version = "v3"
		f["green"] = g
	}))
	if s.Phase != rollout.PhaseHeld || s.Hold.Reason != decision.ReasonVersionChanged || s.Hold.Self || s.MayEnd || s.Bake.Watched != 0 {
		t.Errorf("got %s (%s), may end %v, watched %s; want held, with nothing watched", s.Phase, s.Sentence, s.MayEnd, s.Bake.Watched)
	}
	if !strings.Contains(s.Sentence, "green became version v3") || s.Page == nil {
		t.Errorf("got %q, page %+v, want both versions named and people called", s.Sentence, s.Page)
	}
	if got := s.Versions["green"]; got != "v3" {
		t.Errorf("questions name version %q of the candidate, want v3", got)
	}
}

// A router that tells no version at the checks tells it later: what is asked of is what
// it tells then, and a candidate that is of another version than the release holds it.
func TestVersionsToldLate(t *testing.T) {
	tell := func(version string) rollout.State {
		sc := newScenario(t)
		s := stateAt(t, sc, func(s rollout.State) bool { return s.Phase == rollout.PhaseBaking && s.Reached == 0 && s.MayEnd })
		s.Versions, s.Facts = nil, nil
		return describe(t, sc, s, facts(func(f map[string]deployment.Fact) {
			g := f["green"]
			g.Version = version
			f["green"] = g
		}))
	}
	if s := tell("v2"); s.Phase != rollout.PhaseBaking || s.Versions["blue"] != "v1" || s.Versions["green"] != "v2" {
		t.Errorf("the release's version: got %s, versions %v; want it to go on and to ask of v1 and v2", s.Phase, s.Versions)
	}
	s := tell("v4")
	if s.Phase != rollout.PhaseHeld || s.Hold.Reason != decision.ReasonVersionChanged || s.Bake.Watched != 0 || s.Versions["green"] != "v4" {
		t.Errorf("another version: got %s, watched %s, versions %v; want held, with nothing watched", s.Phase, s.Bake.Watched, s.Versions)
	}
	if !strings.Contains(s.Sentence, "green runs version v4, and the release is of version v2") {
		t.Errorf("got %q, want both versions named", s.Sentence)
	}
}

// A candidate that is not ready, or has no instances, gets no more traffic.
func TestUnreadyCandidateGetsNoMore(t *testing.T) {
	sc := newScenario(t)
	s := stateAt(t, sc, func(s rollout.State) bool { return s.Phase == rollout.PhaseBaking && s.Reached == 0 && s.MayEnd })
	none := 0
	s = describe(t, sc, s, facts(func(f map[string]deployment.Fact) {
		f["green"] = deployment.Fact{Ready: deployment.Ready, Instances: &none, Version: "v2"}
	}))
	s = rollout.Next(sc.plan, s, rollout.Event{Kind: rollout.EventCommanded, At: s.At.Add(time.Second), Command: rollout.CommandPromote, By: &person.Person{ID: "ann"}, Reason: "now"})
	if s.Phase != rollout.PhaseHeld || s.Step != 0 || !strings.Contains(s.Sentence, "green has no instances") {
		t.Errorf("got %s at step %d: %s; want held at the first step", s.Phase, s.Step, s.Sentence)
	}
}
