package preflight

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/traffic"
)

const (
	// probeTimeout bounds one sample request where the policy allows less.
	probeTimeout = 30 * time.Second
	// probeTries is how often the sample is sent when it was answered right and
	// too late: the first request also pays for the connection.
	probeTries = 3
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 1 << 20
)

// invoke: a sample request, routed to the candidate while it has none of the
// traffic, is answered as it should be.
func (r Request) invoke(ctx context.Context, c check.Check) check.Result {
	candidate, want := r.Plan.Release.Candidate, c.Status
	if want == 0 {
		want = http.StatusOK
	}
	expected := fmt.Sprintf("status %d from %s", want, candidate)
	if c.Within > 0 {
		expected += fmt.Sprintf(" within %s", c.Within)
	}
	schema, err := compile(c.Schema)
	if err != nil {
		return failed(err.Error(), "a JSON Schema that stands alone", "Correct the schema of the check.")
	}
	if schema != nil {
		expected += ", as its schema says"
	}
	if c, ok := r.undescribed(expected, "scoringURI"); !ok {
		return c
	}
	const remedy = "Send the sample to the deployment by hand and read its log; correct the deployment, or the " +
		"sample and what it expects."
	var took time.Duration
	for try := range probeTries {
		a, err := r.send(ctx, candidate, c)
		if err != nil {
			return unmade(err, expected,
				"See that the router may send requests to the deployment and reaches the scoring address.")
		}
		if a.status != want {
			return failed(fmt.Sprintf("status %d after %s", a.status, round(a.took)), expected, remedy)
		}
		if schema != nil {
			if err := schema.validate(a.body); err != nil {
				return failed(fmt.Sprintf("status %d, but %v", a.status, err), expected, remedy)
			}
		}
		if try == 0 || a.took < took {
			took = a.took
		}
		if c.Within <= 0 || took <= c.Within {
			return passed(fmt.Sprintf("status %d after %s", want, round(took)), expected)
		}
	}
	return failed(fmt.Sprintf("status %d after %s, the fastest of %d", want, round(took), probeTries), expected,
		"Find out why the deployment is slow without any load, or allow it more time.")
}

// refusesAnonymous: the scoring address asks who is there.
func (r Request) refusesAnonymous(ctx context.Context) check.Result {
	const expected = "status 401 or 403 without credentials"
	if c, ok := r.undescribed(expected, "scoringURI"); !ok {
		return c
	}
	a, err := r.send(ctx, "", r.sample())
	if err != nil {
		remedy := "See that the scoring address can be reached from here."
		if !r.Description.PublicNetwork && !r.untold("publicNetwork") {
			remedy = "The endpoint's public network access is off: run belayd where the scoring address can be reached."
		}
		return unmade(err, expected, remedy)
	}
	found := fmt.Sprintf("status %d", a.status)
	if r.Description.AuthMode != "" {
		found += ", authentication mode " + r.Description.AuthMode
	}
	if a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
		return failed(found, expected, "Turn on authentication at the endpoint before it gets a new release.")
	}
	return passed(found, expected)
}

// sample is the request to send as an anonymous client: that of the first
// invoke check, or a small JSON document.
func (r Request) sample() check.Check {
	for _, c := range r.Plan.Preflight {
		if c.Kind == "invoke" {
			return check.Check{Method: c.Method, Path: c.Path, Body: c.Body}
		}
	}
	return check.Check{Method: http.MethodPost, Body: []byte("{}")}
}

// An answer is what came of a sample request.
type answer struct {
	status int
	body   []byte
	took   time.Duration
}

// send probes a deployment and reads the whole answer.
func (r Request) send(ctx context.Context, deployment string, c check.Check) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, max(probeTimeout, 2*c.Within))
	defer cancel()
	method := c.Method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Path, bytes.NewReader(c.Body))
	if err != nil {
		return answer{}, fmt.Errorf("build sample request: %w", err)
	}
	if json.Valid(c.Body) {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "belay-preflight")
	start := time.Now()
	resp, err := r.Router.Probe(ctx, r.Plan.Endpoint.Name, deployment, req)
	if err != nil {
		return answer{}, fmt.Errorf("send sample request: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("read the answer to the sample request: %w", err)
	}
	if len(body) > maxAnswer {
		return answer{}, fmt.Errorf("the answer to the sample request is larger than %d bytes: %w", maxAnswer,
			traffic.ErrPermanent)
	}
	return answer{status: resp.StatusCode, body: body, took: time.Since(start)}, nil
}

// round keeps what matters of a latency.
func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}
