package daemon

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Whoever announces a body and does not send it loses the connection, whether
// the handler reads the body or not. A stream without a body outlives the time.
func TestHurried(t *testing.T) {
	const within = 100 * time.Millisecond
	mux := http.NewServeMux()
	mux.HandleFunc("POST /reads", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, "slow", http.StatusRequestTimeout)
		}
	})
	mux.HandleFunc("POST /refuses", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		for range 5 {
			fmt.Fprint(w, "x")
			if err := c.Flush(); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(within):
			}
		}
	})
	s := httptest.NewServer(hurried(mux, within))
	defer s.Close()
	for _, path := range []string{"/reads", "/refuses"} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: got %v, want the connection closed", path, err)
		}
		_ = conn.Close()
	}
	resp, err := http.Get(s.URL + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "xxxxx" {
		t.Errorf("stream: got %q, %v, want all of it", b, err)
	}
}
