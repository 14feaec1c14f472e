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
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/split"
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
	// mutate takes a protection away from each engine that is started.
	mutate func(*Config)
	tune   func(*Config)
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
	d := map[string]traffic.Deployment{"blue": {Ready: true, Instances: 2}, "green": {Ready: true, Instances: 2}}
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
	var er claim.Record
	if err := json.Unmarshal(rec.State, &er); err != nil || er.Active == "" {
		w.violate("I4: %s was written while nobody was active", c.Endpoint)
		return
	}
	head, err := w.store.Head(ctx, "rollout/"+er.Active)
	if err != nil {
		w.violate("I4: %s was written for %s, which has no record", c.Endpoint, er.Active)
		return
	}
	s, _, err := record.DecodeHead(head)
	if err != nil {
		w.violate("I4: %v", err)
		return
	}
	if truth := w.router.Truth(c.Endpoint); truth.Equal(c.To) || !truth.Equal(c.From) {
		return // Nothing will be written.
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
	// punctual: nothing is known of what lies in the future, as of a metrics server with
	// a clock of its own.
	punctual bool
	// gone: the deployment gives no series.
	gone func(deployment string, at time.Time) bool

	mu    sync.Mutex
	reads [][]analysis.Query
	sums  map[string][]served
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
		if c.punctual && !q.From.Before(time.Now()) { // Nobody has served in the future.
			rs[i] = analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK}
			continue
		}
		to := q.To
		if n := time.Now(); n.Before(to) {
			to = n.UTC()
		}
		rs[i] = analysis.Reading{Metric: q.Metric.Name, From: q.From, To: to, Status: analysis.StatusOK,
			Stable: c.sample(q.Names.Endpoint, q.Names.Stable, q.From, to), Candidate: c.sample(q.Names.Endpoint, q.Names.Candidate, q.From, to)}
	}
	return rs, ctx.Err()
}

// sample is what a deployment served in (from, to], in whole seconds.
func (c *counts) sample(endpoint, deployment string, from, to time.Time) analysis.Sample {
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	if gone != nil && gone(deployment, to) {
		return analysis.Sample{}
	}
	a, b := c.until(endpoint, deployment, from), c.until(endpoint, deployment, to)
	n, k := math.Floor(b.n)-math.Floor(a.n), math.Floor(b.k)-math.Floor(a.k)
	return analysis.Sample{Fresh: true, N: n, K: min(k, n)}
}

// served is what a deployment served since the world began: requests and failures.
type served struct{ n, k float64 }

// until sums up to an instant. The past does not change: each second is looked at
// once.
func (c *counts) until(endpoint, deployment string, t time.Time) served {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := endpoint + "/" + deployment
	if c.sums == nil {
		c.sums = map[string][]served{}
	}
	sums := c.sums[key]
	seconds := max(0, int(t.Sub(c.w.began)/time.Second))
	if len(sums) <= seconds {
		writes := c.w.router.Writes(endpoint)
		for len(sums) <= seconds {
			var x served
			if len(sums) > 0 {
				x = sums[len(sums)-1]
				at := c.w.began.Add(time.Duration(len(sums)-1) * time.Second)
				n := c.rate * float64(weightAt(writes, deployment, at)) / 100
				x.n, x.k = x.n+n, x.k+n*c.bad(deployment, at)
			}
			sums = append(sums, x)
		}
		c.sums[key] = sums
	}
	return sums[seconds]
}

// weightAt is the weight that a deployment had at an instant.
func weightAt(writes []traffictest.Write, deployment string, at time.Time) int {
	weight := map[string]int{"blue": 100}[deployment]
	for _, wr := range writes {
		if !wr.At.After(at) {
			weight = wr.After.Weights[deployment]
		}
	}
	return weight
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

// plan is a ladder of 5%, 25% (behind a gate when asked) and 100% on an endpoint.
func plan(id, endpoint string, gate bool) *rollout.Plan {
	p := &rollout.Plan{
		SchemaVersion: 1, ID: id,
		Policy: rollout.PolicyRef{Name: "recommendations", Owner: "team-recommendations", Text: "…", Hash: "abc"},
		Release: rollout.Release{Policy: "recommendations", Candidate: "green", Version: "v2", Requester: person.Person{ID: "ci"},
			Source: "test"},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: endpoint}, Stable: "auto",
		OnForeignChange: rollout.ForeignHold, Concurrency: rollout.ConcurrencyQueue,
		Interval: 5 * time.Second, Settle: 5 * time.Second, MaxExtend: 10 * time.Minute, OnUndecided: rollout.UndecidedHold,
		OnNoData:      sight.MissingPolicy{After: 30 * time.Second, Then: analysis.ActionHold, RollbackAfter: time.Minute},
		OnSourceError: sight.MissingPolicy{After: 30 * time.Second, Then: analysis.ActionHold},
		Steps: []rollout.Step{
			{Name: "canary", Share: split.Share{Weight: 5}, Bake: time.Minute}, {Name: "quarter", Share: split.Share{Weight: 25}, Bake: time.Minute}, {Name: "full", Share: split.Share{Weight: 100}, Bake: time.Minute},
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
		p.Approvals = []approval.Approval{{Name: "owner", Notifier: "chat", Users: []string{"U1"}, Quorum: 1, Expires: time.Hour, OnExpiry: approval.ExpiryHold}}
	}
	return p
}

// await waits in the bubble until the rollout in the store is as wanted.
func (w *world) await(id string, within time.Duration, want func(*rollout.State) bool) rollout.State {
	w.t.Helper()
	var s rollout.State
	var seen store.Revision
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(250 * time.Millisecond) {
		rec, err := w.store.Head(context.Background(), record.RolloutKey(id))
		if err != nil {
			continue
		}
		if rec.Revision != seen {
			if s, _, err = record.DecodeHead(rec); err != nil {
				w.t.Fatal(err)
			}
			seen = rec.Revision
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
	return w.await(id, within, func(s *rollout.State) bool { return s.Closed() })
}

// journal writes a rollout's decisions for a failed test's log.
func (w *world) journal(id string) string {
	var b strings.Builder
	for rec, err := range w.store.History(context.Background(), record.RolloutKey(id)) {
		if err != nil {
			return err.Error()
		}
		e, err := record.DecodeEntry(rec)
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
