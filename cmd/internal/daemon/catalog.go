package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/traffic"
)

// endpointsTimeout bounds the listing of all endpoints.
const endpointsTimeout = 10 * time.Second

// A Catalog knows the policies in force and the endpoints. It is safe for
// concurrent use.
type Catalog struct {
	// now is the set in force.
	now     func() *set
	records func(context.Context, rollout.EndpointRef) (rollout.EndpointRecord, error)
	// looks are the looks at the sources.
	looks looks
}

// A policySet is the policies of one moment, by name.
type policySet struct {
	byName map[string]*policies.Policy
	files  map[string]string
	sum    [sha256.Size]byte
}

// errNotWhole: what is missing may be there once the config and the policies are
// put right.
var errNotWhole = errors.New("the config, or a policy, cannot be used as a whole: /readyz says why")

// Environment is what policies may name.
func (c *Config) Environment() *policies.Environment {
	e := &policies.Environment{
		Routers: kinds(routers, c.Routers), Sources: kinds(sources, c.Sources), Notifiers: kinds(notifiers, c.Notifiers),
		Dialects: map[string]string{}, Lags: map[string]time.Duration{}, Metrics: c.Metrics, Now: time.Now(),
	}
	for name, s := range c.Sources {
		e.Lags[name] = s.lag()
		if s.Prometheus != nil {
			e.Dialects[name] = s.Prometheus.Dialect
		}
	}
	return e
}

// readPolicies parses every policy file. The set has those that are sound; the
// problems of all are returned, and what is wrong besides.
func (c *Config) readPolicies(env *policies.Environment) (*policySet, policies.Problems, error) {
	files, err := c.policyFiles()
	set := &policySet{byName: map[string]*policies.Policy{}, files: map[string]string{}}
	var all policies.Problems
	errs := []error{err}
	own := c.own()
	for _, f := range files {
		p, ps := policies.Parse(folder.At(filepath.Dir(f), own...), filepath.Base(f), env)
		for i := range ps {
			ps[i].File = filepath.Join(filepath.Dir(f), filepath.Base(ps[i].File))
		}
		all = append(all, ps...)
		if p == nil || p.Base || ps.HasErrors() {
			continue
		}
		name := p.Document.Metadata.Name
		if other, twice := set.files[name]; twice {
			errs = append(errs, fmt.Errorf("policies: %q stands in %s and in %s; names must differ", name, other, f))
			delete(set.byName, name) // which of them is meant is not known
			continue
		}
		set.byName[name], set.files[name] = p, f
	}
	h := sha256.New()
	for _, name := range sortedKeys(set.byName) {
		fmt.Fprintf(h, "%s %s\n", name, set.byName[name].Hash())
	}
	set.sum = [sha256.Size]byte(h.Sum(nil))
	return set, all, errors.Join(errs...)
}

// Plan compiles the policy that r names.
func (c *Catalog) Plan(_ context.Context, id string, r rollout.Release) (*rollout.Plan, error) {
	now := c.now()
	p, ok := now.policies.byName[r.Policy]
	switch {
	case !ok && len(now.faults) > 0:
		return nil, fmt.Errorf("policy %q: %w: %w (there are: %s)", r.Policy, api.ErrNoPolicy, errNotWhole, strings.Join(sortedKeys(now.policies.byName), ", "))
	case !ok:
		return nil, fmt.Errorf("policy %q: %w (there are: %s)", r.Policy, api.ErrNoPolicy, strings.Join(sortedKeys(now.policies.byName), ", "))
	}
	return p.Compile(r, id)
}

// PlanText compiles a policy that came with a request. It may name no files.
func (c *Catalog) PlanText(_ context.Context, id string, r rollout.Release, text []byte) (*rollout.Plan, policies.Problems) {
	const file = "policy.yaml"
	p, ps := policies.Parse(oneFile{file, text}, file, c.now().env)
	if p == nil {
		return nil, ps
	}
	plan, err := p.Compile(r, id)
	if err != nil {
		ps = append(ps, policies.Problem{File: file, Line: 1, Col: 1, Severity: policies.SeverityError, Code: policies.CodeMeaning, Why: err.Error()})
		return nil, ps
	}
	return plan, ps
}

// Policies lists the policies in force, by name.
func (c *Catalog) Policies(context.Context) []api.Policy {
	set := c.now().policies
	var out []api.Policy
	for _, name := range slices.Sorted(maps.Keys(set.byName)) {
		p := set.byName[name]
		d := p.Document
		out = append(out, api.Policy{Name: name, Owner: d.Metadata.Owner, Labels: d.Metadata.Labels, Hash: p.Hash(), File: set.files[name],
			Endpoint: rollout.EndpointRef{Router: d.Spec.Endpoint.Router, Name: d.Spec.Endpoint.Name}})
	}
	return out
}

// Check says what is wrong with a policy's text.
func (c *Catalog) Check(_ context.Context, file string, text []byte) policies.Problems {
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
