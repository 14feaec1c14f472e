// Package events tells the outside how rollouts live: every phase that a rollout
// enters leaves as a CloudEvent on JetStream.
//
// The rules of the package:
//   - What is published comes from the journals, in the order in which they were
//     committed; the events of one rollout never overtake each other.
//   - At least once. The cursor, cursor/<sink> in the store, moves on only after
//     the server has confirmed; after an outage or kill -9 the publisher goes on
//     from there and repeats a few. A repetition has the same id, also as
//     Nats-Msg-Id: a stream drops it within its duplicate window, and readers can
//     by source and id for ever.
//   - An event's id is <rollout>/<entry>/<n>: it depends on the journal alone.
//   - A release that names its artifact (a package URL) and environment leaves as
//     a CDEvent where one fits: service.deployed, upgraded, rolledback. Everything
//     else is belay.rollout.<phase>. The data of both is Data.
//   - NATS may be away at any time. Rollouts never wait for it; Run goes on
//     trying. Records that a sink has not seen are not deleted.
//
// It never creates a stream and decides nothing about rollouts. A sink that is
// new begins with the present; what was before is not published.
package events

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/backoff"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/store"
)

// Rollouts is what the package needs of whoever runs rollouts.
type Rollouts interface {
	// Changes yields the entries of all journals after a revision, in the order
	// of their commits, and then those to come, until ctx ends.
	Changes(ctx context.Context, after uint64) iter.Seq2[journal.Change, error]
	// Rollout returns a rollout; rollout.ErrNotFound when there is none.
	Rollout(ctx context.Context, id string) (rollout.Snapshot, error)
}

// Config says what is published where.
type Config struct {
	// Sink names the cursor: letters, digits and hyphens.
	Sink string
	// URL lists NATS servers, separated by commas.
	URL string
	// Options add credentials and TLS; they come before those of the package.
	Options []nats.Option
	// SubjectPrefix begins every subject: <prefix>.<endpoint>.<phase>. A stream
	// must take <prefix>.>.
	SubjectPrefix string `yaml:"subjectPrefix" default:"belay.events" doc:"Subjects begin with it."`
	// Source is the events' source, a URI reference; "" is "/belay". All replicas
	// have the same.
	Source string

	Rollouts Rollouts
	Store    store.Store
	Log      *slog.Logger
	// Registerer takes the metrics; it may be nil.
	Registerer prometheus.Registerer
}

// A Publisher publishes to one sink. It is safe for concurrent use.
type Publisher struct {
	c       Config
	state   atomic.Pointer[health]
	metrics *metrics

	// plans are the plans of the rollouts that were published last.
	plans planCache
	// unreadable is the rollout that was logged last because it cannot be read.
	unreadable string

	mu     sync.Mutex
	cursor cursor
	// done is the revision up to which everything was published; loud is set when
	// events were, since the cursor was written last.
	done store.Revision
	loud bool
}

// health is what Err reports.
type health struct{ err error }

var (
	sinkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`)
	subject  = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
)

// Open checks the configuration and finds the sink's cursor, or creates it at the
// present: from then on no record is deleted before it was published. Nothing is
// connected before Run.
func Open(ctx context.Context, c Config) (*Publisher, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Source == "" {
		c.Source = "/belay"
	}
	p := &Publisher{c: c, cursor: cursor{store: c.Store, sink: c.Sink}}
	at, err := p.cursor.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	p.done = at
	if p.metrics, err = newMetrics(c.Registerer, c.Sink); err != nil {
		return nil, err
	}
	p.state.Store(&health{errors.New("not connected yet")})
	return p, nil
}

// Check reports what is wrong with the configuration, all at once. Nothing is
// opened.
func (c Config) Check() error {
	var errs []error
	want := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	want(sinkName.MatchString(c.Sink), "sink: want a name of letters, digits and hyphens")
	want(c.URL != "" && !slices.ContainsFunc(strings.Split(c.URL, ","), unreadable),
		"url: want the addresses of nats servers")
	want(subject.MatchString(c.SubjectPrefix),
		fmt.Sprintf("subjectPrefix: want a NATS subject without wildcards (got %q)", c.SubjectPrefix))
	want(c.Rollouts != nil && c.Store != nil && c.Log != nil, "rollouts, store and log: want all three")
	if len(errs) > 0 {
		return fmt.Errorf("events: %w", errors.Join(errs...))
	}
	return nil
}

// unreadable reports whether an address is none. What is wrong with it is not
// said: it may hold a password.
func unreadable(address string) bool {
	address = strings.TrimSpace(address)
	if !strings.Contains(address, "://") {
		address = "nats://" + address
	}
	u, err := url.Parse(address)
	return err != nil || u.Host == ""
}

// Name is the sink's name.
func (p *Publisher) Name() string { return p.c.Sink }

// Err says why nothing is published at the moment; nil when it is.
func (p *Publisher) Err() error {
	if err := p.state.Load().err; err != nil {
		return fmt.Errorf("events %s: %w", p.c.Sink, err)
	}
	return nil
}

// note keeps how the publisher does and logs a change of it.
func (p *Publisher) note(err error) {
	before := p.state.Swap(&health{err}).err
	switch {
	case err == nil && before != nil:
		p.c.Log.Info("events are published", "sink", p.c.Sink)
	case err != nil && (before == nil || before.Error() != err.Error()):
		p.c.Log.Warn("events wait", "sink", p.c.Sink, "err", err)
	}
}

// retryAfter is the pause before the n-th try in a row, n from 1.
func retryAfter(n int) time.Duration {
	return backoff.Pause(n, 250*time.Millisecond, 10*time.Second, rand.Float64()) //nolint:gosec // no secret
}

// token makes one token of a subject: what NATS or people could misread becomes _.
func token(s string) string {
	if s == "" {
		return "_"
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, s)
}

// metrics are the publisher's own figures.
type metrics struct {
	published *prometheus.CounterVec
	oldest    prometheus.GaugeFunc
	// waits is since when the oldest unpublished event has been waiting, in Unix
	// nanoseconds; 0 when none waits.
	waits atomic.Int64
}

func newMetrics(reg prometheus.Registerer, sink string) (*metrics, error) {
	m := &metrics{published: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "belay", Name: "events_published_total",
		Help: "Lifecycle events handed to a sink, by outcome (ok, duplicate, error, unreadable).",
	}, []string{"sink", "outcome"})}
	m.oldest = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "belay", Name: "events_waiting_seconds",
		Help:        "For how long the oldest lifecycle event has been waiting for its sink; 0 when none waits.",
		ConstLabels: prometheus.Labels{"sink": sink},
	}, func() float64 {
		at := m.waits.Load()
		if at == 0 {
			return 0
		}
		return max(0, time.Since(time.Unix(0, at)).Seconds())
	})
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.published, m.oldest} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	for _, outcome := range []string{"ok", "duplicate", "error", "unreadable"} {
		m.published.WithLabelValues(sink, outcome)
	}
	return m, nil
}
