package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// small is a server of eight places. GET /known recognises whoever asks, /long
// answers when the test ends, /big writes more than any buffer on the way holds.
func small(t *testing.T) (address string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	mux.HandleFunc("GET /known", func(_ http.ResponseWriter, r *http.Request) { MarkAuthenticated(r.Context()) })
	mux.HandleFunc("GET /known/long", func(_ http.ResponseWriter, r *http.Request) {
		MarkAuthenticated(r.Context())
		<-ctx.Done()
	})
	mux.HandleFunc("GET /long", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-ctx.Done():
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("GET /big", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 32<<20)) })
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Handler: mux, Log: slog.New(slog.DiscardHandler), ConnectionsMax: 8}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

// open opens a connection from one of loopback's addresses.
func open(t *testing.T, from, to string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends a request and does not wait for the answer.
func ask(t *testing.T, c net.Conn, path string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
}

// answered waits for an answer.
func answered(c net.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Strangers take all the places there are, several times over, and keep them in
// one way or another. A person is answered all the same, on a new connection and
// again on the one that they keep; also behind the strangers' own address, where
// theirs is a new connection among many.
func TestStrangersKeepNobodyOut(t *testing.T) {
	for _, x := range []struct {
		name string
		keep func(t *testing.T, c net.Conn)
	}{
		{"that are idle after one request", func(t *testing.T, c net.Conn) {
			ask(t, c, "/")
			_ = answered(c) // later ones dismiss it
		}},
		{"whose requests never end", func(t *testing.T, c net.Conn) { ask(t, c, "/long") }},
		{"that do not read their answers", func(t *testing.T, c net.Conn) { ask(t, c, "/big") }},
		{"that send half a request after a whole one", func(t *testing.T, c net.Conn) {
			ask(t, c, "/")
			_, _ = io.WriteString(c, "GET / HT")
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			address := small(t)
			person := open(t, "127.0.0.1", address)
			ask(t, person, "/known")
			if err := answered(person); err != nil {
				t.Fatal(err)
			}
			for range 24 {
				x.keep(t, open(t, "127.0.0.3", address))
			}
			for _, from := range []string{"127.0.0.1", "127.0.0.3"} {
				other := open(t, from, address)
				ask(t, other, "/known")
				if err := answered(other); err != nil {
					t.Errorf("a new connection from %s: %v", from, err)
				}
			}
			ask(t, person, "/known")
			if err := answered(person); err != nil {
				t.Errorf("the connection that was recognised before: %v", err)
			}
		})
	}
}

// Of connections that ask nothing at all the oldest makes way, so that a person
// who has only just come is answered.
func TestSilentConnections(t *testing.T) {
	address := small(t)
	for range 16 {
		open(t, "127.0.0.1", address)
	}
	person := open(t, "127.0.0.1", address)
	ask(t, person, "/known")
	if err := answered(person); err != nil {
		t.Errorf("a person behind silent connections: %v", err)
	}
}

// Somebody who was recognised fills all places from one address and never lets go.
// Whoever comes from another address is answered and keeps what they have.
func TestOneAddressGivesWay(t *testing.T) {
	address := small(t)
	person := open(t, "127.0.0.2", address)
	ask(t, person, "/known/long")
	for range 24 {
		ask(t, open(t, "127.0.0.3", address), "/known/long")
	}
	other := open(t, "127.0.0.2", address)
	ask(t, other, "/known")
	if err := answered(other); err != nil {
		t.Errorf("a new connection from another address: %v", err)
	}
	if err := person.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := person.Read(make([]byte, 1)); err == nil || !err.(net.Error).Timeout() { //nolint:errorlint,forcetypeassert // a connection's
		t.Errorf("the request under way from another address: got %v, want it to go on", err)
	}
}

// The claims in their order, as tables of what a connection has lived through.
func TestClaim(t *testing.T) {
	now := time.Now()
	for _, x := range []struct {
		name string
		c    *conn
		want claim
	}{
		{"just come", &conn{since: now}, claimNew},
		{"its first request is under way", &conn{since: now.Add(-time.Second), active: 1}, claimNew},
		{"its first request takes long", &conn{since: now.Add(-firstAnswerWithin), active: 1}, claimUnknown},
		{"came and asked nothing", &conn{since: now.Add(-firstAnswerWithin)}, claimIdle},
		{"a second request of a stranger", &conn{since: now, active: 1, served: true}, claimUnknown},
		{"a stranger's, idle", &conn{since: now, served: true}, claimIdle},
		{"a person's, idle", &conn{since: now, served: true, known: true}, claimKept},
		{"a person's, used", &conn{since: now.Add(-time.Hour), active: 1, known: true}, claimKnown},
	} {
		if got := x.c.claim(now); got != x.want {
			t.Errorf("%s: got claim %d, want %d", x.name, got, x.want)
		}
	}
}
