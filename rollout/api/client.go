package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/view"
)

// ErrUnreachable: no belayd answered.
var ErrUnreachable = errors.New("api: belayd does not answer")

// The bounds of the client.
const (
	tries     = 3
	answerMax = 64 << 20 // bytes of one answer
)

// A Client asks a belayd. It repeats a request that may be repeated (a read, or
// one with a key) when nothing answered or the daemon asked it to. Problems that
// the daemon reports come back as *ProblemDetails. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	name  string // of the server, in errors
	http  *http.Client
	token string
}

// UnixPrefix begins the address of a belayd behind a Unix socket: "unix:PATH".
const UnixPrefix = "unix:"

// NewClient returns a client of the belayd at base, of "unix:PATH" when h dials
// that socket whatever the address. The token is sent as a bearer
// token; "" sends none. The client h must not have a timeout shorter than a
// stream should live.
func NewClient(base string, h *http.Client, token string) (*Client, error) {
	name, local := base, strings.HasPrefix(base, UnixPrefix)
	if local {
		base = "http://localhost"
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("server: want an address like http://127.0.0.1:7070 (got %q)", base)
	}
	if token != "" && u.Scheme == "http" && !loopbackHost(u.Host) {
		return nil, fmt.Errorf("server: a token is not sent over http to %s; use https", u.Host)
	}
	if !local {
		name = u.Redacted()
	}
	return &Client{base: u, name: name, http: h, token: token}, nil
}

// Start asks for a rollout; created is false when the key was used for it before.
func (c *Client) Start(ctx context.Context, key string, in StartRequest) (r view.Rollout, created bool, err error) {
	status, err := c.call(ctx, call{method: "POST", path: "/v1/rollouts", key: key, in: in, out: &r})
	return r, status == http.StatusCreated, err
}

// Rollout returns a rollout as it is now.
func (c *Client) Rollout(ctx context.Context, id string) (r view.Rollout, err error) {
	_, err = c.call(ctx, call{method: "GET", path: "/v1/rollouts/" + url.PathEscape(id), out: &r})
	return r, err
}

// Plan returns the plan that a rollout follows.
func (c *Client) Plan(ctx context.Context, id string) (*rollout.Plan, error) {
	var p rollout.Plan
	if _, err := c.call(ctx,
		call{method: "GET", path: "/v1/rollouts/" + url.PathEscape(id) + "/plan", out: &p}); err != nil {
		return nil, err
	}
	return &p, nil
}

// Rollouts yields the rollouts that the filter chooses, the newest first. An
// error ends it.
func (c *Client) Rollouts(ctx context.Context, f view.Filter) iter.Seq2[view.Rollout, error] {
	return func(yield func(view.Rollout, error) bool) {
		left, size := f.Limit, pageMax
		if left > 0 {
			size = min(left, pageMax)
		}
		q := url.Values{"limit": {strconv.Itoa(size)}}
		for name, v := range written(f) {
			if v != "" {
				q.Set(name, v)
			}
		}
		for {
			var page List
			if _, err := c.call(ctx, call{method: "GET", path: "/v1/rollouts", query: q, out: &page}); err != nil {
				yield(view.Rollout{}, err)
				return
			}
			for _, r := range page.Rollouts {
				if left--; !yield(r, nil) || left == 0 {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.Set("cursor", page.Next)
		}
	}
}

// written is a filter as the query's parameters; those that say nothing are empty.
func written(f view.Filter) map[string]string {
	var labels []string
	for k, v := range f.Labels {
		labels = append(labels, k+"="+v)
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	return map[string]string{
		"id": f.ID, "endpoint": f.Endpoint, "phase": strings.Join(f.Phases, ","), "owner": strings.Join(f.Owners, ","),
		"version": f.Version, "label": strings.Join(labels, ","), "since": at(f.Since), "until": at(f.Until),
		"cursor": f.After,
	}
}

// Journal yields the entries of a rollout's journal. An error ends it.
func (c *Client) Journal(ctx context.Context, id string) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		q := url.Values{}
		for {
			var page History
			if _, err := c.call(ctx,
				call{method: "GET", path: "/v1/rollouts/" + url.PathEscape(id) + "/history", query: q, out: &page}); err != nil {
				yield(journal.Entry{}, err)
				return
			}
			for _, e := range page.Entries {
				if !yield(e, nil) {
					return
				}
			}
			if page.Next == 0 {
				return
			}
			q.Set("after", strconv.Itoa(page.Next))
		}
	}
}

// Act orders something of a rollout: approve, reject, pause, resume, rollback,
// promote, extend or ack. The same key is the same act.
func (c *Client) Act(ctx context.Context, id, verb, key string, in Act) (r view.Rollout, err error) {
	_, err = c.call(ctx,
		call{method: "POST", path: "/v1/rollouts/" + url.PathEscape(id) + "/" + verb, key: key, in: in, out: &r})
	return r, err
}

// Undo asks for the rollout that takes a promoted one back; created is false when the
// key was used for it before.
func (c *Client) Undo(ctx context.Context, id, key string, in UndoRequest) (r view.Rollout, created bool, err error) {
	status, err := c.call(ctx,
		call{method: "POST", path: "/v1/rollouts/" + url.PathEscape(id) + "/undo", key: key, in: in, out: &r})
	return r, status == http.StatusCreated, err
}

// Retry asks for the release of a rollout that has ended once more; created is false
// when the key was used for it before.
func (c *Client) Retry(ctx context.Context, id, key string) (r view.Rollout, created bool, err error) {
	status, err := c.call(ctx,
		call{method: "POST", path: "/v1/rollouts/" + url.PathEscape(id) + "/retry", key: key, out: &r})
	return r, status == http.StatusCreated, err
}

// Policies lists the policies in force.
func (c *Client) Policies(ctx context.Context) (l PolicyList, err error) {
	_, err = c.call(ctx, call{method: "GET", path: "/v1/policies", out: &l})
	return l, err
}

// Policy is a policy in force, as it runs.
func (c *Client) Policy(ctx context.Context, name string) (p PolicyDetail, err error) {
	_, err = c.call(ctx, call{method: "GET", path: "/v1/policies/" + url.PathEscape(name), out: &p})
	return p, err
}

// CheckPolicy says what is wrong with a policy, given belayd's config.
func (c *Client) CheckPolicy(ctx context.Context, in CheckRequest) (r CheckResult, err error) {
	_, err = c.call(ctx, call{method: "POST", path: "/v1/policies/check", in: in, out: &r})
	return r, err
}

// Endpoints lists the endpoints.
func (c *Client) Endpoints(ctx context.Context) (l EndpointList, err error) {
	_, err = c.call(ctx, call{method: "GET", path: "/v1/endpoints", out: &l})
	return l, err
}

// ClearCooldown ends the cooldown of a version at an endpoint, and says why; "" ends all.
func (c *Client) ClearCooldown(ctx context.Context, ref rollout.EndpointRef, version, reason string) error {
	q := url.Values{"reason": {reason}}
	if version != "" {
		q.Set("version", version)
	}
	_, err := c.call(ctx, call{method: "DELETE", path: "/v1/endpoints/" + url.PathEscape(ref.Router) + "/" +
		url.PathEscape(ref.Name) + "/cooldown", query: q})
	return err
}

// TestNotifiers makes belayd send a test message to every notifier.
func (c *Client) TestNotifiers(ctx context.Context) (l NotifierTests, err error) {
	_, err = c.call(ctx, call{method: "POST", path: "/v1/notifiers/test", in: struct{}{}, out: &l})
	return l, err
}

// Ready asks whether the daemon can do its work; the answer names what is wrong.
func (c *Client) Ready(ctx context.Context) (h Health, err error) {
	req, err := c.request(ctx, call{method: "GET", path: "/readyz"})
	if err != nil {
		return h, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return h, c.unreachable(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerMax)).Decode(&h); err != nil {
		return h, fmt.Errorf("read answer of %s: %w", c.name, err)
	}
	return h, nil
}

// A call is one request to make.
type call struct {
	method, path string
	query        url.Values
	key          string
	in, out      any
}

// call makes a request, repeats it where that is safe, and decodes the answer.
func (c *Client) call(ctx context.Context, r call) (status int, err error) {
	again := r.method == "GET" || r.method == "DELETE" || r.key != ""
	for try := 1; ; try++ {
		status, err = c.once(ctx, r)
		var p *ProblemDetails
		wait := 200 * time.Millisecond << try
		switch {
		case err == nil, ctx.Err() != nil, !again, try == tries:
			return status, err
		case errors.As(err, &p):
			if p.Status != http.StatusServiceUnavailable && p.Status != http.StatusTooManyRequests {
				return status, err
			}
			wait = min(max(wait, p.retryAfter), 5*time.Second)
		case !errors.Is(err, ErrUnreachable):
			return status, err
		}
		pause(ctx, wait)
	}
}

func (c *Client) once(ctx context.Context, r call) (int, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return resp.StatusCode, problemFrom(resp)
	}
	if r.out == nil {
		return resp.StatusCode, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerMax)).Decode(r.out); err != nil {
		return resp.StatusCode, fmt.Errorf("read answer of %s: %w", c.name, err)
	}
	return resp.StatusCode, nil
}

// request builds a request with the client's token.
func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	u := *c.base
	u.User = nil
	u.RawQuery = r.query.Encode()
	u.RawPath = strings.TrimRight(u.EscapedPath(), "/") + r.path
	path, err := url.PathUnescape(u.RawPath)
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	u.Path = path
	var body io.Reader
	if r.in != nil {
		b, err := json.Marshal(r.in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	if r.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		req.Header.Set(keyHeader, r.key)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("User-Agent", "belay")
	return req, nil
}

// unreachable says that nothing answered, and what to look at. The client's own
// error repeats the address with all that stands in it; only its cause is kept.
func (c *Client) unreachable(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if remedy := c.mistrust(err); remedy != "" {
		return fmt.Errorf("%w with %s: %w; %s", ErrTLS, c.name, err, remedy)
	}
	return fmt.Errorf("%w at %s (is it running? is --server right?): %w", ErrUnreachable, c.name, err)
}

// problemFrom reads a problem, also from something that is not belayd.
func problemFrom(resp *http.Response) *ProblemDetails {
	p := &ProblemDetails{}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media != problemContentType || json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(p) != nil {
		*p = ProblemDetails{Detail: "the answer is not belayd's"}
	}
	p.Status = resp.StatusCode
	p.Title = cmp.Or(p.Title, http.StatusText(resp.StatusCode))
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		p.retryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	return p
}
