package trigger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/realtest/natstest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// open returns a JetStream client with the test's stream RELEASES.
func open(t *testing.T, s *natstest.Server) jetstream.JetStream {
	t.Helper()
	return s.Open(jetstream.StreamConfig{
		Name: "RELEASES", Subjects: []string{"models.>"}, Storage: jetstream.FileStorage, Duplicates: time.Second,
	})
}

// publish puts one message on the stream.
func publish(t *testing.T, js jetstream.JetStream, body string, header ...string) {
	t.Helper()
	msg := nats.NewMsg("models.approved")
	msg.Data = []byte(body)
	for pair := range slices.Chunk(header, 2) {
		msg.Header[pair[0]] = pair[1:]
	}
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatalf("publish %s: %v", body, err)
	}
}

// starter is a Start that remembers, and fails as a test wants.
type starter struct {
	mu       sync.Mutex
	rollouts map[string]rollout.Release
	order    []string
	calls    int
	fail     func(call int, r rollout.Release) error
}

func (s *starter) start(_ context.Context, r rollout.Release, source, key string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fail != nil {
		if err := s.fail(s.calls, r); err != nil {
			return "", err
		}
	}
	id := rollout.NewID(source, key)
	if s.rollouts == nil {
		s.rollouts = map[string]rollout.Release{}
	}
	if there, ok := s.rollouts[id]; ok {
		if there.Version != r.Version {
			return "", rollout.ErrDifferent
		}
		return id, nil
	}
	s.rollouts[id] = r
	s.order = append(s.order, r.Version)
	return id, nil
}

func (s *starter) versions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

// refusals collects what a trigger tells about.
type refusals struct {
	mu  sync.Mutex
	all []Refusal
}

func (r *refusals) tell(_ context.Context, x Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, x)
}

func (r *refusals) list() []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// rig is one trigger under test.
type rig struct {
	*Trigger
	start   *starter
	refused *refusals
	store   *mem.Store
	stop    func()
}

// run runs a trigger until the test ends or stop is called.
func run(t *testing.T, c Config, st *mem.Store, s *starter) *rig {
	t.Helper()
	r := &rig{start: s, refused: &refusals{}, store: st}
	c.Stream, c.Subjects, c.Durable = "RELEASES", []string{"models.approved"}, "belay"
	c.Start, c.Store, c.Refused, c.Log = s.start, st, r.refused.tell, slog.New(slog.DiscardHandler)
	tr, err := New(c)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	r.Trigger = tr
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// settled waits until every message of the stream was answered.
func settled(t *testing.T, js jetstream.JetStream, messages uint64) {
	t.Helper()
	realtest.Eventually(t, "all messages answered", func() bool {
		c, err := js.Consumer(t.Context(), "RELEASES", "belay")
		if err != nil {
			return false
		}
		i := c.CachedInfo()
		return i.NumPending == 0 && i.NumAckPending == 0 && i.AckFloor.Stream == messages
	})
}

func plain(id, version string) string {
	return fmt.Sprintf(`{"id":%q,"policy":"recs","candidate":"green","version":%q}`, id, version)
}

// The three encodings of one release are one rollout: a CloudEvent in binary and
// in structured mode share their key; plain JSON has one of its own.
func TestEncodings(t *testing.T) {
	s := natstest.Serve(t)
	js := open(t, s)
	r := run(t, Config{URL: s.ClientURL(), Deliver: DeliverAll}, mem.New(), &starter{})
	data := `{"policy":"recs","candidate":"green","version":"7","labels":{"team":"a"}}`
	publish(t, js, data, "ce-specversion", "1.0", "ce-id", "e1", "ce-source", "/pipeline", "ce-type", "approved", "Content-Type", "application/json")
	publish(t, js, `{"specversion":"1.0","id":"e1","source":"/pipeline","type":"approved","time":"2026-11-24T10:00:00Z","traceparent":"00-x","data":`+data+`}`,
		"content-type", "application/cloudevents+json")
	publish(t, js, `{"specversion":"1.0","id":"e2","source":"/pipeline","type":"approved","data":{"version":"8","candidate":"green","policy":"recs"}}`)
	publish(t, js, `{"policy":"recs","candidate":"green","version":9}`, "Nats-Msg-Id", "m1")
	settled(t, js, 4)
	if got, want := r.start.versions(), []string{"7", "8", "9"}; !slices.Equal(got, want) {
		t.Fatalf("rollouts by version: got %v, want %v; refused: %v", got, want, r.refused.list())
	}
	first := r.start.rollouts[rollout.NewID("/pipeline", "e1")]
	want := rollout.Release{
		Policy: "recs", Candidate: "green", Version: "7", OnBehalfOf: "/pipeline", Labels: map[string]string{"team": "a"},
		Requester: person.Person{ID: "nats:RELEASES", Name: "nats:RELEASES", Via: "nats"}, Source: "nats:RELEASES /pipeline e1",
	}
	if !maps.Equal(first.Labels, want.Labels) || first.OnBehalfOf != want.OnBehalfOf || first.Source != want.Source || first.Requester.ID != want.Requester.ID {
		t.Errorf("release: got %+v, want %+v", first, want)
	}
}

// What cannot be understood is kept with its reason, told once, terminated, and
// does not stop what comes after it.
func TestPoison(t *testing.T) {
	s := natstest.Serve(t)
	js := open(t, s)
	unknown := &starter{fail: func(_ int, r rollout.Release) error {
		if r.Policy == "nobody" {
			return fmt.Errorf("policy %q: %w: no such policy", r.Policy, ErrRefused)
		}
		return nil
	}}
	r := run(t, Config{URL: s.ClientURL(), Deliver: DeliverAll}, mem.New(), unknown)
	bad := []struct{ body, reason string }{
		{"not json", "not JSON"},
		{"[1,2]", "an array, want a JSON object"},
		{`{"policy":"recs","candidate":"green","version":"1"}`, "no key"},
		{`{"id":"a","candidate":"green"}`, "policy: policy: nothing there (the event has candidate, id)"},
		{`{"id":"b","policy":"nobody","candidate":"green","version":"1"}`, "no such policy"},
		{`{"specversion":"1.0","id":"c","type":"x","data":{}}`, "CloudEvent"},
		{plain("x", "1") + plain("y", "2"), "something follows"},
		{`{"id":"d","policy":"recs","candidate":"green","version":"1","version":"2"}`, `field "version" stands there twice`},
		{`{"specversion":"1.0","id":"e","source":"s","type":"x","data":{"policy":"recs","candidate":"green","candidate":"blue"}}`, `field "candidate" stands there twice`},
		{strings.Repeat(" ", bodyMax) + "{}", "at most"},
	}
	for _, b := range bad {
		publish(t, js, b.body)
	}
	publish(t, js, plain("good", "1"))
	settled(t, js, uint64(len(bad))+1)
	if got := r.start.versions(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("rollouts: got %v, want the good one only", got)
	}
	told := r.refused.list()
	if len(told) != len(bad) {
		t.Fatalf("told about: got %d, want %d: %v", len(told), len(bad), told)
	}
	i := 0
	for _, kept := range allKept(t, r.Trigger, 3) {
		if !strings.Contains(kept.Reason, bad[i].reason) {
			t.Errorf("%.40s: got reason %q, want it to say %q", bad[i].body, kept.Reason, bad[i].reason)
		}
		if want := []byte(bad[i].body)[:min(len(bad[i].body), keptMax)]; !bytes.Equal(kept.Body, want) {
			t.Errorf("%.40s: the body was not kept as it came", bad[i].body)
		}
		i++
	}
	if i != len(bad) {
		t.Errorf("kept: got %d, want %d", i, len(bad))
	}
}

// A refusal is told about also when the process died, or the store's answer was
// lost, after it was kept; and once where it comes again because NATS did not hear
// that it was terminated.
func TestRefusalIsTold(t *testing.T) {
	message := Refusal{Trigger: "nats:RELEASES", Stream: "RELEASES", Sequence: 7, Reason: "not JSON", Published: time.Unix(1764000000, 0)}
	for _, c := range []struct {
		name   string
		before func(*mem.Store, *Trigger)
	}{
		{"kept by a process that died", func(_ *mem.Store, tr *Trigger) {
			if _, err := tr.trail.keep(t.Context(), message); err != nil {
				t.Fatal(err)
			}
		}},
		{"the store's answer was lost", func(st *mem.Store, tr *Trigger) {
			st.Fault = func(mem.Op) (bool, error) { return true, store.ErrUnknown }
			if err := tr.refuse(t.Context(), message); err == nil {
				t.Fatal("got no error, want the message put back")
			}
			st.Fault = nil
		}},
		{"nothing before", func(*mem.Store, *Trigger) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, told := mem.New(), &refusals{}
			tr, err := New(Config{URL: "nats://127.0.0.1:1", Stream: "RELEASES", Durable: "belay", Start: (&starter{}).start, Store: st, Refused: told.tell, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			c.before(st, tr)
			for range 3 {
				if err := tr.refuse(t.Context(), message); err != nil {
					t.Fatal(err)
				}
			}
			if got := told.list(); len(got) != 1 || tr.Status().Refused != 1 {
				t.Errorf("told about: got %d and a count of %d, want 1 of each", len(got), tr.Status().Refused)
			}
		})
	}
}

// allKept reads what a trigger keeps, oldest first, in pages.
func allKept(t *testing.T, tr *Trigger, limit int) (all []Refusal) {
	t.Helper()
	before := ""
	for {
		page, next, err := tr.Refusals(t.Context(), before, limit)
		if err != nil || len(page) > limit {
			t.Fatalf("refusals before %q: got %d, %v, want at most %d", before, len(page), err, limit)
		}
		all = append(all, page...)
		if before = next; next == "" {
			slices.Reverse(all)
			return all
		}
	}
}

// A producer that sends nothing but poison does not fill the store: the newest
// refusals are kept, and pages of them do not overlap.
func TestRefusalsAreBounded(t *testing.T) {
	st := mem.New()
	tr, err := New(Config{URL: "nats://127.0.0.1:1", Stream: "RELEASES", Durable: "belay", Store: st, Log: slog.New(slog.DiscardHandler),
		Map:   Map{Policy: "policy", Candidate: "candidate", Version: "version"},
		Start: func(context.Context, rollout.Release, string, string) (string, error) { return "", ErrRefused }})
	if err != nil {
		t.Fatal(err)
	}
	const sent = keptRefusals + 3*pruneEvery + 7
	for i := range sent {
		if err := tr.refuse(t.Context(), Refusal{Trigger: tr.Name(), Stream: "RELEASES", Sequence: uint64(i + 1), Published: time.Unix(int64(i), 0), Reason: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	all := allKept(t, tr, 64)
	if len(all) < keptRefusals || len(all) > keptRefusals+pruneEvery {
		t.Errorf("kept: got %d, want %d to %d", len(all), keptRefusals, keptRefusals+pruneEvery)
	}
	for i, r := range all {
		if want := uint64(sent - len(all) + i + 1); r.Sequence != want {
			t.Fatalf("kept[%d]: got message %d, want %d: the newest, each once", i, r.Sequence, want)
		}
	}
	if got := tr.Status(); got.Refused != sent || got.Stream != "RELEASES" || got.Err == nil {
		t.Errorf("status: got %+v, want %d refused and not connected", got, sent)
	}
}

// The same key with another body is refused; with the same one it is nothing
// new, also after the stream has forgotten the first.
func TestSameKey(t *testing.T) {
	s := natstest.Serve(t)
	js := open(t, s)
	r := run(t, Config{URL: s.ClientURL(), Deliver: DeliverAll}, mem.New(), &starter{})
	publish(t, js, plain("k", "1"))
	publish(t, js, `{"version":"1","candidate":"green","policy":"recs","id":"k"}`) // the same in another order
	publish(t, js, plain("k", "2"))
	settled(t, js, 3)
	stream, err := js.Stream(t.Context(), "RELEASES")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, js, plain("k", "1"))
	settled(t, js, 4)
	if got := r.start.versions(); !slices.Equal(got, []string{"1"}) || r.start.calls != 1 {
		t.Errorf("rollouts: got %v in %d calls, want [1] in one", got, r.start.calls)
	}
	if told := r.refused.list(); len(told) != 1 || !strings.Contains(told[0].Reason, "another body") {
		t.Errorf("refused: got %v, want the other body only", told)
	}
}

// Passing failures of whoever starts rollouts, and of the store, before and
// after they took effect: each event becomes one rollout, in order.
func TestPassingFailures(t *testing.T) {
	s := natstest.Serve(t)
	js := open(t, s)
	st := mem.New()
	var mu sync.Mutex
	appends := 0
	st.Fault = func(op mem.Op) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		appends++
		switch appends {
		case 1:
			return false, store.ErrFull
		case 2:
			return true, store.ErrUnknown // it is there, the answer was lost
		case 4:
			return false, store.ErrUnknown
		}
		return true, nil
	}
	flaky := &starter{fail: func(call int, _ rollout.Release) error {
		if call == 3 {
			return errors.New("engine is stopping")
		}
		return nil
	}}
	r := run(t, Config{URL: s.ClientURL(), Deliver: DeliverAll}, st, flaky)
	for v := range 4 {
		publish(t, js, plain("k"+strconv.Itoa(v), strconv.Itoa(v)))
	}
	settled(t, js, 4)
	if got, want := r.start.versions(), []string{"0", "1", "2", "3"}; !slices.Equal(got, want) {
		t.Errorf("rollouts: got %v, want %v", got, want)
	}
	if told := r.refused.list(); len(told) != 0 {
		t.Errorf("refused: got %v, want nothing", told)
	}
	for v := range 4 {
		if _, err := st.Head(t.Context(), recordKey("nats:RELEASES", "k"+strconv.Itoa(v))); err != nil {
			t.Errorf("record of k%d: %v", v, err)
		}
	}
}

// NATS is away when the trigger starts, comes, goes away in the middle and comes
// back: nothing is lost and nothing starts twice.
func TestNATSComesAndGoes(t *testing.T) {
	s := natstest.Serve(t)
	js := open(t, s)
	publish(t, js, plain("a", "1"))
	s.Stop()

	r := run(t, Config{URL: s.ClientURL(), Deliver: DeliverAll}, mem.New(), &starter{})
	realtest.Eventually(t, "the trigger to say that NATS is away", func() bool {
		return r.Err() != nil && strings.HasSuffix(r.Err().Error(), ": not connected to nats")
	})
	if got := r.start.versions(); len(got) != 0 {
		t.Fatalf("rollouts without NATS: got %v", got)
	}

	s.Start()
	realtest.Eventually(t, "the event of before", func() bool { return slices.Equal(r.start.versions(), []string{"1"}) })
	realtest.Eventually(t, "the trigger to be well", func() bool { return r.Err() == nil })
	js = open(t, s)
	publish(t, js, plain("b", "2"))
	realtest.Eventually(t, "the event of while it runs", func() bool { return slices.Equal(r.start.versions(), []string{"1", "2"}) })

	s.Stop()
	realtest.Eventually(t, "the trigger to notice", func() bool { return r.Err() != nil })
	s.Start()
	js = open(t, s)
	publish(t, js, plain("c", "3"))
	publish(t, js, plain("b", "2"))
	settled(t, js, 4)
	if got, want := r.start.versions(), []string{"1", "2", "3"}; !slices.Equal(got, want) {
		t.Errorf("rollouts: got %v, want %v", got, want)
	}
}

// A stream that is made only after the trigger started, and a consumer that
// somebody deletes, are waited for and made again.
func TestStreamAndConsumerAppear(t *testing.T) {
	s := natstest.Serve(t)
	r := run(t, Config{URL: s.ClientURL()}, mem.New(), &starter{})
	realtest.Eventually(t, "the trigger to name the missing stream", func() bool {
		return r.Err() != nil && strings.Contains(r.Err().Error(), "stream RELEASES")
	})
	js := open(t, s)
	publish(t, js, plain("a", "1"))
	realtest.Eventually(t, "the first event", func() bool { return len(r.start.versions()) == 1 })
	if err := js.DeleteConsumer(t.Context(), "RELEASES", "belay"); err != nil {
		t.Fatal(err)
	}
	publish(t, js, plain("b", "2"))
	realtest.Eventually(t, "the second event", func() bool { return slices.Equal(r.start.versions(), []string{"1", "2"}) })
}

// Several replicas on one durable, each event published three times, and one of
// the replicas stopped in the middle: one rollout each, in order.
func TestReplicas(t *testing.T) {
	s := natstest.Serve(t)
	js := open(t, s)
	st, all := mem.New(), &starter{}
	first := run(t, Config{URL: s.ClientURL(), Deliver: DeliverAll}, st, all)
	run(t, Config{URL: s.ClientURL(), Deliver: DeliverAll}, st, all)
	const n = 60
	var want []string
	for i := range n {
		want = append(want, strconv.Itoa(i))
		for range 3 {
			publish(t, js, plain("k"+strconv.Itoa(i), strconv.Itoa(i)))
		}
		if i == n/2 {
			first.stop()
		}
	}
	settled(t, js, 3*n)
	if got := all.versions(); !slices.Equal(got, want) {
		t.Errorf("rollouts: got %v, want 0 to %d in order", got, n-1)
	}
}

// A new consumer takes what comes, or all that the stream holds. One that exists, or
// that is deleted while the trigger runs, loses nothing either way.
func TestDeliver(t *testing.T) {
	for deliver, want := range map[Deliver][]string{"": {"2", "3", "4"}, DeliverNew: {"2", "3", "4"}, DeliverAll: {"1", "2", "3", "4"}} {
		s := natstest.Serve(t)
		js := open(t, s)
		publish(t, js, plain("old", "1"))
		st, start := mem.New(), &starter{}
		first := run(t, Config{URL: s.ClientURL(), Deliver: deliver}, st, start)
		realtest.Eventually(t, "the trigger to be well", func() bool { return first.Err() == nil })
		publish(t, js, plain("new", "2"))
		settled(t, js, 2)
		first.stop()
		publish(t, js, plain("while nobody consumes", "3"))
		run(t, Config{URL: s.ClientURL(), Deliver: deliver}, st, start)
		settled(t, js, 3)
		if err := js.DeleteConsumer(t.Context(), "RELEASES", "belay"); err != nil {
			t.Fatal(err)
		}
		publish(t, js, plain("while there is no consumer", "4"))
		settled(t, js, 4)
		if got := start.versions(); !slices.Equal(got, want) {
			t.Errorf("deliver %q: got %v, want %v", deliver, got, want)
		}
	}
}

// An event that is older than may be is refused and kept with the reason, what follows
// it is not; one that became a rollout in time is known however late it comes again.
func TestMaxAge(t *testing.T) {
	s := natstest.Serve(t)
	js := open(t, s)
	publish(t, js, plain("a", "1"))
	st, start := mem.New(), &starter{}
	inTime := run(t, Config{URL: s.ClientURL(), Deliver: DeliverAll, MaxAge: time.Hour}, st, start)
	settled(t, js, 1)
	inTime.stop()
	publish(t, js, plain("b", "2"))
	if err := js.DeleteConsumer(t.Context(), "RELEASES", "belay"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	late := run(t, Config{URL: s.ClientURL(), Deliver: DeliverAll, MaxAge: 10 * time.Millisecond}, st, start)
	settled(t, js, 2)
	late.stop()
	publish(t, js, plain("b", "2")) // as the reason says
	run(t, Config{URL: s.ClientURL(), MaxAge: time.Hour}, st, start)
	settled(t, js, 3)
	if got := start.versions(); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("rollouts: got %v, want the one in time and the one that was published again", got)
	}
	kept := allKept(t, late.Trigger, 10)
	if len(kept) != 1 || kept[0].ID != "b" || !strings.Contains(kept[0].Reason, "at most 10ms (maxAge) may pass; publish it again") {
		t.Errorf("kept: got %+v, want b with its age", kept)
	}
	if told := late.refused.list(); len(told) != 1 {
		t.Errorf("told about: got %v, want one", told)
	}
}

// No password of the address shows in errors or logs.
func TestNoSecretInErrors(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	s := natstest.Serve(t)
	url := strings.Replace(s.ClientURL(), "nats://", "nats://belay:hunter2-secret@", 1)
	s.Stop()
	tr, err := New(Config{URL: url, Stream: "S", Durable: "d", Start: (&starter{}).start, Store: mem.New(),
		Log: slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return log.Write(p) }), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := tr.Run(ctx); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if log.Len() == 0 || strings.Contains(log.String()+tr.Err().Error(), "hunter2") {
		t.Errorf("log: got %q, want something without the password", log.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// All that is wrong with a configuration is said at once.
func TestNewChecks(t *testing.T) {
	_, err := New(Config{Stream: "a.b", Durable: "c d", Deliver: "some", MaxAge: -1, Subjects: []string{"x y"}, Map: Map{Version: "data..v"}})
	for _, want := range []string{"url:", "stream:", "durable:", "deliver:", "maxAge:", "subject:", "map.version:", "start, store and log"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: got %v, want it to say %q", err, want)
		}
	}
}
