package serve

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
func TestSlowBody(t *testing.T) {
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
	s := httptest.NewServer(deadlines{body: within, write: time.Minute}.handler(mux))
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

// Whoever asks and takes nothing of the answer does not keep the handler: over
// HTTP/1 when the buffers on the way are full, over HTTP/2 although the window was
// never opened. Without a deadline both would write for ever.
func TestUnreadAnswer(t *testing.T) {
	const within = 200 * time.Millisecond
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			wrote := make(chan error, 1)
			s := httptest.NewUnstartedServer(deadlines{body: time.Minute, write: within}.handler(http.HandlerFunc(
				func(w http.ResponseWriter, _ *http.Request) {
					_, err := w.Write(make([]byte, 64<<20))
					wrote <- err
				})))
			s.EnableHTTP2 = version == "HTTP/2"
			s.StartTLS()
			defer s.Close()
			resp, err := s.Client().Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.ProtoMajor != map[string]int{"HTTP/1.1": 1, "HTTP/2": 2}[version] {
				t.Fatalf("got %s", resp.Proto)
			}
			select {
			case err := <-wrote:
				if err == nil {
					t.Error("got everything written, want an error")
				}
			case <-time.After(30 * time.Second):
				t.Error("after 30 s the handler still writes")
			}
		})
	}
}
