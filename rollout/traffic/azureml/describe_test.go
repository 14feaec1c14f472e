package azureml_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/rollout/traffic"
)

// What checks and plans need of an endpoint, over several pages.
func TestDescribe(t *testing.T) {
	w := open(t)
	w.arm.SetState("recs", "green", "Updating")
	w.arm.Operate("recs", map[string]int{"blue": 100}, map[string]int{"green": 10})
	d, err := w.router.Describe(t.Context(), "recs")
	if err != nil {
		t.Fatal(err)
	}
	command := d.ManualRollback("blue")
	const want = `az ml online-endpoint update --name recs --traffic "blue=100 green=0 red=0" --mirror-traffic "green=0"` +
		` --subscription s-1 --resource-group rg-1 --workspace-name ws-1`
	if command != want {
		t.Errorf("ManualRollback: got %s, want %s", command, want)
	}
	for _, name := range []string{"x; rm -rf /", "", "$(x)"} {
		if got := d.ManualRollback(name); got != "" {
			t.Errorf("ManualRollback(%q): got %q, want nothing", name, got)
		}
	}
	d.ManualRollback = nil
	ready := traffic.Deployment{Ready: true, Instances: 3, Concurrency: 8, Version: "ranker:17"}
	updating := ready
	updating.Ready, updating.Reason = false, "provisioning state Updating"
	wantD := traffic.Description{
		Deployments: map[string]traffic.Deployment{"blue": ready, "green": updating, "red": ready},
		Tags:        map[string]string{"owner": "team-recommendations", "approvalContact": "recs-release"},
		ScoringURI:  "https://recs.westeurope.inference.ml.azure.com/score",
		AuthMode:    "key", PublicNetwork: true, CanMirror: true,
	}
	if diff := cmp.Diff(wantD, d); diff != "" {
		t.Errorf("Describe (-want +got):\n%s", diff)
	}
}

// Facts that a resource lacks are named, and odd ones do not stand in the way
// of the traffic.
func TestDescribeUnknown(t *testing.T) {
	w := open(t)
	w.arm.Edit("recs", func(r map[string]any) {
		r["tags"] = map[string]any{"owner": 7}
		props := r["properties"].(map[string]any)
		props["authMode"] = []any{}
		delete(props, "publicNetworkAccess")
		delete(props, "scoringUri")
		props["compute"] = "/computes/k8s"
	})
	d, err := w.router.Describe(t.Context(), "recs")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"authMode", "publicNetwork", "scoringURI", "tags"}; !slices.Equal(d.Unknown, want) || d.CanMirror {
		t.Errorf("Describe: got untold %q, can mirror %v, want %q, false", d.Unknown, d.CanMirror, want)
	}
	w.arm.Edit("recs", func(r map[string]any) { r["properties"].(map[string]any)["authMode"] = "Key" })
	w.shift(t, weights(100, 0), weights(95, 5))
}

// Lists are read over all pages; a page elsewhere is not asked for, since the
// request would carry our credential.
func TestEndpoints(t *testing.T) {
	w := open(t)
	for _, name := range []string{"fraud", "search", "zoom", "abc"} {
		if err := w.arm.SetEndpoint(name, `{}`); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for name, err := range w.router.Endpoints(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if want := []string{"abc", "fraud", "recs", "search", "zoom"}; !slices.Equal(names, want) {
		t.Errorf("Endpoints: got %q, want %q", names, want)
	}

	thief := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a request to another host carries %q", r.Header.Get("Authorization"))
	}))
	defer thief.Close()
	router, _ := raw(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"value":[{"name":"recs"}],"nextLink":"`+thief.URL+`/next"}`)
	})
	var last error
	for _, err := range router.Endpoints(t.Context()) {
		last = err
	}
	if !errors.Is(last, traffic.ErrPermanent) {
		t.Errorf("Endpoints that go on elsewhere: got %v, want ErrPermanent", last)
	}
}
