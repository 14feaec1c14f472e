package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/realtest/natstest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// run runs a publisher until the test ends or stop is called.
func run(t testing.TB, url string, j *journals, change ...func(*Config)) (p *Publisher, stop func()) {
	t.Helper()
	c := Config{Sink: "nats", URL: url, SubjectPrefix: "belay.events", Rollouts: j, Store: j.store, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&c)
	}
	p, err := Open(t.Context(), c)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
	t.Cleanup(stop)
	return p, stop
}

// begin opens the sink's cursor before anything happens, as belayd does.
func begin(t testing.TB, j *journals) {
	t.Helper()
	if _, err := (&cursor{store: j.store, sink: "nats"}).open(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// life appends a rollout's whole life: n entries, of which every second enters a
// phase.
func life(t testing.TB, j *journals, id string, n int) (want []string) {
	t.Helper()
	phases := []journal.PhaseChange{to("", rollout.PhaseQueued), reached("canary", 5), reached("full", 100)}
	for i := range n {
		if i%2 == 1 {
			j.add(t, id)
			continue
		}
		j.add(t, id, phases[min(i/2, 2)])
		want = append(want, fmt.Sprintf("%s/%d/0", id, i+1))
	}
	return want
}

// of keeps the ids of one rollout.
func of(ids []string, rollout string) (out []string) {
	for _, id := range ids {
		if strings.HasPrefix(id, rollout+"/") {
			out = append(out, id)
		}
	}
	return out
}

// What happened before the publisher runs and what happens meanwhile arrives, in
// the order of the commits, as CloudEvents in binary mode whose id is the
// Nats-Msg-Id.
func TestPublish(t *testing.T) {
	s := natstest.Serve(t)
	js := open(s, time.Minute)
	j := newJournals(mem.New())
	begin(t, j)
	want := life(t, j, "r1", 3)
	reg := prometheus.NewRegistry()
	p, _ := run(t, s.ClientURL(), j, func(c *Config) { c.Registerer = reg })
	realtest.Eventually(t, "the first events", func() bool { return count(t, js) == uint64(len(want)) })
	want = append(want, life(t, j, "r2", 5)...)
	realtest.Eventually(t, "all events", func() bool { return count(t, js) == uint64(len(want)) })
	got := messages(t, js)
	if diff := cmp.Diff(want, ids(got)); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	m := got[1]
	e, err := binding.ToEvent(t.Context(), nats_jetstream.NewMessage(&nats.Msg{Header: m.Header, Data: m.Data}))
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	if m.Subject != "belay.events.recs_eu.baking" || m.Header.Get(nats.MsgIdHdr) != e.ID() || e.Type() != "dev.cdevents.service.deployed.0.3.0" ||
		e.Source() != "/belay" || e.Subject() != "azureml-prod/recs.eu" || e.DataContentType() != "application/json" {
		t.Errorf("got %s %v\n%s", m.Subject, m.Header, e)
	}
	if err := p.Err(); err != nil {
		t.Errorf("Err: got %v, want nil", err)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(fmt.Sprintf(`
# HELP belay_events_published_total Lifecycle events handed to a sink, by outcome (ok, duplicate, error, unreadable).
# TYPE belay_events_published_total counter
belay_events_published_total{outcome="duplicate",sink="nats"} 0
belay_events_published_total{outcome="error",sink="nats"} 0
belay_events_published_total{outcome="ok",sink="nats"} %d
belay_events_published_total{outcome="unreadable",sink="nats"} 0
# HELP belay_events_waiting_seconds For how long the oldest lifecycle event has been waiting for its sink; 0 when none waits.
# TYPE belay_events_waiting_seconds gauge
belay_events_waiting_seconds{sink="nats"} 0
`, len(want)))); err != nil {
		t.Error(err)
	}
}

// An event of no rollout goes beside the others, once however often it is sent, and
// the cursor knows nothing of it.
func TestAnnounce(t *testing.T) {
	s := natstest.Serve(t)
	js := open(s, time.Minute)
	j := newJournals(mem.New())
	p, _ := run(t, s.ClientURL(), j)
	before := p.position()
	for range 3 {
		if err := p.Announce(t.Context(), "audit/2026-11-30", "belay.audit.head", "audit.head", time.Unix(1764460800, 0), map[string]string{"head": "7-2-ab"}); err != nil {
			t.Fatal(err)
		}
	}
	got := messages(t, js)
	if len(got) != 1 || got[0].Subject != "belay.events.audit.head" || got[0].Header.Get("ce-type") != "belay.audit.head" || string(got[0].Data) != `{"head":"7-2-ab"}` {
		t.Errorf("got %d messages, %+v, want one head", len(got), got)
	}
	if p.position() != before {
		t.Errorf("the cursor went from %d to %d", before, p.position())
	}
	s.Stop()
	if err := p.Announce(t.Context(), "audit/2026-12-01", "belay.audit.head", "audit.head", time.Unix(1764547200, 0), nil); err == nil {
		t.Error("without a server: got no error")
	}
}

// A sink that is new hears nothing of the past.
func TestNewSink(t *testing.T) {
	s := natstest.Serve(t)
	js := open(s, time.Minute)
	j := newJournals(mem.New())
	life(t, j, "past", 3)
	p, _ := run(t, s.ClientURL(), j)
	want := life(t, j, "present", 3)
	realtest.Eventually(t, "all is read", func() bool { return p.position() >= j.last() })
	if diff := cmp.Diff(want, ids(messages(t, js))); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
}

// NATS is away at the start, comes, goes away in the middle and comes back.
// Rollouts go on; nothing is lost, nothing is out of order, nothing is twice.
func TestOutage(t *testing.T) {
	s := natstest.Serve(t)
	open(s, time.Hour)
	s.Stop()
	j := newJournals(mem.New())
	begin(t, j)
	want := map[string][]string{"r1": life(t, j, "r1", 4)}
	p, _ := run(t, s.ClientURL(), j)
	realtest.Eventually(t, "an error", func() bool { return p.Err() != nil && !strings.Contains(p.Err().Error(), "not connected yet") })
	total := len(want["r1"])
	for round := range 3 {
		s.Start()
		js := s.Open()
		realtest.Eventually(t, "what happened meanwhile", func() bool { return count(t, js) >= uint64(total) })
		id := fmt.Sprintf("up%d", round)
		want[id] = life(t, j, id, 20)
		total += len(want[id])
		s.Stop() // in the middle of publishing
		id = fmt.Sprintf("down%d", round)
		want[id] = life(t, j, id, 20)
		total += len(want[id])
	}
	s.Start()
	js := s.Open()
	realtest.Eventually(t, "everything", func() bool { return count(t, js) >= uint64(total) })
	got := ids(messages(t, js))
	for id, w := range want {
		if diff := cmp.Diff(w, of(got, id)); diff != "" {
			t.Errorf("events of %s (-want +got):\n%s", id, diff)
		}
	}
	realtest.Eventually(t, "health", func() bool { return p.Err() == nil })
}

// belayd is killed again and again before it can write the cursor: what comes
// again has the same id. A stream drops it; with a stream that forgets ids at
// once a reader that goes by id sees every event once, in order.
func TestRestart(t *testing.T) {
	for name, window := range map[string]time.Duration{"the stream remembers": time.Hour, "the stream forgets": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s := natstest.Serve(t)
			js := open(s, window)
			records := mem.New()
			j := newJournals(records)
			begin(t, j)
			var mu sync.Mutex
			lost := false
			records.Fault = func(op mem.Op) (bool, error) {
				mu.Lock()
				defer mu.Unlock()
				if lost && strings.HasPrefix(op.Key, cursorPrefix) {
					return false, store.ErrUnknown
				}
				return true, nil
			}
			var want []string
			for round := range 4 {
				mu.Lock()
				lost = round%2 == 0 // every second life ends without its cursor
				mu.Unlock()
				want = append(want, life(t, j, fmt.Sprintf("r%d", round), 6)...)
				p, stop := run(t, s.ClientURL(), j)
				realtest.Eventually(t, "published", func() bool { return p.position() >= j.last() })
				stop()
				realtest.Eventually(t, "only the test is connected", func() bool { return s.NumClients() == 1 })
				time.Sleep(2 * min(window, 200*time.Millisecond))
			}
			got := ids(messages(t, js))
			if window == time.Hour && len(got) != len(want) {
				t.Errorf("got %d messages, want %d", len(got), len(want))
			}
			if window != time.Hour && len(got) <= len(want) {
				t.Errorf("got %d messages, want some of them twice: the test does not bite", len(got))
			}
			var once []string
			for _, id := range got {
				if !slices.Contains(once, id) {
					once = append(once, id)
				}
			}
			if diff := cmp.Diff(want, once); diff != "" {
				t.Errorf("events by id (-want +got):\n%s", diff)
			}
		})
	}
}

// last is the revision of the last entry.
func (j *journals) last() store.Revision {
	j.mu.Lock()
	defer j.mu.Unlock()
	last := store.Revision(0)
	for _, rev := range j.head {
		last = max(last, rev)
	}
	return last
}

// Without a stream for its subjects the publisher says what to do and goes on as
// soon as there is one.
func TestNoStream(t *testing.T) {
	s := natstest.Serve(t)
	j := newJournals(mem.New())
	begin(t, j)
	want := life(t, j, "r1", 3)
	p, _ := run(t, s.ClientURL(), j)
	realtest.Eventually(t, "the error", func() bool {
		return p.Err() != nil && strings.Contains(p.Err().Error(), "no stream takes belay.events.>: create one")
	})
	js := open(s, time.Minute)
	realtest.Eventually(t, "all events", func() bool { return count(t, js) == uint64(len(want)) })
	realtest.Eventually(t, "health", func() bool { return p.Err() == nil })
}

// Two replicas publish side by side: the stream has every event once.
func TestReplicas(t *testing.T) {
	s := natstest.Serve(t)
	js := open(s, time.Minute)
	j := newJournals(mem.New())
	begin(t, j)
	a, _ := run(t, s.ClientURL(), j)
	b, _ := run(t, s.ClientURL(), j)
	want := life(t, j, "r1", 30)
	realtest.Eventually(t, "both are through", func() bool { return a.position() >= j.last() && b.position() >= j.last() })
	if diff := cmp.Diff(want, ids(messages(t, js))); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	realtest.Eventually(t, "the cursor", func() bool {
		c := &cursor{store: j.store, sink: "nats"}
		return c.read(t.Context()) == nil && c.position() >= j.last()
	})
}

// The password in the server's address stays out of errors and logs.
func TestSecrets(t *testing.T) {
	srv := natstest.Serve(t, func(o *server.Options) { o.JetStream, o.Username, o.Password = false, "belay", "right" })
	j := newJournals(mem.New())
	begin(t, j)
	life(t, j, "r1", 1)
	var log lockedBuffer
	for _, url := range []string{strings.Replace(srv.ClientURL(), "nats://", "nats://belay:hunter2@", 1), "nats://belay:hunter2@127.0.0.1:1"} {
		p, stop := run(t, url, j, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		realtest.Eventually(t, "an error", func() bool { return p.Err() != nil && !strings.Contains(p.Err().Error(), "not connected yet") })
		if msg := p.Err().Error(); strings.Contains(msg, "hunter2") {
			t.Errorf("the error holds the password: %s", msg)
		}
		stop()
	}
	_, err := Open(t.Context(), Config{Sink: "nats", URL: "nats://belay:hunter2@[::bad", SubjectPrefix: "a", Rollouts: j, Store: j.store, Log: slog.New(slog.DiscardHandler)})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an address that is none: got %v, want an error without the password", err)
	}
	if got := log.String(); strings.Contains(got, "hunter2") || got == "" {
		t.Errorf("the log holds the password, or nothing: %s", got)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Open says everything that is wrong at once.
func TestConfig(t *testing.T) {
	_, err := Open(t.Context(), Config{Sink: "a/b", SubjectPrefix: "belay.*"})
	for _, want := range []string{"sink:", "url:", "subjectPrefix:", "rollouts, store and log:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	records := mem.New()
	records.Fault = func(mem.Op) (bool, error) { return false, store.ErrFull }
	_, err = Open(t.Context(), Config{Sink: "nats", URL: "x", SubjectPrefix: "a", Rollouts: newJournals(records), Store: records, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, store.ErrFull) {
		t.Errorf("a store that is full: got %v, want ErrFull", err)
	}
}

// BenchmarkPublish is the way of one event from the journal to the stream's disk.
func BenchmarkPublish(b *testing.B) {
	s := natstest.Serve(b)
	js := open(s, time.Minute)
	j := newJournals(mem.New())
	begin(b, j)
	for b.Loop() {
		j.add(b, "r1", reached("canary", 5))
	}
	p, _ := run(b, s.ClientURL(), j)
	began := time.Now()
	realtest.Eventually(b, "all events", func() bool { return p.position() >= j.last() })
	b.ReportMetric(float64(count(b, js))/time.Since(began).Seconds(), "events/s")
}

// A rollout was written by a newer version. Its events are lost, counted and logged
// once; those of all others are published, and the cursor moves on, so that nothing
// old is kept for it.
func TestUnreadableRollout(t *testing.T) {
	s := natstest.Serve(t)
	js := open(s, time.Minute)
	j := newJournals(mem.New())
	begin(t, j)
	life(t, j, "r1", 3)
	j.mu.Lock()
	j.plans["r1"] = nil
	j.mu.Unlock()
	want := life(t, j, "r2", 5)
	reg := prometheus.NewRegistry()
	p, _ := run(t, s.ClientURL(), j, func(c *Config) { c.Registerer = reg })
	realtest.Eventually(t, "the other's events", func() bool { return count(t, js) == uint64(len(want)) })
	if diff := cmp.Diff(want, ids(messages(t, js))); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if got := testutil.ToFloat64(p.metrics.published.WithLabelValues("nats", "unreadable")); got != 2 {
		t.Errorf("got %v entries counted as unreadable, want 2", got)
	}
	j.mu.Lock()
	last := j.head["r2"]
	j.mu.Unlock()
	realtest.Eventually(t, "the cursor", func() bool { return p.position() == last })
}
