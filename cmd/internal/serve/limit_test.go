package serve

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"
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

// A connection that nobody uses is ended after idleTimeout, and one that is used not.
func TestIdleConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		l := newConnLimiter(listenerOf(ours), 8)
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := nc.(*conn) //nolint:forcetypeassert // what a connLimiter accepts
		open := func() bool { return c.ctx.Err() == nil }
		time.Sleep(idleTimeout / 2)
		c.count(1)
		time.Sleep(3 * idleTimeout)
		if !open() {
			t.Fatal("a connection in use was ended")
		}
		c.count(-1)
		time.Sleep(idleTimeout - time.Second)
		if !open() {
			t.Errorf("ended before it was idle for %s", idleTimeout)
		}
		time.Sleep(2 * time.Second)
		if open() {
			t.Errorf("idle for %s: it is still open", idleTimeout)
		}
	})
}

// listenerOf is a listener that accepts one connection.
func listenerOf(c net.Conn) net.Listener { return oneListener{c} }

type oneListener struct{ net.Conn }

func (o oneListener) Accept() (net.Conn, error) { return o.Conn, nil }
func (o oneListener) Addr() net.Addr            { return o.LocalAddr() }

// Of a connection over HTTP/2 whose client has gone amid a request nothing is kept,
// or whoever opens and leaves many fills the memory.
func TestClosedConnectionsAreForgotten(t *testing.T) {
	under := make(chan weak.Pointer[conn])
	address, trust := tlsServer(t, func(_ http.ResponseWriter, r *http.Request) {
		MarkAuthenticated(r.Context())
		c, _ := r.Context().Value(connKey{}).(*conn)
		under <- weak.Make(c)
		_, _ = io.Copy(io.Discard, r.Body) // it does not come
	})
	var all []weak.Pointer[conn]
	for range 20 {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, trust("h2"))
		if err != nil {
			t.Fatal(err)
		}
		play(c, []byte{2}, request(t))
		all = append(all, <-under)
		_ = c.Close() // amid the request
	}
	var kept int
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		runtime.GC()
		kept = 0
		for _, one := range all {
			if one.Value() != nil {
				kept++
			}
		}
		if kept <= 1 { // the last one's handler may be on a stack yet
			return
		}
	}
	t.Errorf("of %d connections that were closed %d are kept", len(all), kept)
}
