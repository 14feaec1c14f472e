package succession

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

// BenchmarkReplace is what a reload costs with 500 rollouts on a store on a disk: until the
// next engine is in force, during which orders wait, and until it carries all of them.
func BenchmarkReplace(b *testing.B) {
	const n = 500
	disk, err := bolt.Open(filepath.Join(b.TempDir(), "belay.db"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	reg, router := prometheus.NewRegistry(), &traffictest.Fake{}
	one := func() *engine.Engine {
		steady := analysistest.Steady(analysistest.Rates{StableN: 1e5, StableK: 10, CandidateN: 1e5, CandidateK: 10})
		e, err := engine.New(engine.Config{
			Store: disk, Leaser: store.Always{}, Owner: "one", Version: "test", Registerer: reg,
			Routers: map[string]traffic.Router{"edge": router},
			Sources: map[string]analysis.Source{"prom": analysistest.NewFake(steady)}, Notifiers: map[string]notifier.Notifier{"pager": pager{}},
		})
		if err != nil {
			b.Fatal(err)
		}
		return e
	}
	carried := func() (rollouts float64) {
		mfs, err := reg.Gather()
		if err != nil {
			b.Fatal(err)
		}
		for _, mf := range mfs {
			for _, m := range mf.Metric {
				if mf.GetName() == "belay_rollouts" {
					rollouts += m.GetGauge().GetValue()
				}
			}
		}
		return rollouts
	}
	h := &house{router: router, Engines: New(one())}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	for i := range n {
		name := fmt.Sprintf("e%d", i)
		router.Set(name, traffic.Split{Weights: map[string]int{"blue": 100}}, traffic.Description{
			Deployments: map[string]traffic.Deployment{"blue": {Ready: true, Instances: 2}, "green": {Ready: true, Instances: 2, Version: "v2"}},
		})
		if err := h.start(b.Context(), "r"+name, name); err != nil {
			b.Fatal(err)
		}
	}
	settle := func() {
		for carried() < n {
			time.Sleep(5 * time.Millisecond)
		}
	}
	settle()
	time.Sleep(3 * time.Second) // until they bake
	var inForce, all time.Duration
	for b.Loop() {
		began := time.Now()
		if err := h.Replace(b.Context(), one(), nil, func() {}); err != nil {
			b.Fatal(err)
		}
		inForce += time.Since(began)
		settle()
		all += time.Since(began)
	}
	b.ReportMetric(float64(inForce.Milliseconds())/float64(b.N), "ms-in-force/op")
	b.ReportMetric(float64(all.Milliseconds())/float64(b.N), "ms-carried/op")
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
