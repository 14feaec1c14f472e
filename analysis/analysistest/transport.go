package analysistest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
)

// A Fault is what a backend does instead of answering.
type Fault int

// The faults that every source must survive.
const (
	// FaultNone: it answers.
	FaultNone Fault = iota
	// FaultRefuse: nobody is there.
	FaultRefuse
	// FaultHang: it takes the question and never answers.
	FaultHang
	// FaultStatus: it answers 500 with the request in the body.
	FaultStatus
	// FaultHTML: a proxy answers 200 with a login page.
	FaultHTML
	// FaultTruncate: the connection breaks in the middle of the answer.
	FaultTruncate
	// FaultCut: the answer ends in the middle, as if that were its end.
	FaultCut
	// FaultEndless: the answer does not end.
	FaultEndless
)

// String is the fault in words.
func (f Fault) String() string {
	names := [...]string{"none", "refuse", "hang", "status 500", "login page", "truncated", "cut", "endless"}
	if f < 0 || int(f) >= len(names) {
		return fmt.Sprintf("fault %d", int(f))
	}
	return names[f]
}

var _ http.RoundTripper = (*Transport)(nil)

// A Transport serves requests by a handler, without a socket, so that a source
// runs inside a testing/synctest bubble. It is safe for concurrent use.
type Transport struct {
	// Handler answers.
	Handler http.Handler

	mu       sync.Mutex
	fault    Fault
	only     func(*http.Request) bool
	requests int
	bytes    int64
}

// Fail makes the requests that only selects (all where it is nil) meet the
// fault from now on.
func (t *Transport) Fail(f Fault, only func(*http.Request) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault, t.only = f, only
}

// Requests is the number of requests since the last call, and the bytes of
// their answers.
func (t *Transport) Requests() (n int, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, size = t.requests, t.bytes
	t.requests, t.bytes = 0, 0
	return n, size
}

func (t *Transport) begin(r *http.Request) Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	if t.only != nil && !t.only(r) {
		return FaultNone
	}
	return t.fault
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	rec := httptest.NewRecorder()
	fault := t.begin(r)
	switch fault {
	case FaultRefuse:
		return nil, &url.Error{Op: r.Method, URL: r.URL.String(), Err: errors.New("connect: connection refused")}
	case FaultHang:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case FaultStatus:
		rec.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprintf(rec, "cannot answer %s with %v", r.URL, r.Header)
	case FaultHTML:
		rec.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(rec, "<!DOCTYPE html><html><body>Sign in to go on to %s</body></html>", r.URL)
	case FaultNone, FaultTruncate, FaultCut, FaultEndless:
		t.Handler.ServeHTTP(rec, r)
	}
	resp := rec.Result()
	resp.Request = r
	body := rec.Body.Bytes()
	t.mu.Lock()
	t.bytes += int64(len(body))
	t.mu.Unlock()
	half := bytes.NewReader(body[:len(body)/2])
	switch fault {
	case FaultTruncate:
		resp.Body = io.NopCloser(io.MultiReader(half, broken{}))
	case FaultCut:
		resp.Body = io.NopCloser(half)
	case FaultEndless:
		resp.Body = io.NopCloser(io.MultiReader(half, &endless{r: r}))
	case FaultNone, FaultRefuse, FaultHang, FaultStatus, FaultHTML:
	}
	return resp, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// endless is spaces without end, which every language of answers passes over.
type endless struct{ r *http.Request }

func (e *endless) Read(p []byte) (int, error) {
	if err := e.r.Context().Err(); err != nil {
		return 0, err
	}
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
