package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/rollout/traffic/webhook"
)

const secret = "s3cr3t-t0ken"

// host is a Host in memory with one endpoint.
type host struct {
	mu      sync.Mutex
	state   webhook.EndpointState
	version int
}

func newHost() *host {
	yes, two, eight, v1 := true, 2, 8, "v1"
	d := webhook.Deployment{Ready: &yes, Instances: &two, Concurrency: &eight, Version: &v1}
	return &host{version: 1, state: webhook.EndpointState{
		Weights:     map[string]int{"blue": 100},
		Mirror:      map[string]int{},
		Deployments: map[string]webhook.Deployment{"blue": d, "green": d, "red": d},
		Tags:        map[string]string{"owner": "team-recommendations"},
	}}
}

func (h *host) Endpoints(context.Context) ([]string, error) { return []string{"recs"}, nil }

func (h *host) Endpoint(_ context.Context, name string) (webhook.EndpointState, error) {
	if name != "recs" {
		return webhook.EndpointState{}, traffic.ErrNotFound
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.show(), nil
}

func (h *host) Shift(_ context.Context, name, version string, to traffic.Split) (webhook.EndpointState, error) {
	if name != "recs" {
		return webhook.EndpointState{}, traffic.ErrNotFound
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if strconv.Itoa(h.version) != version {
		return webhook.EndpointState{}, traffic.ErrForeignChange
	}
	for name := range to.Weights {
		if _, ok := h.state.Deployments[name]; !ok {
			return webhook.EndpointState{}, traffic.ErrPermanent
		}
	}
	h.set(to)
	return h.show(), nil
}

func (h *host) set(to traffic.Split) {
	h.version++
	h.state.Weights, h.state.Mirror = maps.Clone(to.Weights), maps.Clone(to.Mirror)
	if h.state.Weights == nil {
		h.state.Weights = map[string]int{"blue": 0, "green": 0}
	}
	if h.state.Mirror == nil {
		h.state.Mirror = map[string]int{}
	}
}

func (h *host) show() webhook.EndpointState {
	s := h.state
	s.Version = strconv.Itoa(h.version)
	s.Weights, s.Mirror = maps.Clone(s.Weights), maps.Clone(s.Mirror)
	return s
}

func (h *host) truth() traffic.Split {
	h.mu.Lock()
	defer h.mu.Unlock()
	return traffic.Split{Weights: traffic.Positive(h.state.Weights), Mirror: traffic.Positive(h.state.Mirror)}
}

func (h *host) foreign(to traffic.Split) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(to)
}

// rig stands between the client and a Handler: it keeps what was put and makes
// the faults.
type rig struct {
	host  *host
	inner http.Handler
	// busy is read-locked by whoever has a request in hand.
	busy    sync.RWMutex
	mu      sync.Mutex
	sent    []traffic.Split
	fault   traffictest.Fault
	pending *traffic.Split
}

func (g *rig) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.busy.RLock()
	defer g.busy.RUnlock()
	if r.Header.Get("Authorization") != "Bearer "+secret {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	if r.Method != http.MethodPut {
		g.inner.ServeHTTP(w, r)
		return
	}
	raw, _ := io.ReadAll(r.Body)
	var to traffic.Split
	_ = json.Unmarshal(raw, &to)
	g.mu.Lock()
	fault, pending := g.fault, g.pending
	g.fault = traffictest.Fault{}
	g.sent = append(g.sent, to)
	g.mu.Unlock()
	if fault.Arrived != nil {
		fault.Arrived()
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	if pending != nil {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "an update is in progress", http.StatusConflict)
		return
	}
	g.serve(w, r, fault.Kind, to)
}

func (g *rig) serve(w http.ResponseWriter, r *http.Request, kind traffictest.FaultKind, to traffic.Split) {
	switch kind {
	case traffictest.FaultNone, "":
		g.inner.ServeHTTP(w, r)
	case traffictest.FaultLostAnswer:
		g.inner.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case traffictest.FaultFailed:
		http.Error(w, "echo of "+r.Header.Get("Authorization"), http.StatusInternalServerError)
	case traffictest.FaultLate:
		g.mu.Lock()
		g.pending = &to
		g.mu.Unlock()
		fallthrough
	case traffictest.FaultNever:
		w.Header().Set("Content-Type", "application/json")
		state, _ := g.host.Endpoint(r.Context(), "recs")
		_ = json.NewEncoder(w).Encode(state)
	case traffictest.FaultPartly:
		g.host.foreign(traffic.Split{Weights: map[string]int{"blue": 97, "green": 3}})
		w.WriteHeader(http.StatusBadGateway)
	case traffictest.FaultSlowApplied:
		g.inner.ServeHTTP(httptest.NewRecorder(), r)
		<-r.Context().Done()
	case traffictest.FaultSlow:
		<-r.Context().Done()
	case traffictest.FaultBusy:
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusConflict)
	case traffictest.FaultThrottled:
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

func (g *rig) settle() {
	g.busy.Lock()
	defer g.busy.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pending != nil {
		g.host.foreign(*g.pending)
		g.pending = nil
	}
}

// bearer adds the credential that the daemon's clients would add.
type bearer struct{ next http.RoundTripper }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+secret)
	return b.next.RoundTrip(r)
}

func authorized(server *httptest.Server) *http.Client {
	return &http.Client{Transport: bearer{server.Client().Transport}}
}

// The router keeps the contract of routers over real HTTP, with every fault
// that an HTTP endpoint can have.
func TestConforms(t *testing.T) {
	traffictest.Exercise(t, "webhook", func(t *testing.T) *traffictest.World {
		h := newHost()
		g := &rig{host: h, inner: webhook.NewHandler(h, nil)}
		server := httptest.NewServer(g)
		t.Cleanup(server.Close)
		router, err := webhook.New(webhook.Config{URL: server.URL, Client: authorized(server)})
		if err != nil {
			t.Fatal(err)
		}
		return &traffictest.World{
			Router: router, Endpoint: "recs", Deployments: []string{"blue", "green", "red"},
			Truth: h.truth, Foreign: h.foreign, Settle: g.settle,
			Sent: func() []traffic.Split {
				g.mu.Lock()
				defer g.mu.Unlock()
				return slices.Clone(g.sent)
			},
			Inject: func(f traffictest.Fault) {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.fault = f
			},
			Faults: []traffictest.FaultKind{
				traffictest.FaultNone, traffictest.FaultLostAnswer, traffictest.FaultFailed, traffictest.FaultLate,
				traffictest.FaultNever, traffictest.FaultPartly, traffictest.FaultSlow, traffictest.FaultSlowApplied,
				traffictest.FaultBusy, traffictest.FaultThrottled,
			},
			Mirrors: true, Versions: true, Fenced: true, Secrets: []string{secret},
		}
	})
}
