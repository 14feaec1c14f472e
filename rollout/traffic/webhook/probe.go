package webhook

import (
	"context"
	"fmt"
	"net/http"
)

// Probe implements traffic.Router. The deployment is named in the probe header.
func (r *Router) Probe(ctx context.Context, endpoint, deployment string, sample *http.Request) (*http.Response, error) {
	state, err := r.read(ctx, endpoint)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", endpoint, err)
	}
	address := ""
	if state.ScoringURI != nil {
		address = *state.ScoringURI
	}
	resp, err := r.prober.Probe(ctx, address, deployment, sample)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", endpoint, err)
	}
	return resp, nil
}
