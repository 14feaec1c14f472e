//go:build crashpoints

package daemon

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/store"
)

// A crash point is the instant before or after a call of the engine that is
// durable (append, delete) or that somebody outside answers (shift, split,
// describe, probe, read, notify). Its name is the call, what the call is about
// where that matters, and the side: append.rollout.before, shift.after.
const (
	// crashEnv names the point at which the process dies, and at which passing of
	// it: BELAY_CRASH=shift.after:2.
	crashEnv = "BELAY_CRASH"
	// crashLogEnv names a file to which every point passed is added, a line each,
	// as crashEnv would name it.
	crashLogEnv = "BELAY_CRASH_LOG"
	// panicEnv names points at which the adapter panics instead, with commas.
	panicEnv = "BELAY_PANIC"
	// crashCode is how the process ends, as after kill -9.
	crashCode = 137
)

// crashPoints counts the points passed and ends the process at one of them; nil
// passes none.
type crashPoints struct {
	name   string
	nth    int
	panics []string

	mu     sync.Mutex
	passed map[string]int
	log    *os.File // nil when nobody wants to know
}

// newCrashPoints reads from the environment where to crash.
func newCrashPoints() (*crashPoints, error) {
	p := &crashPoints{passed: map[string]int{}, panics: strings.Split(os.Getenv(panicEnv), ",")}
	if at := os.Getenv(crashEnv); at != "" {
		i := strings.LastIndexByte(at, ':')
		if i < 0 {
			return nil, fmt.Errorf("%s: want NAME:N (got %q)", crashEnv, at)
		}
		n, err := strconv.Atoi(at[i+1:])
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%s: want NAME:N with N of at least 1 (got %q)", crashEnv, at)
		}
		p.name, p.nth = at[:i], n
	}
	if file := os.Getenv(crashLogEnv); file != "" {
		// a test's own file; the build is a test's own too
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec
		if err != nil {
			return nil, fmt.Errorf("%s: %w", crashLogEnv, err)
		}
		p.log = f // open until the process ends, however that happens
	}
	return p, nil
}

// store puts a point before and after everything that is made durable.
func (p *crashPoints) store(s store.Store) store.Store { return &crashStore{s, p} }

// around puts points around the calls of adapters.
func (p *crashPoints) around(s *generation) {
	if p == nil {
		return
	}
	for name, r := range s.routers {
		s.routers[name] = &crashRouter{r, p}
	}
	for name, a := range s.sources {
		a.Source = &crashSource{a.Source, p}
		s.sources[name] = a
	}
	for name, n := range s.notifiers {
		n.Notifier = &crashNotifier{n.Notifier, p}
		s.notifiers[name] = n
	}
}

// pass passes a point. It returns only if this is not where the process dies;
// nothing deferred runs, and no other goroutine passes a point meanwhile.
func (p *crashPoints) pass(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed[name]++
	if p.log != nil {
		if _, err := fmt.Fprintf(p.log, "%s:%d\n", name, p.passed[name]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", crashLogEnv, err)
			os.Exit(1)
		}
	}
	if name == p.name && p.passed[name] == p.nth {
		os.Exit(crashCode)
	}
	if at := fmt.Sprintf("%s:%d", name, p.passed[name]); slices.Contains(p.panics, at) {
		panic("told to panic at " + at)
	}
}

// around passes the points before and after a call.
func around[A any](p *crashPoints, name string, call func() (A, error)) (A, error) {
	p.pass(name + ".before")
	a, err := call()
	p.pass(name + ".after")
	return a, err
}

// kindOf is the first part of a key: what the record is of.
func kindOf(key string) string {
	kind, _, _ := strings.Cut(key, "/")
	return kind
}

// crashStore has points around every durable write.
type crashStore struct {
	store.Store
	points *crashPoints
}

// Append appends between two points.
func (s *crashStore) Append(
	ctx context.Context, key string, entry, state []byte, after store.Revision,
) (store.Revision, error) {
	return around(s.points, "append."+kindOf(key),
		func() (store.Revision, error) { return s.Store.Append(ctx, key, entry, state, after) })
}

// Delete deletes between two points.
func (s *crashStore) Delete(ctx context.Context, key string, after store.Revision) error {
	_, err := around(s.points, "delete."+kindOf(key),
		func() (struct{}, error) { return struct{}{}, s.Store.Delete(ctx, key, after) })
	return err
}

// crashRouter has points around every call of an endpoint.
type crashRouter struct {
	traffic.Router
	points *crashPoints
}

// Split reads between two points.
func (r *crashRouter) Split(ctx context.Context, endpoint string) (traffic.Split, error) {
	return around(r.points, "split", func() (traffic.Split, error) { return r.Router.Split(ctx, endpoint) })
}

// Shift writes between two points.
func (r *crashRouter) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	_, err := around(r.points, "shift", func() (struct{}, error) {
		return struct{}{}, r.Router.Shift(ctx, endpoint, from,
			to)
	})
	return err
}

// Describe asks between two points.
func (r *crashRouter) Describe(ctx context.Context, endpoint string) (traffic.Description, error) {
	return around(r.points, "describe", func() (traffic.Description, error) { return r.Router.Describe(ctx, endpoint) })
}

// Probe sends a sample request between two points.
func (r *crashRouter) Probe(
	ctx context.Context, endpoint, deployment string, req *http.Request,
) (*http.Response, error) {
	return around(r.points, "probe", func() (*http.Response, error) {
		return r.Router.Probe(ctx, endpoint, deployment,
			req)
	})
}

// crashSource has points around every read.
type crashSource struct {
	analysis.Source
	points *crashPoints
}

// Read reads between two points.
func (s *crashSource) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	return around(s.points, "read", func() ([]analysis.Reading, error) { return s.Source.Read(ctx, qs) })
}

// crashNotifier has points around every delivery.
type crashNotifier struct {
	notifier.Notifier
	points *crashPoints
}

// Notify delivers between two points.
func (n *crashNotifier) Notify(ctx context.Context, notice notifier.Notice) (string, error) {
	return around(n.points, "notify", func() (string, error) { return n.Notifier.Notify(ctx, notice) })
}
