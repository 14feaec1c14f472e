package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/cmd/internal/probe"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/view"
)

// endpointsTimeout bounds the listing of all endpoints.
const endpointsTimeout = 10 * time.Second

// A Catalog knows the policies in force and the endpoints. It is safe for
// concurrent use.
type Catalog struct {
	// now is the generation in force.
	now     func() *generation
	records func(context.Context, rollout.EndpointRef) (claim.Record, error)
	// looks are the looks at the sources.
	looks probe.Flight
}

// errNotWhole: what is missing may be there once the config and the policies are
// put right.
var errNotWhole = errors.New("the config, or a policy, cannot be used as a whole: /readyz says why")

// Plan compiles the policy that r names.
func (c *Catalog) Plan(_ context.Context, id string, r rollout.Release) (*rollout.Plan, error) {
	now := c.now()
	p, ok := now.policies.ByName[r.Policy]
	switch {
	case !ok && len(now.faults) > 0:
		return nil, fmt.Errorf("policy %q: %w: %w (there are: %s)", r.Policy, api.ErrNoPolicy, errNotWhole,
			strings.Join(slices.Sorted(maps.Keys(now.policies.ByName)), ", "))
	case !ok:
		return nil, fmt.Errorf("policy %q: %w (there are: %s)", r.Policy, api.ErrNoPolicy,
			strings.Join(slices.Sorted(maps.Keys(now.policies.ByName)), ", "))
	}
	return p.Compile(r, id)
}

// PlanText compiles a policy that came with a request. It may name no files.
func (c *Catalog) PlanText(
	_ context.Context, id string, r rollout.Release, text []byte,
) (*rollout.Plan, document.Problems) {
	const file = "policy.yaml"
	p, ps := policies.Parse(oneFile{file, text}, file, c.now().env)
	if p == nil {
		return nil, ps
	}
	plan, err := p.Compile(r, id)
	if err != nil {
		ps = append(ps, document.Problem{File: file, Line: 1, Col: 1, Severity: document.SeverityError,
			Code: document.CodeMeaning, Why: err.Error()})
		return nil, ps
	}
	return plan, ps
}

// Policies lists the policies in force, by name.
func (c *Catalog) Policies(context.Context) []api.Policy {
	set := c.now().policies
	var out []api.Policy
	for _, name := range slices.Sorted(maps.Keys(set.ByName)) {
		p := set.ByName[name]
		d := p.Document
		out = append(out, api.Policy{Name: name, Owner: d.Metadata.Owner, Labels: d.Metadata.Labels, Hash: p.Hash(),
			File:     set.Files[name],
			Endpoint: rollout.EndpointRef{Router: d.Spec.Endpoint.Router, Name: d.Spec.Endpoint.Name}})
	}
	return out
}

// PolicyText is a policy in force as it runs.
func (c *Catalog) PolicyText(_ context.Context, name string) (string, bool) {
	p, ok := c.now().policies.ByName[name]
	if !ok {
		return "", false
	}
	return p.Render(true), true
}

// Check says what is wrong with a policy's text.
func (c *Catalog) Check(_ context.Context, file string, text []byte) document.Problems {
	file = filepath.Base(file)
	_, ps := policies.Parse(oneFile{file, text}, file, c.now().env)
	return ps
}

// Endpoints lists what the routers show, with the records that Belay keeps.
func (c *Catalog) Endpoints(ctx context.Context) []api.Endpoint {
	ctx, cancel := context.WithTimeout(ctx, endpointsTimeout)
	defer cancel()
	var out []api.Endpoint
	routers := c.now().routers
	for _, router := range slices.Sorted(maps.Keys(routers)) {
		r := routers[router]
		for name, err := range r.Endpoints(ctx) {
			e := api.Endpoint{Router: router, Name: name}
			if err != nil {
				e.Error = err.Error()
				out = append(out, e)
				break
			}
			c.fill(ctx, r, &e)
			out = append(out, e)
		}
	}
	return out
}

// fill adds the split and the record of one endpoint.
func (c *Catalog) fill(ctx context.Context, r traffic.Router, e *api.Endpoint) {
	split, err := r.Split(ctx, e.Name)
	if err != nil {
		e.Error = err.Error()
	}
	e.Weights, e.Mirror = split.Weights, split.Mirror
	rec, err := c.records(ctx, rollout.EndpointRef{Router: e.Router, Name: e.Name})
	if err != nil {
		return
	}
	e.Active, e.Cooldowns = rec.Active, rec.Cooldowns
	for _, w := range rec.Queue {
		e.Queue = append(e.Queue, w.Rollout)
	}
}

// Sources reads every source once for the policies in force.
func (c *Catalog) Sources(ctx context.Context) []api.SourceLook {
	return c.looks.Share(ctx, func(ctx context.Context) []api.SourceLook {
		s := c.now()
		l := probe.SourceProbe{Sources: s.sources, Routers: s.routers, Kinds: s.env.Sources}
		return l.Look(ctx, s.policies)
	})
}

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
func facts(d traffic.Description) *view.Facts {
	f := &view.Facts{
		Deployments: map[string]view.Deployment{}, Tags: d.Tags, ScoringURI: d.ScoringURI, AuthMode: d.AuthMode,
		PublicNetwork: d.PublicNetwork, CanMirror: d.CanMirror, Unknown: append([]string{},
			d.Unknown...), ManualRollback: map[string]string{},
	}
	for _, name := range slices.Sorted(maps.Keys(d.Deployments)) {
		f.Deployments[name] = view.Deployment(d.Deployments[name])
		if command := d.ManualRollback(name); command != "" {
			f.ManualRollback[name] = command
		}
	}
	return f
}
