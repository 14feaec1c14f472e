package engine

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store/mem"
)

// quick is a world without checks, for figures: every read is answered at once.
type quick struct {
	bad float64
	// only is the endpoint whose candidate is bad; "" for all.
	only string
}

func (q *quick) Read(_ context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	rs := make([]analysis.Reading, len(qs))
	for i, x := range qs {
		bad := 0.001
		if q.bad > 0 && (q.only == "" || q.only == x.Names.Endpoint) {
			bad = q.bad
		}
		rs[i] = analysis.Reading{Metric: x.Metric.Name, From: x.From, To: x.To, Status: analysis.StatusOK,
			Stable: analysis.Sample{Fresh: true, N: 1000, K: 1}, Candidate: analysis.Sample{Fresh: true, N: 1000, K: 1000 * bad}}
	}
	return rs, nil
}

type silent struct{}

func (silent) Notify(context.Context, notifier.Notice) (string, error) { return "ref", nil }

// openRollouts fills a store with open rollouts that bake at 5%, each at its own
// endpoint, as an engine would have left them.
func openRollouts(b *testing.B, n int, router *traffictest.Fake) *mem.Store {
	b.Helper()
	s := mem.New()
	ctx := b.Context()
	e, err := New(Config{Store: s, Leaser: s, Owner: "one"})
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		name := fmt.Sprintf("e%05d", i)
		router.Set(name, traffic.Split{Weights: map[string]int{"blue": 95, "green": 5}}, traffic.Description{
			Deployments: map[string]traffic.Deployment{"blue": {Ready: true}, "green": {Ready: true}}})
		p := plan("r"+name, name, false)
		p.Interval, p.Panel.Interval = 15*time.Second, 15*time.Second
		p.Steps[0].Bake = 2 * time.Hour
		p.Notify = nil
		if _, _, err := e.Start(ctx, p); err != nil {
			b.Fatal(err)
		}
		bake(b, e, p)
	}
	return s
}

// bake folds a rollout up to its first bake.
func bake(b *testing.B, e *Engine, p *rollout.Plan) {
	b.Helper()
	ctx := b.Context()
	rec, err := e.cfg.Store.Head(ctx, record.RolloutKey(p.ID))
	if err != nil {
		b.Fatal(err)
	}
	s, h, err := record.DecodeHead(rec)
	if err != nil {
		b.Fatal(err)
	}
	answer := func(kind rollout.EffectKind, ev rollout.Event) {
		for _, x := range s.Outbox {
			if x.Kind == kind {
				ev.At, ev.Effect, ev.Attempt = e.now(), x.ID, x.Attempt
				s = rollout.Next(p, s, ev)
				return
			}
		}
		b.Fatalf("got outbox %v, want %s", kinds(s.Outbox), kind)
	}
	stable := split.Split{Weights: map[string]int{"blue": 100}}
	first := split.Split{Weights: map[string]int{"blue": 95, "green": 5}}
	answer(rollout.EffectClaim, rollout.Event{Kind: rollout.EventClaimed})
	if _, err := e.admission.Admit(ctx, p.Endpoint, claim.Event{Kind: claim.KindClaim, At: e.now(), Rollout: p.ID}); err != nil {
		b.Fatal(err)
	}
	answer(rollout.EffectPreflight, rollout.Event{Kind: rollout.EventPreflighted, Split: &stable})
	answer(rollout.EffectSetTraffic, rollout.Event{Kind: rollout.EventTraffic, Split: &first})
	entry, state, _, err := record.Encode(journal.Entry{Seq: h.Seq + 1, Prev: h.Hash, Epoch: h.Epoch, Owner: "one", At: e.now()}, s)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := e.append(ctx, record.RolloutKey(p.ID), entry, state, h.Revision); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSteady is the processor time that 10,000 open rollouts cost, read every
// 15 s with their splits, appends and all; one operation is 30 s.
func BenchmarkSteady(b *testing.B) {
	const many = 10_000
	router := &traffictest.Fake{}
	s := openRollouts(b, many, router)
	e, err := New(Config{Store: s, Leaser: s, Owner: "one", Routers: map[string]traffic.Router{"edge": router},
		Sources: map[string]analysis.Source{"prom": &quick{}}, Notifiers: map[string]notifier.Notifier{"pager": silent{}, "chat": silent{}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for e.carried() < many {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(5 * time.Second)
	b.ResetTimer()
	before := processorTime(b)
	for b.Loop() {
		time.Sleep(30 * time.Second)
	}
	used := processorTime(b) - before
	b.ReportMetric(used.Seconds()/b.Elapsed().Seconds()*100, "%cpu")
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapInuse)/(1<<20), "MiB")
	cancel()
	<-done
}

// processorTime is what this process has used so far.
func processorTime(b testing.TB) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDecision is the time from a reading that breaches to the traffic call
// that rolls back, on a store in memory: of one rollout among a thousand that are
// read at the same instant, and of a hundred that all breach at once.
func BenchmarkDecision(b *testing.B) {
	for _, c := range []struct {
		name string
		open int
		bad  string // the endpoint that breaches; "" for all
		want uint64
	}{{"one-of-1000", 1000, "e00500", 1}, {"100-of-100", 100, "", 100}} {
		b.Run(c.name, func(b *testing.B) {
			var sum, n float64
			for b.Loop() {
				count, seconds := decide(b, c.open, &quick{bad: 0.5, only: c.bad}, c.want)
				sum += seconds
				n += float64(count)
			}
			b.ReportMetric(sum/n*1e6, "µs/decision")
		})
	}
}

// decide runs open rollouts until so many were rolled back.
func decide(b *testing.B, open int, source *quick, want uint64) (count uint64, seconds float64) {
	b.Helper()
	router := &traffictest.Fake{}
	s := openRollouts(b, open, router)
	reg := prometheus.NewRegistry()
	e, err := New(Config{Store: s, Leaser: s, Owner: "one", Routers: map[string]traffic.Router{"edge": router},
		Sources: map[string]analysis.Source{"prom": source}, Registerer: reg,
		Notifiers: map[string]notifier.Notifier{"pager": silent{}, "chat": silent{}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for count < want {
		time.Sleep(50 * time.Millisecond)
		count, seconds = decisions(b, reg)
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return count, seconds
}

// decisions reads the engine's own histogram of decisions.
func decisions(b *testing.B, reg *prometheus.Registry) (count uint64, seconds float64) {
	b.Helper()
	mfs, err := reg.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, mf := range mfs {
		if mf.GetName() == "belay_decision_seconds" {
			h := mf.Metric[0].GetHistogram()
			return h.GetSampleCount(), h.GetSampleSum()
		}
	}
	return 0, 0
}

// BenchmarkQueue is the processor time of as many releases that come for one endpoint
// one after the other and wait there, until the last knows its place, and then of one
// that supersedes them all, until each has heard it and is closed. What it takes for
// twice as many should be little more than twice as much: the exponent says how much.
func BenchmarkQueue(b *testing.B) {
	var before float64
	for _, n := range []int{500, 1000, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var used time.Duration
			for b.Loop() {
				used += queued(b, n)
			}
			took := used.Seconds() / float64(b.N)
			b.ReportMetric(took, "cpu-s/op")
			if before > 0 {
				b.ReportMetric(math.Log2(took/before), "exponent")
			}
			before = took
		})
	}
}

// queued lets n releases wait behind one that bakes, and one more supersede them.
func queued(b *testing.B, n int) time.Duration {
	b.Helper()
	router := &traffictest.Fake{}
	s := openRollouts(b, 1, router)
	e, err := New(Config{Store: s, Leaser: s, Owner: "one", Queue: n, Routers: map[string]traffic.Router{"edge": router},
		Sources: map[string]analysis.Source{"prom": &quick{}}, Notifiers: map[string]notifier.Notifier{"pager": silent{}, "chat": silent{}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for e.carried() < 1 {
		time.Sleep(10 * time.Millisecond)
	}
	began := processorTime(b)
	begin := func(id string, c rollout.Concurrency) {
		p := plan(id, "e00000", false)
		p.Release.Version, p.Concurrency, p.Notify = id, c, nil
		if _, _, err := e.Start(ctx, p); err != nil {
			b.Fatal(err)
		}
	}
	ahead := func(id string) string {
		snap, err := e.Rollout(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		return snap.State.BlockedBy
	}
	name := func(i int) string { return fmt.Sprintf("q%05d", i) }
	for i := range n {
		begin(name(i), rollout.ConcurrencyQueue)
	}
	for i := 1; i < n; i++ { // Claims that come at once may have come in another order.
		for ahead(name(i)) == "" {
			time.Sleep(time.Millisecond)
		}
	}
	begin("newest", rollout.ConcurrencySupersede)
	for e.carried() > 1 {
		time.Sleep(time.Millisecond)
	}
	used := processorTime(b) - began
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return used
}
