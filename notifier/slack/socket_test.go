package slack

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/belayd/belay/notifier/notifiertest"
)

// listen makes a client hear over Socket Mode until the test ends.
func (w *workspace) listen(l *ledger) (stop func() error) {
	c := w.dial()
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, l.deliver) }()
	stopped := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	w.t.Cleanup(func() { _ = stopped() })
	return stopped
}

// TestSocket tells of an afternoon over Socket Mode: a click, the same click told
// again over another replica's connection, a dialog, a command, an event of no
// interest, and Slack closing the connection in between.
func TestSocket(t *testing.T) {
	w, l := newWorkspace(t), &ledger{}
	s := w.Listen()
	stop := w.listen(l)
	first := s.Conn()
	w.listen(l) // the second replica
	second := s.Conn()

	click := clicked("U0MEMBER", actionApprove, "n0nce-5be1", "1.1")
	if got := s.Envelope(first, "e1", "interactive", click); got != "" {
		t.Errorf("acknowledgement of a click: got payload %s, want none", got)
	}
	s.Envelope(second, "e2", "interactive", click)
	if got := s.Envelope(first, "e3", "interactive", sent("U0OTHER", "reject", "n0nce-5be1", "no", "t1")); !strings.Contains(got, "not among") {
		t.Errorf("acknowledgement of a refused dialog: got %s, want the refusal in it", got)
	}
	command := `{"command":"/belay","text":"list","user_id":"U0OTHER","team_id":"T0TEAM","trigger_id":"t2"}`
	if got := s.Envelope(second, "e4", "slash_commands", command); !strings.Contains(got, "Recorded.") {
		t.Errorf("acknowledgement of a command: got %s, want its answer", got)
	}
	s.Envelope(first, "e5", "events_api", `{"type":"event_callback","event":{"type":"app_home_opened","user":"U0OTHER"}}`)
	s.Envelope(first, "e6", "interactive", `{"type":"shortcut"}`)

	// Slack refreshes connections by asking to come back.
	if err := first.WriteMessage(websocket.TextMessage, []byte(`{"type":"disconnect","reason":"refresh_requested"}`)); err != nil {
		t.Fatal(err)
	}
	third := s.Conn()
	s.Envelope(third, "e7", "interactive", clicked("U0OTHER", actionApprove, "n0nce-5be1", "1.2"))

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
	w := newWorkspace(t)
	w.Listen()
	c := w.client(notifiertest.Client(), func(c *Config) { c.AppToken = "xapp-cAnAry-revoked" })
	err := c.Run(t.Context(), (&ledger{}).deliver)
	if err == nil || !strings.Contains(err.Error(), "invalid_auth") {
		t.Errorf("Run with a revoked token: got %v, want invalid_auth", err)
	}
	notifiertest.NoSecret(t, err, "xapp-cAnAry-revoked", botToken)
}

// TestSocketBroken: a connection that breaks is opened again.
func TestSocketBroken(t *testing.T) {
	w, l := newWorkspace(t), &ledger{}
	s := w.Listen()
	w.listen(l)
	conn := s.Conn()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	s.Envelope(s.Conn(), "e1", "interactive", clicked("U0MEMBER", actionApprove, "n0nce-5be1", "1.1"))
	if l.decided != "approve" {
		t.Errorf("after a broken connection: got decided %q, want approve", l.decided)
	}
}

// FuzzSocket: whatever frame comes over Socket Mode, nothing panics and the next
// click is heard, over the same connection or another one.
func FuzzSocket(f *testing.F) {
	envelope := func(kind, payload string) string {
		return `{"type":"` + kind + `","envelope_id":"e0","accepts_response_payload":true,"payload":` + payload + `}`
	}
	f.Add([]byte(envelope("interactive", clicked("U0OTHER", actionApprove, "n0nce-5be1", "1.0"))))
	f.Add([]byte(envelope("interactive", sent("U0OTHER", "reject", "n0nce-5be1", "no", "t1"))))
	f.Add([]byte(envelope("interactive", `{"type":"block_actions","actions":[null]}`)))
	f.Add([]byte(envelope("slash_commands", `{"command":"/belay","text":"list","user_id":"U0OTHER","team_id":"T0TEAM"}`)))
	f.Add([]byte(envelope("events_api", `{"type":"event_callback","event":{"type":"app_home_opened"}}`)))
	f.Add([]byte(`{"type":"disconnect","reason":"refresh_requested"}`))
	f.Add([]byte(`{"type":"hello","num_connections":"many"}`))
	f.Add([]byte("\x00{"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		w, l := newWorkspace(t), &ledger{}
		s := w.Listen()
		w.listen(l)
		conn := s.Conn()
		if err := conn.WriteMessage(websocket.TextMessage, frame); err != nil {
			t.Fatal(err)
		}
		click := clicked("U0MEMBER", actionApprove, "n0nce-5be1", "1.1")
		// The frame may have ended the connection: then this one is not written.
		_ = conn.WriteMessage(websocket.TextMessage,
			[]byte(`{"type":"interactive","envelope_id":"next","accepts_response_payload":true,"payload":`+click+`}`))
		select {
		case <-s.Came("next"):
		case conn = <-s.Conns:
			s.Envelope(conn, "later", "interactive", click)
		case <-time.After(time.Minute):
			t.Errorf("frame %q: got neither an acknowledgement of the next click nor a connection, want one", frame)
		}
	})
}
