package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/notary"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/audit"
	"github.com/belayd/belay/rollout/events"
	"github.com/belayd/belay/store"
)

// openAgain is after how long a sink that could not be opened is opened again.
const openAgain = 5 * time.Second

// A sink publishes lifecycle events. It is opened once the sink before it has
// ended: both have one cursor.
type sink struct {
	// kind names it, and its cursor.
	kind     string
	config   func() events.Config
	registry prometheus.Registerer

	mu        sync.Mutex
	publisher *events.Publisher
	metrics   *scopedRegistry
	err       error
}

// newSink checks what publishes lifecycle events; nil when nothing does.
func (d *daemon) newSink(c *config.Config) (*sink, error) {
	kind, own, err := c.Sink()
	if kind == "" || err != nil {
		return nil, err
	}
	s := &sink{kind: kind, registry: d.registry, config: func() events.Config {
		own := own
		own.Rollouts, own.Store, own.Log = d.engines, records{d.store}, d.log
		return own
	}}
	if err := s.config().Check(); err != nil {
		return nil, err
	}
	return s, nil
}

// open finds the cursor, or makes it: from then on no record is deleted before it
// was published. It does nothing when that was done.
func (s *sink) open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.publisher != nil {
		return nil
	}
	s.metrics = &scopedRegistry{Registerer: s.registry}
	c := s.config()
	c.Registerer = s.metrics
	s.publisher, s.err = events.Open(ctx, c)
	if s.err != nil {
		s.publisher = nil
		s.metrics.unregister()
	}
	return s.err
}

// Run publishes until ctx ends.
func (s *sink) Run(ctx context.Context) error {
	for s.open(ctx) != nil {
		if !pause(ctx, openAgain) {
			return nil
		}
	}
	defer s.metrics.unregister()
	return s.publisher.Run(ctx)
}

// announceHead publishes the head of a day, where there is a sink that is open.
func (d *daemon) announceHead(ctx context.Context, day time.Time, h audit.Checkpoint) error {
	s := d.now().sink
	if s == nil {
		return nil
	}
	s.mu.Lock()
	p, err := s.publisher, s.err
	s.mu.Unlock()
	if p == nil {
		return cmp.Or(err, errors.New("the sink is not open yet"))
	}
	return p.Announce(ctx, notary.EventID(day), "belay.audit.head", "audit.head", day, notary.DataOf(h))
}

// auditHead is the head at a revision, for the API.
func (d *daemon) auditHead(ctx context.Context, at uint64) (api.AuditHead, error) {
	var h audit.Checkpoint
	var err error
	if at == 0 {
		h, err = audit.Now(ctx, d.store)
	} else {
		h, err = audit.At(ctx, d.store, store.Revision(at))
	}
	if errors.Is(err, audit.ErrOlder) || errors.Is(err, audit.ErrExpired) {
		err = fmt.Errorf("%w: %w", api.ErrNoHead, err)
	}
	return api.AuditHead{Head: h.String(), Revision: uint64(h.Revision), Rollouts: h.Rollouts}, err
}

// Err says why nothing is published at the moment; nil when it is.
func (s *sink) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.publisher == nil {
		return s.err
	}
	return s.publisher.Err()
}

// A scopedRegistry is a Registerer that can unregister all that was registered
// through it.
type scopedRegistry struct {
	prometheus.Registerer

	taken []prometheus.Collector
}

// Register implements prometheus.Registerer.
func (r *scopedRegistry) Register(c prometheus.Collector) error {
	err := r.Registerer.Register(c)
	if err == nil {
		r.taken = append(r.taken, c)
	}
	return err
}

// unregister unregisters what was registered.
func (r *scopedRegistry) unregister() {
	for _, c := range r.taken {
		r.Unregister(c)
	}
	r.taken = nil
}
