package events

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/view"
)

// A whole life, told by the types of its events: mirrored traffic is no
// deployment, the first weight is, every further one and the end are upgrades.
// A hold while a weight is on its way does not hide that it arrived.
func TestTypes(t *testing.T) {
	held := reached("canary", 5)
	held.From, held.To = rollout.PhaseHeld, rollout.PhaseHeld
	resumed := reached("canary", 5)
	resumed.From, resumed.Reached = rollout.PhaseHeld, false
	unmoved := to(rollout.PhasePreflight, rollout.PhaseStopped)
	for _, c := range []struct {
		change journal.PhaseChange
		typ    string
	}{
		{to("", rollout.PhaseQueued), "belay.rollout.queued"},
		{to(rollout.PhaseQueued, rollout.PhasePreflight), "belay.rollout.preflight"},
		{to(rollout.PhasePreflight, rollout.PhaseRefused), "belay.rollout.refused"},
		{reached("shadow", 0), "belay.rollout.baking"},
		{reached("canary", 5), "dev.cdevents.service.deployed.0.3.0"},
		{held, "dev.cdevents.service.deployed.0.3.0"},
		{resumed, "belay.rollout.baking"},
		{reached("full", 100), "dev.cdevents.service.upgraded.0.3.0"},
		{to(rollout.PhaseBaking, rollout.PhasePromoted), "dev.cdevents.service.upgraded.0.3.0"},
		{to(rollout.PhaseBaking, rollout.PhaseRollingBack), "belay.rollout.rolling-back"},
		{to(rollout.PhaseRollingBack, rollout.PhaseRolledBack), "dev.cdevents.service.rolledback.0.3.0"},
		{to(rollout.PhaseRollingBack, rollout.PhaseStopped), "dev.cdevents.service.rolledback.0.3.0"},
		{unmoved, "belay.rollout.stopped"},
	} {
		got, err := describe("/belay", planOf("r1"), &journal.Entry{Seq: 4, Phases: []journal.PhaseChange{c.change}})
		if err != nil || len(got) != 1 {
			t.Fatalf("%s → %s: got %d events, %v", c.change.From, c.change.To, len(got), err)
		}
		if got[0].Type() != c.typ || got[0].ID() != "r1/4/0" {
			t.Errorf("%s → %s: got %s %s, want r1/4/0 %s", c.change.From, c.change.To, got[0].ID(), got[0].Type(), c.typ)
		}
		if want := "recs_eu." + string(c.change.To); got[0].subject != want {
			t.Errorf("%s → %s: got subject %s, want %s", c.change.From, c.change.To, got[0].subject, want)
		}
	}
}

// CDEvents ask for a package URL and an environment. A release without leaves as
// Belay's own event, never as a CDEvent that says something made up.
func TestNoCDEventWithoutFacts(t *testing.T) {
	for name, change := range map[string]func(*rollout.Release){
		"no artifact":    func(r *rollout.Release) { r.Artifact = "" },
		"no package URL": func(r *rollout.Release) { r.Artifact = "ranker:17" },
		"no environment": func(r *rollout.Release) { r.Environment = "" },
	} {
		p := planOf("r1")
		change(&p.Release)
		got, err := describe("/belay", p, &journal.Entry{Seq: 4, Phases: []journal.PhaseChange{reached("canary", 5)}})
		if err != nil || len(got) != 1 || got[0].Type() != "belay.rollout.baking" {
			t.Errorf("%s: got %v, %v, want belay.rollout.baking", name, got, err)
		}
	}
}

// What is written is what CDEvents' own schemas ask for.
func TestSchemas(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	files, err := filepath.Glob("testdata/*.schema.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("schemas: got %v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		id, _ := doc.(map[string]any)["$id"].(string)
		// The schemas refer to the links as links/embeddedlinksarray, beside them.
		if err := compiler.AddResource(id, doc); err != nil {
			t.Fatal(err)
		}
	}
	for predicate, change := range map[string]journal.PhaseChange{
		"deployed": reached("canary", 5), "upgraded": reached("full", 100), "rolledback": to(rollout.PhaseRollingBack, rollout.PhaseRolledBack),
	} {
		schema, err := compiler.Compile("https://cdevents.dev/0.5.0/schema/service-" + predicate + "-event")
		if err != nil {
			t.Fatal(err)
		}
		got, err := describe("https://belay.example/", planOf("r1"), &journal.Entry{Seq: 2, Phases: []journal.PhaseChange{change}})
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: got %d events, %v", predicate, len(got), err)
		}
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(got[0].Data())))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v\n%s", predicate, err, got[0].Data())
		}
		// The schema is read: another type does not pass.
		doc.(map[string]any)["context"].(map[string]any)["type"] = "dev.cdevents.service.published.0.3.0"
		if schema.Validate(doc) == nil {
			t.Errorf("%s: the schema accepts another type", predicate)
		}
	}
}

// The data of an event hold the weights read back, the step and the verdicts that
// the change rests on, each change its own.
func TestData(t *testing.T) {
	p := planOf("r1")
	p.Release.Artifact = ""
	shown := split.Split{Weights: map[string]int{"blue": 95, "green": 5}}
	breach := to(rollout.PhaseBaking, rollout.PhaseRollingBack)
	breach.Step, breach.Confirmed, breach.Decisions, breach.Reason, breach.Stable = "canary", &shown, 3, decision.ReasonBreach, "blue"
	verdict := analysis.Verdict{Guardrail: "failures", Outcome: "breach", Unit: "share", Limit: "<= 1%", Sentence: "4% failed.", Candidate: analysis.Estimate{Known: true, Value: 0.04}}
	entry := journal.Entry{Seq: 9, Phases: []journal.PhaseChange{to(rollout.PhasePaused, rollout.PhaseBaking), breach}, Decisions: []decision.Decision{
		{Kind: decision.Resume, By: "sre"},
		{Kind: decision.Breach},
		{Kind: decision.Rollback, Verdicts: []analysis.Verdict{verdict}},
	}}
	entry.Phases[0].Decisions = 1
	events, err := describe("/belay", p, &entry)
	if err != nil || len(events) != 2 {
		t.Fatalf("got %d events, %v, want 2", len(events), err)
	}
	var got [2]Data
	for i := range got {
		if err := json.Unmarshal(events[i].Data(), &got[i]); err != nil {
			t.Fatal(err)
		}
	}
	value := 0.04
	base := Data{
		SchemaVersion: 1, Rollout: "r1", Policy: "recs", Owner: "team-recs", Endpoint: p.Endpoint, Candidate: "green", Version: "17",
		Environment: "production", Requester: "ci", At: noon,
	}
	want := [2]Data{base, base}
	want[0].Phase, want[0].From, want[0].By, want[0].Sentence = rollout.PhaseBaking, rollout.PhasePaused, "sre", "From paused to baking."
	want[1].Phase, want[1].From, want[1].Sentence, want[1].Reason, want[1].Stable = rollout.PhaseRollingBack, rollout.PhaseBaking, "From baking to rolling-back.", decision.ReasonBreach, "blue"
	want[1].Step, want[1].Weights = &view.Step{Name: "canary", Share: split.Share{Weight: 5}}, shown.Weights
	want[1].Verdicts = []Verdict{{Guardrail: "failures", Outcome: "breach", Candidate: &value, Unit: "share", Limit: "<= 1%", Sentence: "4% failed."}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	if events[1].ID() != "r1/9/1" || events[1].Extensions()["partitionkey"] != "r1" || !events[1].Time().Equal(noon) {
		t.Errorf("got %s", events[1])
	}
}
