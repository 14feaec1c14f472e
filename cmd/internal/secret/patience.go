package secret

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Dial makes connections, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Impatient gives up a connection on which nothing came for that long. The request
// for a token goes on when the one that needs it has ended: a token endpoint that
// never answers would be waited for without end.
func Impatient(dial Dial, within time.Duration) Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return impatient{c, within}, nil
	}
}

type impatient struct {
	net.Conn
	within time.Duration
}

// Read reads what comes in time.
func (c impatient) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.within)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Prompt is next for requests that end with their context, also while next waits
// for a token and does not look.
func Prompt(next http.RoundTripper) http.RoundTripper { return prompt{next} }

type prompt struct{ next http.RoundTripper }

// RoundTrip sends the request.
func (p prompt) RoundTrip(r *http.Request) (*http.Response, error) {
	type answer struct {
		resp *http.Response
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		resp, err := p.next.RoundTrip(r)
		done <- answer{resp, err}
	}()
	select {
	case a := <-done:
		return a.resp, a.err
	case <-r.Context().Done():
		go func() {
			if a := <-done; a.err == nil {
				_ = a.resp.Body.Close() // nobody waits for it
			}
		}()
		return nil, context.Cause(r.Context())
	}
}

// CloseIdleConnections lets go of connections that nobody uses.
func (p prompt) CloseIdleConnections() { (&http.Client{Transport: p.next}).CloseIdleConnections() }
