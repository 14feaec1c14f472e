package demo

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/view"
)

// An asker is a daemon whose rollout waits for an approval until an answer
// comes.
type asker struct {
	mu   sync.Mutex
	r    view.Rollout
	acts []string
}

func (a *asker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body)
		a.acts = append(a.acts, r.URL.Path+" "+string(body))
		a.r.Gates[0].State, a.r.Closed = approval.Approved, true
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a.r)
}

// The person is asked once, with the command for another terminal; what is no
// answer is said, and the answer goes to the daemon bound to the question that
// was shown.
func TestAnswer(t *testing.T) {
	for typed, want := range map[string]string{
		"what?\ny\n": `/v1/rollouts/r1/approve {"gate":"product-owner","nonce":"n1"}`,
		"what?\n N ": `/v1/rollouts/r1/reject {"reason":"answered no at the demo's terminal","gate":"product-owner","nonce":"n1"}`,
	} {
		a := &asker{r: view.Rollout{SchemaVersion: 1, ID: "r1", Gates: []view.Question{{Name: "product-owner", Step: "majority", Nonce: "n1", State: approval.Open}}}}
		server := httptest.NewServer(a)
		client, err := api.NewClient(server.URL, server.Client(), "")
		if err != nil {
			t.Fatal(err)
		}
		terminal, keyboard := io.Pipe()
		w := &World{opts: Options{Answers: terminal}}
		var screen strings.Builder
		shown := &locked{w: &screen}
		said := func(text string) func() bool {
			return func() bool { shown.mu.Lock(); defer shown.mu.Unlock(); return strings.Contains(screen.String(), text) }
		}
		done := make(chan struct{})
		go func() { defer close(done); w.answer(t.Context(), client, server.URL, "r1", shown) }()
		realtest.Eventually(t, "the question", said("product-owner, before step majority: y, or n (rolls back)"))
		realtest.Eventually(t, "the command", said("belay approve r1 \\\n           --gate product-owner --server "+server.URL+"\n"))
		if _, err := io.WriteString(keyboard, typed); err != nil {
			t.Fatal(err)
		}
		_ = keyboard.Close()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatalf("typed %q: it does not end with the rollout", typed)
		}
		if n := strings.Count(screen.String(), ", before step"); n != 1 || !said("want y or n")() {
			t.Errorf("typed %q: got %d questions on %q, want one, and what is no answer said", typed, n, screen.String())
		}
		if len(a.acts) != 1 || a.acts[0] != want {
			t.Errorf("typed %q: got %q, want %s", typed, a.acts, want)
		}
		server.Close()
	}
}

// While nobody types it ends with the rollout all the same: the terminal is
// closed under the read.
func TestAnswerFromElsewhere(t *testing.T) {
	a := &asker{r: view.Rollout{SchemaVersion: 1, ID: "r1", Closed: true}}
	server := httptest.NewServer(a)
	defer server.Close()
	client, err := api.NewClient(server.URL, server.Client(), "")
	if err != nil {
		t.Fatal(err)
	}
	terminal, keyboard := io.Pipe()
	w := &World{opts: Options{Answers: terminal}}
	w.answer(t.Context(), client, server.URL, "r1", io.Discard)
	if _, err := keyboard.Write([]byte("y\n")); err == nil {
		t.Error("the terminal is still read, want it closed")
	}
}
