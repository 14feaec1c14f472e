package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// noCatalog is a catalog of nothing: the benchmark only reads.
type noCatalog struct{}

func (noCatalog) Plan(context.Context, string, rollout.Release) (*rollout.Plan, error) {
	return nil, api.ErrNoPolicy
}

func (noCatalog) PlanText(context.Context, string, rollout.Release, []byte) (*rollout.Plan, document.Problems) {
	return nil, nil
}
func (noCatalog) Policies(context.Context) []api.Policy                   { return nil }
func (noCatalog) PolicyText(context.Context, string) (string, bool)       { return "", false }
func (noCatalog) Check(context.Context, string, []byte) document.Problems { return nil }
func (noCatalog) Endpoints(context.Context) []api.Endpoint                { return nil }
func (noCatalog) Sources(context.Context) []api.SourceLook                { return nil }
func (noCatalog) Endpoint(context.Context, rollout.EndpointRef) (api.Endpoint, bool) {
	return api.Endpoint{}, false
}

// BenchmarkTenThousand is `belay list` and `belay status` against a daemon's API
// with 10,000 rollouts in its store: the command line, HTTP, and the engine.
func BenchmarkTenThousand(b *testing.B) {
	st := mem.New()
	e, err := engine.New(engine.Config{Store: st, Leaser: store.Always{}, Owner: "a", Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	plan := benchPlan()
	for i := range 10_000 {
		p := *plan
		p.ID = rollout.NewID("bench", fmt.Sprint(i))
		if _, _, err := e.Start(b.Context(), &p); err != nil {
			b.Fatal(err)
		}
	}
	server, err := api.New(api.Config{Engine: e, Catalog: noCatalog{}, Log: slog.New(slog.DiscardHandler), Rate: 1e9, Burst: 1e9})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	h := httptest.NewServer(server)
	defer h.Close()
	s := &shell{vars: map[string]string{}}
	run := func(want int, args ...string) {
		s.out.Reset()
		s.err.Reset()
		env := s.env()
		if got := env.run(ctx, append(args, "--server", h.URL)); got != want {
			b.Fatalf("belay %v: got %d, want %d: %s", args, got, want, s.err.String())
		}
	}
	run(exitOK, "list") // waits until the board is loaded
	for _, c := range []struct {
		name string
		want int
		args []string
	}{{"list", exitOK, []string{"list"}}, {"status", exitRunning, []string{"status", rollout.NewID("bench", "77")}}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				run(c.want, c.args...)
			}
		})
	}
}

func benchPlan() *rollout.Plan {
	return &rollout.Plan{
		SchemaVersion: 1, Release: rollout.Release{Policy: "recs", Candidate: "green", Version: "7"}, Policy: rollout.PolicyRef{Name: "recs", Owner: "a", Hash: "0"},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Stable: "auto", Interval: time.Second,
		Steps: []rollout.Step{{Name: "5%", Share: split.Share{Weight: 5}, Bake: time.Minute}, {Name: "100%", Share: split.Share{Weight: 100}, Bake: time.Minute}},
	}
}
