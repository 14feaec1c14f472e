package daemon

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/events"
	"github.com/belayd/belay/rollout/realtest/natstest"
	"github.com/belayd/belay/store/bolt"
)

// natsServer is a nats-server with the stream EVENTS.
func natsServer(t *testing.T) (url string, js jetstream.JetStream) {
	t.Helper()
	s := natstest.Serve(t)
	js = s.Open(jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"belay.events.>"}})
	return s.ClientURL(), js
}

// A release that is refused leaves its whole short life as events, and its
// journal has the same changes of phase. When the sink is taken out of the config
// its cursor goes.
func TestEvents(t *testing.T) {
	url, js := natsServer(t)
	file := home(t)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	address, _ := serveConfig(t, file, "\nevents: {nats: {url: '"+url+"'}}\n")
	client, err := api.NewClient("http://"+address, &http.Client{}, "")
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := client.Start(t.Context(), "one", api.StartRequest{Policy: "recommendations", Candidate: "green", Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	// The day's audit head, which is of no rollout, comes to the same stream at any time.
	consumer, err := js.OrderedConsumer(t.Context(), "EVENTS", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"belay.events." + r.Endpoint.Name + ".>"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(got) < 2 {
		msg, err := consumer.Next(jetstream.FetchMaxWait(30 * time.Second))
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		var d events.Data
		if err := json.Unmarshal(msg.Data(), &d); err != nil {
			t.Fatal(err)
		}
		if d.Rollout != r.ID || d.Policy != "recommendations" || msg.Headers().Get("ce-type") != "belay.rollout."+string(d.Phase) {
			t.Errorf("got %s %s", msg.Headers(), msg.Data())
		}
		got = append(got, string(d.Phase))
	}
	if want := "queued preflight"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	var journal []string
	for entry, err := range client.Journal(t.Context(), r.ID) {
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range entry.Phases {
			journal = append(journal, string(p.To))
		}
	}
	if want := strings.Join(got, " "); !strings.HasPrefix(strings.Join(journal, " "), want) {
		t.Errorf("the journal has %v, want %s first", journal, want)
	}

	again := filepath.Join(filepath.Dir(file), "without.yaml")
	if err := os.WriteFile(again, []byte(strings.Replace(string(good), "path: belay.db", "path: other.db", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := bolt.Open(filepath.Join(filepath.Dir(file), "other.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), "cursor/nats", []byte("{}"), []byte(`{"revision":1}`), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := Run(ctx, Options{ConfigFile: again, Logger: slog.New(slog.DiscardHandler), Ready: func(string) { cancel() }}); err != nil {
		t.Fatal(err)
	}
	if s, err = bolt.Open(filepath.Join(filepath.Dir(file), "other.db"), bolt.Options{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if rec, err := s.Head(t.Context(), "cursor/nats"); err == nil {
		t.Errorf("the cursor of a sink that is gone: got %s, want none", rec.State)
	}
}
