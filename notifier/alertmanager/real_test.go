package alertmanager_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/alertmanager"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/rollout/realtest"
)

// A real Alertmanager, whose receiver is the test.
type real struct {
	*realtest.Server
	t *testing.T

	mu       sync.Mutex
	received []string // "<status> <severity annotation> <summary>" of each alert in each notification
}

// startReal starts Alertmanager with a resolve timeout of two seconds, so that what
// must not depend on it shows quickly.
func startReal(t *testing.T) *real {
	t.Helper()
	r := &real{t: t}
	receiver := httptest.NewServer(http.HandlerFunc(r.receive))
	t.Cleanup(receiver.Close)
	r.Server = realtest.Alertmanager(t, fmt.Sprintf(`
global: {resolve_timeout: 2s}
route: {receiver: test, group_by: [belay_key], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: test, webhook_configs: [{url: %q}]}]
`, receiver.URL))
	return r
}

func (r *real) receive(_ http.ResponseWriter, req *http.Request) {
	var body struct {
		Alerts []struct {
			Status      string            `json:"status"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"alerts"`
	}
	if json.NewDecoder(req.Body).Decode(&body) != nil {
		return // Alertmanager was killed while it told; who waits for it sees none
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range body.Alerts {
		r.received = append(r.received, fmt.Sprintf("%s %s %s", a.Status, a.Annotations["severity"], a.Annotations["summary"]))
	}
}

func (r *real) notified(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.received, what)
}

// open gives "<severity annotation> <summary>" of the alerts that are open under a key.
func (r *real) open(key string) []string {
	r.t.Helper()
	resp, err := http.Get(r.URL + "/api/v2/alerts?filter=" + url.QueryEscape(fmt.Sprintf("belay_key=%q", key)))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var as []posted
	if err := json.NewDecoder(resp.Body).Decode(&as); err != nil {
		r.t.Fatal(err)
	}
	out := []string{}
	for _, a := range as {
		out = append(out, a.Annotations["severity"]+" "+a.Annotations["summary"])
	}
	return out
}

// TestRealExercise runs the contract of every notifier with a real Alertmanager as
// the other side: hostile labels and all, it takes what is posted.
func TestRealExercise(t *testing.T) {
	r := startReal(t)
	target, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	notifiertest.Exercise(t, func(t *testing.T) notifiertest.Subject {
		return subject(t, httputil.NewSingleHostReverseProxy(target))
	})
}

// TestRealPage tells of a page in a real Alertmanager: opened, updated, worse,
// outliving the resolve timeout and a restart of Alertmanager, and resolved.
func TestRealPage(t *testing.T) {
	r := startReal(t)
	c, err := alertmanager.New(alertmanager.Config{URL: r.URL, Client: notifiertest.Client(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatalf("New: got %v, want no error", err)
	}
	n := notifiertest.Notice(notifier.TopicPage)
	tell := func(sev notifier.Severity, summary string, resolve bool, open ...string) {
		t.Helper()
		n.Severity, n.Summary, n.Resolve, n.At = sev, summary, resolve, time.Now()
		if n.Ref, err = c.Notify(t.Context(), n); err != nil {
			t.Fatalf("Notify(%s): got %v, want no error", summary, err)
		}
		if got, want := strings.Join(r.open(n.Key), "; "), strings.Join(open, "; "); got != want {
			t.Fatalf("open alerts after %q: got %q, want %q", summary, got, want)
		}
	}
	tell("error", "breach", false, "error breach")
	realtest.Eventually(t, "the breach is notified", func() bool { return r.notified("firing error breach") })
	tell("error", "breach, rolling back", false, "error breach, rolling back")
	tell("critical", "not confirmed", false, "critical not confirmed")
	time.Sleep(3 * time.Second) // longer than the resolve timeout
	if got := r.open(n.Key); len(got) != 1 {
		t.Fatalf("open alerts after the resolve timeout: got %v, want one", got)
	}

	r.Kill()
	r.Start()
	if got := r.open(n.Key); len(got) != 0 {
		t.Fatalf("open alerts after a restart: got %v, want none, or this test proves nothing", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Run(ctx, func(context.Context) ([]notifier.Notice, error) { return []notifier.Notice{n}, nil })
	}()
	realtest.Eventually(t, "the page is back", func() bool { return len(r.open(n.Key)) == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}

	// The end comes with another severity than the page had.
	tell("info", "stable has 100% again", true)
	realtest.Eventually(t, "the end is notified", func() bool { return r.notified("resolved info stable has 100% again") })
	tell("critical", "breach again", false, "critical breach again")
	for _, what := range r.received {
		if !slices.Contains([]string{"firing error breach", "firing critical not confirmed", "resolved info stable has 100% again"}, what) {
			t.Errorf("notified of %q: want no alert beside the page's own", what)
		}
	}
}
