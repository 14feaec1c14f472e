// Package daemon wires belayd: config file → adapters → engine, and their life
// from start to stop.
//
// The rules of the package:
//   - It decides nothing about rollouts and speaks no adapter's protocol.
//   - What the config says, and which adapters it leads to, is package config's.
//   - Whoever is started here is waited for here, in the reverse order.
//   - What the config leads to is one generation (generation.go) that never changes and
//     is replaced in one place (reload.go), with its engine: whoever does one thing takes
//     it once.
//
// It does not read flags and handles no signals: see cmd/belayd. Tests and the
// demo embed it.
package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/belayd/belay/cmd/internal/bulkhead"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/drift"
	"github.com/belayd/belay/cmd/internal/drill"
	"github.com/belayd/belay/cmd/internal/notary"
	"github.com/belayd/belay/cmd/internal/refusals"
	"github.com/belayd/belay/cmd/internal/serve"
	"github.com/belayd/belay/cmd/internal/succession"
	"github.com/belayd/belay/notifier/inboxes"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/trigger"
)

const (
	// reloadEvery is how often the files of the config and the policies are looked
	// at.
	reloadEvery = 5 * time.Second
	// hookMax bounds the body of a call of a hook.
	hookMax = 1 << 20
)

// Options are what a daemon is started with besides its config.
type Options struct {
	ConfigFile string
	Version    string
	Logger     *slog.Logger
	// Reload, when it delivers, makes the config and all it names be read again.
	Reload <-chan struct{}
	// Ready is called once, when requests are served, with the address; with "" when
	// the address cannot be had yet and rollouts are carried all the same.
	Ready func(addr string)
	// Beat, where it is set, is called every BeatEvery as long as the daemon is
	// not stuck: for a watchdog.
	Beat      func()
	BeatEvery time.Duration
}

// A daemon is everything that Run starts.
type daemon struct {
	o       Options
	log     *slog.Logger
	store   config.Store
	engines *succession.Engines
	catalog *Catalog
	// current is the generation in force; see now. inboxes and tasks are what runs
	// because of it, besides the engine.
	current   atomic.Pointer[generation]
	inboxes   *inboxes.Inboxes
	tasks     tasks
	reloading reloading
	drill     drill.Drill
	// refusals tells of release events that were refused.
	refusals *refusals.Teller
	notary   *notary.Notary
	registry *prometheus.Registry
	// bulkhead stands between the daemon and its adapters.
	bulkhead *bulkhead.Bulkhead
	// port is where requests come from beyond the machine's own socket.
	port *serve.Port
	// drift notices what endpoints show that no record explains.
	drift *drift.Watch
	// points are around adapters and store, in a build that has them.
	points *crashPoints
}

// records are the store for what is assembled: a daemon that only checks a config has
// none, and nobody asks it.
type records struct{ config.Store }

// now is the generation in force.
func (d *daemon) now() *generation { return d.current.Load() }

// storePath is the file of the store.
func (d *daemon) storePath() string {
	return d.now().config.StoreFile()
}

// Run reads the config, recovers what is open and serves until ctx ends. It
// returns nil after a graceful stop, and an error that wraps store.ErrBroken
// when the store can no longer be trusted: the process must then exit with 75
// and be started again.
func Run(ctx context.Context, o Options) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	config, known, err := config.Load(o.ConfigFile)
	if err != nil {
		return err
	}
	d := &daemon{o: o, log: o.Logger, drill: drill.Drill{Log: o.Logger}, registry: prometheus.NewRegistry()}
	d.refusals = refusals.New(d.refused)
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := registerBuildInfo(d.registry, o.Version); err != nil {
		return err
	}
	if d.bulkhead, err = bulkhead.New(d.log, d.registry); err != nil {
		return err
	}
	if d.points, err = newCrashPoints(); err != nil {
		return err
	}
	if d.reloading.metrics, err = newReloadMetrics(d.registry); err != nil {
		return err
	}
	if d.store, err = config.OpenStore(false, d.log); err != nil {
		return err // it says what and which file
	}
	err = d.run(ctx, config, known)
	if cerr := d.store.Close(); cerr != nil && err == nil {
		err = fmt.Errorf("close store: %w", cerr)
	}
	return err
}

// run builds what stands on the store and runs it.
func (d *daemon) run(ctx context.Context, config *config.Config, known config.Faults) error {
	if err := d.build(config, known); err != nil {
		return err
	}
	if s := d.now().sink; s != nil {
		if err := s.open(ctx); err != nil {
			d.log.Error("events wait", "outcome", err.Error()) // its task opens it again
		}
	}
	if len(d.now().faults) == 0 { // the cursor of a sink that is misspelt is not forgotten
		d.forgetSinks(ctx)
	}
	server, err := d.server()
	if err != nil {
		return err
	}
	d.port = &serve.Port{Address: config.Listen, Log: d.log}
	return d.serve(ctx, server, d.port.Try(ctx))
}

// build makes the first generation, of whatever the config has that can be used, and
// its engine.
func (d *daemon) build(c *config.Config, known config.Faults) error {
	s, ps := d.assemble(c, known)
	d.current.Store(s)
	e, err := engine.New(d.engineOf(s))
	if err != nil {
		return fmt.Errorf("start engine: %w", err)
	}
	d.engines = succession.New(e)
	d.drift = d.newDrift()
	d.catalog = &Catalog{now: d.now, records: d.engines.Endpoint}
	if len(s.faults) > 0 {
		d.missing(s.faults)
	} else {
		d.judged("config", nil)
		d.reloading.metrics.taken()
	}
	d.logPolicies(s.policies, ps)
	return nil
}

// engineOf is what the engine of a generation is made of.
func (d *daemon) engineOf(s *generation) engine.Config {
	c := s.config
	replica := c.Replica
	if replica == "" {
		replica, _ = os.Hostname()
	}
	return engine.Config{
		Store: d.points.store(d.store), Leaser: d.store, Owner: cmp.Or(replica, "belayd"), Version: d.o.Version,
		Sources: s.plainSources(), Routers: s.routers, Notifiers: s.plainNotifiers(),
		ExternalURL: c.ExternalURL, Retention: c.Retention, Queue: c.Queue,
		People:    func(notifier, who string) access.Actor { return d.now().config.Heard(notifier, who) },
		Canonical: func(name string) string { return d.now().config.Canonical(name) },
		Hindered:  d.hindered,
		Logger:    d.log, Registerer: d.registry,
	}
}

// serve runs everything until ctx ends or something that must not end does. Without
// a listener it waits for one beside all else.
func (d *daemon) serve(ctx context.Context, server *api.Server, listener net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	spawn := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	d.inboxes = &inboxes.Inboxes{Answer: d.engines.Answer, Log: d.log, Go: func(do func(context.Context)) bool {
		wg.Go(func() { do(ctx) })
		return true
	}}
	handler := d.handler(server)
	web := &serve.Server{Handler: handler, Log: d.log}
	if d.now().certs != nil {
		web.TLS = d.tls()
	}
	// Requests under way end while the engine winds up, so that both share the time
	// that a stop may take.
	spawn("http", func(ctx context.Context) error { return d.answer(ctx, web, listener) })
	spawn("api", server.Run)
	spawn("control", func(ctx context.Context) error { return d.control(ctx, handler) })
	spawn("drill", d.drill.Run)
	spawn("refusals", d.refusals.Run)
	spawn("drift", d.drift.Run)
	spawn("notary", d.notary.Run)
	d.inboxes.Listen(ctx, d.now().inboxes())
	d.tasks.start(ctx, d.log)
	d.tasks.replace(d.now().tasks(d))
	spawn("config", func(ctx context.Context) error { return d.watch(ctx, reloadEvery) })
	if d.o.Beat != nil && d.o.BeatEvery > 0 {
		spawn("heart", heart{every: d.o.BeatEvery, beat: d.o.Beat, check: func() {
			_, _ = d.registry.Gather() // that it comes to an end is what counts
		}}.Run)
	}
	address := "" // nobody gets in, but rollouts are carried
	if listener != nil {
		d.serving(listener)
		address = listener.Addr().String()
	}
	if d.o.Ready != nil {
		d.o.Ready(address)
	}
	// The engines run last and are the reason for all the others.
	err := d.engines.Run(ctx)
	stop(err)
	wg.Wait()
	d.tasks.wait()
	if err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// answer serves requests, as soon as it can listen.
func (d *daemon) answer(ctx context.Context, web *serve.Server, listener net.Listener) error {
	if listener == nil {
		if listener = d.port.Open(ctx); listener == nil {
			return nil
		}
		d.serving(listener)
	}
	return web.Run(ctx, listener)
}

func (d *daemon) serving(listener net.Listener) {
	d.log.Info("serving", "address", listener.Addr().String(), "outcome", d.now().config.Exposure(d.log))
}

// server makes the API.
func (d *daemon) server() (*api.Server, error) {
	triggers := triggerList(func() []*trigger.Trigger { return d.now().triggers })
	if err := d.registry.Register(triggers); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	d.notary = notary.New(d.store, d.announceHead, d.log)
	if err := d.registry.Register(d.notary); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s, err := api.New(api.Config{Engine: d.engines, Catalog: d.catalog, Log: d.log, Auth: authentication(d.now),
		Ready: d.problems, TestNotifiers: d.testNotifiers, AuditHead: d.auditHead,
		Triggers:  triggers,
		Canonical: func(name string) string { return d.now().config.Canonical(name) }, Version: d.o.Version,
		Registerer: d.registry})
	if err != nil {
		return nil, fmt.Errorf("start api: %w", err)
	}
	return s, nil
}

// An authentication asks the generation in force who it is that asks.
type authentication func() *generation

// Authenticate implements api.Authenticator.
func (a authentication) Authenticate(r *http.Request) (api.Actor, error) {
	s := a()
	if s.auth == nil {
		return api.Loopback{}.Authenticate(r)
	}
	actor, err := s.auth.Authenticate(s.certs.Doubt(r))
	if err == nil {
		serve.MarkAuthenticated(r.Context())
	}
	return actor, err
}

// tls is what the server is configured with: each handshake uses the certificates
// of the generation in force.
func (d *daemon) tls() *tls.Config {
	c := d.now().certs.Server()
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config,
		error) {
		return d.now().certs.Server().GetConfigForClient(h)
	}
	return c
}

// handler adds /metrics and the notifiers' hooks to the API.
func (d *daemon) handler(s *api.Server) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", newMetricsPage(d.registry))
	mux.Handle("POST /hooks/", http.MaxBytesHandler(hooks{d.now, s}, hookMax))
	mux.Handle("/", s)
	return mux
}

// hindered says why no step may go forward: without its reserve, the store may not
// take what a rollback leads to.
func (d *daemon) hindered() error {
	needs, err := d.store.Needs()
	if err == nil && needs != "" {
		err = errors.New("the store has no reserve: " + needs)
	}
	return err
}

// problems are what /readyz names.
func (d *daemon) problems(context.Context) []string {
	var out []string
	if err := d.store.Err(); err != nil {
		out = append(out, "store: "+err.Error())
	}
	if needs, err := d.store.Needs(); err == nil && needs != "" {
		out = append(out, "store: its reserve is missing, so that no step goes forward: "+needs)
	}
	if d.port != nil {
		if err := d.port.Err(); err != nil {
			out = append(out, err.Error()+": tried again in the background; meanwhile belayd answers on its socket alone, "+
				d.now().config.SocketPath())
		}
	}
	if p := d.reloading.refusal(); p != "" {
		out = append(out, p)
	}
	out = append(out, d.engines.Now().PageProblems()...)
	if d.inboxes != nil {
		out = append(out, d.inboxes.Problems()...)
	}
	out = append(out, d.engines.Now().Forsaken()...)
	out = append(out, d.tasks.problems()...)
	out = append(out, d.drift.Problems()...)
	now := d.now()
	for _, t := range now.triggers {
		if err := t.Err(); err != nil {
			out = append(out, err.Error())
		}
	}
	if now.sink != nil {
		if err := now.sink.Err(); err != nil {
			out = append(out, err.Error())
		}
	}
	if now.certs != nil {
		if err := now.certs.Err(); err != nil {
			out = append(out, err.Error())
		}
	}
	return out
}

var _ api.Catalog = (*Catalog)(nil)
