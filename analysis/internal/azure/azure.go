// Package azure is what the sources share that ask Azure's monitoring: a
// pipeline with a token, retries that end, answers that have an end, and errors
// that hold no address and no body.
package azure

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/belayd/belay/analysis/internal/fetch"
	"github.com/belayd/belay/analysis/unique"
)

// Config says how to reach a service.
type Config struct {
	// Audience is what the token is for: https://api.loganalytics.io.
	Audience   string
	Credential azcore.TokenCredential
	// Client makes the requests; it stays the caller's.
	Client *http.Client
	// Timeout bounds one question, retries included; MaxBytes one answer.
	Timeout  time.Duration
	MaxBytes int64
}

// A Client asks one service. It is safe for concurrent use.
type Client struct {
	cfg      Config
	pipeline runtime.Pipeline
	pause    fetch.Pause
}

// New returns a client. Requests to addresses that are not https fail: a token
// goes with each.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.Client == nil:
		return nil, errors.New("no HTTP client")
	case cfg.Credential == nil:
		return nil, errors.New("no credential")
	}
	opts := &policy.ClientOptions{
		Transport: fetch.Straight(cfg.Client),
		Telemetry: policy.TelemetryOptions{ApplicationID: "belayd"},
		Retry: policy.RetryOptions{
			MaxRetries: 2, RetryDelay: time.Second, MaxRetryDelay: 10 * time.Second, TryTimeout: cfg.Timeout,
		},
	}
	token := runtime.NewBearerTokenPolicy(cfg.Credential, []string{cfg.Audience + "/.default"}, nil)
	return &Client{
		cfg:      cfg,
		pipeline: runtime.NewPipeline("belay", "v1", runtime.PipelineOptions{PerRetry: []policy.Policy{token}}, opts),
	}, nil
}

var errTimeout = errors.New("azure: time is up")

// Post sends a JSON body and decodes the JSON answer into out. Numbers that out
// takes as any are json.Number.
func (c *Client) Post(ctx context.Context, url string, header http.Header, in, out any) error {
	if err := c.pause.Err(time.Now()); err != nil {
		return err
	}
	timed, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errTimeout)
	defer cancel()
	err := c.post(timed, url, header, in, out)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(context.Cause(timed), errTimeout):
		return fmt.Errorf("no answer within %s", c.cfg.Timeout)
	}
	return err
}

func (c *Client) post(ctx context.Context, url string, header http.Header, in, out any) error {
	req, err := runtime.NewRequest(ctx, http.MethodPost, url)
	if err != nil {
		return errors.New("not an address")
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode question: %w", err)
	}
	if err := req.SetBody(nopCloser{bytes.NewReader(body)}, "application/json"); err != nil {
		return fmt.Errorf("set body: %w", err)
	}
	maps.Copy(req.Raw().Header, header)
	req.Raw().Header.Set("Accept", "application/json")
	runtime.SkipBodyDownload(req)
	resp, err := c.pipeline.Do(req)
	if err != nil {
		return said(err)
	}
	defer func() { _ = resp.Body.Close() }()
	c.pause.Heed(resp, time.Now())
	return c.decode(resp, out)
}

func (c *Client) decode(resp *http.Response, out any) error {
	in, err := io.ReadAll(io.LimitReader(resp.Body, c.cfg.MaxBytes+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer: %w", fetch.Bare(err))
	case int64(len(in)) > c.cfg.MaxBytes:
		return fmt.Errorf("the answer is larger than %d bytes", c.cfg.MaxBytes)
	case resp.StatusCode != http.StatusOK:
		return refusal(resp, in)
	}
	dec := json.NewDecoder(bytes.NewReader(in))
	dec.UseNumber()
	if err := dec.Decode(out); err != nil {
		return errors.New("it did not answer the JSON that was asked for, or it was cut off")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("its answer goes on after its end")
	}
	if unique.Fields(in, true) != nil { // whose name is the service's, and stays unsaid
		return errors.New("its answer has a field twice")
	}
	return nil
}

// code matches Azure's error codes, and little else.
var code = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]{0,63}$`)

// refusal says what a status means: the service's code and a remedy, and
// nothing of what it wrote besides. It is permanent where asking again cannot help.
func refusal(resp *http.Response, body []byte) error {
	var e struct {
		Error struct {
			Code       string
			InnerError struct{ Code string }
		}
		Code string
	}
	_ = json.Unmarshal(body, &e)
	text := "it answered " + fetch.Answer(resp)
	if c := cmp.Or(e.Error.InnerError.Code, e.Error.Code, e.Code,
		resp.Header.Get("X-Ms-Error-Code")); code.MatchString(c) {
		text += " (" + c + ")"
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		text += ": does belayd's identity have the role to read?"
	case http.StatusTooManyRequests:
		text += ": too many questions"
	}
	return fetch.Mark(resp.StatusCode, errors.New(text))
}

// said is a pipeline's error as people may read it.
func said(err error) error {
	if re, ok := errors.AsType[*azcore.ResponseError](err); ok {
		text := "it answered " + fetch.Status(re.StatusCode)
		if code.MatchString(re.ErrorCode) {
			text += " (" + re.ErrorCode + ")"
		}
		return fetch.Mark(re.StatusCode, errors.New(text))
	}
	return fetch.Bare(err)
}

type nopCloser struct{ *bytes.Reader }

// Close implements io.Closer.
func (nopCloser) Close() error { return nil }
