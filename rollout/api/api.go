// Package api is rollouts over HTTP: what programs and people may ask and order,
// the JSON they get, and a client.
//
// The rules of the package:
//   - It decides nothing about a rollout. Orders become events, requests become
//     plans; whoever runs rollouts (an Engine) folds them in and is asked what is
//     so.
//   - Every route names the role that it needs; there is no route without an
//     entry in the table of routes, and the OpenAPI document is compared with it.
//   - Every act names the person it was authenticated as. A request says on whose
//     behalf it was made, never who made it.
//   - Starting a rollout needs an idempotency key; an order takes one. The same
//     key is the same act.
//   - Errors are application/problem+json and hold no secret.
//   - Every body, list, stream and rate is bounded.
//
// It neither listens nor knows TLS, and it does not show rollouts to people: see
// rollout/web.
package api

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/turn"
)

// An Engine runs rollouts; *engine.Engine is one.
type Engine interface {
	// Release starts the rollout id, or finds the one that the same request started before.
	Release(ctx context.Context, id string, r rollout.Release,
		resolve func(context.Context) (*rollout.Plan, error)) (snapshot rollout.Snapshot, created bool, err error)
	Rollout(ctx context.Context, id string) (rollout.Snapshot, error)
	Rollouts(ctx context.Context) iter.Seq2[rollout.Snapshot, error]
	Journal(ctx context.Context, id string) iter.Seq2[journal.Entry, error]
	// Act hands a person's act to a rollout, once they may; ask says which, given the
	// rollout as it is and the act that was taken up under the same key before.
	Act(ctx context.Context, id, key string, who Actor,
		ask func(s rollout.Snapshot, was *rollout.Event) (rollout.Event, error)) (rollout.Snapshot, error)
	Changes(ctx context.Context, after uint64) iter.Seq2[journal.Change, error]
	// Erased yields the rollouts that are deleted from the call on, until ctx ends;
	// it may miss some, and those that other processes delete.
	Erased(ctx context.Context) iter.Seq[string]
	Endpoint(ctx context.Context, ref rollout.EndpointRef) (claim.Record, error)
	ClearCooldown(ctx context.Context, ref rollout.EndpointRef, version string, by person.Person, reason string) error
}

// ErrNoPolicy: the catalog has no policy of that name.
var ErrNoPolicy = errors.New("no such policy")

// A Catalog knows the policies and the endpoints that can be reached.
type Catalog interface {
	// Plan compiles the policy that r names into the plan of the rollout id;
	// ErrNoPolicy when there is none. Any other error is the caller's mistake.
	Plan(ctx context.Context, id string, r rollout.Release) (*rollout.Plan, error)
	// PlanText compiles a policy that came with the request.
	PlanText(ctx context.Context, id string, r rollout.Release, text []byte) (*rollout.Plan, document.Problems)
	// Policies lists the policies in force, by name.
	Policies(ctx context.Context) []Policy
	// PolicyText is a policy in force as it runs: every default filled in, each value with
	// its origin. False when there is none.
	PolicyText(ctx context.Context, name string) (string, bool)
	// Check says what is wrong with a policy's text, as read from a file so called.
	Check(ctx context.Context, file string, text []byte) document.Problems
	// Endpoints lists the endpoints that routers show, by router and name. One that
	// cannot be read is listed with its Error.
	Endpoints(ctx context.Context) []Endpoint
	// Endpoint shows one endpoint with its Facts; false when there is none. One that
	// cannot be read has its Error and no Facts.
	Endpoint(ctx context.Context, ref rollout.EndpointRef) (Endpoint, bool)
	// Sources reads every source once and says what it sees, by name. It is bounded
	// in time, and one look is under way at a time: who asks meanwhile gets its
	// answer.
	Sources(ctx context.Context) []SourceLook
}

// Config is what a Server is made of. Engine, Catalog and Log are required.
type Config struct {
	Engine  Engine
	Catalog Catalog
	Log     *slog.Logger
	// Auth tells who asks; nil lets everybody do everything as the actor "local":
	// only for a server that listens on loopback alone.
	Auth Authenticator
	// Ready says what keeps the daemon from doing its work, a line each; nil means
	// always ready.
	Ready func(ctx context.Context) []string
	// TestNotifiers sends a test message to every notifier and says how that went;
	// nil: there are none.
	TestNotifiers func(ctx context.Context, by person.Person) []NotifierTest
	// AuditHead is the head of all journals at a revision, 0 for now; an error that
	// wraps ErrNoHead says that nobody can tell it any more.
	AuditHead func(ctx context.Context, at uint64) (AuditHead, error)
	// Triggers knows what starts rollouts by events; nil: nothing does.
	Triggers Triggers
	// Canonical is who a name in requestedBy is, so that whom a release was asked
	// for is known by the same name when it comes to approving; nil takes the name
	// as it is.
	Canonical func(name string) string
	// Registerer gets the API's metrics; nil: nobody sees them.
	Registerer prometheus.Registerer
	// Version is the code's, for /healthz.
	Version string
	// Rate bounds the requests per second of one actor (100), Burst how many may
	// come at once (200); looking at one rollout, and what stops one, have the same
	// rates of their own. An order that stops a rollout waits instead of being
	// refused. Streams bounds the event
	// streams that are open (256); one actor has a quarter of them at most.
	Rate    float64
	Burst   int
	Streams int
}

// A Server answers requests. Run keeps its list of rollouts up to date.
type Server struct {
	c         Config
	index     *index
	limits    *limits
	checks    *slots
	bulks     *slots
	turns     *turn.Queue // of whatever takes the processor for long
	strangers *refusedCredentials
	streams   places
	mux       *http.ServeMux
	// reckoning is held by who reckons a head.
	reckoning chan struct{}
	stopping  chan struct{} // closed when Run ends: streams end with it
	// readmitEvery is a constant of the same name but for tests.
	readmitEvery time.Duration
}

// New returns a server. Lists and streams wait for Run.
func New(c Config) (*Server, error) {
	if c.Engine == nil || c.Catalog == nil || c.Log == nil {
		return nil, errors.New("api: an engine, a catalog and a log are required")
	}
	if c.Rate <= 0 {
		c.Rate = 100
	}
	if c.Burst <= 0 {
		c.Burst = 200
	}
	if c.Streams <= 0 {
		c.Streams = 256
	}
	s := &Server{
		c: c, index: newIndex(), limits: newLimits(c.Rate, c.Burst),
		strangers: newRefusedCredentials(c.Log),
		checks:    newSlots(checksMax, checksEach), bulks: newSlots(bulksMax, bulksEach),
		turns: turn.NewQueue(), streams: places{most: c.Streams, of: map[string]int{}},
		readmitEvery: readmitEvery, mux: http.NewServeMux(), reckoning: make(chan struct{}, 1), stopping: make(chan struct{}),
	}
	if c.Registerer != nil {
		if err := s.strangers.register(c.Registerer); err != nil {
			return nil, fmt.Errorf("api: %w", err)
		}
	}
	for _, r := range s.routes() {
		s.mux.Handle(r.method+" "+r.path, s.guard(r))
	}
	s.mux.HandleFunc("/", s.nowhere)
	return s, nil
}

// nowhere answers what no route answers: 405 where another method would do.
func (s *Server) nowhere(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := s.mux.Handler(other); pattern != "/" {
			allow = append(allow, m)
		}
	}
	if len(allow) == 0 {
		s.fail(w, r, notFound("there is nothing at "+clip(r.URL.Path, 100)))
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	s.fail(w, r,
		problem(http.StatusMethodNotAllowed, TypeBadRequest, "Not this method", "it takes "+strings.Join(allow, ", ")))
}

// Run follows the journal until ctx ends and returns nil then. Streams end when
// it does.
func (s *Server) Run(ctx context.Context) error {
	defer close(s.stopping)
	s.index.run(ctx, s.c.Engine, s.c.Log)
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := requestID(r)
	w.Header().Set("X-Request-Id", id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	s.mux.ServeHTTP(w, r)
}

// A route is one thing that can be asked.
type route struct {
	method, path string
	// id is the operation's name in the OpenAPI document.
	id string
	// roles are those of which the actor must have one; none: open to everybody.
	roles  []Role
	handle func(http.ResponseWriter, *http.Request, Actor) error
}

// routes is the table of everything that can be asked.
func (s *Server) routes() []route {
	look := []Role{RoleView}
	operate := []Role{RoleOperate}
	return []route{
		{"POST", "/v1/rollouts", "startRollout", []Role{RoleStart}, s.start},
		{"GET", "/v1/rollouts", "listRollouts", look, s.list},
		{"GET", "/v1/rollouts/{id}", "getRollout", look, s.get},
		{"GET", "/v1/rollouts/{id}/plan", "getPlan", look, s.getPlan},
		{"GET", "/v1/rollouts/{id}/history", "getHistory", look, s.history},
		{"GET", "/v1/rollouts/{id}/events", "streamRollout", look, s.streamOne},
		{"GET", "/v1/events", "streamAll", look, s.streamAll},
		{"POST", "/v1/rollouts/{id}/approve", "approveRollout", access.AnswerRoles(), s.answer(true)},
		{"POST", "/v1/rollouts/{id}/reject", "rejectRollout", access.AnswerRoles(), s.answer(false)},
		{"POST", "/v1/rollouts/{id}/pause", "pauseRollout", access.CommandRoles(rollout.CommandPause),
			s.command(rollout.CommandPause)},
		{"POST", "/v1/rollouts/{id}/resume", "resumeRollout", access.CommandRoles(rollout.CommandResume),
			s.command(rollout.CommandResume)},
		{"POST", "/v1/rollouts/{id}/rollback", "rollbackRollout", access.CommandRoles(rollout.CommandRollback),
			s.command(rollout.CommandRollback)},
		{"POST", "/v1/rollouts/{id}/promote", "promoteRollout", access.CommandRoles(rollout.CommandPromote),
			s.command(rollout.CommandPromote)},
		{"POST", "/v1/rollouts/{id}/skip", "skipRollout", access.CommandRoles(rollout.CommandSkip),
			s.command(rollout.CommandSkip)},
		{"POST", "/v1/rollouts/{id}/extend", "extendRollout", access.CommandRoles(rollout.CommandExtend),
			s.command(rollout.CommandExtend)},
		{"POST", "/v1/rollouts/{id}/ack", "acknowledgeRollout", access.CommandRoles(rollout.CommandAck),
			s.command(rollout.CommandAck)},
		{"POST", "/v1/rollouts/{id}/undo", "undoRollout", operate, s.undo},
		{"POST", "/v1/rollouts/{id}/retry", "retryRollout", []Role{RoleStart}, s.retry},
		{"GET", "/v1/policies", "listPolicies", look, s.policies},
		{"GET", "/v1/policies/{name}", "getPolicy", look, s.policy},
		{"POST", "/v1/policies/check", "checkPolicy", look, s.check},
		{"GET", "/v1/endpoints", "listEndpoints", look, s.endpoints},
		{"GET", "/v1/endpoints/{router}/{name}", "getEndpoint", look, s.endpoint},
		{"GET", "/v1/sources", "lookAtSources", operate, s.sources},
		{"GET", "/v1/audit/head", "getAuditHead", look, s.auditHead},
		{"GET", "/v1/triggers", "listTriggers", operate, s.triggers},
		{"GET", "/v1/triggers/{name}/refused", "listRefused", operate, s.refused},
		{"DELETE", "/v1/endpoints/{router}/{name}/cooldown", "clearCooldown", operate, s.clearCooldown},
		{"POST", "/v1/notifiers/test", "testNotifiers", operate, s.testNotifiers},
		{"GET", "/openapi.yaml", "getOpenAPI", nil, s.openapi},
		{"GET", "/healthz", "getHealth", nil, s.health},
		{"GET", "/readyz", "getReadiness", nil, s.readiness},
	}
}
