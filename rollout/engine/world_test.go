package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// A world is everything outside of the engine: a store, a router with endpoints
// that serve, a source that counts what they served, and people. What the engine
// does to it is checked at every call; violations are collected, not failed, so
// that a test of a mutant can ask for them.
type world struct {
	t      testing.TB
	store  *mem.Store
	router *traffictest.Fake
	source *counts
	chat   *people
	pager  *people
	began  time.Time

	mu         sync.Mutex
	violations []string
	// storeDown: appends fail; a rollback may then be sent without its intent.
	storeDown bool
	// breakage decides about appends where a test sets nothing else.
	breakage func(mem.Op) (bool, error)
	// plugs are those of the engines that were started.
	engines []*running
	mutant  mutant
	tune    func(*Config)
	// points counts the instants before and after every durable write and outside
	// call; at the killAt-th the process is killed.
	points, killAt int
	// turn numbers the repetitions of a scene; fatal ends a test, or notes a
	// violation where violations are wanted.
	turn   int
	fatal  func(format string, args ...any)
	killed string
}

// point is an instant at which a process may die.
func (w *world) point(r *running, name string) {
	w.mu.Lock()
	w.points++
	now := w.killAt > 0 && w.points == w.killAt
	if now {
		w.killed = name
	}
	w.mu.Unlock()
	if now {
		r.kill()
	}
}

// errCut is what a killed process sees of the world.
var errCut = errors.New("the process was killed")

func newWorld(t testing.TB) *world {
	w := &world{t: t, store: mem.New(), router: &traffictest.Fake{}, began: time.Now().UTC(), fatal: t.Fatalf}
	w.source = &counts{w: w, rate: 200, bad: func(string, time.Time) float64 { return 0.001 }}
	w.chat, w.pager = &people{w: w, refs: true}, &people{w: w}
	w.router.Hook = func(_ context.Context, c *traffictest.Call) (bool, error) {
		w.check(c)
		return true, nil
	}
	w.store.Fault = func(op mem.Op) (bool, error) {
		w.mu.Lock()
		broken := w.breakage
		w.mu.Unlock()
		if broken == nil {
			return true, nil
		}
		return broken(op)
	}
	w.endpoint("recs")
	return w
}

// endpoint puts an endpoint with blue in front and green beside it there.
func (w *world) endpoint(name string) {
	d := map[string]traffic.Deployment{"blue": {Ready: true, Instances: 2}, "green": {Ready: true, Instances: 2, Version: "v2"}}
	w.router.Set(name, traffic.Split{Weights: map[string]int{"blue": 100}}, traffic.Description{
		Deployments: d, CanMirror: true, Tags: map[string]string{"approvalContact": "#recs"},
		ManualRollback: func(stable string) string { return "put 100 on " + stable },
	})
}

// violate notes that a promise was broken.
func (w *world) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// check looks at a traffic call as it arrives: a raise needs a durable intent of
// the rollout that the endpoint's record names (I1, I4), weights sum to 100 (I2).
func (w *world) check(c *traffictest.Call) {
	if c.Op != traffictest.OpShift {
		return
	}
	sum := 0
	for _, x := range c.To.Weights {
		sum += x
	}
	if sum != 100 {
		w.violate("I2: %s was to have %v", c.Endpoint, c.To.Weights)
	}
	ctx := context.Background()
	rec, err := w.store.Head(ctx, rollout.EndpointRef{Router: "edge", Name: c.Endpoint}.Key())
	if err != nil {
		w.violate("I4: %s was written without a record: %v", c.Endpoint, err)
		return
	}
	var er rollout.EndpointRecord
	if err := json.Unmarshal(rec.State, &er); err != nil || er.Active == "" {
		w.violate("I4: %s was written while nobody was active", c.Endpoint)
		return
	}
	head, err := w.store.Head(ctx, "rollout/"+er.Active)
	if err != nil {
		w.violate("I4: %s was written for %s, which has no record", c.Endpoint, er.Active)
		return
	}
	s, _, err := decodeHead(head)
	if err != nil {
		w.violate("I4: %v", err)
		return
	}
	raise := c.To.Weights["green"] > 0 || c.To.Mirror["green"] > 0
	intent := slices.ContainsFunc(s.Outbox, func(e rollout.Effect) bool {
		return e.Kind == rollout.EffectSetTraffic && e.Forward == raise && e.To.Equal(c.To)
	})
	w.mu.Lock()
	down := w.storeDown
	w.mu.Unlock()
	if !intent && (raise || !down) {
		w.violate("I4: %s was to have %s without a durable intent of %s (%s)", c.Endpoint, c.To, er.Active, s.Phase)
	}
	if raise && c.To.Weights["green"] > s.Allowed {
		w.violate("I1: green was to have %d%%, the gates allow %d%%", c.To.Weights["green"], s.Allowed)
	}
}

// counts is a source that knows what the endpoints served: rate requests a second,
// split as the router's endpoints were.
type counts struct {
	w    *world
	rate float64
	// bad is the share of failures of a deployment at an instant.
	bad func(deployment string, at time.Time) float64
	// down, if it answers an error, breaks a read.
	down func(qs []analysis.Query) error
	// gone: the deployment gives no series.
	gone func(deployment string, at time.Time) bool

	mu    sync.Mutex
	reads [][]analysis.Query
}

func (c *counts) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	c.mu.Lock()
	c.reads = append(c.reads, slices.Clone(qs))
	down := c.down
	c.mu.Unlock()
	if down != nil {
		if err := down(qs); err != nil {
			return nil, err
		}
	}
	rs := make([]analysis.Reading, len(qs))
	for i, q := range qs {
		to := q.To
		if n := time.Now(); n.Before(to) {
			to = n.UTC()
		}
		rs[i] = analysis.Reading{Metric: q.Metric.Name, From: q.From, To: to, Status: analysis.StatusOK,
			Stable: c.sample(q.Names.Endpoint, q.Names.Stable, q.From, to), Candidate: c.sample(q.Names.Endpoint, q.Names.Candidate, q.From, to)}
	}
	return rs, ctx.Err()
}

// sample integrates what a deployment served in (from, to], second by second.
func (c *counts) sample(endpoint, deployment string, from, to time.Time) analysis.Sample {
	c.mu.Lock()
	bad, gone := c.bad, c.gone
	c.mu.Unlock()
	if gone != nil && gone(deployment, to) {
		return analysis.Sample{}
	}
	writes := c.w.router.Writes(endpoint)
	at := func(t time.Time) int {
		weight := 0
		if deployment == "blue" {
			weight = 100
		}
		for _, wr := range writes {
			if !wr.At.After(t) {
				weight = wr.After.Weights[deployment]
			}
		}
		return weight
	}
	n := func(t time.Time) (total, failed float64) {
		for s := c.w.began; s.Before(t); s = s.Add(time.Second) {
			x := c.rate * float64(at(s)) / 100
			total += x
			failed += x * bad(deployment, s)
		}
		return math.Floor(total), math.Floor(failed)
	}
	n1, k1 := n(from)
	n2, k2 := n(to)
	return analysis.Sample{Fresh: true, N: n2 - n1, K: min(k2-k1, n2-n1)}
}

// set changes what happens while an engine runs.
func (c *counts) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// set changes what happens while an engine runs.
func (p *people) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// people is a notifier that remembers what it was told.
type people struct {
	w    *world
	refs bool
	// fail decides about a delivery; nil succeeds.
	fail func(ctx context.Context, n notifier.Notice) error
	// on sees every notice that arrived.
	on func(n notifier.Notice)

	mu   sync.Mutex
	told []notifier.Notice
	at   []time.Time
}

func (p *people) Notify(ctx context.Context, n notifier.Notice) (string, error) {
	p.mu.Lock()
	fail := p.fail
	p.mu.Unlock()
	if fail != nil {
		if err := fail(ctx, n); err != nil {
			return "", err
		}
	}
	p.mu.Lock()
	p.told = append(p.told, n)
	p.at = append(p.at, time.Now())
	on := p.on
	p.mu.Unlock()
	if on != nil {
		on(n)
	}
	if !p.refs {
		return "", nil
	}
	return "ref:" + n.Key, nil
}

// all returns what was told so far, of one topic.
func (p *people) all(topic notifier.Topic) []notifier.Notice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.told), func(n notifier.Notice) bool { return n.Topic != topic })
}

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
		mutant:    w.mutant,
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

// plan is a ladder of 5%, 25% (behind a gate when asked) and 100% on an endpoint.
func plan(id, endpoint string, gate bool) *rollout.Plan {
	p := &rollout.Plan{
		SchemaVersion: 1, ID: id,
		Policy: rollout.PolicyRef{Name: "recommendations", Owner: "team-recommendations", Text: "…", Hash: "abc"},
		Release: rollout.Release{Policy: "recommendations", Candidate: "green", Version: "v2", Requester: rollout.Person{ID: "ci"},
			Source: "test"},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: endpoint}, Stable: "auto",
		OnForeignChange: rollout.ForeignHold, Concurrency: rollout.ConcurrencyQueue,
		Interval: 5 * time.Second, Settle: 5 * time.Second, MaxExtend: 10 * time.Minute, OnUndecided: rollout.UndecidedHold,
		OnNoData:      rollout.MissingPolicy{After: 30 * time.Second, Then: analysis.ActionHold, RollbackAfter: time.Minute},
		OnSourceError: rollout.MissingPolicy{After: 30 * time.Second, Then: analysis.ActionHold},
		Steps: []rollout.Step{
			{Name: "canary", Weight: 5, Bake: time.Minute}, {Name: "quarter", Weight: 25, Bake: time.Minute}, {Name: "full", Weight: 100, Bake: time.Minute},
		},
		Panel: analysis.Panel{
			Metrics: []analysis.Metric{{Name: "failures", Source: "prom", Counts: &analysis.Counts{Total: "requests", Bad: "errors", Deployment: "deployment"}}},
			Guardrails: []analysis.Guardrail{{Name: "failures", Metric: "failures", Limit: analysis.Limit{Value: 0.01, Text: "<= 1%"}, Detect: 0.05,
				OnBreach: analysis.ActionRollback, Evidence: analysis.EvidenceRequired, Test: analysis.TestSequential, Steps: []int{0, 1, 2}}},
			Alpha: 0.01, Beta: 0.05, Steps: 3, Interval: 5 * time.Second, OnSharedBreach: analysis.ActionHold,
		},
		Rollback: rollout.RollbackPolicy{VerifyWithin: 2 * time.Minute, Cooldown: time.Hour},
		Page:     []string{"pager"}, Notify: []string{"chat"},
	}
	if gate {
		p.Steps[1].Requires = []string{"owner"}
		p.Approvals = []rollout.Approval{{Name: "owner", Notifier: "chat", Users: []string{"U1"}, Quorum: 1, Expires: time.Hour, OnExpiry: rollout.ExpiryHold}}
	}
	return p
}

// await waits in the bubble until the rollout in the store is as wanted.
func (w *world) await(id string, within time.Duration, want func(*rollout.State) bool) rollout.State {
	w.t.Helper()
	var s rollout.State
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(250 * time.Millisecond) {
		rec, err := w.store.Head(context.Background(), rolloutKey(id))
		if err != nil {
			continue
		}
		if s, _, err = decodeHead(rec); err != nil {
			w.t.Fatal(err)
		}
		if want(&s) {
			return s
		}
	}
	w.fatal("rollout %s after %s: got phase %s (%s), allowed %d, outbox %v", id, within, s.Phase, s.Sentence, s.Allowed, kinds(s.Outbox))
	return s
}

func kinds(es []rollout.Effect) []string {
	var out []string
	for _, e := range es {
		out = append(out, fmt.Sprintf("%s %s#%d@%s", e.Kind, e.ID, e.Attempt, e.NotBefore.Format(time.TimeOnly)))
	}
	return out
}

// ended waits until a rollout is closed and returns its last state.
func (w *world) ended(id string, within time.Duration) rollout.State {
	w.t.Helper()
	return w.await(id, within, func(s *rollout.State) bool { return isClosed(s) })
}

// audit checks what must hold of the world at the end: the chains (I7), that every
// journal replays to the states it records (promise 7), that the endpoint shows
// what a closed rollout ended with (I9), that every message has one key, and that
// a page was resolved.
func (w *world) audit(ids ...string) []string {
	w.t.Helper()
	for _, id := range ids {
		w.auditJournal(id)
	}
	for _, p := range []*people{w.chat, w.pager} {
		keys := map[string]string{}
		for _, n := range p.all("") {
			if k, ok := keys[n.Delivery]; ok && k != n.Key {
				w.violate("promise 5: delivery %s was sent as %s and as %s", n.Delivery, k, n.Key)
			}
			keys[n.Delivery] = n.Key
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.violations)
}

func (w *world) auditJournal(id string) {
	ctx := context.Background()
	rec, err := w.store.Head(ctx, planKey(id))
	if err != nil {
		w.violate("plan of %s: %v", id, err)
		return
	}
	p, err := decodePlan(rec)
	if err != nil {
		w.violate("plan of %s: %v", id, err)
		return
	}
	prev, epoch, owner := "", 0, ""
	var s rollout.State
	acts := map[string]int{}
	seq := 0
	for rec, err := range w.store.History(ctx, rolloutKey(id)) {
		if err != nil {
			w.violate("journal of %s: %v", id, err)
			return
		}
		e, err := decodeEntry(rec)
		if err != nil {
			w.violate("journal of %s: %v", id, err)
			return
		}
		seq++
		if e.Seq != seq || e.Prev != prev {
			w.violate("I7: entry %d of %s: got seq %d, prev %.8s, want %d, %.8s", seq, id, e.Seq, e.Prev, seq, prev)
		}
		if e.Epoch < epoch || e.Epoch == epoch && owner != "" && e.Owner != owner {
			w.violate("I7: entry %d of %s: epoch %d of %s after %d of %s", seq, id, e.Epoch, e.Owner, epoch, owner)
		}
		epoch, owner = e.Epoch, e.Owner
		if prev, err = e.Hash(); err != nil {
			w.violate("I7: entry %d of %s: %v", seq, id, err)
		}
		for i, ev := range e.Events {
			if seq == 1 && i == 0 {
				s = rollout.Start(p, ev.At)
			}
			if ev.Kind == rollout.EventAnswered || ev.Kind == rollout.EventCommanded {
				if acts[ev.Key]++; acts[ev.Key] > 1 {
					w.violate("I5: act %s was folded in %d times", ev.Key, acts[ev.Key])
				}
			}
			s = rollout.Next(p, s, ev)
		}
		_, state, _, err := encode(e, s)
		_ = state
		if err != nil {
			w.violate("promise 7: %v", err)
		}
		if got := hashState(s); got != e.State {
			w.violate("promise 7: entry %d of %s replays to another state", seq, id)
		}
	}
	if isClosed(&s) {
		w.auditEnd(p, &s)
	}
}

func hashState(s rollout.State) string {
	entry, _, _, err := encode(rollout.Entry{}, s)
	if err != nil {
		return err.Error()
	}
	var e rollout.Entry
	if err := json.Unmarshal(entry, &e); err != nil {
		return err.Error()
	}
	return e.State
}

func (w *world) auditEnd(p *rollout.Plan, s *rollout.State) {
	truth := w.router.Truth(p.Endpoint.Name)
	if s.Phase == rollout.PhasePromoted && truth.Weights["green"] != 100 {
		w.violate("I9: %s is promoted and the endpoint shows %s", p.ID, truth)
	}
	if (s.Phase == rollout.PhaseRolledBack || s.Phase == rollout.PhaseStopped) && truth.Weights["blue"] != 100 {
		w.violate("I9: %s is %s and the endpoint shows %s", p.ID, s.Phase, truth)
	}
}

// clean fails the test for every violation.
func (w *world) clean(ids ...string) {
	w.t.Helper()
	for _, v := range w.audit(ids...) {
		w.t.Error(v)
	}
}

// journal writes a rollout's decisions for a failed test's log.
func (w *world) journal(id string) string {
	var b strings.Builder
	for rec, err := range w.store.History(context.Background(), rolloutKey(id)) {
		if err != nil {
			return err.Error()
		}
		e, err := decodeEntry(rec)
		if err != nil {
			return err.Error()
		}
		var evs []string
		for _, ev := range e.Events {
			evs = append(evs, string(ev.Kind))
		}
		fmt.Fprintf(&b, "%s #%d %s/%d [%s]\n", e.At.Format(time.TimeOnly), e.Seq, e.Owner, e.Epoch, strings.Join(evs, " "))
		for _, d := range e.Decisions {
			fmt.Fprintf(&b, "         %s: %s\n", d.Kind, d.Sentence)
		}
	}
	return b.String()
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
