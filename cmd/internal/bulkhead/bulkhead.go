// Package bulkhead keeps what goes wrong inside one adapter from sinking the
// daemon: a panic while a router, source, notifier or inbox answers is an error of
// that call, and an adapter that could not be built is one whose every call says
// why.
//
// The rules of the package:
//   - Only the adapter's own code is behind the bulkhead. A panic of the core that
//     an adapter called back ends the process, as it would without the adapter: what
//     was being changed then is not known.
//   - A panic is counted, and logged with its stack. What it says is shown only
//     where the Go runtime says it; anything else may hold what the adapter had at
//     hand, a secret too.
//
// It does not retry, and it cannot recover what panics in a goroutine that an
// adapter or its library started.
package bulkhead

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// The kinds of adapters, as metric and log name them.
const (
	kindRouter   = "router"
	kindSource   = "source"
	kindNotifier = "notifier"
	kindInbox    = "inbox"
)

// A Bulkhead stands between the daemon and its adapters. It is safe for concurrent
// use.
type Bulkhead struct {
	log    *slog.Logger
	panics *prometheus.CounterVec
}

// New returns a Bulkhead that counts at reg, nil for nowhere.
func New(log *slog.Logger, reg prometheus.Registerer) (*Bulkhead, error) {
	b := &Bulkhead{log: log, panics: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "belay",
		Name: "adapter_panics_total",
		Help: "Panics inside an adapter's answer, each of which was an error of that call; the log has the stack."},
		[]string{"kind", "name"})}
	if reg != nil {
		if err := reg.Register(b.panics); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return b, nil
}

// A PanicError is a call that ended in a panic.
type PanicError struct {
	// Kind and Name say which adapter it was, Call what was asked of it.
	Kind, Name, Call string
	// Why is what the Go runtime said, or the type of what was thrown.
	Why string
}

// Error says where the stack is.
func (e *PanicError) Error() string {
	return fmt.Sprintf("%s %s: %s: the adapter panicked (%s); the log has the stack, please report it", e.Kind, e.Name,
		e.Call, e.Why)
}

// A compartment is one adapter behind the bulkhead.
type compartment struct {
	b          *Bulkhead
	kind, name string
}

// closed turns a panic, where there is one, into the error of the call; it is
// deferred.
func (c compartment) closed(call string, err *error) {
	thrown := recover()
	if thrown == nil {
		return
	}
	e := &PanicError{Kind: c.kind, Name: c.name, Call: call, Why: fmt.Sprintf("a value of type %T", thrown)}
	if said, ok := thrown.(runtime.Error); ok {
		e.Why = said.Error()
	}
	c.b.panics.WithLabelValues(c.kind, c.name).Inc()
	c.b.log.Error("adapter panicked", "kind", c.kind, "name", c.name, "call", call, "outcome", e.Why, "stack",
		string(debug.Stack()))
	*err = e
}

// Contain makes a panic of run, which works for what is so called, its error.
func (b *Bulkhead) Contain(kind, name string, run func(context.Context) error) func(context.Context) error {
	c := compartment{b, kind, name}
	return func(ctx context.Context) (err error) {
		defer c.closed("run", &err)
		return run(ctx)
	}
}

// Core runs what an adapter calls back. A panic of it is raised again where nobody
// recovers it.
func Core[A any](call func() (A, error)) (A, error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			stack := debug.Stack()
			go panic(fmt.Sprintf("%v\n\n%s", thrown, stack))
			select {} // the process ends
		}
	}()
	return call()
}
