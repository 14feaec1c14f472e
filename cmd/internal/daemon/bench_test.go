package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

// bareCatalog is a catalog of nothing: the benchmark only reads.
type bareCatalog struct{ api.Catalog }

func (bareCatalog) Policies(context.Context) []api.Policy             { return nil }
func (bareCatalog) PolicyText(context.Context, string) (string, bool) { return "", false }

// BenchmarkList is GET /v1/rollouts over HTTP with 10,000 rollouts in a store on
// disk, by eight clients at a time. (A daemon lets one actor ask 100 times a
// second; that limit is off here.)
func BenchmarkList(b *testing.B) {
	records, err := bolt.Open(filepath.Join(b.TempDir(), "belay.db"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = records.Close() }()
	fill(b, records, 10_000)
	e, err := engine.New(engine.Config{Store: records, Leaser: store.Always{}, Owner: "a", Version: "bench", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	s, err := api.New(api.Config{Engine: e, Catalog: bareCatalog{}, Log: slog.New(slog.DiscardHandler), Rate: 1e9, Burst: 1e9})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	hs := httptest.NewServer(s)
	defer hs.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	size := int64(0)
	get := func(path string) {
		resp, err := client.Get(hs.URL + path)
		if err != nil {
			b.Error(err)
			return
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Errorf("GET %s: got %s, %v", path, resp.Status, err)
		}
		size = n
	}
	for _, path := range []string{"/v1/rollouts", "/v1/rollouts?limit=10", "/v1/rollouts?phase=baking", "/v1/rollouts?endpoint=recs7"} {
		b.Run(path, func(b *testing.B) {
			get(path) // the list is loaded
			var mu sync.Mutex
			var took []time.Duration
			b.SetParallelism(4)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				var mine []time.Duration
				for pb.Next() {
					began := time.Now()
					get(path)
					mine = append(mine, time.Since(began))
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, mine...)
			})
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

// fill writes n promoted rollouts of 100 endpoints.
func fill(b *testing.B, s *bolt.Store, n int) {
	b.Helper()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 256)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := put(b.Context(), s, i); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}

// put writes one promoted rollout as the engine would have.
func put(ctx context.Context, s *bolt.Store, i int) error {
	at := time.Date(2026, 11, 24, 12, 0, i, 0, time.UTC)
	p := &rollout.Plan{
		SchemaVersion: 1, ID: rollout.NewID("bench", strconv.Itoa(i)), Policy: rollout.PolicyRef{Name: "recommendations", Owner: "team", Text: policyText},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: fmt.Sprintf("recs%d", i%100)}, Stable: "auto",
		Release:  rollout.Release{Policy: "recommendations", Candidate: "green", Version: strconv.Itoa(i), Requester: person.Person{ID: "ci"}},
		Interval: 15 * time.Second,
		Steps:    []rollout.Step{{Name: "5%", Share: split.Share{Weight: 5}, Bake: time.Hour}, {Name: "25%", Share: split.Share{Weight: 25}, Bake: time.Hour}, {Name: "60%", Share: split.Share{Weight: 60}, Bake: time.Hour}, {Name: "100%", Share: split.Share{Weight: 100}, Bake: time.Hour}},
	}
	ev := rollout.Event{Kind: rollout.EventStarted, At: at}
	st := rollout.Next(p, rollout.Start(p, at), ev)
	split := split.Split{Weights: map[string]int{"green": 100}}
	st.Phase, st.Reason, st.Sentence, st.Outbox, st.Messages = rollout.PhasePromoted, decision.ReasonPassed, "green is promoted.", nil, nil
	st.Step, st.Reached, st.Stable, st.Confirmed, st.Asked, st.Allowed = 3, 3, "blue", &split, &split, 100
	plan, err := json.Marshal(p)
	if err != nil {
		return err
	}
	state, err := json.Marshal(st)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(state)
	entry, err := json.Marshal(journal.Entry{Seq: 1, Epoch: 1, Owner: "a", At: at, Events: []rollout.Event{ev}, State: hex.EncodeToString(sum[:])})
	if err != nil {
		return err
	}
	if _, err := s.Append(ctx, "plan/"+p.ID, plan, nil, 0); err != nil {
		return err
	}
	_, err = s.Append(ctx, "rollout/"+p.ID, entry, state, 0)
	return err
}
