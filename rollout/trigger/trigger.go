// Package trigger starts rollouts by events: it consumes release events from
// JetStream streams and hands each to whoever starts rollouts, once.
//
// The rules of the package:
//   - A message is acknowledged only after its rollout is durable and the
//     trigger record is written. Whatever fails before leads to a redelivery.
//   - The key of an event is its CloudEvents source and id (of plain JSON: the
//     trigger's name and its id, else Nats-Msg-Id). The same key is the same
//     rollout, for ever: the record trigger/<source>/<id> outlives the stream.
//   - The same key with another body is refused.
//   - What cannot be understood, or is refused for good, is kept in the store
//     with its reason, told about, and then terminated: never redelivered.
//   - A consumer that is made anew begins with what comes; an event that waited
//     longer than MaxAge is refused. Nobody expects what was asked for long ago.
//   - Events of one trigger are handled one at a time, in the order of the
//     stream, also with several replicas: a release never overtakes a later one.
//   - NATS may be away at any time. Run goes on trying and never returns an
//     error for it.
//
// It creates its durable consumer but never a stream. It knows nothing of
// policies: a release that names no policy that exists is refused by Start.
package trigger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/backoff"
	"github.com/belayd/belay/store"
)

// ErrRefused marks a release that no retry will make acceptable: an unknown
// policy, a candidate that the policy does not allow. What Start returns wraps
// it, or rollout.ErrDifferent.
var ErrRefused = errors.New("trigger: refused")

// Start makes a release a durable rollout and returns its id. It is idempotent
// by source and key: the same ones are the same rollout (see rollout.NewID),
// whatever has become of the policy since, and rollout.ErrDifferent if the
// release is another one. An error that wraps neither ErrRefused nor
// rollout.ErrDifferent is a passing one.
type Start func(ctx context.Context, r rollout.Release, source, key string) (id string, err error)

// Deliver says which of a stream's messages a new consumer gets.
type Deliver string

// The values of Deliver. A consumer that exists goes on where it was.
const (
	// DeliverNew: those published since the trigger was made, by this machine's clock;
	// the default. So NATS and the stream may come later, and a consumer that is
	// deleted meanwhile is made again where it was.
	DeliverNew Deliver = "new"
	DeliverAll Deliver = "all" // all that the stream still holds
)

// Config says what a trigger consumes and what becomes of it.
type Config struct {
	// Name is the trigger's name in records and logs; "" is "nats:<stream>".
	Name string
	// URL lists NATS servers, separated by commas.
	URL string
	// Options add credentials and TLS; they come before those of the package.
	Options []nats.Option
	Stream  string `yaml:"stream" required:"true" doc:"The stream; it must exist."`
	// Subjects filter the stream; empty means all of it.
	Subjects []string
	// Durable names the consumer; replicas share it.
	Durable string  `yaml:"durable" default:"belay" doc:"Name of the durable consumer."`
	Deliver Deliver `yaml:"deliver" default:"new" enum:"new,all" doc:"What a consumer that is made anew gets: only what comes from then on, or all that the stream holds. One that exists goes on where it was."`
	// MaxAge is how old a message may be that starts a rollout, by when the stream
	// took it; 0 is any age. An older one is refused.
	MaxAge time.Duration `yaml:"maxAge" default:"1h" doc:"How long ago a message may have been published that starts a rollout; 0s is any time. An older one is refused, told about and kept, also after belayd was away."`
	// Map says where the fields of a release stand in an event.
	Map Map

	Start Start
	Store store.Store
	// Refused is told about each message that was kept and is to be terminated;
	// twice when the process ends in between. It may be nil; it must not block for
	// long.
	Refused func(context.Context, Refusal)
	Log     *slog.Logger
}

// A Trigger consumes one stream. It is safe for concurrent use.
type Trigger struct {
	c     Config
	trail trail
	state atomic.Pointer[health]
	// refused counts what was refused since the start.
	refused atomic.Uint64
	// told names the message that was told about last, and begin is the instant from
	// which on messages are new: when the last one was published that was handled.
	// Messages come one at a time, and only Run handles them.
	told  string
	begin time.Time
}

// health is what Err reports.
type health struct{ err error }

// New checks the configuration. Nothing is connected before Run.
func New(c Config) (*Trigger, error) {
	var errs []error
	missing := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	missing(c.URL != "", "url: want the address of a nats server")
	missing(c.Stream != "" && !strings.ContainsAny(c.Stream, " .*>/\\\t\r\n"), "stream: want a stream's name")
	missing(c.Durable != "" && !strings.ContainsAny(c.Durable, " .*>/\\\t\r\n"), "durable: want a consumer's name")
	missing(c.Start != nil && c.Store != nil && c.Log != nil, "start, store and log: want all three")
	c.Deliver = cmp.Or(c.Deliver, DeliverNew)
	missing(c.Deliver == DeliverAll || c.Deliver == DeliverNew, fmt.Sprintf("deliver: want new or all (got %q)",
		c.Deliver))
	missing(c.MaxAge >= 0, "maxAge: want a duration that is not negative")
	for _, s := range c.Subjects {
		missing(s != "" && !strings.ContainsAny(s, " \t\r\n"), fmt.Sprintf("subject: want a NATS subject (got %q)", s))
	}
	if err := c.Map.check(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("trigger: %w", errors.Join(errs...))
	}
	if c.Name == "" {
		c.Name = "nats:" + c.Stream
	}
	t := &Trigger{c: c, trail: trail{store: c.Store, name: c.Name}, begin: time.Now()}
	t.state.Store(&health{errors.New("not connected yet")})
	return t, nil
}

// Name is the trigger's name.
func (t *Trigger) Name() string { return t.c.Name }

// Err says why no events are consumed at the moment; nil when they are.
func (t *Trigger) Err() error {
	if err := t.state.Load().err; err != nil {
		return fmt.Errorf("trigger %s: %w", t.c.Name, err)
	}
	return nil
}

// A Consumption is what a trigger consumes and how it does.
type Consumption struct {
	Name, Stream, Durable string
	Subjects              []string
	// Refused counts the messages refused since the start.
	Refused uint64
	// Err is why no events are consumed at the moment; nil when they are. It holds
	// no secret.
	Err error
}

// Status says what the trigger consumes and how it does.
func (t *Trigger) Status() Consumption {
	return Consumption{Name: t.c.Name, Stream: t.c.Stream, Durable: t.c.Durable, Subjects: slices.Clone(t.c.Subjects),
		Refused: t.refused.Load(), Err: t.state.Load().err}
}

// note keeps how the trigger does and logs a change of it.
func (t *Trigger) note(err error) {
	before := t.state.Swap(&health{err}).err
	switch {
	case err == nil && before != nil:
		t.c.Log.Info("trigger consumes", "trigger", t.c.Name, "stream", t.c.Stream)
	case err != nil && (before == nil || before.Error() != err.Error()):
		t.c.Log.Warn("trigger waits", "trigger", t.c.Name, "stream", t.c.Stream, "err", err)
	}
}

// retryAfter is the pause before the n-th try in a row, n from 1.
func retryAfter(n int) time.Duration {
	return backoff.Pause(n, 250*time.Millisecond, 10*time.Second, rand.Float64()) //nolint:gosec // no secret
}
