package webhook

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/belayd/belay/rollout/traffic"
)

// Probe implements traffic.Router. The deployment is named in the probe header.
func (r *Router) Probe(ctx context.Context, endpoint, deployment string, sample *http.Request) (*http.Response, error) {
	resp, err := r.probe(ctx, endpoint, deployment, sample)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", endpoint, err)
	}
	return resp, nil
}

func (r *Router) probe(ctx context.Context, endpoint, deployment string, sample *http.Request) (*http.Response, error) {
	state, err := r.read(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	if state.ScoringURI == nil || *state.ScoringURI == "" {
		return nil, fmt.Errorf("the endpoint tells no scoringURI: %w", traffic.ErrPermanent)
	}
	address, err := url.Parse(*state.ScoringURI)
	if err != nil || address.Scheme != "http" && address.Scheme != "https" || address.Host == "" || address.User != nil {
		return nil, fmt.Errorf("scoringURI is not an absolute http or https address without credentials: %w", traffic.ErrPermanent)
	}
	client, name := r.prober, "prober"
	if deployment == "" {
		client, name = r.anonymous, "anonymous client"
	}
	if client == nil {
		return nil, fmt.Errorf("no %s is configured for this router: %w", name, traffic.ErrPermanent)
	}
	if sample.URL.IsAbs() || sample.URL.Host != "" {
		return nil, fmt.Errorf("the sample request's address is not relative: %w", traffic.ErrPermanent)
	}
	out := sample.Clone(ctx)
	out.RequestURI, out.Host = "", ""
	out.URL = address
	if sample.URL.Path != "" || sample.URL.RawQuery != "" {
		out.URL = address.ResolveReference(sample.URL)
	}
	if deployment == "" {
		out.Header.Del("Authorization")
		out.Header.Del("Cookie")
	} else {
		out.Header.Set(r.header, deployment)
	}
	resp, err := client.Do(out) //nolint:gosec // The client's dialer decides which addresses may be reached.
	if err != nil {
		return nil, bare(err)
	}
	return resp, nil
}
