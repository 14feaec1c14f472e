package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/traffic/azureml"
	"github.com/belayd/belay/rollout/traffic/azureml/armtest"
)

// The names of the Azure workspace that the emulator plays.
const (
	armSubscription  = "00000000-0000-0000-0000-000000000000"
	armResourceGroup = "belay-demo"
	armWorkspace     = "demo"
)

// armDelay is how long a write that ARM accepted takes to come into effect at
// speed 1; armFollow is how often the endpoint looks at what is in effect.
const (
	armDelay  = 2500 * time.Millisecond
	armFollow = 20 * time.Millisecond
)

// An armControl is Azure's control plane in front of the endpoint: the emulator
// of Azure Resource Manager, whose traffic the endpoint follows once it is in
// effect. Every write that reaches it is kept with its raw body.
type armControl struct {
	server   *armtest.Server
	endpoint *endpoint
	out      *os.File // of the writes
	kept     int      // writes that stand there
}

// armEndpoint is the endpoint's resource. It has properties that no version of
// Belay knows: a write that lost them would show in the file of the writes.
const armEndpoint = `{
	"location": "westeurope", "kind": "Managed", "identity": {"type": "SystemAssigned"},
	"tags": {"owner": "team-recommendations", "approvalContact": "recs-oncall", "dataClass": "internal"},
	"properties": {
		"authMode": "Key", "publicNetworkAccess": "Enabled", "description": "Recommendations <home & search>",
		"traffic": {%q: 100}, "mirrorTraffic": {}, "scoringUri": %q,
		"properties": {"enforce_access_to_default_secret_stores": "enabled"},
		"laterVersion": {"threshold": 0.30000000000000004, "rows": 9007199254740993}
	}
}`

// newARM returns the emulator with the demo's endpoint behind it.
func newARM(e *endpoint, scoringURI, token string, speed Speed, out *os.File) (*armControl, error) {
	s := &armtest.Server{Subscription: armSubscription, ResourceGroup: armResourceGroup, Workspace: armWorkspace,
		Token: token, Delay: speed.scale(armDelay), EchoesSucceeded: true}
	if err := s.SetEndpoint(Endpoint, fmt.Sprintf(armEndpoint, Stable, scoringURI)); err != nil {
		return nil, err
	}
	for name, version := range map[string]string{Stable: StableVersion, Candidate: CandidateVersion} {
		s.SetDeployment(Endpoint, name, "recommendations/versions/"+version, 1, maxInFlight)
	}
	return &armControl{server: s, endpoint: e, out: out}, nil
}

// run lets the endpoint follow the emulator, and keeps the writes, until ctx
// ends.
func (a *armControl) run(ctx context.Context) error {
	tick := time.NewTicker(armFollow)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := errors.Join(a.converge(), a.keep(false)); err != nil {
				return fmt.Errorf("follow the resource manager: %w", err)
			}
		case <-ctx.Done():
			return a.keep(true)
		}
	}
}

// converge gives the endpoint the traffic that is in effect.
func (a *armControl) converge() error {
	live, _ := a.server.Traffic(Endpoint)
	if maps.Equal(live, a.endpoint.read().weights) {
		return nil
	}
	_, err := a.endpoint.set(live, -1)
	return err
}

// zero is the operator who is not Belay: all traffic off, in effect at once.
func (a *armControl) zero() {
	a.server.Operate(Endpoint, map[string]int{Stable: 0, Candidate: 0}, nil)
}

// A Write is one PUT of the whole resource, as a line of the file of the writes.
type Write struct {
	At     time.Time `json:"at"`
	Status int       `json:"status"`
	// Changed are the places at which Body differs from Before, LeftOut those that
	// it does not have.
	Changed []string `json:"changed"`
	LeftOut []string `json:"leftOut"`
	// Before is the resource as GET showed it, Body what was sent.
	Before json.RawMessage `json:"before"`
	Body   json.RawMessage `json:"body"`
}

// newWrite compares a PUT with what it replaced.
func newWrite(p armtest.Put) (Write, error) {
	w := Write{At: p.At.UTC(), Status: p.Status, Before: p.Before, Body: p.Body, Changed: []string{},
		LeftOut: []string{}}
	var before, body map[string]any
	for _, x := range []struct {
		raw  []byte
		into *map[string]any
	}{{p.Before, &before}, {p.Body, &body}} {
		d := json.NewDecoder(strings.NewReader(string(x.raw)))
		d.UseNumber()
		if err := d.Decode(x.into); err != nil {
			return w, fmt.Errorf("read write: %w", err)
		}
	}
	w.compare(before, body, "")
	return w, nil
}

// compare collects the places below at where body is not what was before.
func (w *Write) compare(before, body map[string]any, at string) {
	names := slices.Collect(maps.Keys(before))
	for name := range body {
		if _, ok := before[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		was, there := before[name]
		is, sent := body[name]
		below, ok1 := was.(map[string]any)
		inside, ok2 := is.(map[string]any)
		switch {
		case there && !sent:
			w.LeftOut = append(w.LeftOut, at+name)
		case ok1 && ok2 && name != "traffic" && name != "mirrorTraffic":
			w.compare(below, inside, at+name+".")
		case !reflect.DeepEqual(was, is):
			w.Changed = append(w.Changed, at+name)
		}
	}
}

// keep writes down the writes that were answered since, or all when last is
// set.
func (a *armControl) keep(last bool) error {
	puts := a.server.Puts()
	for ; a.kept < len(puts) && (last || puts[a.kept].Status != 0); a.kept++ {
		w, err := newWrite(puts[a.kept])
		if err != nil {
			return err
		}
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false) // the bodies stay as they were sent
		if err := enc.Encode(w); err != nil {
			return fmt.Errorf("keep write: %w", err)
		}
	}
	return nil
}

// summary says of all writes together what they changed and left out.
func (a *armControl) summary() (string, error) {
	changed, left := map[string]bool{}, map[string]bool{}
	puts := a.server.Puts()
	for _, p := range puts {
		w, err := newWrite(p)
		if err != nil {
			return "", err
		}
		for _, at := range w.Changed {
			changed[at] = true
		}
		for _, at := range w.LeftOut {
			left[at] = true
		}
	}
	if len(puts) == 0 {
		return "no writes", nil
	}
	list := func(m map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }
	return fmt.Sprintf("%d writes of the whole resource; changed: %s; left out, as the service alone writes it: %s",
		len(puts), list(changed), list(left)), nil
}

// scoring serves the endpoint to clients alone: with Azure in front of it the
// weights are the resource manager's.
func (c *contract) scoring() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/score", func(w http.ResponseWriter, r *http.Request) {
		if name := r.Header.Get(azureml.ProbeHeader); name != "" {
			c.endpoint.direct(name, w, r)
			return
		}
		c.endpoint.ServeHTTP(w, r)
	})
	return mux
}
