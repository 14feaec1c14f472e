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
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

// arrivals keeps the webhook router's contract for any endpoint and notes when
// the first traffic call for each comes.
type arrivals struct {
	*httptest.Server
	mu    sync.Mutex
	green map[string]int
	first map[string]time.Time
	news  chan struct{}
}

func newArrivals(tb testing.TB) *arrivals {
	a := &arrivals{green: map[string]int{}, first: map[string]time.Time{}, news: make(chan struct{}, 1)}
	show := func(w http.ResponseWriter, name string) {
		ready := map[string]any{"ready": true, "instances": 2, "concurrency": 8}
		weights := map[string]int{"blue": 100 - a.green[name]}
		if a.green[name] > 0 {
			weights["green"] = a.green[name]
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"weights": weights, "version": strconv.Itoa(a.green[name]), "deployments": map[string]any{"blue": ready, "green": ready}})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /endpoints/{name}", func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		show(w, r.PathValue("name"))
	})
	mux.HandleFunc("PUT /endpoints/{name}", func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		var in struct{ Weights map[string]int }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, "bad", http.StatusBadRequest)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		name := r.PathValue("name")
		if _, known := a.first[name]; !known {
			a.first[name] = at
		}
		a.green[name] = in.Weights["green"]
		show(w, name)
		select {
		case a.news <- struct{}{}:
		default:
		}
	})
	a.Server = httptest.NewServer(mux)
	tb.Cleanup(a.Close)
	return a
}

// wait waits until n endpoints had their first call.
func (a *arrivals) wait(tb testing.TB, n int) {
	for deadline := time.After(5 * time.Minute); ; {
		a.mu.Lock()
		have := len(a.first)
		a.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-a.news:
		case <-time.After(time.Second):
		case <-deadline:
			tb.Fatalf("%d of %d events became a traffic call in 5 minutes", have, n)
		}
	}
}

// BenchmarkEventToTraffic is the time from a release event's publishing to the
// first traffic call of its rollout: nats-server, belayd with its store on disk,
// the preflight checks of the policy, and the webhook router, all in one process.
// Give it -benchtime 200x.
func BenchmarkEventToTraffic(b *testing.B) {
	for _, burst := range []bool{false, true} {
		b.Run(map[bool]string{false: "one at a time", true: "all at once"}[burst], func(b *testing.B) {
			js, a := belayOnNATS(b, b.N)
			published := make([]time.Time, b.N)
			b.ResetTimer()
			for i := range b.N {
				body := fmt.Sprintf(`{"id":"e%d","policy":"p%d","candidate":"green","version":"1"}`, i, i)
				published[i] = time.Now()
				if _, err := js.Publish(b.Context(), "models.approved", []byte(body)); err != nil {
					b.Fatal(err)
				}
				if !burst {
					a.wait(b, i+1)
				}
			}
			a.wait(b, b.N)
			b.StopTimer()
			var took []time.Duration
			for i := range b.N {
				took = append(took, a.first[fmt.Sprintf("recs%d", i)].Sub(published[i]))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// belayOnNATS runs a belayd with n policies for n endpoints that hears events.
func belayOnNATS(b *testing.B, n int) (jetstream.JetStream, *arrivals) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: b.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	b.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		b.Fatal("nats-server is not ready")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "RELEASES", Subjects: []string{"models.>"}}); err != nil {
		b.Fatal(err)
	}
	a := newArrivals(b)
	dir := b.TempDir()
	config := fmt.Sprintf("listen: 127.0.0.1:0\nstore: {bolt: {path: belay.db}}\npolicies: [\"p*.yaml\"]\n"+
		"sources: {pods: {scrape: {targets: {recs: {blue: [%[1]q], green: [%[1]q]}}}}}\nrouters: {edge: {webhook: {url: %[2]q}}}\n"+
		"notifiers: {hook: {webhook: {url: %[1]q, secretFile: secret}}}\ntriggers: [{nats: {url: %[3]q, stream: RELEASES, subject: models.approved}}]\n",
		a.URL+"/metrics", a.URL, s.ClientURL())
	files := map[string]string{"belayd.yaml": config, "secret": canary}
	for i := range n {
		text := strings.Replace(policyText, "name: recommendations", fmt.Sprintf("name: p%d", i), 1)
		text = strings.Replace(text, "name: recs}", fmt.Sprintf("name: recs%d}\n  preflight: [{check: ready}, {check: rollback-ready}]", i), 1)
		files[fmt.Sprintf("p%d.yaml", i)] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{ConfigFile: filepath.Join(dir, "belayd.yaml"), Version: "bench", Ready: func(a string) { ready <- a }})
	}()
	select {
	case <-ready:
	case err := <-done:
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return js, a
}

// bareCatalog is a catalog of nothing: the benchmark only reads.
type bareCatalog struct{ api.Catalog }

func (bareCatalog) Policies(context.Context) []api.Policy { return nil }

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
		Release:  rollout.Release{Policy: "recommendations", Candidate: "green", Version: strconv.Itoa(i), Requester: rollout.Person{ID: "ci"}},
		Interval: 15 * time.Second,
		Steps:    []rollout.Step{{Name: "5%", Weight: 5, Bake: time.Hour}, {Name: "25%", Weight: 25, Bake: time.Hour}, {Name: "60%", Weight: 60, Bake: time.Hour}, {Name: "100%", Weight: 100, Bake: time.Hour}},
	}
	ev := rollout.Event{Kind: rollout.EventStarted, At: at}
	st := rollout.Next(p, rollout.Start(p, at), ev)
	split := rollout.Split{Weights: map[string]int{"green": 100}}
	st.Phase, st.Reason, st.Sentence, st.Outbox, st.Messages = rollout.PhasePromoted, rollout.ReasonPassed, "green is promoted.", nil, nil
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
	entry, err := json.Marshal(rollout.Entry{Seq: 1, Epoch: 1, Owner: "a", At: at, Events: []rollout.Event{ev}, State: hex.EncodeToString(sum[:])})
	if err != nil {
		return err
	}
	if _, err := s.Append(ctx, "plan/"+p.ID, plan, nil, 0); err != nil {
		return err
	}
	_, err = s.Append(ctx, "rollout/"+p.ID, entry, state, 0)
	return err
}
