package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/inboxes"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/notifier/slack"
	"github.com/belayd/belay/notifier/slack/slacktest"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// patience bounds what these tests wait for; on a fast machine they take seconds.
const patience = 60 * time.Second

// A town is a workspace of Slack, an endpoint, and a store that several replicas
// share: real engines and real clients of Slack over real sockets.
type town struct {
	t      *testing.T
	store  *mem.Store
	leases *tokens
	router *traffictest.Fake
	chat   *slacktest.Socket
	// shared is what a replica sees of the store, inbox what it hears; a mutant sees
	// and hears otherwise.
	shared func(store.Store) store.Store
	inbox  func(notifier.Inbox) notifier.Inbox
	// patience bounds what is waited for; wrong is what was not as it should be.
	patience time.Duration
	wrong    []string
}

// problem notes what is not as it should be.
func (w *town) problem(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func newTown(t *testing.T) *town {
	w := &town{t: t, store: mem.New(), leases: &tokens{held: map[string]*token{}}, router: &traffictest.Fake{}, chat: slacktest.New(t).Listen(),
		shared: func(s store.Store) store.Store { return s }, inbox: func(i notifier.Inbox) notifier.Inbox { return i }, patience: patience}
	w.router.Set("recs", traffic.Split{Weights: map[string]int{"blue": 100}}, traffic.Description{
		Deployments: map[string]traffic.Deployment{"blue": {Ready: true, Instances: 2}, "green": {Ready: true, Instances: 2, Version: "v2"}},
	})
	return w
}

// A replica is one engine with its own connection to Slack.
type replica struct {
	*engine.Engine
	conn *websocket.Conn
	dead atomic.Bool
	stop func()
	// heard is called after an append of an act.
	heard atomic.Pointer[func()]
}

// replica starts one.
func (w *town) replica(name string) *replica {
	w.t.Helper()
	r := &replica{}
	client := notifiertest.Client()
	client.Transport = &severed{next: client.Transport, r: r}
	log := slog.New(slog.NewTextHandler(w.t.Output(), nil)).With("replica", name)
	chat, err := slack.New(slack.Config{BotToken: slacktest.BotToken, AppToken: slacktest.AppToken, URL: w.chat.Base, Channel: slacktest.ChannelName, Client: client, Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	r.Engine, err = engine.New(engine.Config{
		Store: &own{Store: w.shared(w.store), r: r}, Leaser: &leaser{w.leases, r}, Owner: name, Version: "test", Logger: log,
		Routers:   map[string]traffic.Router{"edge": w.router},
		Sources:   map[string]analysis.Source{"prom": analysistest.NewFake(analysistest.Steady(analysistest.Rates{StableN: 1e5, StableK: 10, CandidateN: 1e5, CandidateK: 10}))},
		Notifiers: map[string]notifier.Notifier{"slack": chat},
		Poll:      50 * time.Millisecond, RouterTimeout: 500 * time.Millisecond, StopTimeout: time.Second,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var hear sync.WaitGroup
	in := &inboxes.Inboxes{Answer: r.Answer, Log: log, Go: func(do func(context.Context)) bool {
		hear.Go(func() { do(ctx) })
		return true
	}}
	in.Listen(ctx, map[string]notifier.Inbox{"slack": w.inbox(chat)})
	r.stop = sync.OnceFunc(func() {
		cancel()
		hear.Wait()
		if err := <-ended; err != nil && !r.dead.Load() {
			w.t.Errorf("Run of %s: got %v, want nil", name, err)
		}
	})
	w.t.Cleanup(r.stop)
	r.conn = w.chat.Conn()
	return r
}

// errDead is what a killed process sees of the world.
var errDead = errors.New("the process was killed")

// kill ends the replica as kill -9 does: nothing of it reaches anybody any more.
func (r *replica) kill() {
	r.dead.Store(true)
	go r.stop()
}

// own is a replica's way to the store.
type own struct {
	store.Store
	r *replica
}

func (o *own) Append(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
	if o.r.dead.Load() {
		return 0, errDead
	}
	rev, err := o.Store.Append(ctx, key, entry, state, after)
	if heard := o.r.heard.Load(); heard != nil && strings.HasPrefix(key, "inbox/") && after == 0 {
		(*heard)()
	}
	if o.r.dead.Load() {
		return 0, errDead
	}
	return rev, err
}

// severed is a replica's way to Slack.
type severed struct {
	next http.RoundTripper
	r    *replica
}

func (s *severed) RoundTrip(req *http.Request) (*http.Response, error) {
	if s.r.dead.Load() {
		return nil, errDead
	}
	return s.next.RoundTrip(req)
}

// tokens grant a name to one holder at a time; a dead one keeps it for leaseTTL.
type tokens struct {
	mu   sync.Mutex
	held map[string]*token
}

const leaseTTL = 3 * time.Second

type token struct {
	all   *tokens
	name  string
	r     *replica
	until time.Time
	lost  chan struct{}
}

type leaser struct {
	all *tokens
	r   *replica
}

func (l *leaser) Acquire(_ context.Context, name, _ string) (store.Lease, error) {
	l.all.mu.Lock()
	defer l.all.mu.Unlock()
	if h := l.all.held[name]; h != nil {
		h.renew()
		if time.Now().Before(h.until) {
			return nil, store.ErrConflict
		}
		close(h.lost)
	}
	h := &token{all: l.all, name: name, r: l.r, until: time.Now().Add(leaseTTL), lost: make(chan struct{})}
	l.all.held[name] = h
	return h, nil
}

func (h *token) renew() {
	if !h.r.dead.Load() {
		h.until = time.Now().Add(leaseTTL)
	}
}

func (h *token) Trusted() time.Time {
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	if h.all.held[h.name] == h {
		h.renew()
	}
	return h.until.Add(-500 * time.Millisecond)
}

func (h *token) Lost() <-chan struct{} { return h.lost }

func (h *token) Release(context.Context) error {
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	if h.all.held[h.name] == h && !h.r.dead.Load() {
		delete(h.all.held, h.name)
	}
	return nil
}

// gated is a ladder of two steps with an approval before the second.
func gated() *rollout.Plan {
	return &rollout.Plan{
		SchemaVersion: 1, ID: "r1", Policy: rollout.PolicyRef{Name: "recommendations", Owner: "team-recommendations", Text: "…", Hash: "abc"},
		Release:  rollout.Release{Policy: "recommendations", Candidate: "green", Version: "v2", Requester: person.Person{ID: "ci"}, Source: "test"},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Stable: "auto",
		OnForeignChange: rollout.ForeignHold, Concurrency: rollout.ConcurrencyQueue,
		Interval: time.Second, MaxExtend: 10 * time.Minute, OnUndecided: rollout.UndecidedHold,
		OnNoData:      sight.MissingPolicy{After: time.Minute, Then: analysis.ActionHold},
		OnSourceError: sight.MissingPolicy{After: time.Minute, Then: analysis.ActionHold},
		Steps: []rollout.Step{
			{Name: "canary", Share: split.Share{Weight: 5}, Bake: 2 * time.Second}, {Name: "full", Share: split.Share{Weight: 100}, Bake: time.Hour, Requires: []string{"owner"}},
		},
		Panel: analysis.Panel{
			Metrics: []analysis.Metric{{Name: "failures", Source: "prom", Counts: &analysis.Counts{Total: "requests", Bad: "errors", Deployment: "deployment"}}},
			Guardrails: []analysis.Guardrail{{Name: "failures", Metric: "failures", Limit: analysis.Limit{Value: 0.01, Text: "<= 1%"}, Detect: 0.05,
				OnBreach: analysis.ActionRollback, Evidence: analysis.EvidenceRequired, Test: analysis.TestSequential, Steps: []int{0, 1}}},
			Alpha: 0.01, Beta: 0.05, Steps: 2, Interval: time.Second, OnSharedBreach: analysis.ActionHold,
		},
		Approvals: []approval.Approval{{Name: "owner", Notifier: "slack", Users: []string{"U0APPROVER"}, Groups: []string{"product-owners"}, Quorum: 1, Expires: time.Hour, OnExpiry: approval.ExpiryHold}},
		Rollback:  rollout.RollbackPolicy{VerifyWithin: time.Minute, Cooldown: time.Hour},
		Notify:    []string{"slack"},
	}
}

// until waits for a condition; that it does not come is a problem.
func (w *town) until(what string, ok func() bool) bool {
	for deadline := time.Now().Add(w.patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.problem("%s did not come within %s; told were %q", what, w.patience, w.chat.Heard())
			return false
		}
	}
	return true
}
