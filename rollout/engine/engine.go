// Package engine is the shell of rollouts: it runs the effects that the core
// (package rollout) wants, feeds what comes of them back as events, and commits
// every step of it to the store.
//
// The rules of the package:
//   - Intent before effect: nothing that the outside world can notice is done
//     before the append that asked for it returned. Reads (metrics, splits) and
//     timers are the only effects that may run ahead of an append.
//   - The one exception is a rollback whose intent cannot be appended within two
//     seconds: whoever last held the endpoint without a conflict sends it, pages,
//     and journals it when the store returns.
//   - Rollback first: the traffic call of a rollback waits for no notice, reading,
//     preflight, limit of concurrent calls or other rollout. A forward call that is
//     no longer wanted is cancelled first.
//   - An append whose outcome is unknown is read back, never assumed to have
//     failed. A conflict is read again: the same head is a false alarm, another
//     head means that somebody else owns the rollout, and everything in memory is
//     dropped.
//   - A forward call needs a durable intent, an endpoint record that names the
//     rollout, and a lease that is trusted for longer than the call may last.
//
// What a rollout does next is never decided here: see rollout.Next. The engine
// knows interfaces only (store, traffic, analysis, notifier) and no adapter.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/batch"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/admission"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/outage"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/preflight"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/store"
)

// The errors of the engine are those of package rollout, under their own names
// for whoever holds an Engine.
var (
	ErrNotFound  = rollout.ErrNotFound
	ErrDifferent = rollout.ErrDifferent
	ErrEnded     = rollout.ErrEnded
	ErrStopped   = rollout.ErrStopped
)

// Change is one entry of some rollout's journal.
type Change = journal.Change

// Config is what an Engine is made of. Store, Leaser and Owner are required;
// zero limits and times take the defaults that their comments say.
type Config struct {
	Store  store.Store
	Leaser store.Leaser
	// Owner names this replica in leases and journal entries, Version the code's.
	Owner   string
	Version string

	// Routers, Sources and Notifiers are the adapters, by name. Others are another
	// engine's, which carries the same rollouts on once this one has stopped.
	Routers   map[string]traffic.Router
	Sources   map[string]analysis.Source
	Notifiers map[string]notifier.Notifier
	// People maps what a notifier calls a person to who it is and what they may do;
	// nil takes the name as it is and lets everybody view.
	People func(notifier, who string) access.Actor
	// Canonical is the id of whom a name on record belongs to at present; nil takes
	// every name as it is.
	Canonical func(name string) string
	// ExternalURL is where people can look at rollouts; "" when there is none.
	ExternalURL string
	Logger      *slog.Logger
	// Registerer is where the figures are; those of an engine before go on there.
	Registerer prometheus.Registerer
	// Preflight makes the checks of a plan; nil takes those of rollout/preflight.
	Preflight Preflight

	// Hindered says why no forward call may be sent now; nil, and a nil answer, hinder
	// none. Rollbacks are not asked about.
	Hindered func() error

	// RouterCalls bounds the calls under way per router (16), besides which there may be
	// Preflights (4) and rollbacks without a bound; SourceReads the reads per source (4);
	// Deliveries the messages per notifier, and the pages besides them (8 of each).
	RouterCalls int
	Preflights  int
	SourceReads int
	Deliveries  int
	// RouterTimeout bounds one call of a router (10s), ReadTimeout one read of a
	// source (10s), NotifyTimeout one delivery (10s), PreflightTimeout all checks of
	// a rollout (2m), AppendTimeout one call of the store (10s).
	RouterTimeout    time.Duration
	ReadTimeout      time.Duration
	NotifyTimeout    time.Duration
	PreflightTimeout time.Duration
	AppendTimeout    time.Duration
	// RollbackPatience is how long a rollback waits for its append (2s).
	RollbackPatience time.Duration
	// Poll is how often the store is asked for what other replicas wrote, and
	// leases that another replica holds are asked for (1s).
	Poll time.Duration
	// StopTimeout bounds a graceful stop (5s).
	StopTimeout time.Duration
	// Retention is how long finished rollouts are kept; 0 keeps them for ever.
	Retention time.Duration
	// Queue is how many releases may wait for one endpoint (100).
	Queue int

	// next is rollout.Next unless a test replaces it.
	next func(*rollout.Plan, rollout.State, rollout.Event) rollout.State
	// wall is time.Now unless a test puts the clock forward or back.
	wall func() time.Time
}

// validate fills the defaults and reports what is missing, all at once.
func (c *Config) validate() error {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("a store is required"))
	}
	if c.Leaser == nil {
		errs = append(errs, errors.New("a leaser is required"))
	}
	if c.Owner == "" {
		errs = append(errs, errors.New("an owner is required"))
	}
	for _, d := range []struct {
		at  *int
		def int
	}{{&c.RouterCalls, 16}, {&c.Preflights, 4}, {&c.SourceReads, 4}, {&c.Deliveries, 8}, {&c.Queue, 100}} {
		if *d.at <= 0 {
			*d.at = d.def
		}
	}
	for _, d := range []struct {
		at  *time.Duration
		def time.Duration
	}{
		{&c.RouterTimeout, 10 * time.Second}, {&c.ReadTimeout, 10 * time.Second}, {&c.NotifyTimeout, 10 * time.Second},
		{&c.PreflightTimeout, 2 * time.Minute}, {&c.AppendTimeout, 10 * time.Second}, {&c.RollbackPatience, 2 * time.Second},
		{&c.Poll, time.Second}, {&c.StopTimeout, 5 * time.Second},
	} {
		if *d.at <= 0 {
			*d.at = d.def
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.People == nil {
		c.People = func(_, who string) access.Actor {
			view := access.Grant{Roles: []access.Role{access.RoleView}}
			return access.Actor{Person: person.Person{ID: who}, Grants: []access.Grant{view}}
		}
	}
	if c.Canonical == nil {
		c.Canonical = func(name string) string { return name }
	}
	if c.Preflight == nil {
		c.Preflight = preflight.Run
	}
	if c.next == nil {
		c.next = rollout.Next
	}
	if c.wall == nil {
		c.wall = time.Now
	}
	return errors.Join(errs...)
}

// An Engine carries all open rollouts of one replica. Its methods are safe for
// concurrent use; Rollout, Rollouts, Journal, Endpoint and Changes also work
// while Run does not.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	outage  *outage.Watch
	// pendingRollbacks counts rollbacks that were decided and not sent yet: whoever has much
	// to do on the processor lets them pass.
	pendingRollbacks atomic.Int64
	logged           logOnce
	reader           *batch.Reader
	news             *broadcaster

	// routers, sources and notifiers are what the engine reaches the outside world with.
	routers   map[string]*router
	sources   map[string]*source
	notifiers map[string]*notifierHandle
	// starts is held by those who start a rollout, all at once, and by whoever
	// replaces a plan that nobody has, alone.
	starts sync.RWMutex
	// admission keeps the records of who may move an endpoint.
	admission *admission.Records

	// mu guards what follows; it is never held while a runner's mu is taken.
	mu sync.Mutex
	// base is the context of all outside calls while Run runs; nil otherwise.
	base   context.Context
	cancel context.CancelCauseFunc
	// stopping: no new effect but a rollback is started.
	stopping  bool
	endpoints map[rollout.EndpointRef]*endpoint
	runners   map[string]*runner
	loaded    atomic.Int64 // how many runners there are
	// open are the endpoints of the rollouts that this engine knows to be open,
	// whoever carries them.
	open map[string]rollout.EndpointRef
	// recovered: open has all of them.
	recovered bool
	// quarantined are rollouts that this code cannot read, with the reason.
	quarantined map[string]string

	// loads bounds the leases and rollouts that are asked of the store at once.
	loads chan struct{}

	// jobs counts goroutines; Run waits for them.
	jobs sync.WaitGroup
	// broken is closed when the store says that it cannot be trusted any more.
	broken    chan struct{}
	brokenErr error
	breakOnce sync.Once
}

// New returns an engine that does nothing until Run.
func New(cfg Config) (*Engine, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("new engine: %w", err)
	}
	e := &Engine{
		cfg: cfg, log: cfg.Logger, news: newBroadcaster(),
		endpoints: map[rollout.EndpointRef]*endpoint{}, runners: map[string]*runner{},
		open: map[string]rollout.EndpointRef{}, quarantined: map[string]string{},
		broken: make(chan struct{}), loads: make(chan struct{}, 64),
	}
	var err error
	if e.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("new engine: %w", err)
	}
	e.reachOut()
	e.reader = &batch.Reader{Read: e.ask, Go: e.spawn, Busy: func() bool { return e.pendingRollbacks.Load() > 0 }}
	e.admission = &admission.Records{Store: cfg.Store, Append: e.append, Changed: func(id string) {
		if l := e.runner(id); l != nil {
			e.spawn(func(context.Context) { l.askAgain() })
		}
	}}
	e.outage = outage.New(outage.Shell{Owner: cfg.Owner, Store: cfg.Store, Append: e.append, Rollout: e.Rollout,
		Send: e.sendPage, Has: e.hasNotifier, Failure: failureOfMessage,
		External: func() string { return e.cfg.ExternalURL }, Now: e.now, Go: e.spawn, Log: e.log})
	e.metrics.gauges.engine.CompareAndSwap(nil, e)
	return e, nil
}

// fail stops the engine: the store cannot be trusted any more.
func (e *Engine) fail(err error) {
	e.breakOnce.Do(func() {
		e.mu.Lock()
		e.brokenErr = err
		e.mu.Unlock()
		close(e.broken)
	})
}

// now is the present instant: UTC, without the monotonic clock, so that it reads
// back from JSON as it was.
func (e *Engine) now() time.Time { return e.cfg.wall().UTC().Round(0) }

// runner returns the open rollout that this engine carries, or nil.
func (e *Engine) runner(id string) *runner {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runners[id]
}

// baseContext returns the context of outside calls, nil when Run does not run.
func (e *Engine) baseContext() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.base == nil || e.base.Err() != nil {
		return nil
	}
	return e.base
}

// spawn runs do in a goroutine that Run waits for; it reports false, and does
// nothing, when the engine does not run.
func (e *Engine) spawn(do func(ctx context.Context)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.base == nil || e.base.Err() != nil {
		return false
	}
	ctx := e.base
	e.jobs.Go(func() { do(ctx) })
	return true
}
