package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/cmd/internal/daemon"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/azureml"
	"github.com/belayd/belay/rollout/traffic/azureml/armtest"
)

// armRouter is Belay's own router before the world's resource manager.
func armRouter(t *testing.T, w *World) *azureml.Router {
	t.Helper()
	token, err := os.ReadFile(w.ARMToken)
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + w.servers[len(w.servers)-1].listener.Addr().String()
	r, err := azureml.New(azureml.Config{Subscription: armSubscription, ResourceGroup: armResourceGroup, Workspace: armWorkspace,
		Credential: armtest.Credential(strings.TrimSpace(string(token))), Options: armtest.Options(base, &http.Client{})})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// shift moves the traffic and waits until it is read back.
func shift(t *testing.T, r *azureml.Router, from, to map[string]int) {
	t.Helper()
	if err := r.Shift(t.Context(), Endpoint, traffic.Split{Weights: from}, traffic.Split{Weights: to}); err != nil {
		t.Fatalf("Shift to %v: %v", to, err)
	}
	realtest.Eventually(t, "the split to be read back", func() bool {
		s, err := r.Split(t.Context(), Endpoint)
		return err == nil && maps.Equal(s.Weights, to)
	})
}

// With Azure in front the endpoint follows the resource manager, and only when
// a write has come into effect. Every write is kept as it was sent, and nothing
// but the traffic differs from what was read.
func TestARMMovesTheEndpoint(t *testing.T) {
	w := live(t, Options{Speed: 4, Fault: FaultNone, Router: RouterAzureML})
	r := armRouter(t, w)
	began := time.Now()
	shift(t, r, map[string]int{Stable: 100}, map[string]int{Stable: 95, Candidate: 5})
	if took, least := time.Since(began), Speed(4).scale(armDelay); took < least {
		t.Errorf("the write took effect after %v, want at least %v", took, least)
	}
	realtest.Eventually(t, "the endpoint to follow", func() bool { return maps.Equal(w.Weights(), map[string]int{Stable: 95, Candidate: 5}) })
	shift(t, r, map[string]int{Stable: 95, Candidate: 5}, map[string]int{Stable: 100})

	var writes []Write
	realtest.Eventually(t, "both writes to be kept", func() bool { writes = readWrites(t, w); return len(writes) == 2 })
	for i, x := range writes {
		if x.Status != http.StatusOK || !slices.Equal(x.Changed, []string{"properties.traffic"}) || slices.Contains(x.LeftOut, "properties.laterVersion") {
			t.Errorf("write %d: got status %d, changed %v, left out %v; want 200 and the traffic alone", i, x.Status, x.Changed, x.LeftOut)
		}
		if sent := w.arm.server.Puts()[i].Body; !bytes.Equal(x.Body, sent) {
			t.Errorf("write %d: kept %s, want it as it was sent: %s", i, x.Body, sent)
		}
		for _, kept := range []string{`"rows":9007199254740993`, `"threshold":0.30000000000000004`, `Recommendations \u003chome \u0026 search\u003e`, `"identity"`} {
			if !bytes.Contains(x.Body, []byte(kept)) {
				t.Errorf("write %d: lost %s: %s", i, kept, x.Body)
			}
		}
	}
	resp, err := http.Get(w.base() + "/endpoints/" + Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the webhook contract beside Azure: got %s, want 404: weights are the resource manager's", resp.Status)
	}
}

// readWrites reads the file of the writes.
func readWrites(t *testing.T, w *World) (out []Write) {
	t.Helper()
	b, err := os.ReadFile(w.Writes)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var x Write
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			t.Fatalf("line %d: %v", len(out)+1, err)
		}
		out = append(out, x)
	}
	return out
}

// A write that loses or changes more than traffic is named for it.
func TestWriteNamesDifferences(t *testing.T) {
	w, err := newWrite(armtest.Put{Status: 200,
		Before: []byte(`{"id":"x","location":"a","properties":{"traffic":{"blue":100},"n":9007199254740993,"deep":{"a":1,"b":2},"keys":null}}`),
		Body:   []byte(`{"location":"b","properties":{"traffic":{"blue":0,"green":100},"n":9007199254740992,"deep":{"a":1},"new":true}}`)})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := w.Changed, []string{"location", "properties.n", "properties.new", "properties.traffic"}; !slices.Equal(got, want) {
		t.Errorf("changed: got %v, want %v", got, want)
	}
	if got, want := w.LeftOut, []string{"id", "properties.deep.b", "properties.keys"}; !slices.Equal(got, want) {
		t.Errorf("left out: got %v, want %v", got, want)
	}
}

// The operator zeroes the traffic from outside, shortly after the candidate's
// 25%, and the endpoint turns requests away.
func TestARMForeignChange(t *testing.T) {
	w := live(t, Options{Speed: 4, Fault: FaultForeignChange, Router: RouterAzureML})
	r := armRouter(t, w)
	// It is not read back: the operator may be quicker.
	if err := r.Shift(t.Context(), Endpoint, traffic.Split{Weights: map[string]int{Stable: 100}}, traffic.Split{Weights: map[string]int{Stable: 75, Candidate: 25}}); err != nil {
		t.Fatal(err)
	}
	realtest.Eventually(t, "traffic off", func() bool { return len(w.Weights()) == 0 })
	realtest.Eventually(t, "refused requests", func() bool { return facts(t, w, time.Time{}, time.Now()).Bad > 20 })
	if s, err := r.Split(t.Context(), Endpoint); err != nil || len(s.Weights) != 0 {
		t.Errorf("the resource manager: got %v, %v, want no traffic", s, err)
	}
	if n := len(w.arm.server.Puts()); n != 1 {
		t.Errorf("writes: got %d, want 1: the operator's is no write of Belay's", n)
	}
}

// A deployment answers sample requests before it has traffic, by Azure's header.
func TestARMProbe(t *testing.T) {
	w := live(t, Options{Speed: 4, Fault: FaultNone, Router: RouterAzureML})
	for name, want := range map[string]int{Candidate: http.StatusOK, "nobody": http.StatusNotFound} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.base()+"/score", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(azureml.ProbeHeader, name)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		// One request of two thousand fails in the healthy world.
		if resp.StatusCode != want && resp.StatusCode != http.StatusInternalServerError {
			t.Errorf("probe of %s: got %s, want %d", name, resp.Status, want)
		}
	}
}

// Whatever is chosen, belayd takes the config and the policy that the demo
// writes; only an approval that is asked for stands in it.
func TestFilesAreValid(t *testing.T) {
	for _, o := range []Options{{}, {Router: RouterWebhook}, {Router: RouterAzureML}, {Answers: io.NopCloser(strings.NewReader(""))}} {
		o.Dir, o.Speed, o.Fault = t.TempDir(), 3, FaultNone
		w, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		report, ok := daemon.CheckConfig(w.Config)
		if !ok || !strings.HasSuffix(report, w.Config+": ok: 1 policies, 1 sources, 1 routers, 1 notifiers, 1 triggers") {
			t.Errorf("router %q, ask %v: got %s", o.Router, o.Answers != nil, report)
		}
		policy, err := os.ReadFile(w.Policy)
		if err != nil {
			t.Fatal(err)
		}
		if asks := strings.Contains(string(policy), "approvals:"); asks != (o.Answers != nil) {
			t.Errorf("ask %v: got an approval in the policy: %v", o.Answers != nil, asks)
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}
