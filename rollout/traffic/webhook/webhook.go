// Package webhook moves the traffic of anything that keeps a small HTTP
// contract:
//
//	GET {url}/endpoints          {"endpoints":["recs"]}
//	GET {url}/endpoints/{name}   {"weights":{"blue":95,"green":5},"mirror":{},"version":"7",
//	                              "deployments":{"green":{"ready":true,"instances":2,"concurrency":8,"version":"v2"}},
//	                              "tags":{},"scoringURI":"https://…"}
//
// PUT {url}/endpoints/{name}   If-Match: "7", {"weights":…,"mirror":…} → 200 and the new
// state; 412 if it changed meanwhile
//
// The rules of the package:
//   - Weights are integers that sum to 100, zeroes may be left out. All 0 may be
//     read (traffic off) and is never written.
//   - Deployments, tags, scoringURI and mirror are optional; what is not told is
//     named in Description.Unknown. An endpoint that tells "mirror", even empty,
//     can mirror.
//   - Every write has the version that was read in If-Match: a change by someone
//     else between the read and the write is refused by the endpoint.
//   - Redirects are not followed, answers are read to at most 1 MiB, nothing is
//     retried.
//   - No error repeats what an endpoint wrote in a body or a header: it may
//     repeat a credential.
//   - A probe goes to scoringURI with the deployment's name in a header,
//     Belay-Deployment unless configured otherwise.
//
// Router is the client's side, Handler the server's, for those who own such an
// endpoint; Conform proves that an endpoint keeps the contract.
//
// The package makes no connection settings of its own: authentication, TLS and
// which addresses may be reached are the http.Clients' that it is given.
package webhook

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
	"strings"

	"github.com/belayd/belay/rollout/traffic"
)

// DefaultProbeHeader is the request header by which a probe names the
// deployment that shall answer.
const DefaultProbeHeader = "Belay-Deployment"

// maxBody bounds what is read of an answer or a request, in bytes.
const maxBody = 1 << 20

// Config says where the endpoints are and how they are reached.
type Config struct {
	// URL is the contract's address, without query, fragment and credentials.
	URL string `yaml:"url" required:"true" doc:"The contract's address."`
	// Client reaches URL; it carries the credentials that may change traffic.
	Client *http.Client
	// Prober sends the sample requests. An empty Header is DefaultProbeHeader.
	Prober traffic.Prober
	// CurlArgs are put into the command for a rollback by hand, so that it
	// authenticates a person: names of files ("--config", "~/.edge.curl"), never a
	// secret.
	CurlArgs []string `yaml:"curlArgs" doc:"Arguments of the curl command for a rollback by hand, for example a --config file."`
}

// A Router moves the traffic of the endpoints behind one URL. It is safe for
// concurrent use.
type Router struct {
	base   *url.URL
	client *http.Client
	prober traffic.Prober
	curl   []string
}

var _ traffic.Router = (*Router)(nil)

// New checks c and returns its router. It makes no connection.
func New(c Config) (*Router, error) {
	base, err := parseBase(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Client == nil {
		return nil, errors.New("configure webhook router: Client is missing")
	}
	r := &Router{base: base, client: direct(c.Client), prober: c.Prober, curl: c.CurlArgs}
	if r.prober.Header == "" {
		r.prober.Header = DefaultProbeHeader
	}
	return r, nil
}

// parseBase checks a contract address. Its errors do not repeat it: it may hold
// a password.
func parseBase(raw string) (*url.URL, error) {
	base, err := url.Parse(strings.TrimRight(raw, "/"))
	switch {
	case err != nil:
		return nil, errors.New("configure webhook router: url cannot be parsed")
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "":
		return nil, errors.New("configure webhook router: url is not an absolute http or https address")
	case base.User != nil:
		return nil, errors.New("configure webhook router: url holds credentials; put them into the http section")
	case base.RawQuery != "" || base.Fragment != "":
		return nil, errors.New("configure webhook router: url has a query or a fragment")
	}
	return base, nil
}

// direct copies a client so that it follows no redirect.
func direct(c *http.Client) *http.Client {
	d := *c
	d.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &d
}

// Split implements traffic.Router.
func (r *Router) Split(ctx context.Context, endpoint string) (traffic.Split, error) {
	state, err := r.read(ctx, endpoint)
	if err != nil {
		return traffic.Split{}, fmt.Errorf("read split of %s: %w", endpoint, err)
	}
	return state.split(), nil
}

// Shift implements traffic.Router. The write requires the version that was
// read just before it.
func (r *Router) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	if err := r.shift(ctx, endpoint, from, to); err != nil {
		return fmt.Errorf("shift %s: %w", endpoint, err)
	}
	return nil
}

func (r *Router) shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	if err := traffic.Validate(to); err != nil {
		return err
	}
	now, err := r.read(ctx, endpoint)
	if err != nil {
		return err
	}
	needed, err := traffic.NeedsWrite(now.split(), from, to)
	if err != nil || !needed {
		return err
	}
	mirror := traffic.Positive(to.Mirror)
	if mirror != nil && now.Mirror == nil {
		return fmt.Errorf("the endpoint tells no mirror, so it cannot: %w", traffic.ErrPermanent)
	}
	return r.put(ctx, endpoint, now, traffic.Split{Weights: to.Weights, Mirror: mirror})
}

// put writes a split in place of the state that was read.
func (r *Router) put(ctx context.Context, endpoint string, now EndpointState, to traffic.Split) error {
	body := map[string]any{"weights": traffic.Positive(to.Weights)}
	if now.Mirror != nil {
		body["mirror"] = map[string]int{}
		if to.Mirror != nil {
			body["mirror"] = to.Mirror
		}
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	address, err := r.address(endpoint)
	if err != nil {
		return err
	}
	req, err := newRequest(ctx, http.MethodPut, address, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("If-Match", `"`+now.Version+`"`)
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("put state: %w", bare(err))
	}
	defer drain(resp)
	if resp.StatusCode == http.StatusPreconditionFailed {
		return fmt.Errorf("put state: version %q is gone: %w", now.Version, traffic.ErrForeignChange)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("put state: %w", statusError(resp))
	}
	return nil
}

// Endpoints implements traffic.Router.
func (r *Router) Endpoints(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var list struct {
			Endpoints *[]string `json:"endpoints"`
		}
		err := r.get(ctx, r.base.String()+"/endpoints", &list)
		if err == nil && list.Endpoints == nil {
			err = errors.New(`the answer has no "endpoints"`)
		}
		if err != nil {
			yield("", fmt.Errorf("list endpoints: %w", err))
			return
		}
		for _, name := range *list.Endpoints {
			if !yield(name, nil) {
				return
			}
		}
	}
}

// read gets an endpoint's state and checks it.
func (r *Router) read(ctx context.Context, endpoint string) (EndpointState, error) {
	var s EndpointState
	address, err := r.address(endpoint)
	if err != nil {
		return EndpointState{}, err
	}
	if err := r.get(ctx, address, &s); err != nil {
		return EndpointState{}, err
	}
	if err := s.check(); err != nil {
		return EndpointState{}, fmt.Errorf("get state: %w", err)
	}
	return s, nil
}

// get reads one JSON document of the contract.
func (r *Router) get(ctx context.Context, address string, into any) error {
	req, err := newRequest(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("get state: %w", bare(err))
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get state: %w", statusError(resp))
	}
	if err := decode(resp.Header, resp.Body, into); err != nil {
		return fmt.Errorf("get state: %w", err)
	}
	return nil
}

// address is where an endpoint is. A name cannot lead anywhere else.
func (r *Router) address(endpoint string) (string, error) {
	if endpoint == "" || endpoint == "." || endpoint == ".." {
		return "", fmt.Errorf("endpoint name %q: %w", endpoint, traffic.ErrPermanent)
	}
	return r.base.String() + "/endpoints/" + url.PathEscape(endpoint), nil
}

func newRequest(ctx context.Context, method, address string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	return req, nil
}
