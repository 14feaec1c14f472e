package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/belayd/belay/analysis/unique"
	"github.com/belayd/belay/rollout/traffic"
)

// statusError says what an answer's status means. It repeats neither body nor
// headers.
func statusError(resp *http.Response) error {
	err := fmt.Errorf("the endpoint answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound:
		return fmt.Errorf("%w: %w", err, traffic.ErrNotFound)
	case code == http.StatusConflict, code == http.StatusLocked, code == http.StatusTooEarly,
		code == http.StatusTooManyRequests:
		return &traffic.BusyError{RetryAfter: retryAfter(resp.Header), Err: err}
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fmt.Errorf("%w; give this router credentials that may do it: %w", err, traffic.ErrPermanent)
	case code/100 == 3:
		return fmt.Errorf("%w, and redirects are not followed; configure the final address: %w", err,
			traffic.ErrPermanent)
	case code/100 == 4 && code != http.StatusRequestTimeout:
		return fmt.Errorf("%w: %w", err, traffic.ErrPermanent)
	}
	return err
}

// retryAfter reads a Retry-After header, in seconds or as a date, bounded to an
// hour; 0 when there is none.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	d := time.Duration(0)
	if seconds, err := strconv.Atoi(value); err == nil {
		d = time.Duration(min(max(seconds, 0), 3600)) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), time.Hour)
}

// decode reads one JSON document of at most maxBody bytes and nothing after it.
func decode(h http.Header, body io.Reader, into any) error {
	if kind, _, err := mime.ParseMediaType(h.Get("Content-Type")); err != nil || kind != "application/json" {
		if kind == "text/html" {
			return errors.New("content type is text/html, want application/json; is that a login page?")
		}
		return errors.New("content type is not application/json")
	}
	raw, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if len(raw) > maxBody {
		return fmt.Errorf("body is larger than %d bytes", maxBody)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("decode body: %w", plain(err))
	}
	if err := unique.Fields(raw, true); err != nil {
		return fmt.Errorf("decode body: %w", err)
	}
	return nil
}

// plain words a JSON error without what was in the document.
func plain(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("%q is not of type %s", kind.Field, kind.Type)
	}
	return errors.New("not the JSON that the contract asks for")
}

// bare takes the address out of a client's error: whoever reads it knows the
// router, and a probe's address is not ours to repeat.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// drain reads a little of what is left, so that the connection can be used
// again, and closes it.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}
