package daemon

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/refusals"
	"github.com/belayd/belay/cmd/internal/succession"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/webhook"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/trigger"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// TestTell: a test reaches the receiver with the severity of a page and stays open,
// and a notifier that cannot be reached is named with its error; a refused event is
// told to whoever the config names.
func TestTell(t *testing.T) {
	secret := strings.Repeat("s", 32)
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || webhook.Verify(r.Header, body, secret, time.Now()) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(body))
	}))
	defer server.Close()
	open := func(url string) notifier.Notifier {
		n, err := webhook.New(webhook.Config{URL: url, Secret: secret, Client: server.Client()})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	outlets := map[string]notifier.Notifier{"hook": open(server.URL), "away": open("http://127.0.0.1:1")}
	registry := prometheus.NewRegistry()
	e, err := engine.New(engine.Config{Store: mem.New(), Leaser: store.Always{}, Owner: "one", Registerer: registry, Notifiers: outlets})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{engines: succession.New(e), log: slog.New(slog.DiscardHandler)}
	d.current.Store(&generation{
		config: &config.Config{
			Tell:      []string{"hook"},
			Notifiers: map[string]config.NotifierConfig{"hook": {Webhook: &config.WebhookNotifier{}}},
		},
		notifiers: map[string]config.Notifier{"hook": {Notifier: outlets["hook"]}, "away": {Notifier: outlets["away"]}},
	})
	tests := d.testNotifiers(t.Context(), person.Person{ID: "ann"})
	if len(tests) != 2 || tests[0].Name != "away" || tests[0].OK || tests[0].Error == "" || !tests[1].OK {
		t.Fatalf("tests: got %+v, want away to fail and hook to be reached", tests)
	}
	if len(got) != 1 || !strings.Contains(got[0], "This is a test of hook, asked for by ann.") || !strings.Contains(got[0], `"severity":"critical"`) {
		t.Errorf("the receiver got %q, want one test with the severity of a page", got)
	}
	if left := time.Until(tests[1].Ends); left <= notifier.TestLasts-time.Minute || left > notifier.TestLasts || !strings.Contains(tests[1].Look, "belay.notice.test") {
		t.Errorf("the answer: got %+v, want where to look and an end in %s", tests[1], notifier.TestLasts)
	}
	got = nil
	d.refusals = refusals.New(d.refused)
	for sequence := range uint64(50) {
		d.refusals.Refused(t.Context(), trigger.Refusal{Trigger: "nats:RELEASES", Sequence: 7 + sequence, Subject: "models.approved.x", Reason: "no such policy", At: time.Now()})
	}
	if len(got) != 1 || !strings.Contains(got[0], "message 7) was refused: no such policy") {
		t.Errorf("the receiver got %q, want the first refusal alone", got)
	}
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	for _, line := range []string{`belay_notifications_total{notifier="away",outcome="failed"} 1`, `belay_notifications_total{notifier="hook",outcome="delivered"} `} {
		if !strings.Contains(rec.Body.String(), line) {
			t.Errorf("metrics: got %s, want %s", rec.Body, line)
		}
	}
}
