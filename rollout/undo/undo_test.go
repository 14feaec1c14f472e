package undo

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/calendar"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/deployment"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
)

// promotedPlan is a plan with all that a ladder may have, and the state of its end.
func promotedPlan() (*rollout.Plan, *rollout.State) {
	p := &rollout.Plan{
		ID: "r1", Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Stable: "auto", Concurrency: rollout.ConcurrencyQueue,
		Policy:    rollout.PolicyRef{Name: "recs"},
		Release:   rollout.Release{Policy: "recs", Candidate: "green", Version: "v7"},
		Settle:    time.Minute,
		Steps:     []rollout.Step{{Name: "canary", Share: split.Share{Weight: 5}, Bake: time.Hour}, {Name: "full", Share: split.Share{Weight: 100}, Bake: time.Hour, Requires: []string{"owner"}}},
		Approvals: []approval.Approval{{Name: "owner"}},
		Windows:   &calendar.Windows{}, Schedule: &calendar.Schedule{},
		Panel:     analysis.Panel{Guardrails: []analysis.Guardrail{{Name: "failures"}}, Budget: &analysis.Budget{}, Steps: 2},
		Preflight: []check.Check{{Kind: "ready"}, {Kind: "invoke"}},
		Rollback:  rollout.RollbackPolicy{Cooldown: 24 * time.Hour},
	}
	return p, &rollout.State{Phase: rollout.PhasePromoted, Stable: "blue", Versions: map[string]string{"blue": "v6", "green": "v7"}}
}

// What undoes a promoted rollout releases the earlier deployment under the same rules,
// and waits for nobody.
func TestUndo(t *testing.T) {
	p, s := promotedPlan()
	u := Plan(p, s, "r2", "", rollout.Release{Reason: "orders are missing", Requester: person.Person{ID: "sre"}})
	if u.ID != "r2" || u.Release.Candidate != "blue" || u.Release.Version != "v6" || u.Stable != "green" || u.Concurrency != rollout.ConcurrencyRefuse || u.Schedule != nil {
		t.Errorf("got %+v, want blue v6 against green, refused where the endpoint is busy", u)
	}
	if len(u.Panel.Guardrails) != 1 || len(u.Steps) != 2 || u.Windows == nil || len(u.Approvals) != 1 {
		t.Errorf("got %+v, want the ladder, the guardrails, the gate and the windows of the policy", u)
	}
	if u.Release.Undoes == nil || *u.Release.Undoes != (rollout.Undone{Rollout: "r1", Version: "v7"}) {
		t.Errorf("undoes: got %+v, want r1 and v7", u.Release.Undoes)
	}
	if told := Plan(p, s, "r2", "v6.1", rollout.Release{}); told.Release.Version != "v6.1" {
		t.Errorf("version: got %s, want what the router tells now", told.Release.Version)
	}
	s.Versions = nil
	if untold := Plan(p, s, "r2", "", rollout.Release{}); untold.Release.Version != "before v7" {
		t.Errorf("version that nobody tells: got %q", untold.Release.Version)
	}
	now := AtOnce(u)
	if len(now.Steps) != 1 || now.Steps[0].Weight != 100 || now.Steps[0].Bake != 0 || len(now.Steps[0].Requires) != 0 || now.Settle != 0 || now.Windows != nil ||
		len(now.Approvals) != 0 || len(now.Panel.Guardrails) != 0 || now.Panel.Budget != nil || len(now.Preflight) != 1 {
		t.Errorf("at once: got %+v, want one step and the check that blue is ready", now)
	}
	if len(p.Preflight) != 2 || len(p.Steps) != 2 || p.Stable != "auto" {
		t.Errorf("the plan that is undone was changed: %+v", p)
	}
}

// At once is at once: from the start to promoted without a person, a gate or a bake,
// and the version that was undone is refused afterwards.
func TestUndoAtOnce(t *testing.T) {
	p, s := promotedPlan()
	u := AtOnce(Plan(p, s, "r2", "", rollout.Release{Reason: "orders are missing", Requester: person.Person{ID: "sre"}}))
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	st := rollout.Start(u, at)
	record := claim.Record{}
	split := split.Split{Weights: map[string]int{"green": 100}}
	st = rollout.Next(u, st, rollout.Event{Kind: rollout.EventStarted, At: at})
	if why := st.Last.Decisions[0].Sentence; !strings.HasSuffix(why, ", to undo r1 (version v7): orders are missing.") {
		t.Errorf("why it was started: got %q", why)
	}
	for i := 0; i < 40 && st.Phase != rollout.PhasePromoted; i++ {
		at = at.Add(time.Second)
		for _, e := range slices.Clone(st.Outbox) {
			ev := rollout.Event{At: at, Effect: e.ID, Attempt: e.Attempt}
			switch e.Kind {
			case rollout.EffectClaim:
				record = claim.Admit(record, claim.ForClaim(u, e, at))
				answer := record.Result(u, e)
				ev.Kind, ev.Code, ev.Reason = answer.Kind, answer.Code, answer.Reason
			case rollout.EffectPreflight:
				c := split.Clone()
				ev.Kind, ev.Split, ev.Checks = rollout.EventPreflighted, &c, []check.Result{{Check: "ready", OK: true}}
			case rollout.EffectSetTraffic, rollout.EffectReadTraffic:
				if e.Kind == rollout.EffectSetTraffic {
					split = e.To.Clone()
				}
				c := split.Clone()
				ev.Kind, ev.Split = rollout.EventTraffic, &c
			case rollout.EffectMeasure:
				ev.Kind = rollout.EventMeasured
			case rollout.EffectWake:
				ev.Kind = rollout.EventWoken
			case rollout.EffectRelease, rollout.EffectAsk, rollout.EffectTell, rollout.EffectPage:
				continue
			}
			st = rollout.Next(u, st, ev)
		}
	}
	if st.Phase != rollout.PhasePromoted || split.Weights["blue"] != 100 {
		t.Fatalf("got %s (%s) with %s, want promoted with blue at 100", st.Phase, st.Sentence, split)
	}
	i := slices.IndexFunc(st.Outbox, func(e rollout.Effect) bool { return e.Kind == rollout.EffectRelease })
	if i < 0 {
		t.Fatal("the endpoint is not released")
	}
	record = claim.Admit(record, claim.ForRelease(u, st, st.Outbox[i], at))
	if until := record.Cooldowns["v7"]; !until.Equal(st.PhaseSince.Add(24*time.Hour)) || len(record.Cooldowns) != 1 {
		t.Errorf("cooldowns: got %v, want that of v7 alone, for a day", record.Cooldowns)
	}
}

// Nothing is undone over somebody's head, or to what cannot serve.
func TestUndoable(t *testing.T) {
	full := split.Split{Weights: map[string]int{"green": 100}}
	none := 0
	for name, c := range map[string]struct {
		change func(*rollout.State)
		live   split.Split
		told   map[string]deployment.Fact
		want   string
	}{
		"as it was left":        {live: full, told: map[string]deployment.Fact{"blue": {Ready: deployment.Ready}}},
		"a router that is mute": {live: full},
		"still under way":       {change: func(s *rollout.State) { s.Phase = rollout.PhaseBaking }, live: full, want: "belay rollback r1"},
		"rolled back":           {change: func(s *rollout.State) { s.Phase = rollout.PhaseRolledBack }, live: full, want: "it ended rolled-back"},
		"changed since":         {live: split.Split{Weights: map[string]int{"green": 50, "red": 50}}, want: "shows green 50, red 50"},
		"gone":                  {live: full, told: map[string]deployment.Fact{"green": {}}, want: "blue is gone"},
		"not ready":             {live: full, told: map[string]deployment.Fact{"blue": {Ready: deployment.NotReady, Reason: "it crashes"}}, want: "blue is not ready: it crashes"},
		"no instances":          {live: full, told: map[string]deployment.Fact{"blue": {Instances: &none}}, want: "blue has no instances"},
	} {
		p, s := promotedPlan()
		if c.change != nil {
			c.change(s)
		}
		if got := Refused(p, s, c.live, c.told); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
