package azureml

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/belayd/belay/analysis/unique"
	"github.com/belayd/belay/rollout/traffic"
)

const (
	// maxBody bounds what is read of an answer, in bytes.
	maxBody = 8 << 20
	// maxPages bounds how many pages of a list are read.
	maxPages = 200
)

// send makes one request, without retries, and returns the answer's body.
func (r *Router) send(ctx context.Context, method, address string, body []byte) ([]byte, error) {
	req, err := runtime.NewRequest(ctx, method, address)
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	runtime.SkipBodyDownload(req)
	req.Raw().Header.Set("Accept", "application/json")
	if body != nil {
		if err := req.SetBody(streaming.NopCloser(bytes.NewReader(body)), "application/json"); err != nil {
			return nil, fmt.Errorf("build request: %w", err)
		}
	}
	resp, err := r.pipeline.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s resource: %w", verb(method), bare(err))
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s resource: read answer: %w", verb(method), bare(err))
	case len(raw) > maxBody:
		return nil, fmt.Errorf("%s resource: the answer is larger than %d bytes", verb(method), maxBody)
	case resp.StatusCode == http.StatusOK, method == http.MethodPut && resp.StatusCode/100 == 2:
		return raw, nil
	}
	return nil, fmt.Errorf("%s resource: %w", verb(method), refusal(resp, raw))
}

func verb(method string) string { return strings.ToLower(method) }

// refusal says what an answer means that is not a success.
func refusal(resp *http.Response, raw []byte) error {
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	// An answer that is not ARM's has no code.
	_ = json.Unmarshal(raw, &body)
	code := clean(body.Error.Code, 80)
	text := fmt.Sprintf("ARM answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if code != "" {
		text += ", " + code
	}
	if message := clean(body.Error.Message, 300); message != "" {
		text += ": " + message
	}
	err := errors.New(text)
	switch status := resp.StatusCode; {
	case status == http.StatusConflict, status == http.StatusLocked, status == http.StatusTooManyRequests,
		strings.EqualFold(code, "OperationCanceled"), strings.EqualFold(code, "AnotherOperationInProgress"):
		return &traffic.BusyError{RetryAfter: retryAfter(resp.Header), Err: err}
	case status == http.StatusNotFound:
		return fmt.Errorf("%w: %w", err, traffic.ErrNotFound)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("%w; the identity needs onlineEndpoints/read and write and "+
			"onlineEndpoints/deployments/read: %w", err, traffic.ErrPermanent)
	case status/100 == 3, status/100 == 4 && status != http.StatusRequestTimeout:
		return fmt.Errorf("%w: %w", err, traffic.ErrPermanent)
	}
	return err
}

// retryAfter reads how long ARM asks to wait, bounded to an hour; 0 when it
// does not say.
func retryAfter(h http.Header) time.Duration {
	d := time.Duration(0)
	if ms, err := strconv.Atoi(h.Get("Retry-After-Ms")); err == nil {
		d = time.Duration(min(max(ms, 0), 3_600_000)) * time.Millisecond
	} else if seconds, err := strconv.Atoi(h.Get("Retry-After")); err == nil {
		d = time.Duration(min(max(seconds, 0), 3600)) * time.Second
	} else if at, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), time.Hour)
}

// token is anything in a text that may be a credential: names and identifiers
// are shorter.
var token = regexp.MustCompile(`(?i)bearer\s+\S+|[-\w.~+=]{41,}|(?i)(key|sig|token|secret|password)=\S+`)

// clean makes one bounded line of a text, without anything that may be a
// credential.
func clean(s string, most int) string {
	s = token.ReplaceAllString(strings.Join(strings.Fields(s), " "), "…")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// A told error has a text of our own and the cause for errors.Is.
type told struct {
	text  string
	cause error
}

// Error says what went wrong.
func (e *told) Error() string { return e.text }

// Unwrap returns the cause.
func (e *told) Unwrap() error { return e.cause }

// bare words a client's error without addresses, dumps and credentials: those
// of identity libraries print whole answers.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return &told{text: clean(err.Error(), 300), cause: err}
}

// An item is an entry of a list.
type item struct {
	Name string          `json:"name"`
	Raw  json.RawMessage `json:"-"`
}

// list reads all pages of a list. A next page is asked of the same host alone:
// the request carries our credential.
func (r *Router) list(ctx context.Context, address string) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		for range maxPages {
			raw, err := r.send(ctx, http.MethodGet, address, nil)
			if err != nil {
				yield(item{}, err)
				return
			}
			var page struct {
				Value    []json.RawMessage `json:"value"`
				NextLink string            `json:"nextLink"`
			}
			if err := json.Unmarshal(raw, &page); err != nil {
				yield(item{}, errors.New("the list is not JSON"))
				return
			}
			if err := unique.Fields(raw, false); err != nil {
				yield(item{}, fmt.Errorf("the list: %w", err))
				return
			}
			for _, text := range page.Value {
				it := item{Raw: text}
				if err := json.Unmarshal(text, &it); err != nil || it.Name == "" {
					yield(item{}, errors.New("an entry of the list has no name"))
					return
				}
				if !yield(it, nil) {
					return
				}
			}
			if page.NextLink == "" {
				return
			}
			if !strings.HasPrefix(page.NextLink, r.host+"/") {
				yield(item{}, fmt.Errorf("the list goes on at another host: %w", traffic.ErrPermanent))
				return
			}
			address = page.NextLink
		}
		yield(item{}, fmt.Errorf("the list has more than %d pages", maxPages))
	}
}
