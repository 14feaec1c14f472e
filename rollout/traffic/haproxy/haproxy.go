// Package haproxy moves traffic by HAProxy's runtime socket (HAProxy 2.4 or
// newer, level admin).
//
// An endpoint is one of two things:
//   - A backend whose servers are the deployments. Weights are the servers'; the
//     backend balances by an algorithm that takes any weight at run time
//     (roundrobin, leastconn, random, or a hash with hash-type consistent).
//   - A map, named in the configuration, whose keys 0 to 99 lead to the backends
//     that are the deployments, as in
//     use_backend %[rand(100),map_int(/etc/haproxy/recs.map)]
//     or, for sticky users, %[req.hdr(x-user),crc32,mod(100),map_int(…)]. Keys keep
//     their deployment where they can, so that a user who saw the candidate at 5%
//     still sees it at 25%.
//
// The rules of the package:
//   - What is true is what the socket shows. A server that a person put into
//     maintenance or drains has no traffic; one whose health check failed still has
//     its weight (see Deployment.Ready). Backup servers are no deployments.
//   - HAProxy has no fence: between the router's read and its write lies about a
//     millisecond in which another writer is overwritten.
//   - A map is replaced in one act. Servers are set one after the other in one line
//     of commands, those that rise first: no deployment ever exceeds the larger of
//     its old and new share, and there is always one that serves.
//   - A reload is a new process with the weights of the configuration, and shows as
//     someone else's change: Split does not write, so that a replica which no
//     longer owns a rollout cannot bring an old split back. A split outlives a
//     reload when HAProxy finds it on disk: in the file of Config.StateFile
//     (HAProxy's server-state-file, with load-server-state-from-file), or in the
//     map's own file with KeepMap. Without that, the policy decides: with
//     onForeignChange: restore the split is asserted again.
//   - HAProxy does not mirror (an agent does) and knows neither tags nor a scoring
//     address: the configuration may tell these.
//   - A probe names its deployment in a header, Belay-Deployment unless configured
//     otherwise, and HAProxy's configuration follows it:
//     use-server green if { req.hdr(Belay-Deployment) green }
//
// Clients that are bound to a server by a cookie stay with it at weight 0; that
// is HAProxy's meaning of a weight.
package haproxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/belayd/belay/rollout/traffic"
)

// DefaultProbeHeader is the request header by which a probe names the
// deployment that shall answer.
const DefaultProbeHeader = "Belay-Deployment"

// Config says where HAProxy's runtime socket is and what it cannot tell.
type Config struct {
	// Socket is the path of a unix socket, or host:port.
	Socket string `yaml:"socket" required:"true" doc:"Path of the runtime socket, or host:port."`
	// Endpoints say more of endpoints than HAProxy can; backends need no entry.
	Endpoints map[string]Endpoint
	// StateFile is HAProxy's server-state-file. Where set it is rewritten after
	// every change of servers' weights. It needs a unix socket.
	StateFile string `yaml:"stateFile" doc:"HAProxy's server-state-file, rewritten after every change."`
	// Prober sends the sample requests. An empty Header is DefaultProbeHeader.
	Prober traffic.Prober
}

// An Endpoint is what the configuration tells of an endpoint.
type Endpoint struct {
	// Map is the map's file as HAProxy names it; empty for a backend's servers.
	Map string `yaml:"map" doc:"The map's file as HAProxy names it; without it the servers of a backend are weighed."`
	// KeepMap rewrites the map's file after every change. It needs a unix socket.
	KeepMap    bool   `yaml:"keepMap" doc:"Rewrite the map's file after every change."`
	ScoringURI string `yaml:"scoringURI" doc:"Where sample requests go."`
	// AuthMode is a word for people and for the checks: "key", "oauth2".
	AuthMode string            `yaml:"authMode" doc:"How clients authenticate: key, oauth2."`
	Tags     map[string]string `yaml:"tags" doc:"Tags for the preflight checks."`
}

// A Router moves the traffic of one HAProxy. It is safe for concurrent use.
type Router struct {
	socket    socket
	endpoints map[string]Endpoint
	stateFile string
	prober    traffic.Prober
	// mu lets one write at a time pass: HAProxy numbers a map's versions, and the
	// state file has one name.
	mu sync.Mutex
}

var _ traffic.Router = (*Router)(nil)

// New checks c and returns its router. It makes no connection.
func New(c Config) (*Router, error) {
	s, err := parseSocket(c.Socket)
	if err != nil {
		return nil, err
	}
	keeps := c.StateFile != ""
	for _, name := range slices.Sorted(maps.Keys(c.Endpoints)) {
		e := c.Endpoints[name]
		if !validName(name) {
			return nil, fmt.Errorf("configure haproxy router: endpoint %q: a name has letters, digits and . : - _",
				name)
		}
		if e.Map != "" && !validPath(e.Map) {
			return nil, fmt.Errorf("configure haproxy router: endpoint %s: map %q is not a path without spaces, "+
				"semicolons and quotes", name, e.Map)
		}
		if e.KeepMap && e.Map == "" {
			return nil, fmt.Errorf("configure haproxy router: endpoint %s: keepMap without a map", name)
		}
		keeps = keeps || e.KeepMap
	}
	if keeps && s.network != "unix" {
		return nil, errors.New("configure haproxy router: files are kept only where HAProxy runs; use its unix socket")
	}
	r := &Router{socket: s, endpoints: maps.Clone(c.Endpoints), stateFile: c.StateFile, prober: c.Prober}
	if r.prober.Header == "" {
		r.prober.Header = DefaultProbeHeader
	}
	return r, nil
}

// Split implements traffic.Router.
func (r *Router) Split(ctx context.Context, endpoint string) (traffic.Split, error) {
	e, err := r.open(endpoint)
	if err != nil {
		return traffic.Split{}, fmt.Errorf("read split of %s: %w", endpoint, err)
	}
	s, err := e.split(ctx)
	if err != nil {
		return traffic.Split{}, fmt.Errorf("read split of %s: %w", endpoint, err)
	}
	return s, nil
}

// Shift implements traffic.Router.
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
	if traffic.Positive(to.Mirror) != nil {
		return fmt.Errorf("HAProxy does not mirror: %w", traffic.ErrPermanent)
	}
	e, err := r.open(endpoint)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := e.split(ctx)
	if err != nil {
		return err
	}
	needed, err := traffic.NeedsWrite(now, from, to)
	if err != nil {
		return r.explain(ctx, err)
	}
	if !needed {
		return nil
	}
	if err := e.set(ctx, traffic.Positive(to.Weights)); err != nil {
		return err
	}
	if err := e.keep(ctx); err != nil {
		return fmt.Errorf("the split is in effect, but is not kept for a reload: %w", err)
	}
	return nil
}

// explain adds to a foreign change that HAProxy has just been started.
func (r *Router) explain(ctx context.Context, err error) error {
	if uptime, e := r.socket.uptime(ctx); e == nil && uptime < recentStart {
		return fmt.Errorf("%w (HAProxy was started %s ago; was it reloaded?)", err, uptime)
	}
	return err
}

// Endpoints implements traffic.Router: the configured maps and the backends,
// but not those that a configured map leads to.
func (r *Router) Endpoints(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := r.list(ctx)
		if err != nil {
			yield("", fmt.Errorf("list endpoints: %w", err))
			return
		}
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func (r *Router) list(ctx context.Context) ([]string, error) {
	rows, err := r.socket.stat(ctx, "-1")
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for _, row := range rows {
		if row.kind == kindServer {
			names[row.proxy] = true
		}
	}
	for name, e := range r.endpoints {
		if e.Map == "" {
			continue
		}
		m, err := (&mapEndpoint{router: r, file: e.Map}).read(ctx)
		if err != nil {
			return nil, err
		}
		for _, backend := range m {
			delete(names, backend)
		}
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// Describe implements traffic.Router.
func (r *Router) Describe(ctx context.Context, endpoint string) (traffic.Description, error) {
	e, err := r.open(endpoint)
	if err != nil {
		return traffic.Description{}, fmt.Errorf("describe %s: %w", endpoint, err)
	}
	d, err := e.describe(ctx)
	if err != nil {
		return traffic.Description{}, fmt.Errorf("describe %s: %w", endpoint, err)
	}
	r.told(endpoint, &d)
	return d, nil
}

// Probe implements traffic.Router. The deployment is named in the probe header.
func (r *Router) Probe(ctx context.Context, endpoint, deployment string, sample *http.Request) (*http.Response, error) {
	e, err := r.open(endpoint)
	if err == nil {
		_, err = e.split(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", endpoint, err)
	}
	resp, err := r.prober.Probe(ctx, r.endpoints[endpoint].ScoringURI, deployment, sample)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", endpoint, err)
	}
	return resp, nil
}

// An opened endpoint is a backend or a map.
type opened interface {
	split(ctx context.Context) (traffic.Split, error)
	// set writes weights that sum to 100.
	set(ctx context.Context, weights map[string]int) error
	// keep lets what is in effect outlive a reload, where that is configured.
	keep(ctx context.Context) error
	describe(ctx context.Context) (traffic.Description, error)
}

func (r *Router) open(endpoint string) (opened, error) {
	if !validName(endpoint) {
		return nil, fmt.Errorf("endpoint name %q: %w", endpoint, traffic.ErrNotFound)
	}
	if e := r.endpoints[endpoint]; e.Map != "" {
		return &mapEndpoint{router: r, file: e.Map, kept: e.KeepMap}, nil
	}
	return &backend{router: r, name: endpoint}, nil
}
