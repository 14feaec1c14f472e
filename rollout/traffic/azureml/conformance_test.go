package azureml_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/azureml"
	"github.com/belayd/belay/rollout/traffic/azureml/armtest"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

// secret is the token of the tests; it looks like one.
const secret = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.c2VjcmV0LXNlY3JldA.c2lnbmF0dXJl" //nolint:gosec // It opens nothing.

// resource has what a real endpoint has, and members that no client of today
// knows.
const resource = `{
  "location": "westeurope", "kind": "Managed", "sku": {"name": "Default", "future": 1.50},
  "tags": {"owner": "team-recommendations", "approvalContact": "recs-release"},
  "identity": {"type": "SystemAssigned", "principalId": "00000000-0000-0000-0000-000000000001"},
  "zones": ["1", "2"],
  "properties": {
    "authMode": "Key", "description": "recommendations \u003c for all", "publicNetworkAccess": "Enabled",
    "traffic": {"Blue": 100, "green": 0}, "mirrorTraffic": {},
    "properties": {"azureml.onlineendpointid": "/e/1"},
    "newFieldInLaterApiVersion": {"limit": 12345678901234567890, "exact": 0.1000, "list": [null, true, {"a": []}]}
  }
}`

// world is an emulator with one endpoint and the router that moves it.
type world struct {
	arm    *armtest.Server
	server *httptest.Server
	router *azureml.Router
	// busy is read-locked by whoever has a request in hand.
	busy sync.RWMutex
}

func open(t *testing.T) *world {
	t.Helper()
	w := &world{arm: &armtest.Server{Subscription: "s-1", ResourceGroup: "rg-1", Workspace: "ws-1", Token: secret, PageSize: 2}}
	if err := w.arm.SetEndpoint("recs", resource); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"blue", "green", "red"} {
		w.arm.SetDeployment("recs", name, "ranker/versions/17", 3, 8)
	}
	w.server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.busy.RLock()
		defer w.busy.RUnlock()
		w.arm.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.server.Close)
	var err error
	w.router, err = azureml.New(azureml.Config{
		Subscription: "s-1", ResourceGroup: "rg-1", Workspace: "ws-1",
		Credential: armtest.Credential(secret), Options: armtest.Options(w.server.URL, w.server.Client()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) truth() traffic.Split {
	live, mirror := w.arm.Traffic("recs")
	return traffic.Split{Weights: live, Mirror: traffic.Positive(mirror)}
}

// sent are the splits that were written.
func (w *world) sent(t *testing.T) []traffic.Split {
	t.Helper()
	var out []traffic.Split
	for _, p := range w.arm.Puts() {
		var body struct {
			Properties struct {
				Traffic       map[string]int `json:"traffic"`
				MirrorTraffic map[string]int `json:"mirrorTraffic"`
			} `json:"properties"`
		}
		if err := json.Unmarshal(p.Body, &body); err != nil {
			t.Errorf("body %s: %v", p.Body, err)
		}
		out = append(out, traffic.Split{Weights: body.Properties.Traffic, Mirror: body.Properties.MirrorTraffic})
	}
	return out
}

// faults are the kinds of faults that ARM can have.
var faults = map[traffictest.FaultKind]armtest.Fault{
	traffictest.FaultNone:        armtest.Ends(armtest.Outcome{}),
	traffictest.FaultLostAnswer:  armtest.LoseAnswer,
	traffictest.FaultFailed:      armtest.Fail,
	traffictest.FaultLate:        armtest.Ends(armtest.Outcome{Delay: armtest.Settled}),
	traffictest.FaultNever:       armtest.Ends(armtest.Outcome{Ignored: true}),
	traffictest.FaultPartly:      armtest.Ends(armtest.Outcome{Instead: map[string]int{"blue": 97, "green": 3}}),
	traffictest.FaultSlow:        armtest.Slow,
	traffictest.FaultSlowApplied: armtest.SlowButApplied,
	traffictest.FaultBusy:        armtest.Conflict(5 * time.Second),
	traffictest.FaultThrottled:   armtest.Throttle(time.Minute),
}

// The router keeps the contract of routers over TLS, with every fault that ARM
// can have.
func TestConforms(t *testing.T) {
	traffictest.Exercise(t, "azureml", func(t *testing.T) *traffictest.World {
		w := open(t)
		var kinds []traffictest.FaultKind
		for kind := range faults {
			kinds = append(kinds, kind)
		}
		slices.Sort(kinds)
		return &traffictest.World{
			Router: w.router, Endpoint: "recs", Deployments: []string{"blue", "green", "red"},
			Truth: w.truth, Foreign: func(s traffic.Split) { w.arm.Operate("recs", s.Weights, s.Mirror) },
			Sent: func() []traffic.Split { return w.sent(t) },
			Inject: func(f traffictest.Fault) {
				w.arm.Next(func(rw http.ResponseWriter, r *http.Request, accept func(http.ResponseWriter, armtest.Outcome)) {
					if f.Arrived != nil {
						f.Arrived()
					}
					faults[f.Kind](rw, r, accept)
				})
			},
			Faults: kinds,
			Settle: func() {
				w.busy.Lock()
				defer w.busy.Unlock()
				w.arm.Settle("recs")
			},
			Mirrors: true, Secrets: []string{secret},
		}
	})
}
