package notifiertest

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// A Server is the other side over HTTP: it behaves as Handler does, until a test
// makes it answer with a status, break the connection or keep silent. Its methods
// are safe for concurrent use.
type Server struct {
	// URL is where it listens, on loopback.
	URL string

	mu      sync.Mutex
	status  int
	header  http.Header
	body    string
	broken  bool
	silent  chan struct{}
	arrived chan struct{}
}

// NewServer starts a server that answers with h and is closed with the test.
func NewServer(t *testing.T, h http.Handler) *Server {
	t.Helper()
	s := &Server{arrived: make(chan struct{}, 64)}
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, h)
	}))
	// Silence ends before Close, which waits for the calls under way.
	t.Cleanup(func() { s.Heal(); hs.Close() })
	s.URL = hs.URL
	return s
}

// Client is an HTTP client that trusts nothing but what a test's server needs and
// follows no redirect, as the daemon's does not.
func Client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}
}

// Answer makes every call from now on be answered with the status, header and
// body, and nothing else happen.
func (s *Server) Answer(status int, h http.Header, body string) {
	s.Heal()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.header, s.body = status, h, body
}

// Break makes the server drop every connection without an answer.
func (s *Server) Break() {
	s.Heal()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
}

// Silence makes the server take calls and not answer until Heal. The channel has
// one value for each call that arrived.
func (s *Server) Silence() <-chan struct{} {
	s.Heal()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = make(chan struct{})
	return s.arrived
}

// Heal makes the server behave again.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent != nil {
		close(s.silent)
	}
	s.status, s.header, s.body, s.broken, s.silent = 0, nil, "", false, nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, h http.Handler) {
	s.mu.Lock()
	status, header, body, broken, silent := s.status, s.header, s.body, s.broken, s.silent
	s.mu.Unlock()
	switch {
	case silent != nil:
		select {
		case s.arrived <- struct{}{}:
		default:
		}
		<-silent
		panic(http.ErrAbortHandler)
	case broken:
		panic(http.ErrAbortHandler)
	case status != 0:
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	default:
		h.ServeHTTP(w, r)
	}
}
