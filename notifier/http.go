package notifier

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MaxRetryAfter bounds what a RetryError asks for: the other side may slow Belay
// down, not silence it.
const MaxRetryAfter = time.Hour

// maxAnswer bounds how much of an answer is read, maxExcerpt how much of a
// refusal is shown.
const (
	maxAnswer  = 64 << 10
	maxExcerpt = 300
)

// Do sends req with c and returns the body of a 2xx answer, at most 64 KiB of it.
// Any other outcome is an error that follows the retry table: see StatusError. Of
// the address only the host is shown, since paths and queries may hold tokens,
// and every occurrence of a secret is blotted out, also in what the other side
// answered.
func Do(c *http.Client, req *http.Request, secrets ...string) ([]byte, error) {
	resp, err := c.Do(req) //nolint:gosec // the address is an operator's and the given client guards where it leads
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return nil, Redact(fmt.Errorf("%s %s: %w", req.Method, req.URL.Host, err), secrets...)
	}
	defer resp.Body.Close()
	// An answer that breaks off after its status has been given all the same: what
	// follows is read as far as it goes.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err := StatusError(resp.StatusCode, resp.Header, time.Now()); err != nil {
		if x := excerpt(body, secrets); x != "" {
			err = fmt.Errorf("%w: %s", err, x)
		}
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Host, err)
	}
	return body, nil
}

// StatusError is the retry table: nil for 2xx; a RetryError where the other side
// says when to come back (429 and 503 with Retry-After); a plain error, which may
// pass, for 408, 425, 429 and 5xx but 501 and 505; and ErrPermanent for the rest:
// a redirect, a refusal or a request the other side does not understand.
func StatusError(status int, h http.Header, now time.Time) error {
	if status >= 200 && status <= 299 {
		return nil
	}
	err := fmt.Errorf("HTTP status %d", status)
	if text := http.StatusText(status); text != "" {
		err = fmt.Errorf("HTTP status %d %s", status, text)
	}
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		if after, ok := retryAfter(h.Get("Retry-After"), now); ok {
			return &RetryError{After: after, Err: err}
		}
		return err
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return err
	case status == http.StatusNotImplemented, status == http.StatusHTTPVersionNotSupported:
		return fmt.Errorf("%w: %w", ErrPermanent, err)
	case status >= 500:
		return err
	}
	return fmt.Errorf("%w: %w", ErrPermanent, err)
}

// retryAfter reads a Retry-After header: seconds or a date.
func retryAfter(v string, now time.Time) (time.Duration, bool) {
	v = strings.TrimSpace(v)
	if v == "" {
		return 0, false
	}
	if secs, err := strconv.ParseUint(v, 10, 63); err == nil {
		if secs > uint64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter, true
		}
		return time.Duration(secs) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), MaxRetryAfter), true
	}
	return 0, false
}

// excerpt is the beginning of an answer on one line, without secrets.
func excerpt(body []byte, secrets []string) string {
	return Line(blot(string(body), secrets), maxExcerpt)
}

// Redact returns err with every occurrence of a secret in its text replaced by
// "[redacted]". The result still matches its sentinels (errors.Is) and RetryError
// (errors.As), but does not unwrap to the text it hides. Secrets shorter than four characters are not
// looked for; they would blot out ordinary words.
func Redact(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	text := blot(err.Error(), secrets)
	if text == err.Error() {
		return err
	}
	r := &redacted{text: text, err: err}
	if retry, ok := errors.AsType[*RetryError](err); ok {
		r.retry = &RetryError{After: retry.After, Err: errors.New(blot(retry.Err.Error(), secrets))}
	}
	return r
}

func blot(text string, secrets []string) string {
	for _, s := range secrets {
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s)} {
			if len(form) >= 4 {
				text = strings.ReplaceAll(text, form, "[redacted]")
			}
		}
	}
	return text
}

type redacted struct {
	text  string
	err   error
	retry *RetryError
}

func (r *redacted) Error() string { return r.text }

// Is matches the sentinels that the hidden error wraps.
func (r *redacted) Is(target error) bool { return errors.Is(r.err, target) }

// As gives out the hidden RetryError with its text cleaned; every other type stays
// hidden.
func (r *redacted) As(target any) bool {
	want, ok := target.(**RetryError)
	if ok && r.retry != nil {
		*want = r.retry
	}
	return ok && r.retry != nil
}

// AddressSecrets are the parts of an address that may be a token: where a receiver
// repeats them in its answer, they are blotted out there too.
func AddressSecrets(u *url.URL) []string {
	secrets := []string{u.String()}
	if p, ok := u.User.Password(); ok {
		secrets = append(secrets, p)
	}
	parts := strings.Split(u.Path, "/")
	for _, vs := range u.Query() {
		parts = append(parts, vs...)
	}
	for _, p := range parts {
		if len(p) >= 8 {
			secrets = append(secrets, p)
		}
	}
	return secrets
}
