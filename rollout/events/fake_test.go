package events

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/realtest/natstest"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/store"
)

// journals are rollouts in a real store, with the engine's keys.
type journals struct {
	store store.Store

	mu    sync.Mutex
	plans map[string]*rollout.Plan
	seq   map[string]int
	head  map[string]store.Revision
	news  chan struct{}
}

func newJournals(s store.Store) *journals {
	return &journals{store: s, plans: map[string]*rollout.Plan{}, seq: map[string]int{}, head: map[string]store.Revision{}, news: make(chan struct{})}
}

// add appends an entry with these changes of phase to a rollout's journal.
func (j *journals) add(t testing.TB, id string, changes ...journal.PhaseChange) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.plans[id] == nil {
		j.plans[id] = planOf(id)
	}
	j.seq[id]++
	b, err := json.Marshal(journal.Entry{Seq: j.seq[id], At: noon, Phases: changes})
	if err != nil {
		t.Fatal(err)
	}
	rev, err := j.store.Append(context.Background(), "rollout/"+id, b, []byte("{}"), j.head[id])
	if err != nil {
		t.Fatal(err)
	}
	j.head[id] = rev
	close(j.news)
	j.news = make(chan struct{})
}

// Changes implements Rollouts.
func (j *journals) Changes(ctx context.Context, after uint64) iter.Seq2[journal.Change, error] {
	return func(yield func(journal.Change, error) bool) {
		last := store.Revision(after)
		for ctx.Err() == nil {
			j.mu.Lock()
			news := j.news
			j.mu.Unlock()
			for rec, err := range j.store.Since(ctx, "rollout/", last) {
				if ctx.Err() != nil {
					return
				}
				c := journal.Change{Revision: uint64(rec.Revision), Rollout: strings.TrimPrefix(rec.Key, "rollout/")}
				if err == nil {
					err = json.Unmarshal(rec.Entry, &c.Entry)
				}
				if !yield(c, err) || err != nil {
					return
				}
				last = rec.Revision
			}
			select {
			case <-news:
			case <-ctx.Done():
			}
		}
	}
}

// Rollout implements Rollouts.
func (j *journals) Rollout(_ context.Context, id string) (rollout.Snapshot, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p, ok := j.plans[id]; ok && p == nil {
		return rollout.Snapshot{}, fmt.Errorf("decode %s: %w", id, rollout.ErrFormat)
	} else if ok {
		return rollout.Snapshot{Plan: p}, nil
	}
	return rollout.Snapshot{}, rollout.ErrNotFound
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// planOf is a plan with a shadow, a canary and a full step, whose release names
// what CDEvents need.
func planOf(id string) *rollout.Plan {
	return &rollout.Plan{
		ID: id, Policy: rollout.PolicyRef{Name: "recs", Owner: "team-recs"}, Endpoint: rollout.EndpointRef{Router: "azureml-prod", Name: "recs.eu"},
		Release: rollout.Release{Candidate: "green", Version: "17", Artifact: "pkg:mlflow/ranker@17", Environment: "production", Requester: person.Person{ID: "ci"}},
		Steps:   []rollout.Step{{Name: "shadow", Share: split.Share{Mirror: 10}}, {Name: "canary", Share: split.Share{Weight: 5}}, {Name: "full", Share: split.Share{Weight: 100}}},
	}
}

// to is a change of phase.
func to(from, to rollout.Phase) journal.PhaseChange {
	return journal.PhaseChange{From: from, To: to, At: noon, Sentence: fmt.Sprintf("From %s to %s.", from, to)}
}

// reached is a step's weight that was read back.
func reached(step string, weight int) journal.PhaseChange {
	c := to(rollout.PhaseShifting, rollout.PhaseBaking)
	c.Step, c.Reached, c.Stable = step, true, "blue"
	c.Confirmed = &split.Split{Weights: map[string]int{"blue": 100 - weight, "green": weight}}
	return c
}

// open returns a client with the stream EVENTS, which forgets ids after window.
func open(s *natstest.Server, window time.Duration) jetstream.JetStream {
	return s.Open(jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"belay.events.>"}, Storage: jetstream.FileStorage, Duplicates: window,
	})
}

// messages are all that the stream holds, in its order.
func messages(t testing.TB, js jetstream.JetStream) []*jetstream.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(t.Context(), "EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []*jetstream.RawStreamMsg
	for n := info.State.FirstSeq; n <= info.State.LastSeq && info.State.Msgs > 0; n++ {
		m, err := s.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// count is how many messages the stream holds; 0 where it cannot be asked.
func count(t testing.TB, js jetstream.JetStream) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s, err := js.Stream(ctx, "EVENTS")
	if err != nil {
		return 0
	}
	return s.CachedInfo().State.Msgs
}

// ids are the ids of messages, in order.
func ids(ms []*jetstream.RawStreamMsg) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Header.Get("ce-id"))
	}
	return out
}
