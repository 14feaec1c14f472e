package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/traffic"
)

// Endpoint shows one endpoint with what its router tells of it; false when no
// router of that name shows it.
func (c *Catalog) Endpoint(ctx context.Context, ref rollout.EndpointRef) (api.Endpoint, bool) {
	r, ok := c.now().routers[ref.Router]
	if !ok {
		return api.Endpoint{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, endpointsTimeout)
	defer cancel()
	d, err := r.Describe(ctx, ref.Name)
	if errors.Is(err, traffic.ErrNotFound) {
		return api.Endpoint{}, false
	}
	e := api.Endpoint{Router: ref.Router, Name: ref.Name}
	c.fill(ctx, r, &e)
	if err != nil {
		e.Error = err.Error()
		return e, true
	}
	e.Facts = facts(d)
	return e, true
}

// facts is a description as the API shows it.
func facts(d traffic.Description) *api.Facts {
	f := &api.Facts{
		Deployments: map[string]api.Deployment{}, Tags: d.Tags, ScoringURI: d.ScoringURI, AuthMode: d.AuthMode,
		PublicNetwork: d.PublicNetwork, CanMirror: d.CanMirror, Untold: append([]string{}, d.Untold...), ManualRollback: map[string]string{},
	}
	for _, name := range slices.Sorted(maps.Keys(d.Deployments)) {
		f.Deployments[name] = api.Deployment(d.Deployments[name])
		if command := d.ManualRollback(name); command != "" {
			f.ManualRollback[name] = command
		}
	}
	return f
}
