package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

const storedPolicy = `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recommendations, owner: team-recommendations}
spec:
  endpoint: {router: edge, name: recs}
  preflight: [{check: ready}, {check: rollback-ready}]
  interval: 15s
  settle: 1m
  bake: 30m
  steps: [5%, 25%, 60%, 100%]
  metrics:
    failures: {source: prom, counts: {total: 'requests_total', bad: 'failed_total', deployment: deployment}}
    latency: {source: prom, histogram: {series: 'latency_seconds', unit: s, deployment: deployment}}
    watched: {source: prom, counts: {total: 'plays_total', good: 'watched_total', deployment: deployment}}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%"}
    - {name: p95, metric: latency, quantile: p95, limit: "<= 450ms"}
    - {name: watch-through, metric: watched, limit: ">= 0.98x stable"}
  page: [pager]
  notify: [chat]
`

// BenchmarkStoreFile is `belay list` and `belay status`, each as a process, on a
// store's file with 10,000 rollouts of four steps and three guardrails, all of
// them finished or all of them open. The states, plans and entries are those of a
// simulated rollout; a journal is cut down to so many entries (4;
// BELAY_BENCH_ENTRIES says otherwise, the engine writes about 270), because the
// file would be larger than most disks. The metrics are the median and the
// slowest run in milliseconds, and the size of the file in MB.
func BenchmarkStoreFile(b *testing.B) {
	binary := realtest.Build(b, "belay")
	entries := 4
	if n, err := strconv.Atoi(os.Getenv("BELAY_BENCH_ENTRIES")); err == nil {
		entries = n
	}
	for _, kind := range []string{"finished", "open"} {
		file, size, id := storeFile(b, kind == "finished", 10_000, entries)
		for _, c := range []struct {
			name string
			code int
			args []string
		}{
			{"list", exitOK, []string{"list"}},
			{"list-open", exitOK, []string{"list", "--phase", "open"}},
			{"list-endpoint", exitOK, []string{"list", "--endpoint", "edge/recs"}},
			{"list-owner-none", exitOK, []string{"list", "--owner", "team-of-nobody"}},
			{"status", map[string]int{"finished": exitOK, "open": exitRunning}[kind], []string{"status", id}},
		} {
			b.Run(kind+"/"+c.name, func(b *testing.B) {
				var took []float64
				for b.Loop() {
					cmd := exec.CommandContext(b.Context(), binary, append(c.args, "--store", file)...) //nolint:gosec // Built above.
					var errs bytes.Buffer
					cmd.Stderr = &errs
					began := time.Now()
					_ = cmd.Run() // the code says how it ended
					took = append(took, float64(time.Since(began).Microseconds())/1000)
					if got := cmd.ProcessState.ExitCode(); got != c.code {
						b.Fatalf("belay %v: got %d, want %d: %s", c.args, got, c.code, errs.String())
					}
				}
				slices.Sort(took)
				b.ReportMetric(took[len(took)/2], "ms-median")
				b.ReportMetric(took[len(took)-1], "ms-max")
				b.ReportMetric(float64(size)/1e6, "file-MB")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// storeFile makes a store of so many rollouts and returns its file, the file's
// size and the id of one of the rollouts.
func storeFile(b *testing.B, finished bool, rollouts, entries int) (file string, size int64, id string) {
	b.Helper()
	file = filepath.Join(b.TempDir(), "belay.db")
	st, err := bolt.Open(file, bolt.Options{Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	template := rollout.NewID("bench", "template")
	plan, state, journal := storedRollout(b, template, finished, entries)
	var wg sync.WaitGroup
	for w := range 256 {
		wg.Go(func() {
			for i := w; i < rollouts; i += 256 {
				if err := putRollout(b.Context(), st, template, rollout.NewID("bench", strconv.Itoa(i)), plan, state, journal); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := st.Close(); err != nil || b.Failed() {
		b.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	return file, info.Size(), rollout.NewID("bench", strconv.Itoa(rollouts/2))
}

// putRollout writes a rollout's records under another id, with its journal
// chained anew.
func putRollout(ctx context.Context, st *bolt.Store, template, id string, plan, state []byte, entries []journal.Entry) error {
	named := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(template), []byte(id)) }
	if _, err := st.Append(ctx, "plan/"+id, named(plan), nil, 0); err != nil {
		return err
	}
	prev, head := "", store.Revision(0)
	state = named(state)
	for _, e := range entries {
		e.Prev = prev
		b, err := json.Marshal(e)
		if err != nil {
			return err
		}
		b = named(b)
		sum := sha256.Sum256(b)
		prev = hex.EncodeToString(sum[:])
		if head, err = st.Append(ctx, "rollout/"+id, b, state, head); err != nil {
			return err
		}
	}
	return nil
}

// storedRollout simulates a rollout to its end, or to the middle of its third
// step, and returns its plan, its state and the last entries of its journal.
func storedRollout(b testing.TB, id string, finished bool, most int) (plan, state []byte, entries []journal.Entry) {
	b.Helper()
	policy, ps := policies.Parse(fstest.MapFS{"p.yaml": {Data: []byte(storedPolicy)}}, "p.yaml", nil)
	if policy == nil {
		b.Fatal(ps.Text())
	}
	p, err := policy.Compile(rollout.Release{Policy: "recommendations", Candidate: "green", Version: "2026.11.24-1", Requester: person.Person{ID: "ann"}}, id)
	if err != nil {
		b.Fatal(err)
	}
	w := sim.New(sim.Config{Start: now, Split: split.Split{Weights: map[string]int{"blue": 100}}, Source: &sim.Traffic{
		Seed: 7, RPS: sim.Steady(800), Bounds: []float64{.01, .016, .026, .041, .066, .1, .17, .27, .43, .69}, Cell: 15 * time.Second,
		Model: func(string, time.Time, int) sim.Model {
			return sim.Model{Rates: map[string]float64{"failures": .001, "watched": .9}, P95: .2, Sigma: .5}
		},
	}})
	run := w.Begin(p)
	w.Watch = func(_ *sim.World, r *sim.Run, l sim.Line) {
		sum, err := stateHash(r.State)
		if err != nil {
			b.Fatal(err)
		}
		entries = append(entries, journal.Entry{Seq: len(entries) + 1, Epoch: 1, Owner: "one", Version: "v1.2.3", At: l.Event.At, Events: []rollout.Event{l.Event}, Decisions: l.Decisions, State: sum})
	}
	until := now.Add(75 * time.Minute)
	if finished {
		until = now.Add(24 * time.Hour)
	}
	if ended := w.Run(until); ended != finished {
		b.Fatalf("the simulated rollout: got ended=%t in phase %s, want %t", ended, run.State.Phase, finished)
	}
	entries = entries[max(0, len(entries)-most):]
	if plan, err = json.Marshal(p); err != nil {
		b.Fatal(err)
	}
	if state, err = json.Marshal(run.State); err != nil {
		b.Fatal(err)
	}
	total := 0
	for _, e := range entries {
		x, err := json.Marshal(e)
		if err != nil {
			b.Fatal(err)
		}
		total += len(x)
	}
	b.Logf("a rollout that is %s: plan %d bytes, state %d, %d entries of about %d", run.State.Phase, len(plan), len(state), len(entries), total/len(entries))
	return plan, state, entries
}
