package daemon

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/azureml"
	"github.com/belayd/belay/rollout/traffic/azureml/armtest"
)

// One endpoint is shown with what its router tells and what it does not, and
// with Belay's own record; what no router shows is not there, and what cannot be
// read says why.
func TestCatalogShowsEndpoint(t *testing.T) {
	arm := &armtest.Server{Subscription: "s1", ResourceGroup: "g1", Workspace: "w1", Token: "tok-77aa21"}
	if err := arm.SetEndpoint("recs", `{"tags":{"owner":"team-recommendations"},"properties":{"traffic":{"blue":100}}}`); err != nil {
		t.Fatal(err)
	}
	arm.SetDeployment("recs", "blue", "ranker/versions/16", 4, 16)
	arm.SetDeployment("recs", "green", "", 2, 8)
	server := httptest.NewServer(arm)
	defer server.Close()
	open := func(token string) traffic.Router {
		r, err := azureml.New(azureml.Config{Subscription: "s1", ResourceGroup: "g1", Workspace: "w1",
			Credential: armtest.Credential(token), Options: armtest.Options(server.URL, server.Client())})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	c := &Catalog{
		now: func() *generation {
			return &generation{routers: map[string]traffic.Router{"azure": open(arm.Token), "locked": open("tok-wrong")}}
		},
		records: func(_ context.Context, ref rollout.EndpointRef) (claim.Record, error) {
			return claim.Record{Active: "r1", Cooldowns: map[string]time.Time{"6": time.Unix(1, 0)}}, nil
		},
	}
	e, ok := c.Endpoint(t.Context(), rollout.EndpointRef{Router: "azure", Name: "recs"})
	if !ok || e.Error != "" || e.Weights["blue"] != 100 || e.Active != "r1" || e.Facts == nil {
		t.Fatalf("azure/recs: got %+v, %v", e, ok)
	}
	if d := e.Facts.Deployments["blue"]; !d.Ready || d.Instances != 4 || d.Concurrency != 16 || d.Version != "ranker:16" {
		t.Errorf("blue: got %+v", d)
	}
	if !slices.Contains(e.Facts.Unknown, "deployments.green.version") {
		t.Errorf("untold: got %v, want green's version among them", e.Facts.Unknown)
	}
	if by := e.Facts.ManualRollback["blue"]; !strings.HasPrefix(by, `az ml online-endpoint update --name recs --traffic "blue=100 green=0"`) {
		t.Errorf("by hand: got %q", by)
	}
	for _, ref := range []rollout.EndpointRef{{Router: "azure", Name: "nobody"}, {Router: "nowhere", Name: "recs"}} {
		if e, ok := c.Endpoint(t.Context(), ref); ok {
			t.Errorf("%s/%s: got %+v, want none", ref.Router, ref.Name, e)
		}
	}
	e, ok = c.Endpoint(t.Context(), rollout.EndpointRef{Router: "locked", Name: "recs"})
	if !ok || e.Facts != nil || !strings.Contains(e.Error, "401") || strings.Contains(e.Error, "tok-") {
		t.Errorf("without the right to: got %+v, %v, want the reason, no facts and no token", e, ok)
	}
}
