package slack

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/slack-go/slack/slacktest"

	"github.com/belayd/belay/notifier/notifiertest"
)

// A socketServer is the library's test server extended by the methods of workspace
// and by Socket Mode: it opens connections with a hello, sends envelopes to any one
// connection, as Slack does, and keeps their acknowledgements.
type socketServer struct {
	*workspace
	server *slacktest.Server

	conns chan *websocket.Conn
	acks  chan string // envelope ids, in the order of their acknowledgement
	acked struct {
		sync.Mutex
		payload map[string]json.RawMessage
	}
}

func newSocketServer(t *testing.T) *socketServer {
	s := &socketServer{workspace: newWorkspace(t), conns: make(chan *websocket.Conn, 16), acks: make(chan string, 64)}
	s.acked.payload = map[string]json.RawMessage{}
	s.server = slacktest.NewTestServer(func(c slacktest.Customize) {
		for name := range s.methods() {
			c.Handle("/"+name, s.ServeHTTP)
		}
		c.Handle("/apps.connections.open", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+appToken {
				_, _ = w.Write([]byte(`{"ok":false,"error":"invalid_auth"}`))
				return
			}
			fmt.Fprintf(w, `{"ok":true,"url":%q}`, s.server.GetWSURL())
		})
		c.Handle("/ws", s.connect)
	})
	s.server.Start()
	s.base = s.server.GetAPIURL()
	t.Cleanup(s.server.Stop)
	return s
}

// connect is one connection's life: a hello, then acknowledgements until it ends.
func (s *socketServer) connect(w http.ResponseWriter, r *http.Request) {
	conn, err := (&websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}).Upgrade(w, r, nil)
	if err != nil {
		s.t.Errorf("upgrade: got %v, want a connection", err)
		return
	}
	defer conn.Close()
	_ = conn.WriteJSON(map[string]any{"type": "hello", "num_connections": 1})
	s.conns <- conn
	for {
		var ack struct {
			EnvelopeID string          `json:"envelope_id"`
			Payload    json.RawMessage `json:"payload"`
		}
		if conn.ReadJSON(&ack) != nil {
			return
		}
		s.acked.Lock()
		s.acked.payload[ack.EnvelopeID] = ack.Payload
		s.acked.Unlock()
		s.acks <- ack.EnvelopeID
	}
}

func (s *socketServer) listen(t *testing.T, l *ledger, change func(*Config)) (stop func() error) {
	t.Helper()
	c, err := New(s.config(change))
	if err != nil {
		t.Fatalf("New: got %v, want no error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, l.deliver) }()
	stopped := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stopped() })
	return stopped
}

func (s *socketServer) config(change func(*Config)) Config {
	config := Config{
		BotToken: botToken, AppToken: appToken, URL: s.base, Channel: channelName,
		Client: notifiertest.Client(), Log: slog.New(slog.NewTextHandler(s.t.Output(), nil)),
	}
	if change != nil {
		change(&config)
	}
	return config
}

// envelope sends a payload over a connection and waits for its acknowledgement.
func (s *socketServer) envelope(conn *websocket.Conn, id, kind, payload string) string {
	s.t.Helper()
	message := fmt.Sprintf(`{"type":%q,"envelope_id":%q,"accepts_response_payload":true,"payload":%s}`, kind, id, payload)
	if err := conn.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		s.t.Fatalf("send envelope: got %v, want no error", err)
	}
	for {
		select {
		case got := <-s.acks:
			if got == id {
				s.acked.Lock()
				defer s.acked.Unlock()
				return string(s.acked.payload[id])
			}
		case <-time.After(10 * time.Second):
			s.t.Fatalf("envelope %s: got no acknowledgement in 10s, want one", id)
		}
	}
}

// TestSocket tells of an afternoon over Socket Mode: a click, the same click told
// again over another replica's connection, a dialog, a command, an event of no
// interest, and Slack closing the connection in between.
func TestSocket(t *testing.T) {
	s, l := newSocketServer(t), &ledger{}
	stop := s.listen(t, l, nil)
	first := <-s.conns
	s.listen(t, l, nil) // the second replica
	second := <-s.conns

	click := clicked("U0MEMBER", actionApprove, "n0nce-5be1", "1.1")
	if got := s.envelope(first, "e1", "interactive", click); got != "" {
		t.Errorf("acknowledgement of a click: got payload %s, want none", got)
	}
	s.envelope(second, "e2", "interactive", click)
	if got := s.envelope(first, "e3", "interactive", sent("U0OTHER", "reject", "n0nce-5be1", "no", "t1")); !strings.Contains(got, "not among") {
		t.Errorf("acknowledgement of a refused dialog: got %s, want the refusal in it", got)
	}
	command := `{"command":"/belay","text":"list","user_id":"U0OTHER","team_id":"T0TEAM","trigger_id":"t2"}`
	if got := s.envelope(second, "e4", "slash_commands", command); !strings.Contains(got, "Recorded.") {
		t.Errorf("acknowledgement of a command: got %s, want its answer", got)
	}
	s.envelope(first, "e5", "events_api", `{"type":"event_callback","event":{"type":"app_home_opened","user":"U0OTHER"}}`)
	s.envelope(first, "e6", "interactive", `{"type":"shortcut"}`)

	// Slack refreshes connections by asking to come back.
	if err := first.WriteMessage(websocket.TextMessage, []byte(`{"type":"disconnect","reason":"refresh_requested"}`)); err != nil {
		t.Fatal(err)
	}
	third := <-s.conns
	s.envelope(third, "e7", "interactive", clicked("U0OTHER", actionApprove, "n0nce-5be1", "1.2"))

	if err := stop(); err != nil {
		t.Errorf("Run: got %v, want nil when the context ended", err)
	}
	ids := map[string]int{}
	for _, a := range l.answers() {
		ids[a.Command+" by "+a.Who+" "+a.ID]++
	}
	var counts []int
	for _, n := range ids {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	if l.decided != "approve" || !slices.Equal(counts, []int{1, 1, 1, 2}) {
		t.Errorf("heard: got %v, decided %q, want the first click twice under one id, and approve", ids, l.decided)
	}
}

// TestSocketRefused: a revoked app token ends Run with an error without it, so that
// whoever runs it knows.
func TestSocketRefused(t *testing.T) {
	s := newSocketServer(t)
	c, err := New(s.config(func(c *Config) { c.AppToken = "xapp-cAnAry-revoked" }))
	if err != nil {
		t.Fatal(err)
	}
	err = c.Run(t.Context(), (&ledger{}).deliver)
	if err == nil || !strings.Contains(err.Error(), "invalid_auth") {
		t.Errorf("Run with a revoked token: got %v, want invalid_auth", err)
	}
	notifiertest.NoSecret(t, err, "xapp-cAnAry-revoked", botToken)
}

// TestSocketBroken: a connection that breaks is opened again.
func TestSocketBroken(t *testing.T) {
	s, l := newSocketServer(t), &ledger{}
	s.listen(t, l, nil)
	conn := <-s.conns
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	s.envelope(<-s.conns, "e1", "interactive", clicked("U0MEMBER", actionApprove, "n0nce-5be1", "1.1"))
	if l.decided != "approve" {
		t.Errorf("after a broken connection: got decided %q, want approve", l.decided)
	}
}
