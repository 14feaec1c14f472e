package daemon

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/netutil"
)

// Somebody opens more connections than the server takes, uses each once and keeps
// all of them: a person is answered all the same, and a connection that is in use
// is not closed. Without the crowd the person waits for ever.
func TestCrowd(t *testing.T) {
	const most = 8
	release := make(chan struct{})
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			<-release
		}
	}))
	h.Config.ConnState = newCrowd(most).state
	h.Listener = netutil.LimitListener(h.Listener, most)
	h.Start()
	defer h.Close()
	finish := sync.OnceFunc(func() { close(release) })
	defer finish()
	ask := func(path string) net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", h.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := conn.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	answer := func(conn net.Conn) error {
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	long := ask("/long")
	for i := range 3 * most {
		if err := answer(ask("/")); err != nil {
			t.Fatalf("connection %d that is kept: %v", i, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("a person's request: %v", err)
	}
	_ = resp.Body.Close()
	finish()
	if err := answer(long); err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
}
