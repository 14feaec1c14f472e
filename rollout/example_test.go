package rollout_test

import (
	"fmt"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/undo"
)

// A shell in twenty lines: it does what the state wants, tells what came of it, and a
// release climbs. The real one appends each state to the journal before it does anything.
func ExampleNext() {
	plan := undo.AtOnce(&rollout.Plan{
		ID: "r1", Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Stable: "auto",
		Policy:  rollout.PolicyRef{Name: "recs"},
		Release: rollout.Release{Candidate: "green", Version: "v7", Requester: person.Person{ID: "ci"}},
		Steps:   []rollout.Step{{Name: "full", Share: split.Share{Weight: 100}}},
	})
	live := split.Split{Weights: map[string]int{"blue": 100}}
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	state := rollout.Next(plan, rollout.Start(plan, at), rollout.Event{Kind: rollout.EventStarted, At: at})
	for !state.Phase.Terminal() {
		for _, effect := range state.Outbox {
			answer := rollout.Event{At: at, Effect: effect.ID, Attempt: effect.Attempt}
			switch effect.Kind {
			case rollout.EffectClaim:
				answer.Kind = rollout.EventClaimed
			case rollout.EffectPreflight:
				answer.Kind, answer.Split = rollout.EventPreflighted, &live
			case rollout.EffectSetTraffic:
				live = *effect.To
				answer.Kind, answer.Split = rollout.EventTraffic, &live
			case rollout.EffectReadTraffic:
				answer.Kind, answer.Split = rollout.EventTraffic, &live
			case rollout.EffectMeasure:
				answer.Kind = rollout.EventMeasured // no guardrail, no readings
			case rollout.EffectRelease, rollout.EffectAsk, rollout.EffectTell, rollout.EffectPage, rollout.EffectWake:
				continue // none of them is waited for here
			}
			before := state.Phase
			state = rollout.Next(plan, state, answer)
			if state.Phase != before {
				fmt.Printf("%s: %s\n", state.Phase, state.Sentence)
			}
		}
		if at = at.Add(time.Second); at.Minute() > 0 {
			return
		}
	}
	// Output:
	// preflight: Is being checked; no traffic has moved.
	// shifting: Step full: the split becomes green 100.
	// baking: Step full serves at green 100 and is watched.
	// promoted: green (version v7) is promoted: green 100.
}
