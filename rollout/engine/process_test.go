package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/store"
)

// A running is one process: an engine and its connections, which can be cut.
type running struct {
	*Engine
	w    *world
	cut  chan struct{}
	once sync.Once
	stop context.CancelFunc
	done chan error
	// writing counts the traffic calls under way, by endpoint.
	writing map[string]int
}

// enter notes a traffic call of the process; two at a time for one endpoint are
// one too many.
func (r *running) enter(endpoint string) (leave func()) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if r.writing[endpoint]++; r.writing[endpoint] > 1 {
		r.w.violations = append(r.w.violations, "two traffic calls at once for "+endpoint)
	}
	return func() {
		r.w.mu.Lock()
		defer r.w.mu.Unlock()
		r.writing[endpoint]--
	}
}

// start starts an engine of the owner.
func (w *world) start(owner string) *running { return w.startWith(owner, nil) }

func (w *world) startWith(owner string, leaser store.Leaser) *running {
	r := &running{w: w, cut: make(chan struct{}), done: make(chan error, 1), writing: map[string]int{}}
	if leaser == nil {
		leaser = w.store
	}
	cfg := Config{
		Store: &plug{Store: w.store, r: r}, Leaser: leaser, Owner: owner, Version: "test",
		Routers:   map[string]traffic.Router{"edge": &cutRouter{Router: w.router, r: r}},
		Sources:   map[string]analysis.Source{"prom": &cutSource{Source: w.source, r: r}},
		Notifiers: map[string]notifier.Notifier{"chat": &cutNotifier{n: w.chat, r: r}, "pager": &cutNotifier{n: w.pager, r: r}},
	}
	if w.mutate != nil {
		w.mutate(&cfg)
	}
	if w.tune != nil {
		w.tune(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Engine = e
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	w.mu.Lock()
	w.engines = append(w.engines, r)
	w.mu.Unlock()
	go func() { r.done <- e.Run(ctx) }()
	return r
}

// kill ends the process at once: nothing it does from now on has an effect.
func (r *running) kill() {
	r.once.Do(func() {
		close(r.cut)
		r.stop()
	})
}

func (r *running) dead() bool {
	select {
	case <-r.cut:
		return true
	default:
		return false
	}
}

// end stops the engine gracefully and returns what Run returned.
func (r *running) end() error {
	r.stop()
	return <-r.done
}

// endAll stops every engine that still runs.
func (w *world) endAll() {
	w.mu.Lock()
	engines := slices.Clone(w.engines)
	w.mu.Unlock()
	for _, r := range engines {
		r.stop()
	}
	for _, r := range engines {
		<-r.done
	}
}

type plug struct {
	store.Store
	r *running
}

func (p *plug) Append(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
	p.r.w.point(p.r, "before append "+key)
	if p.r.dead() {
		return 0, errCut
	}
	rev, err := p.Store.Append(ctx, key, entry, state, after)
	p.r.w.point(p.r, "after append "+key)
	if p.r.dead() {
		return 0, errCut
	}
	return rev, err
}

func (p *plug) Head(ctx context.Context, key string) (store.Record, error) {
	if p.r.dead() {
		return store.Record{}, errCut
	}
	return p.Store.Head(ctx, key)
}

type cutRouter struct {
	traffic.Router
	r *running
}

func (c *cutRouter) Split(ctx context.Context, endpoint string) (traffic.Split, error) {
	if c.r.dead() {
		return traffic.Split{}, errCut
	}
	return c.Router.Split(ctx, endpoint)
}

func (c *cutRouter) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	c.r.w.point(c.r, "before shift to "+to.String())
	if c.r.dead() {
		return errCut
	}
	leave := c.r.enter(endpoint)
	err := c.Router.Shift(ctx, endpoint, from, to)
	leave()
	c.r.w.point(c.r, "after shift to "+to.String())
	if c.r.dead() {
		return errCut
	}
	return err
}

type cutSource struct {
	analysis.Source
	r *running
}

func (c *cutSource) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	if c.r.dead() {
		return nil, errCut
	}
	return c.Source.Read(ctx, qs)
}

type cutNotifier struct {
	n notifier.Notifier
	r *running
}

func (c *cutNotifier) Notify(ctx context.Context, n notifier.Notice) (string, error) {
	c.r.w.point(c.r, "before notice "+n.Key)
	if c.r.dead() {
		return "", errCut
	}
	ref, err := c.n.Notify(ctx, n)
	c.r.w.point(c.r, "after notice "+n.Key)
	if c.r.dead() {
		return "", errCut
	}
	return ref, err
}

// lapsing is a leaser of one lease that can run out.
type lapsing struct {
	mu    sync.Mutex
	until time.Time
	lost  chan struct{}
}

func (l *lapsing) Acquire(context.Context, string, string) (store.Lease, error) {
	if time.Now().After(l.Trusted()) {
		return nil, store.ErrConflict
	}
	return l, nil
}

func (l *lapsing) Trusted() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

func (l *lapsing) Lost() <-chan struct{}         { return l.lost }
func (l *lapsing) Release(context.Context) error { return nil }

// end lets the lease run out.
func (l *lapsing) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = time.Now()
}
