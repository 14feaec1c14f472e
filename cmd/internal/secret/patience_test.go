package secret

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/prometheus/common/config"
)

// A token endpoint that never answers holds up nobody for longer than they wait,
// and is itself waited for no longer than the bound.
func TestTokenEndpointStuck(t *testing.T) {
	gone := make(chan struct{}, 10) // it is asked again in another style
	stuck := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice the end
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	defer stuck.Close()
	hc := config.DefaultHTTPClientConfig
	hc.OAuth2 = &config.OAuth2{ClientID: "belay", ClientSecret: canary, TokenURL: stuck.URL}
	cl, err := config.NewClientFromConfig(hc, "test", config.WithDialContextFunc(config.DialContextFunc(Impatient((&net.Dialer{}).DialContext, time.Second))))
	if err != nil {
		t.Fatal(err)
	}
	cl.Transport = Prompt(Discreet(cl.Transport))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Do(r); !errors.Is(err, context.DeadlineExceeded) { //nolint:bodyclose // there is none
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the token endpoint is waited for without end")
	}
}

// A connection on which something comes in time is not given up.
func TestImpatient(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer server.Close()
	dial := Impatient((&net.Dialer{}).DialContext, time.Minute)
	cl := &http.Client{Transport: Prompt(&http.Transport{DialContext: dial, DisableKeepAlives: true})}
	resp, err := cl.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != 200 {
		t.Errorf("got %d, %v", resp.StatusCode, err)
	}

	client, silent := net.Pipe()
	defer func() { _ = silent.Close() }()
	c := impatient{client, time.Millisecond}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent connection: got %v, want %v", err, os.ErrDeadlineExceeded)
	}
}
