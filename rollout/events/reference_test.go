package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/split"
)

// The page of events names every type that a rollout's life can send, and shows two of
// them whole, as describe makes them.
func TestReference(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 0, 30, 0, time.UTC)
	p := &rollout.Plan{
		ID: "kq3x7m2p5j4dhz6wvnra", Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"},
		Policy:  rollout.PolicyRef{Name: "recommendations", Owner: "team-recommendations"},
		Release: rollout.Release{Candidate: "green", Version: "2026.11.2", Requester: person.Person{ID: "ci"}},
		Steps:   []rollout.Step{{Name: "canary", Share: split.Share{Weight: 5}}, {Name: "full", Share: split.Share{Weight: 100}}},
	}
	named := *p
	named.Release.Artifact, named.Release.Environment = "pkg:oci/recs@sha256:0123", "production"
	split := func(green int) *split.Split {
		return &split.Split{Weights: map[string]int{"blue": 100 - green, "green": green}}
	}
	verdict := analysis.Verdict{Guardrail: "failures", Outcome: "breach", Unit: "share", Limit: "<= 1%", Sentence: "4% of 1,000 requests failed; the limit is 1%.",
		Candidate: analysis.Estimate{Known: true, Value: 0.04}, Stable: analysis.Estimate{Known: true, Value: 0.002}}
	entry := &journal.Entry{
		Seq: 7, At: at, Decisions: []decision.Decision{{Kind: decision.Rollback, Verdicts: []analysis.Verdict{verdict}}},
		Phases: []journal.PhaseChange{{From: rollout.PhaseBaking, To: rollout.PhaseRollingBack, At: at, Reason: decision.ReasonBreach,
			Sentence: "failures broke its limit.", Step: "canary", Stable: "blue", Confirmed: split(5), Decisions: 1}},
	}
	back := &journal.Entry{Seq: 8, At: at, Phases: []journal.PhaseChange{{From: rollout.PhaseRollingBack, To: rollout.PhaseRolledBack, At: at,
		Reason: decision.ReasonBreach, Sentence: "The endpoint shows blue 100.", Step: "canary", Stable: "blue", Confirmed: split(0)}}}

	var b strings.Builder
	b.WriteString("# Lifecycle events\n\nEvery phase that a rollout enters leaves as a CloudEvent 1.0 on JetStream (`events.nats` of the config), at least once and in the\n" +
		"order of the journal; a repetition has the same `id`. The subject is the configured prefix, the endpoint and the phase.\n" +
		"A release that names its `artifact` (a package URL) and `environment` leaves as a CDEvent 0.5 where one fits, with the same data as `customData`.\n\n" +
		"| phase | type | with artifact and environment |\n|---|---|---|\n")
	for _, phase := range rollout.Phases {
		change := journal.PhaseChange{To: phase}
		switch phase { //nolint:exhaustive // the others have one meaning
		case rollout.PhaseBaking:
			change.Reached, change.Step, change.Confirmed = true, "canary", split(5)
		case rollout.PhaseRolledBack, rollout.PhaseStopped:
			change.From = rollout.PhaseRollingBack
		}
		cd := predicateOf(&named, change)
		if cd != "" {
			cd = fmt.Sprintf("`dev.cdevents.service.%s.%s`", cd, cdService)
			if phase == rollout.PhaseBaking {
				cd += ", of later steps `upgraded`"
			}
		}
		fmt.Fprintf(&b, "| %s | `%s%s` | %s |\n", phase, typePrefix, phase, cd)
	}
	for _, x := range []struct {
		title string
		plan  *rollout.Plan
		entry *journal.Entry
	}{{"A rollback begins", p, entry}, {"It is confirmed, as a CDEvent", &named, back}} {
		out, err := describe("/belay", x.plan, x.entry)
		if err != nil || len(out) != 1 {
			t.Fatalf("%s: got %d events, %v", x.title, len(out), err)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, out[0].Data(), "", "  "); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n## %s\n\nOn the subject `belay.events.%s`, with the type `%s`, the id `%s` and these data:\n\n```json\n%s\n```\n",
			x.title, out[0].subject, out[0].Type(), out[0].ID(), &pretty)
	}
	const file = "../../deploy/reference/events.md"
	goldentest.Check(t, file, b.String())
}
