// Package armtest emulates the part of Azure Resource Manager that moves the
// traffic of Azure Machine Learning online endpoints, for tests and for trying
// Belay without Azure.
//
// The rules of the emulator, as the service has them:
//   - A PUT replaces the whole resource: a property that the body lacks is lost.
//   - A PUT is accepted and takes effect later; meanwhile the state is Updating
//     and every other write is refused with 409.
//   - Traffic sums to 0 or 100 and names deployments that exist, without regard to
//     case. Mirrored traffic goes to one deployment without live traffic, at most
//     50%, and not on Kubernetes endpoints. With traffic 0 nobody serves.
//   - PATCH changes tags and nothing else. Keys are never told.
//   - There is no entity tag: the last writer wins.
//
// It starts no goroutine and keeps time with time.Now alone, so that it works in
// testing/synctest. It does not serve predictions and does not check roles.
package armtest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// A Server is ARM with one workspace. Its exported fields are set before the
// first request; it is safe for concurrent use.
type Server struct {
	Subscription, ResourceGroup, Workspace string
	// Token is the bearer token that requests must carry; any will do when empty.
	Token string
	// Delay is how long an accepted write takes to come into effect.
	Delay time.Duration
	// ShowsOld makes GET show the old traffic until the new is in effect; otherwise
	// it shows what was asked, in state Updating.
	ShowsOld bool
	// EchoesSucceeded makes the answer to a PUT show the state Succeeded while the
	// resource is Updating, which has misled pollers.
	EchoesSucceeded bool
	// PageSize is how many entries a page of a list has; 100 when 0.
	PageSize int

	mu        sync.Mutex
	endpoints map[string]*endpoint
	faults    []Fault
	puts      []Put
	operation int
}

// An endpoint is a resource with what is true of it.
type endpoint struct {
	name string
	// resource is what GET shows, without what is computed.
	resource map[string]any
	state    string
	// live and mirror are the traffic in effect.
	live, mirror map[string]int
	pending      *pending
	deployments  map[string]map[string]any
	changed      time.Time
}

// A pending write has been accepted.
type pending struct {
	at           time.Time
	resource     map[string]any
	live, mirror map[string]int
	state        string
}

// A Put is a write as it came in, with the resource as GET showed it before.
type Put struct {
	At       time.Time
	Endpoint string
	Before   []byte
	Body     []byte
	// Status is what was answered; 0 when no answer was sent.
	Status int
}

// Settled never comes by itself: only Settle ends a delay this long.
const Settled = 100 * 365 * 24 * time.Hour

// SetEndpoint puts an endpoint there, in effect at once. resource is its JSON
// without id, name and state; what the contract requires is filled in.
func (s *Server) SetEndpoint(name, resource string) error {
	var r map[string]any
	if err := decode([]byte(resource), &r); err != nil {
		return fmt.Errorf("set endpoint %s: %w", name, err)
	}
	fill(r, "location", "westeurope")
	fill(r, "kind", "Managed")
	fill(r, "tags", map[string]any{})
	props := member(r, "properties")
	fill(props, "authMode", "Key")
	fill(props, "publicNetworkAccess", "Enabled")
	fill(props, "traffic", map[string]any{})
	fill(props, "scoringUri", "https://"+name+".westeurope.inference.ml.azure.com/score")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endpoints == nil {
		s.endpoints = make(map[string]*endpoint)
	}
	e := &endpoint{name: name, resource: r, state: "Succeeded", changed: time.Now(),
		deployments: make(map[string]map[string]any)}
	e.live, e.mirror = shares(props["traffic"]), shares(props["mirrorTraffic"])
	s.endpoints[strings.ToLower(name)] = e
	return nil
}

// SetDeployment puts a deployment behind an endpoint: this many instances, each
// of which takes this many requests at a time.
func (s *Server) SetDeployment(endpoint, name, model string, instances, concurrency int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.endpoints[strings.ToLower(endpoint)]; e != nil {
		e.deployments[strings.ToLower(name)] = map[string]any{
			"name": name, "kind": "Managed", "location": "westeurope",
			"sku": map[string]any{"name": "Default", "capacity": instances},
			"properties": map[string]any{
				"endpointComputeType": "Managed", "provisioningState": "Succeeded",
				"model": s.workspace() + "/models/" + model,
				"requestSettings": map[string]any{"maxConcurrentRequestsPerInstance": concurrency,
					"requestTimeout": "PT5S"},
			},
		}
	}
}

// SetState puts a deployment, or with deployment "" the endpoint itself, into a
// provisioning state.
func (s *Server) SetState(endpoint, deployment, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.endpoints[strings.ToLower(endpoint)]
	if e == nil {
		return
	}
	if d := e.deployments[strings.ToLower(deployment)]; d != nil {
		member(d, "properties")["provisioningState"] = state
	} else if deployment == "" {
		e.state = state
	}
}

// Operate changes the traffic as an operator would who is not Belay, in effect
// at once.
func (s *Server) Operate(endpoint string, live, mirror map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.endpoints[strings.ToLower(endpoint)]
	if e == nil {
		return
	}
	e.settle(time.Now())
	props := member(e.resource, "properties")
	props["traffic"], props["mirrorTraffic"] = anyMap(live), anyMap(mirror)
	e.live, e.mirror = positive(live), positive(mirror)
	e.changed = time.Now()
}

// Edit changes other properties of an endpoint past Belay.
func (s *Server) Edit(endpoint string, change func(resource map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.endpoints[strings.ToLower(endpoint)]; e != nil {
		change(e.resource)
		e.changed = time.Now()
	}
}

// Traffic returns what is in effect, by deployment in lower case.
func (s *Server) Traffic(endpoint string) (live, mirror map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.endpoints[strings.ToLower(endpoint)]
	if e == nil {
		return nil, nil
	}
	e.settle(time.Now())
	return maps.Clone(e.live), maps.Clone(e.mirror)
}

// Settle puts what was accepted into effect.
func (s *Server) Settle(endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.endpoints[strings.ToLower(endpoint)]; e != nil && e.pending != nil {
		e.settle(e.pending.at)
	}
}

// Puts returns every write so far, with its raw body.
func (s *Server) Puts() []Put {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.puts)
}

// settle ends a write whose time has come.
func (e *endpoint) settle(now time.Time) {
	p := e.pending
	if p == nil || now.Before(p.at) {
		return
	}
	e.pending = nil
	e.state = p.state
	e.resource = p.resource
	if p.state == "Succeeded" {
		e.live, e.mirror = p.live, p.mirror
	}
}

// Credential is a token that is always the same. It is no secret anywhere but in
// front of a Server.
type Credential string

// GetToken implements azcore.TokenCredential.
func (c Credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(c), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// Options lead ARM clients to a Server that listens at base. Plain http is
// allowed; base is on loopback.
func Options(base string, client *http.Client) *arm.ClientOptions {
	return &arm.ClientOptions{ClientOptions: policy.ClientOptions{
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: base,
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: base, Audience: "https://management.azure.com"},
			},
		},
		InsecureAllowCredentialWithHTTP: true,
		Transport:                       client,
	}, DisableRPRegistration: true}
}

// decode reads JSON with numbers as they are written.
func decode(raw []byte, into any) error {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	return d.Decode(into)
}

func fill(o map[string]any, name string, value any) {
	if _, ok := o[name]; !ok {
		o[name] = value
	}
}

// member returns an object inside of o, and makes it where it is missing.
func member(o map[string]any, name string) map[string]any {
	m, ok := o[name].(map[string]any)
	if !ok {
		m = make(map[string]any)
		o[name] = m
	}
	return m
}

// shares reads traffic out of a resource, by deployment in lower case, without
// zeroes; nil where it is not a map of whole numbers.
func shares(v any) map[string]int {
	m, ok := v.(map[string]any)
	out := make(map[string]int, len(m))
	if !ok && v != nil {
		return nil
	}
	for name, value := range m {
		number, ok := value.(json.Number)
		if !ok {
			return nil
		}
		n, err := number.Int64()
		if err != nil {
			return nil
		}
		if n != 0 {
			out[strings.ToLower(name)] += int(n)
		}
	}
	return out
}

func anyMap(m map[string]int) map[string]any {
	out := make(map[string]any, len(m))
	for name, share := range m {
		out[name] = json.Number(fmt.Sprint(share))
	}
	return out
}

func positive(m map[string]int) map[string]int {
	out := make(map[string]int, len(m))
	for name, share := range m {
		if share != 0 {
			out[strings.ToLower(name)] += share
		}
	}
	return out
}
