package engine

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

const sizePolicy = `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recommendations, owner: team-recommendations}
spec:
  endpoint: {router: edge, name: %s}
  preflight: [{check: ready}, {check: rollback-ready}]
  interval: 15s
  settle: 1m
  bake: 30m
  steps: [5%%, 25%%, 60%%, 100%%]
  metrics:
    failures: {source: prom, counts: {total: 'requests_total', bad: 'failed_total', deployment: deployment, instance: instance}}
    latency: {source: prom, histogram: {series: 'latency_seconds', unit: s, deployment: deployment, instance: instance}}
    watched: {source: prom, counts: {total: 'plays_total', good: 'watched_total', deployment: deployment, instance: instance}}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%%"}
    - {name: p95, metric: latency, quantile: p95, limit: "<= 450ms"}
    - {name: watch-through, metric: watched, limit: ">= 0.98x stable"}
  page: [pager]
  notify: [chat]
`

// busy is a source with figures of many digits, and as many instances as told.
type busy struct{ instances int }

func (x *busy) Read(_ context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	rs := make([]analysis.Reading, len(qs))
	for i, q := range qs {
		rs[i] = analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK,
			Stable: x.sample(q, 12_000), Candidate: x.sample(q, 9_000)}
	}
	return rs, nil
}

// sample is what a deployment served in an interval: about rate events, another
// number every time, spread evenly over the instances.
func (x *busy) sample(q analysis.Query, rate float64) analysis.Sample {
	n := rate + float64(q.To.Unix()%997)
	s := analysis.Sample{Fresh: true, N: n}
	switch {
	case q.Metric.Histogram != nil:
		for i, share := range []float64{.05, .1, .2, .25, .2, .1, .06, .02, .01, .005} {
			s.Buckets = append(s.Buckets, analysis.Bucket{Upper: 0.01 * math.Pow(1.6, float64(i)), Count: math.Floor(n * share)})
		}
	case q.Metric.Counts.Good != "":
		s.K = math.Floor(n * 0.9)
	default:
		s.K = math.Floor(n * 0.001)
	}
	if x.instances > 1 {
		part := s
		share := 1 / float64(x.instances)
		part.N, part.K, part.Buckets = n*share, s.K*share, nil
		for _, b := range s.Buckets {
			part.Buckets = append(part.Buckets, analysis.Bucket{Upper: b.Upper, Count: b.Count * share})
		}
		for i := range x.instances {
			s.Instances = append(s.Instances, analysis.Instance{Name: fmt.Sprintf("10.0.3.%d:8080", 17+i), Sample: part})
		}
	}
	return s
}

// TestSize measures what a rollout takes in store/bolt: four steps and two hours
// of bake, three guardrails read every 15 s, by the real engine on a real file,
// with time that passes in a bubble. It fails where a rollout would take so much
// that 10,000 of them do not fit on an ordinary disk.
func TestSize(t *testing.T) {
	t.Parallel()
	const rollouts = 2
	for _, instances := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d instances", instances), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "belay.db")
			synctest.Test(t, func(t *testing.T) { runSized(t, file, instances, rollouts) })
			s, err := bolt.Open(file, bolt.Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }() // it was only read
			records, entries, state, plan := sizes(t, s)
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("a rollout: %d records, %d bytes of entries (%d a record), %d of state, %d of plan; the file has %d bytes a rollout",
				records/rollouts, entries/rollouts, entries/records, state/rollouts, plan/rollouts, info.Size()/rollouts)
			if got := info.Size() / rollouts; got > 4<<20 {
				t.Errorf("a rollout takes %d bytes, want at most 4 MiB", got)
			}
			if got := state / rollouts; got > 16<<10 {
				t.Errorf("a state takes %d bytes, want about 8 KiB and at most 16", got)
			}
		})
	}
}

// sizes adds up what the rollouts in a store take.
func sizes(t *testing.T, s *bolt.Store) (records, entries, state, plan int) {
	t.Helper()
	for rec, err := range s.Since(t.Context(), "", 0) {
		switch {
		case err != nil:
			t.Fatal(err)
		case len(rec.Key) > len(record.RolloutPrefix) && rec.Key[:len(record.RolloutPrefix)] == record.RolloutPrefix:
			records++
			entries += len(rec.Entry)
			state += len(rec.State)
		case len(rec.Key) > len(record.PlanPrefix) && rec.Key[:len(record.PlanPrefix)] == record.PlanPrefix:
			plan += len(rec.Entry)
		}
	}
	return records, entries, state, plan
}

// runSized carries so many rollouts to promotion on a store in a file.
func runSized(t *testing.T, file string, instances, rollouts int) {
	s, err := bolt.Open(file, bolt.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	router := &traffictest.Fake{}
	e, err := New(Config{Store: s, Leaser: store.Always{}, Owner: "one", Version: "v1.2.3", Routers: map[string]traffic.Router{"edge": router},
		Sources: map[string]analysis.Source{"prom": &busy{instances}}, Notifiers: map[string]notifier.Notifier{"pager": silent{}, "chat": silent{}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for i := range rollouts {
		startSized(t, e, router, fmt.Sprintf("recs-%d", i))
	}
	for i := range rollouts {
		awaitSized(t, s, rollout.NewID("test", fmt.Sprintf("recs-%d", i)))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// startSized starts the rollout of one endpoint.
func startSized(t *testing.T, e *Engine, router *traffictest.Fake, name string) {
	t.Helper()
	ready := traffic.Deployment{Ready: true, Instances: 4}
	router.Set(name, traffic.Split{Weights: map[string]int{"blue": 100}}, traffic.Description{
		Deployments:    map[string]traffic.Deployment{"blue": ready, "green": ready},
		ManualRollback: func(stable string) string { return "put 100 on " + stable }})
	p, ps := policies.Parse(fstest.MapFS{"p.yaml": {Data: fmt.Appendf(nil, sizePolicy, name)}}, "p.yaml", nil)
	if p == nil {
		t.Fatal(ps.Text())
	}
	plan, err := p.Compile(rollout.Release{Policy: "recommendations", Candidate: "green", Version: "2026.11.2", Source: "test", Requester: person.Person{ID: "ci"}}, rollout.NewID("test", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Start(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
}

// awaitSized waits in the bubble until a rollout is promoted and closed.
func awaitSized(t *testing.T, s *bolt.Store, id string) {
	t.Helper()
	var at rollout.State
	for deadline := time.Now().Add(8 * time.Hour); time.Now().Before(deadline); time.Sleep(time.Minute) {
		rec, err := s.Head(t.Context(), record.RolloutKey(id))
		if err != nil {
			t.Fatal(err)
		}
		if at, _, err = record.DecodeHead(rec); err != nil {
			t.Fatal(err)
		}
		if at.Closed() {
			if at.Phase != rollout.PhasePromoted {
				t.Errorf("rollout %s: got %s (%s), want promoted", id, at.Phase, at.Sentence)
			}
			return
		}
	}
	t.Errorf("rollout %s after 8 hours: got %s (%s), want it promoted", id, at.Phase, at.Sentence)
}
