package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// A Prober sends sample requests to scoring addresses, for routers that reach
// their deployments by a request header. Its clients' dialers decide which
// addresses may be reached: endpoints name their scoring addresses themselves.
type Prober struct {
	// Authorized carries the credentials that may ask for predictions; Anonymous
	// carries none. Where one is nil the probes that need it fail and say so.
	// Neither carries the credentials that may change traffic.
	Authorized, Anonymous *http.Client
	// Header is the request header that names the deployment.
	Header string
}

// Probe sends sample to the deployment behind a scoring address, or without any
// credentials when deployment is empty. sample's address is relative to
// scoringURI, or empty. Redirects are answers and not followed. Errors do not
// repeat the address.
func (p Prober) Probe(
	ctx context.Context, scoringURI, deployment string, sample *http.Request,
) (*http.Response, error) {
	if scoringURI == "" {
		return nil, fmt.Errorf("the endpoint tells no scoringURI: %w", ErrPermanent)
	}
	address, err := url.Parse(scoringURI)
	if err != nil || address.Scheme != "http" && address.Scheme != "https" || address.Host == "" ||
		address.User != nil {
		return nil, fmt.Errorf("scoringURI is not an absolute http or https address without credentials: %w",
			ErrPermanent)
	}
	client, name := p.Authorized, "prober"
	if deployment == "" {
		client, name = p.Anonymous, "anonymous client"
	}
	if client == nil {
		return nil, fmt.Errorf("no %s is configured for this router: %w", name, ErrPermanent)
	}
	if sample.URL.IsAbs() || sample.URL.Host != "" {
		return nil, fmt.Errorf("the sample request's address is not relative: %w", ErrPermanent)
	}
	out := sample.Clone(ctx)
	out.RequestURI, out.Host, out.URL = "", "", address
	if sample.URL.Path != "" || sample.URL.RawQuery != "" {
		out.URL = address.ResolveReference(sample.URL)
	}
	out.Header.Del("Authorization")
	out.Header.Del("Cookie")
	if deployment != "" {
		out.Header.Set(p.Header, deployment)
	}
	direct := *client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := direct.Do(out) //nolint:gosec // The client's dialer decides which addresses may be reached.
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, err
	}
	return resp, nil
}
