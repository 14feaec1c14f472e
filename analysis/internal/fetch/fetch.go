// Package fetch is what the sources share about HTTP: errors that hold no
// address, answers that have an end, and no answer that comes too late.
//
// It makes no client: the daemon hands one in, with its credentials, its TLS and
// its guard against addresses that nobody may ask.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
)

// address matches a URL in an error's text. Paths, parameters and user names
// may be secret; what went wrong is said beside them.
var address = regexp.MustCompile(`(?i)"?\b[a-z][a-z0-9+.-]*://[^\s"]*"?`)

// Bare takes the addresses out of a client's error. The error is of no use to
// errors.Is; look before.
func Bare(err error) error {
	if err == nil {
		return nil
	}
	for {
		var u *url.Error
		if !errors.As(err, &u) {
			break
		}
		err = u.Err
	}
	const most = 300
	text := strings.Join(strings.Fields(address.ReplaceAllString(err.Error(), "…")), " ")
	if len(text) > most {
		text = text[:most] + "…"
	}
	return errors.New(text)
}

// Status is an answer's status in words; what the server wrote is not repeated.
func Status(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// Answer is an answer's status in words, and where a redirect leads: its host, and its path
// where that is another than the request's, which may be secret.
func Answer(resp *http.Response) string {
	text := Status(resp.StatusCode)
	to, err := resp.Location()
	if resp.StatusCode/100 != 3 || err != nil {
		return text
	}
	at := to.Scheme + "://" + to.Host
	if resp.Request != nil && to.Path != resp.Request.URL.Path && len(to.Path) < 80 {
		at += to.EscapedPath()
	}
	return text + " to " + at + ", and redirects are not followed: give the address that answers"
}

// Refused is an answer that is none: see Mark.
func Refused(resp *http.Response) error {
	return Mark(resp.StatusCode, fmt.Errorf("it answered %s", Answer(resp)))
}

// Mark is err, permanent where the status says that the question was not understood or may
// not be asked.
func Mark(status int, err error) error {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity:
		return analysis.Permanent(err)
	}
	return err
}

// Straight is the client without its redirects: a question goes where its address says,
// with its credentials, and nowhere else.
func Straight(client *http.Client) *http.Client {
	c := *client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// ErrTooLarge: the answer did not fit into its bound.
var ErrTooLarge = errors.New("the answer is too large")

var errTimeout = errors.New("fetch: time is up")

// Do makes the request, follows no redirect and gives its answer's body, bounded to most bytes after
// decompression, to use. All of it must be done within the timeout. Errors say
// nothing that the request held.
func Do(
	client *http.Client, req *http.Request, timeout time.Duration, most int64, use func(*http.Response, io.Reader) error,
) error {
	ctx, cancel := context.WithTimeoutCause(req.Context(), timeout, errTimeout)
	defer cancel()
	err := do(client, req.WithContext(ctx), most, use)
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errTimeout):
		return fmt.Errorf("no answer within %s", timeout)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return err
}

func do(client *http.Client, req *http.Request, most int64, use func(*http.Response, io.Reader) error) error {
	// Which addresses may be asked is decided by the daemon's client.
	resp, err := Straight(client).Do(req) //nolint:gosec // see above
	if err != nil {
		return Bare(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body := &bounded{r: resp.Body, left: most}
	err = use(resp, body)
	if body.over {
		return fmt.Errorf("%w: larger than %d bytes", ErrTooLarge, most)
	}
	if body.err != nil {
		return fmt.Errorf("read the answer: %w", Bare(body.err))
	}
	return err
}

// bounded reads at most left bytes. It remembers whether there were more and
// whether the connection broke.
type bounded struct {
	r    io.Reader
	left int64
	over bool
	err  error
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	one := b.left <= 0
	switch {
	case one:
		p = p[:1]
	case int64(len(p)) > b.left:
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	if one && n > 0 {
		b.over = true
		return 0, ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}
