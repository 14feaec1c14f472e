package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/cmd/internal/version"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/view"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

// compiled is a plan of the test's policy, with a limit in it.
func compiled(t *testing.T, bake string) (*rollout.Plan, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "recs.yaml")
	text := strings.ReplaceAll(`apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recs, owner: team-a}
spec:
  endpoint: {router: edge, name: recs}
  preflight: [{check: ready}]
  interval: 1s
  settle: 1s
  steps: [5%, 100%]
  bake: BAKE
  maxExtend: 10s
  metrics:
    failures: {source: prom, counts: {total: 'requests_total', bad: 'failed_total', deployment: deployment}}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%", detect: "50%"}
  page: [pager]
`, "BAKE", bake)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, ps := policies.Parse(os.DirFS(filepath.Dir(file)), "recs.yaml", nil)
	if p == nil {
		t.Fatal(ps.Text())
	}
	plan, err := p.Compile(rollout.Release{Policy: "recs", Candidate: "green", Version: "7", Requester: person.Person{ID: "ann"}}, "r1")
	if err != nil {
		t.Fatal(err)
	}
	return plan, file
}

// journalled folds a rollout up to its first step and some readings and returns
// its journal, chained as the engine chains it.
func journalled(t *testing.T, plan *rollout.Plan) *fakeReader {
	t.Helper()
	f := &fakeReader{plan: plan, state: rollout.Start(plan, now)}
	prev := ""
	commit := func(events ...rollout.Event) {
		t.Helper()
		e := journal.Entry{Seq: len(f.entries) + 1, Prev: prev, Epoch: 1, Owner: "a", Version: version.Of(), Events: events}
		for _, ev := range events {
			f.state = rollout.Next(plan, f.state, ev)
			e.At = ev.At
			e.Decisions = append(e.Decisions, f.state.Last.Decisions...)
		}
		var err error
		if e.State, err = stateHash(f.state); err != nil {
			t.Fatal(err)
		}
		f.entries = append(f.entries, e)
		if prev, err = e.Hash(); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(at time.Time, kind rollout.EffectKind, ev rollout.Event) rollout.Event {
		t.Helper()
		for _, x := range f.state.Outbox {
			if x.Kind == kind {
				ev.At, ev.Effect, ev.Attempt = at, x.ID, x.Attempt
				return ev
			}
		}
		t.Fatalf("no %s in the outbox of phase %s: %+v", kind, f.state.Phase, f.state.Outbox)
		return ev
	}
	blue, split := &split.Split{Weights: map[string]int{"blue": 100}}, &split.Split{Weights: map[string]int{"blue": 95, "green": 5}}
	hash, err := journal.PlanHash(plan)
	if err != nil {
		t.Fatal(err)
	}
	commit(rollout.Event{Kind: rollout.EventStarted, At: now, Plan: hash})
	commit(answer(now, rollout.EffectClaim, rollout.Event{Kind: rollout.EventClaimed}))
	commit(answer(now, rollout.EffectPreflight, rollout.Event{Kind: rollout.EventPreflighted, Split: blue, Checks: []check.Result{{Check: "ready", OK: true}}}))
	at := now.Add(time.Second)
	commit(answer(at, rollout.EffectSetTraffic, rollout.Event{Kind: rollout.EventTraffic, Split: split}))
	commit(rollout.Event{Kind: rollout.EventCommanded, At: at.Add(2 * time.Second), Command: rollout.CommandPause, By: &person.Person{ID: "ann"}, Reason: "lunch", Key: "k1"})
	commit(rollout.Event{Kind: rollout.EventCommanded, At: at.Add(5 * time.Second), Command: rollout.CommandResume, By: &person.Person{ID: "ann"}, Reason: "back", Key: "k2"})
	return f
}

// The metrics of a policy may stand in belayd's config: replay finds them there,
// and says how where it was not told of it.
func TestReplayWithConfig(t *testing.T) {
	plan, file := compiled(t, "30s")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	kept := ""
	for _, l := range lines {
		if !strings.HasPrefix(l, "  metrics:") && !strings.HasPrefix(l, "    failures: {source") {
			kept += l
		}
	}
	if err := os.WriteFile(file, []byte(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := planFrom(file, nil, plan); err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("without the config: got %v, want the remedy", err)
	}
	names := &policies.Environment{Routers: map[string]string{"edge": "webhook"}, Sources: map[string]string{"prom": "prometheus"}, Notifiers: map[string]string{"pager": "webhook"},
		Metrics: map[string]policies.Metric{"failures": {Source: "prom", Counts: &policies.Counts{Total: "requests_total", Bad: "failed_total", Deployment: "deployment"}}}}
	if got, err := planFrom(file, names, plan); err != nil || len(got.Panel.Metrics) != 1 {
		t.Errorf("with the config: got %v, %v, want a plan with its metric", got, err)
	}
}

// A replay gives the same states; a changed journal does not; another policy is
// followed up to the first decision that it takes differently.
func TestReplay(t *testing.T) {
	plan, _ := compiled(t, "30s")
	s := newShell(t)
	run := func(f *fakeReader, policy string) (replayed, error) {
		s.out.Reset()
		err := replay(t.Context(), s.env(), f, "r1", policy, nil, "json")
		var out replayed
		if jerr := json.Unmarshal(s.out.Bytes(), &out); jerr != nil {
			t.Fatalf("%v: %s", jerr, s.out.String())
		}
		return out, err
	}
	f := journalled(t, plan)
	if out, err := run(f, ""); err != nil || !out.Same || out.States != 6 || out.Entries != 6 {
		t.Errorf("replay: got %+v, %v, want 6 of 6 the same", out, err)
	}
	f.entries[4].Decisions = []decision.Decision{{Kind: decision.Promote, Sentence: "All is well."}}
	if out, err := run(f, ""); err == nil || out.Same || len(out.Differences) != 1 || out.Differences[0].Seq != 5 {
		t.Errorf("replay of a changed decision: got %+v, %v", out, err)
	}
	f = journalled(t, plan)
	f.entries[3].State = "0000"
	if out, err := run(f, ""); err == nil || out.Same || out.States != 5 {
		t.Errorf("replay of a changed state by the same version: got %+v, %v", out, err)
	}
	f.entries[3].Version = "of long ago"
	if out, err := run(f, ""); err != nil || !out.Same || len(out.Differences) != 1 {
		t.Errorf("replay of another version's state with the same decisions: got %+v, %v", out, err)
	}
	_, longer := compiled(t, "60s")
	if out, err := run(journalled(t, plan), longer); err != nil || !out.Same {
		t.Errorf("replay under a longer bake: got %+v, %v, want the same decisions", out, err)
	}
	text, err := os.ReadFile(longer)
	if err != nil {
		t.Fatal(err)
	}
	steeper := filepath.Join(t.TempDir(), "steeper.yaml")
	if err := os.WriteFile(steeper, bytes.Replace(text, []byte("[5%, 100%]"), []byte("[10%, 100%]"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(journalled(t, plan), steeper)
	if err == nil || out.Same || len(out.Differences) != 1 || out.Differences[0].Seq != 3 {
		t.Errorf("replay under a steeper ladder: got %+v, %v, want entry 3 to differ", out, err)
	}
	if err := os.WriteFile(steeper, []byte("spec: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.env().exit("belay replay", replay(t.Context(), s.env(), f, "r1", steeper, nil, "table")) != exitInvalid {
		t.Error("replay under a policy that is not valid: want exit code 3")
	}
}

// explain folds the journal up to an instant.
func TestExplainAt(t *testing.T) {
	plan, _ := compiled(t, "30s")
	f := journalled(t, plan)
	for at, want := range map[string]rollout.Phase{
		"+500ms": rollout.PhaseShifting, "+2s": rollout.PhaseBaking, "10:00:34": rollout.PhasePaused, "2026-11-24T10:00:37Z": rollout.PhaseBaking,
	} {
		s := newShell(t)
		if err := explain(t.Context(), s.env(), f, "r1", at, "json"); err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		var x explanation
		if err := json.Unmarshal(s.out.Bytes(), &x); err != nil {
			t.Fatal(err)
		}
		if x.Rollout.Phase != want {
			t.Errorf("at %s: got phase %s, want %s", at, x.Rollout.Phase, want)
		}
	}
	s := newShell(t)
	if err := explain(t.Context(), s.env(), f, "r1", "", "table"); err != nil {
		t.Fatal(err)
	}
	golden(t, "explain.txt", s.out.String())
	s.out.Reset()
	if err := historyTable(s.env(), &s.out, f.entries); err != nil {
		t.Fatal(err)
	}
	golden(t, "history.txt", s.out.String())
	if _, err := asOf(t.Context(), f, "r1", now.Add(-time.Second)); err == nil {
		t.Error("before the beginning: got no error")
	}
}

// Everything that reads works on the store's file, without a daemon.
func TestStoreFile(t *testing.T) {
	plan, _ := compiled(t, "30s")
	file := filepath.Join(t.TempDir(), "belay.db")
	st, err := bolt.Open(file, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Config{Store: st, Leaser: store.Always{}, Owner: "a", Version: version.Of()})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Start(context.Background(), plan); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	s := newShell(t)
	if got := s.want(exitOK, "list", "--store", file, "--output", "name"); got != "r1\n" {
		t.Errorf("list: got %q", got)
	}
	if got := s.want(exitOK, "list", "--store", file, "--output", "name", "--phase", "promoted"); got != "" {
		t.Errorf("list of the promoted: got %q", got)
	}
	var r view.Rollout
	if err := json.Unmarshal([]byte(s.want(exitRunning, "status", "r1", "--store", file, "--output", "json")), &r); err != nil || r.Phase != rollout.PhaseQueued {
		t.Errorf("status: got %+v, %v", r, err)
	}
	for _, line := range []string{"explain r1", "history r1", "replay r1", "audit verify r1", "audit verify"} {
		s.want(exitOK, append(strings.Fields(line), "--store", file)...)
	}
	s.want(exitError, "status", "r2", "--store", file)
	s.want(exitError, "list", "--store", file+".none")
	if _, err := os.Stat(file + ".none"); err == nil {
		t.Error("reading a store that is not there made one")
	}
}
