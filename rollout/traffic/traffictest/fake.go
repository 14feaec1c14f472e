package traffictest

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/belayd/belay/rollout/traffic"
)

// Op is a method of traffic.Router.
type Op string

// The operations.
const (
	OpSplit     Op = "split"
	OpShift     Op = "shift"
	OpDescribe  Op = "describe"
	OpEndpoints Op = "endpoints"
	OpProbe     Op = "probe"
)

// A Call is one call of the Fake's Router methods.
type Call struct {
	// N counts the calls of the Fake from 1.
	N        int
	Op       Op
	Endpoint string
	// Deployment is set for OpProbe.
	Deployment string
	At         time.Time

	// From and To are set for OpShift. A hook may change To: the endpoint then
	// takes that instead (a partial application); the log keeps what was asked.
	From, To traffic.Split
	// Lands is for a hook to set: the write takes effect this much later.
	Lands time.Duration

	// Sent reports, in the log, that a write was due, Wrote that it changed (or
	// will change) the split; Err is what the caller was told.
	Sent  bool
	Wrote bool
	Err   error
}

// A Hook decides what becomes of a call. For OpShift, apply says whether a
// write that is due takes effect; a nil err says that the caller is told it was
// accepted. The four combinations are success, lost answer (true, err),
// refusal (false, err) and accepted-never-applied (false, nil). For every other
// operation err alone counts. A hook may wait, change c.To and c.Lands, and
// call Foreign; it is called without any lock held.
type Hook func(ctx context.Context, c *Call) (apply bool, err error)

// A Write is one change of an endpoint's split, when it took effect.
type Write struct {
	At       time.Time
	Endpoint string
	Before   traffic.Split
	After    traffic.Split
	// Foreign is true for a change that did not come through the Router.
	Foreign bool
	// Call is the N of the call that made it; 0 for foreign changes.
	Call int
}

// A Fake is an endpoint host in memory that is a traffic.Router. It starts no
// goroutine and waits only with timers, so that it runs inside testing/synctest.
// The zero value has no endpoints. It is safe for concurrent use; its exported
// fields are set before the first call.
type Fake struct {
	// Versioned makes splits carry a version that every change raises.
	Versioned bool
	// Exclusive makes a Shift answer a BusyError while an earlier write has been
	// accepted and has not landed, as Azure does.
	Exclusive bool
	// Unfenced compares `from` before the hook runs and not again: a foreign
	// change made by the hook is overwritten, as it is by APIs without versions.
	Unfenced bool
	// Hook, where set, decides every call that no fault of Next decides.
	Hook Hook
	// OnWrite, where set, sees every change of a split in the order in which they
	// took effect. It must not call the Fake.
	OnWrite func(Write)
	// Probed answers probes, with the deployment's name in the header
	// Fake-Deployment ("" for an anonymous client); nil answers 404.
	Probed http.Handler

	mu        sync.Mutex
	endpoints map[string]*fakeEndpoint
	next      []Hook
	calls     []Call
	writes    []Write
}

var _ traffic.Router = (*Fake)(nil)

type fakeEndpoint struct {
	split       traffic.Split
	version     int
	description traffic.Description
	pending     []pendingWrite
}

type pendingWrite struct {
	at   time.Time
	to   traffic.Split
	call int
}

// Set puts an endpoint there, or replaces it, with no entry in the log of
// writes. The deployments are those of d; a nil d.ManualRollback gets one.
func (f *Fake) Set(endpoint string, s traffic.Split, d traffic.Description) {
	if d.ManualRollback == nil {
		d.ManualRollback = func(stable string) string { return "fake shift " + endpoint + " " + stable + "=100" }
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.endpoints == nil {
		f.endpoints = make(map[string]*fakeEndpoint)
	}
	f.endpoints[endpoint] = &fakeEndpoint{split: clean(s), version: 1, description: d}
}

// Next queues faults: each of the coming Shift calls takes one, in order.
func (f *Fake) Next(faults ...Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = append(f.next, faults...)
}

// Foreign changes an endpoint's split at once, as another writer would.
func (f *Fake) Foreign(endpoint string, s traffic.Split) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.endpoints[endpoint]; e != nil {
		f.settle(endpoint, e)
		f.change(endpoint, e, s, Write{At: time.Now(), Foreign: true})
	}
}

// Land puts into effect at once what has been accepted and is still to land.
func (f *Fake) Land(endpoint string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.endpoints[endpoint]; e != nil {
		for i := range e.pending {
			e.pending[i].at = time.Now()
		}
		f.settle(endpoint, e)
	}
}

// Truth returns the split in effect, without an entry in the log of calls.
func (f *Fake) Truth(endpoint string) traffic.Split {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.endpoints[endpoint]
	if e == nil {
		return traffic.Split{}
	}
	f.settle(endpoint, e)
	return f.show(e)
}

// Calls returns the log of calls so far, in the order in which they ended.
func (f *Fake) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Writes returns every change of an endpoint's split that has taken effect.
func (f *Fake) Writes(endpoint string) []Write {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.endpoints[endpoint]; e != nil {
		f.settle(endpoint, e)
	}
	return slices.DeleteFunc(slices.Clone(f.writes), func(w Write) bool { return w.Endpoint != endpoint })
}

// Split implements traffic.Router.
func (f *Fake) Split(ctx context.Context, endpoint string) (traffic.Split, error) {
	var out traffic.Split
	err := f.call(ctx, Call{Op: OpSplit, Endpoint: endpoint}, func(e *fakeEndpoint) error {
		out = f.show(e)
		return nil
	})
	if err != nil {
		return traffic.Split{}, fmt.Errorf("read split of %s: %w", endpoint, err)
	}
	return out, nil
}

// Describe implements traffic.Router.
func (f *Fake) Describe(ctx context.Context, endpoint string) (traffic.Description, error) {
	var out traffic.Description
	err := f.call(ctx, Call{Op: OpDescribe, Endpoint: endpoint}, func(e *fakeEndpoint) error {
		out = e.description
		out.Deployments, out.Tags = maps.Clone(out.Deployments), maps.Clone(out.Tags)
		out.Unknown = slices.Clone(out.Unknown)
		return nil
	})
	if err != nil {
		return traffic.Description{}, fmt.Errorf("describe %s: %w", endpoint, err)
	}
	return out, nil
}

// Endpoints implements traffic.Router.
func (f *Fake) Endpoints(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := f.call(ctx, Call{Op: OpEndpoints}, nil); err != nil {
			yield("", fmt.Errorf("list endpoints: %w", err))
			return
		}
		f.mu.Lock()
		names := slices.Sorted(maps.Keys(f.endpoints))
		f.mu.Unlock()
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

// Probe implements traffic.Router.
func (f *Fake) Probe(ctx context.Context, endpoint, deployment string, r *http.Request) (*http.Response, error) {
	err := f.call(ctx, Call{Op: OpProbe, Endpoint: endpoint, Deployment: deployment}, func(e *fakeEndpoint) error {
		if _, ok := e.description.Deployments[deployment]; !ok && deployment != "" {
			return fmt.Errorf("deployment %s: %w", deployment, traffic.ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", endpoint, err)
	}
	in := r.Clone(ctx)
	in.URL = (&url.URL{Scheme: "http", Host: "fake", Path: "/"}).ResolveReference(r.URL)
	in.Header.Set("Fake-Deployment", deployment)
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	if f.Probed == nil {
		http.NotFound(rec, in)
	} else {
		f.Probed.ServeHTTP(rec, in)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("probe %s: %w", endpoint, err)
	}
	return rec.Result(), nil
}

// Shift implements traffic.Router.
func (f *Fake) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	if err := f.shift(ctx, endpoint, from.Clone(), to.Clone()); err != nil {
		return fmt.Errorf("shift %s: %w", endpoint, err)
	}
	return nil
}

func (f *Fake) shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	c := Call{Op: OpShift, Endpoint: endpoint, From: from, To: to, At: time.Now()}
	if err := ctx.Err(); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		c.Err = err
		f.record(c)
		return err
	}
	f.mu.Lock()
	hook := f.Hook
	if len(f.next) > 0 {
		hook, f.next = f.next[0], f.next[1:]
	}
	needed, refused := f.compare(endpoint, from, to)
	f.mu.Unlock()

	apply, err := true, error(nil)
	if hook != nil {
		apply, err = hook(ctx, &c)
	}
	if err == nil {
		err = ctx.Err()
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.Unfenced {
		needed, refused = f.compare(endpoint, from, to)
	}
	c.Sent = needed
	if needed && apply {
		c.Wrote = true
		f.accept(endpoint, &c)
	}
	if err == nil {
		err = refused
	}
	c.To, c.Err = to, err
	f.record(c)
	return err
}

// compare decides with the lock held whether a shift has to write.
func (f *Fake) compare(endpoint string, from, to traffic.Split) (bool, error) {
	if err := traffic.Validate(to); err != nil {
		return false, err
	}
	e := f.endpoints[endpoint]
	if e == nil {
		return false, traffic.ErrNotFound
	}
	for _, shares := range []map[string]int{to.Weights, to.Mirror} {
		for name, share := range shares {
			if _, ok := e.description.Deployments[name]; !ok && share > 0 {
				return false, fmt.Errorf("deployment %s: %w", name, traffic.ErrNotFound)
			}
		}
	}
	if len(traffic.Positive(to.Mirror)) > 0 && !e.description.CanMirror {
		return false, fmt.Errorf("the endpoint cannot mirror: %w", traffic.ErrPermanent)
	}
	f.settle(endpoint, e)
	needed, err := traffic.NeedsWrite(f.show(e), from, to)
	if f.Exclusive && len(e.pending) > 0 && (needed || err != nil) {
		return false, &traffic.BusyError{Err: fmt.Errorf("an earlier write has not landed")}
	}
	return needed, err
}

// accept takes a write with the lock held: at once, or when it lands.
func (f *Fake) accept(endpoint string, c *Call) {
	e := f.endpoints[endpoint]
	if c.Lands <= 0 {
		f.change(endpoint, e, c.To, Write{At: time.Now(), Call: f.number()})
		return
	}
	e.pending = append(e.pending, pendingWrite{at: time.Now().Add(c.Lands), to: c.To.Clone(), call: f.number()})
	slices.SortStableFunc(e.pending, func(a, b pendingWrite) int { return a.at.Compare(b.at) })
}

// settle lets the writes land, with the lock held, whose time has come.
func (f *Fake) settle(endpoint string, e *fakeEndpoint) {
	for len(e.pending) > 0 && !time.Now().Before(e.pending[0].at) {
		p := e.pending[0]
		e.pending = e.pending[1:]
		f.change(endpoint, e, p.to, Write{At: p.at, Call: p.call})
	}
}

func (f *Fake) change(endpoint string, e *fakeEndpoint, to traffic.Split, w Write) {
	w.Endpoint, w.Before = endpoint, f.show(e)
	e.split = clean(to)
	e.version++
	w.After = f.show(e)
	f.writes = append(f.writes, w)
	if f.OnWrite != nil {
		f.OnWrite(w)
	}
}

// call runs a read: the hook, then do with the endpoint and the lock held.
func (f *Fake) call(ctx context.Context, c Call, do func(*fakeEndpoint) error) error {
	c.At = time.Now()
	err := ctx.Err()
	if err == nil && f.Hook != nil {
		_, err = f.Hook(ctx, &c)
	}
	if err == nil {
		err = ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && do != nil {
		if e := f.endpoints[c.Endpoint]; e == nil {
			err = traffic.ErrNotFound
		} else {
			f.settle(c.Endpoint, e)
			err = do(e)
		}
	}
	c.Err = err
	f.record(c)
	return err
}

func (f *Fake) number() int { return len(f.calls) + 1 }

func (f *Fake) record(c Call) {
	c.N = f.number()
	f.calls = append(f.calls, c)
}

func (f *Fake) show(e *fakeEndpoint) traffic.Split {
	s := e.split.Clone()
	if f.Versioned {
		s.Version = strconv.Itoa(e.version)
	}
	return s
}

// clean copies a split without zeroes and version.
func clean(s traffic.Split) traffic.Split {
	return traffic.Split{Weights: traffic.Positive(s.Weights), Mirror: traffic.Positive(s.Mirror)}
}
