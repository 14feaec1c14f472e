package slacktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/slack-go/slack/slacktest"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

// A Socket is the library's test server extended by the methods of a workspace and
// by Socket Mode: it opens connections with a hello, sends envelopes to the one
// that it is told, and keeps their acknowledgements.
type Socket struct {
	*Workspace
	// Conns gives the connections in the order in which they were opened.
	Conns  chan *websocket.Conn
	server *slacktest.Server
	acks   sync.Map // envelope id → *ack
}

// An ack is the acknowledgement of an envelope.
type ack struct {
	came    chan struct{}
	once    sync.Once
	payload json.RawMessage
}

// Listen serves the workspace on loopback until the test ends.
func (w *Workspace) Listen() *Socket {
	s := &Socket{Workspace: w, Conns: make(chan *websocket.Conn, 16)}
	s.server = slacktest.NewTestServer(func(c slacktest.Customize) {
		for name := range s.methods() {
			c.Handle("/"+name, s.ServeHTTP)
		}
		c.Handle("/apps.connections.open", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+AppToken {
				_, _ = w.Write([]byte(`{"ok":false,"error":"invalid_auth"}`))
				return
			}
			fmt.Fprintf(w, `{"ok":true,"url":%q}`, s.server.GetWSURL())
		})
		c.Handle("/ws", s.connect)
	})
	s.server.Start()
	s.Base = s.server.GetAPIURL()
	w.t.Cleanup(s.server.Stop)
	return s
}

// connect is one connection's life: a hello, then acknowledgements until it ends.
func (s *Socket) connect(w http.ResponseWriter, r *http.Request) {
	conn, err := (&websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}).Upgrade(w, r, nil)
	if err != nil {
		s.t.Errorf("upgrade: got %v, want a connection", err)
		return
	}
	defer conn.Close()
	_ = conn.WriteJSON(map[string]any{"type": "hello", "num_connections": 1})
	s.Conns <- conn
	for {
		var a struct {
			EnvelopeID string          `json:"envelope_id"`
			Payload    json.RawMessage `json:"payload"`
		}
		if conn.ReadJSON(&a) != nil {
			return
		}
		x := s.ack(a.EnvelopeID)
		x.once.Do(func() {
			x.payload = a.Payload
			close(x.came)
		})
	}
}

func (s *Socket) ack(envelope string) *ack {
	x, _ := s.acks.LoadOrStore(envelope, &ack{came: make(chan struct{})})
	return x.(*ack)
}

// Conn gives the next connection that is opened.
func (s *Socket) Conn() *websocket.Conn {
	s.t.Helper()
	select {
	case c := <-s.Conns:
		return c
	case <-time.After(patience):
		s.t.Fatalf("got no connection in %s, want one", patience)
		return nil
	}
}

// Send sends an envelope over a connection. An envelope has one id however often it
// is sent.
func (s *Socket) Send(conn *websocket.Conn, id, kind, payload string) {
	s.t.Helper()
	message := fmt.Sprintf(`{"type":%q,"envelope_id":%q,"accepts_response_payload":true,"payload":%s}`, kind, id,
		payload)
	if err := conn.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		s.t.Fatalf("send envelope: got %v, want no error", err)
	}
}

// Came is closed when an envelope has been acknowledged.
func (s *Socket) Came(id string) <-chan struct{} { return s.ack(id).came }

// Acked waits until an envelope is acknowledged and gives what with.
func (s *Socket) Acked(id string) string {
	s.t.Helper()
	select {
	case <-s.Came(id):
		return string(s.ack(id).payload)
	case <-time.After(patience):
		s.t.Fatalf("envelope %s: got no acknowledgement in %s, want one", id, patience)
		return ""
	}
}

// Envelope sends a payload over a connection and waits for its acknowledgement.
func (s *Socket) Envelope(conn *websocket.Conn, id, kind, payload string) string {
	s.t.Helper()
	s.Send(conn, id, kind, payload)
	return s.Acked(id)
}
