// Package daemon wires belayd: config file → adapters → engine, and their life
// from start to stop.
//
// The rules of the package:
//   - It decides nothing about rollouts and speaks no adapter's protocol.
//   - table.go is the list of adapters; nothing else names them.
//   - What adapters share (HTTP clients, secrets) is built here and handed in.
//   - Whoever is started here is waited for here, in the reverse order.
//
// It does not read flags and handles no signals: see cmd/belayd. Tests and the
// demo embed it.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/events"
	"github.com/belayd/belay/rollout/trigger"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

const (
	// reloadEvery is how often the policy files are looked at.
	reloadEvery = 5 * time.Second
	// hookMax bounds the body of a call of a hook.
	hookMax = 1 << 20
	// bodyTimeout bounds the reading of a request's body.
	bodyTimeout = 20 * time.Second
	// connectionsMax bounds the connections that are open at a time.
	connectionsMax = 1024
	// stopTimeout bounds the end of requests under way.
	stopTimeout = 4 * time.Second
)

// Options are what a daemon is started with besides its config.
type Options struct {
	ConfigFile string
	Version    string
	Logger     *slog.Logger
	// Reload, when it delivers, makes the policies be read again.
	Reload <-chan struct{}
	// Ready is called once, when requests are served, with the address.
	Ready func(addr string)
	// Beat, where it is set, is called every BeatEvery as long as the daemon is
	// not stuck: for a watchdog.
	Beat      func()
	BeatEvery time.Duration
}

// A daemon is everything that Run starts.
type daemon struct {
	o       Options
	config  *Config
	log     *slog.Logger
	store   *bolt.Store
	engine  *engine.Engine
	catalog *Catalog
	// notifiers are those that the engine has, by name.
	notifiers map[string]notifier.Notifier
	triggers  []*trigger.Trigger
	runners   map[string]runner
	// hooks are what notifiers hear over HTTP, by path.
	hooks    map[string]http.Handler
	registry *prometheus.Registry
	// events publishes lifecycle events; certs are the server's. Both may be nil.
	events *events.Publisher
	certs  *certificates
}

// Run reads the config, recovers what is open and serves until ctx ends. It
// returns nil after a graceful stop, and an error that wraps store.ErrBroken
// when the store can no longer be trusted: the process must then exit with 75
// and be started again.
func Run(ctx context.Context, o Options) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	config, err := ReadConfig(o.ConfigFile)
	if err != nil {
		return err
	}
	d := &daemon{o: o, config: config, log: o.Logger, registry: prometheus.NewRegistry(), runners: map[string]runner{}, hooks: map[string]http.Handler{}}
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := registerBuildInfo(d.registry, o.Version); err != nil {
		return err
	}
	if d.store, err = bolt.Open(config.path(config.Store.Bolt.Path), bolt.Options{Logger: d.log}); err != nil {
		return err // it says what and which file
	}
	err = d.run(ctx)
	if cerr := d.store.Close(); cerr != nil && err == nil {
		err = fmt.Errorf("close store: %w", cerr)
	}
	return err
}

// run builds what stands on the store and runs it.
func (d *daemon) run(ctx context.Context) error {
	if err := d.build(); err != nil {
		return err
	}
	if err := d.buildEvents(ctx); err != nil {
		return err
	}
	server, err := d.server()
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.config.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", d.config.Listen, err)
	}
	return d.serve(ctx, server, netutil.LimitListener(listener, connectionsMax))
}

// build makes the adapters, the engine and the triggers.
func (d *daemon) build() error {
	b := &builder{config: d.config, log: d.log}
	srcs, err1 := build(b, "sources", sources, d.config.Sources)
	rts, err2 := build(b, "routers", routers, d.config.Routers)
	nots, err3 := build(b, "notifiers", notifiers, d.config.Notifiers)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("%s: %w", d.o.ConfigFile, err)
	}
	d.notifiers = nots
	inboxes := map[string]notifier.Inbox{}
	for name, n := range nots {
		if in, ok := n.(notifier.Inbox); ok {
			inboxes[name] = in
		}
		if h, ok := n.(http.Handler); ok {
			d.hooks[d.config.Notifiers[name].hook()] = h
		}
		if r, ok := n.(refresher); ok {
			d.runners["notifier "+name] = refreshing{r, func(ctx context.Context) ([]notifier.Notice, error) { return d.engine.OpenPages(ctx, name) }}
		}
	}
	collectRunners(d.runners, "source", srcs)
	collectRunners(d.runners, "router", rts)
	collectRunners(d.runners, "notifier", nots)
	replica := d.config.Replica
	if replica == "" {
		replica, _ = os.Hostname()
	}
	if replica == "" {
		replica = "belayd"
	}
	config, err := withCrashPoints(engine.Config{
		Store: d.store, Leaser: store.Always{}, Owner: replica, Version: d.o.Version,
		Sources: srcs, Routers: rts, Notifiers: nots, Inboxes: inboxes, People: d.config.heard, ExternalURL: d.config.ExternalURL,
		Logger: d.log, Registerer: d.registry, Retention: d.config.Retention,
	})
	if err != nil {
		return err
	}
	if d.engine, err = engine.New(config); err != nil {
		return fmt.Errorf("start engine: %w", err)
	}
	d.catalog = &Catalog{config: d.config, env: d.config.environment(), routers: rts, sources: srcs, records: d.engine.Endpoint, log: d.log}
	if err := d.catalog.Reload(); err != nil {
		return err
	}
	return d.buildTriggers()
}

// A refresher repeats the pages that are open, until ctx ends.
type refresher interface {
	Run(ctx context.Context, open func(context.Context) ([]notifier.Notice, error)) error
}

// refreshing is a refresher with the list of what is open.
type refreshing struct {
	refresher
	open func(context.Context) ([]notifier.Notice, error)
}

// Run repeats until ctx ends.
func (r refreshing) Run(ctx context.Context) error { return r.refresher.Run(ctx, r.open) }

// collectRunners keeps the adapters that have work of their own.
func collectRunners[A any](into map[string]runner, kind string, as map[string]A) {
	for name, a := range as {
		if r, ok := any(a).(runner); ok {
			into[kind+" "+name] = r
		}
	}
}

// serve runs everything until ctx ends or something that must not end does.
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
	hs := &http.Server{Handler: d.handler(server), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)}
	spawn("http", func(context.Context) error {
		serve := hs.Serve
		if d.certs != nil {
			hs.TLSConfig = d.certs.server()
			serve = func(l net.Listener) error { return hs.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	spawn("api", server.Run)
	spawn("control", d.control)
	for _, t := range d.triggers {
		spawn("trigger "+t.Name(), t.Run)
	}
	for name, r := range d.runners {
		spawn(name, r.Run)
	}
	spawn("policies", func(ctx context.Context) error {
		d.catalog.Watch(ctx, reloadEvery, d.o.Reload)
		return nil
	})
	if d.o.Beat != nil && d.o.BeatEvery > 0 {
		spawn("heart", heart{every: d.o.BeatEvery, beat: d.o.Beat, check: func() {
			_, _ = d.registry.Gather() // that it comes to an end is what counts
		}}.Run)
	}
	d.log.Info("serving", "address", listener.Addr().String(), "outcome", d.config.exposure(d.log))
	if d.o.Ready != nil {
		d.o.Ready(listener.Addr().String())
	}
	// Requests under way end while the engine winds up, so that both share the time
	// that a stop may take.
	ended := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(ended)
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if hs.Shutdown(shutdown) != nil {
			_ = hs.Close()
		}
	})
	// The engine runs last and is the reason for all the others.
	err := d.engine.Run(ctx)
	stop(err)
	<-ended
	wg.Wait()
	if err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// server makes the API.
func (d *daemon) server() (*api.Server, error) {
	auth, err := d.config.authenticator()
	if err != nil {
		return nil, err
	}
	if d.certs, err = d.config.newCertificates(d.log); err != nil {
		return nil, err
	}
	if d.certs != nil {
		d.runners["certificates"] = d.certs
	}
	s, err := api.New(api.Config{Engine: d.engine, Catalog: d.catalog, Log: d.log, Auth: auth, Ready: d.problems, TestNotifiers: d.testNotifiers,
		Triggers: triggerList(func() []*trigger.Trigger { return d.triggers }), Canonical: d.config.canonical, Version: d.o.Version})
	if err != nil {
		return nil, fmt.Errorf("start api: %w", err)
	}
	return s, nil
}

// handler adds /metrics and the notifiers' hooks to the API.
func (d *daemon) handler(s *api.Server) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4}))
	for path, h := range d.hooks {
		if path != "" {
			mux.Handle("POST "+path, http.MaxBytesHandler(h, hookMax))
		}
	}
	mux.Handle("/", s)
	return hurried(mux, bodyTimeout)
}

// hurried gives the body of a request a time by which it must have come, so that
// slow senders do not use up the connections. Streams have no body and go on.
func hurried(next http.Handler, within time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			// A connection without deadlines has other bounds.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(within))
		}
		next.ServeHTTP(w, r)
	})
}

// problems are what /readyz names.
func (d *daemon) problems(context.Context) []string {
	var out []string
	if err := d.store.Err(); err != nil {
		out = append(out, "store: "+err.Error())
	}
	if space, err := d.store.Space(); err == nil && !space.Reserved {
		out = append(out, "store: the disk is full: free some space; rollbacks and deletes still work")
	}
	if p := d.catalog.Problem(); p != "" {
		out = append(out, p)
	}
	out = append(out, d.engine.PageProblems()...)
	for _, t := range d.triggers {
		if err := t.Err(); err != nil {
			out = append(out, err.Error())
		}
	}
	if d.events != nil {
		if err := d.events.Err(); err != nil {
			out = append(out, err.Error())
		}
	}
	if d.certs != nil {
		if err := d.certs.Err(); err != nil {
			out = append(out, err.Error())
		}
	}
	return out
}

// CheckConfig reads the config and everything it names, and connects to nothing.
// The report is for people; ok is false when belayd would not start.
func CheckConfig(file string) (report string, ok bool) {
	c, err := ReadConfig(file)
	if err != nil {
		return err.Error(), false
	}
	b := &builder{config: c, log: slog.New(slog.DiscardHandler)}
	_, err1 := build(b, "sources", sources, c.Sources)
	_, err2 := build(b, "routers", routers, c.Routers)
	_, err3 := build(b, "notifiers", notifiers, c.Notifiers)
	_, err4 := c.authenticator()
	_, err6 := c.newCertificates(b.log)
	set, ps, err5 := c.readPolicies(c.environment())
	text := strings.TrimRight(ps.Text(), "\n")
	if err := errors.Join(err1, err2, err3, err4, err6, err5); err != nil {
		return strings.TrimLeft(text+"\n"+err.Error(), "\n"), false
	}
	if ps.HasErrors() {
		return text, false
	}
	summary := fmt.Sprintf("%s: ok: %d policies, %d sources, %d routers, %d notifiers, %d triggers",
		file, len(set.byName), len(c.Sources), len(c.Routers), len(c.Notifiers), len(c.Triggers))
	return strings.TrimLeft(text+"\n"+summary, "\n"), true
}

var _ api.Catalog = (*Catalog)(nil)
