package azuremonitor

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

const (
	subscription = "01234567-89ab-cdef-0123-456789abcdef"
	token        = "s3cr3t-t0ken"
)

// credential gives a token without asking anybody.
type credential struct{}

// GetToken implements azcore.TokenCredential.
func (credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 || o.Scopes[0] != "https://metrics.monitor.azure.com/.default" {
		return azcore.AccessToken{}, fmt.Errorf("scopes %q", o.Scopes)
	}
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// An emulator is the batch API as documented: at most 50 resources, one figure
// a minute that appears two minutes late, null where nothing happened, ids and
// dimensions in a case of its own.
type emulator struct{ w *analysistest.World }

func (s emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	q := r.URL.Query()
	var ask struct{ ResourceIDs []string }
	err := json.NewDecoder(r.Body).Decode(&ask)
	from, err1 := time.Parse(time.RFC3339, q.Get("starttime"))
	to, err2 := time.Parse(time.RFC3339, q.Get("endtime"))
	switch {
	case r.Header.Get("Authorization") != "Bearer "+token:
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.URL.Path != "/subscriptions/"+subscription+"/metrics:getBatch", err != nil, err1 != nil, err2 != nil, len(ask.ResourceIDs) > 50,
		q.Get("aggregation") != "Average", q.Get("interval") != "PT1M", q.Get("top") != "1000", q.Get("api-version") != "2024-02-01", q.Get("metricnamespace") != namespace && q.Get("metricnamespace") != ofDeployments:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":{"code":"BadRequest"}}`))
		return
	}
	values := []any{}
	for _, id := range ask.ResourceIDs {
		values = append(values, map[string]any{
			"starttime": q.Get("starttime"), "endtime": q.Get("endtime"), "interval": "PT1M", "namespace": namespace,
			"resourceid": strings.ToLower(id),
			"value": []any{map[string]any{
				"name": map[string]any{"value": q.Get("metricnames")}, "unit": "Count", "errorCode": "Success",
				"timeseries": s.timeseries(path.Base(id), q.Get("metricnames"), strings.Contains(q.Get("filter"), "statusCode"), from, to),
			}},
		})
	}
	if err := json.NewEncoder(w).Encode(map[string]any{"values": values}); err != nil {
		_, _ = w.Write([]byte(`{"values":[],`)) // a number that JSON cannot write
	}
}

func (s emulator) timeseries(endpoint, metric string, byCode bool, from, to time.Time) []any {
	type key struct{ deployment, code string }
	sums := map[key]map[time.Time]float64{}
	add := func(e analysistest.Event, code string, n float64) {
		k := key{e.Deployment, code}
		if !byCode {
			k.code = ""
		}
		if sums[k] == nil {
			sums[k] = map[time.Time]float64{}
		}
		sums[k][e.At.Truncate(time.Minute)] += n
	}
	for _, e := range s.w.Events() {
		if e.Endpoint != endpoint || time.Since(e.At) < 2*time.Minute {
			continue
		}
		if metric == "RequestLatency_P95" {
			add(e, "", 0)
			continue
		}
		add(e, "200", e.Counts.OK)
		add(e, "503", e.Counts.Bad)
	}
	out := []any{}
	for k, minutes := range sums {
		meta := []any{map[string]any{"name": map[string]any{"value": "deployment"}, "value": k.deployment}}
		if byCode {
			meta = append(meta, map[string]any{"name": map[string]any{"value": "statuscode"}, "value": k.code})
		}
		data := []any{}
		for t := from; t.Before(to); t = t.Add(time.Minute) {
			d := map[string]any{"timeStamp": t.Format(time.RFC3339)}
			if v, ok := minutes[t]; ok {
				d["average"] = v
				if math.IsNaN(v) || math.IsInf(v, 0) {
					d["average"] = fmt.Sprint(v)
				}
			}
			data = append(data, d)
		}
		out = append(out, map[string]any{"metadatavalues": meta, "data": data})
	}
	return out
}

func metrics() map[analysis.Kind]analysis.Metric {
	return map[analysis.Kind]analysis.Metric{
		analysis.KindCounts: {Name: "failures", Counts: &analysis.Counts{
			Total: "RequestsPerMinute", Bad: `RequestsPerMinute{statusCode=~"5..|408|424"}`, Deployment: "deployment",
		}},
		analysis.KindValue: {Name: "slow", Value: &analysis.Value{Query: `RequestLatency_P95{deployment="${deployment}"}`}},
	}
}

func config(client *http.Client) Config {
	return Config{
		Region: "westeurope", Subscription: subscription, ResourceGroup: "ml-prod", Workspace: "recommendations",
		Credential: credential{}, Client: client,
	}
}

// The contract, as far as one figure a minute can keep it.
func TestExercise(t *testing.T) {
	analysistest.Exercise(t, func(t *testing.T, w *analysistest.World) analysistest.Harness {
		tr := &analysistest.Transport{Handler: emulator{w}}
		s, err := New(config(&http.Client{Transport: tr}))
		if err != nil {
			t.Fatal(err)
		}
		return analysistest.Harness{
			Source: s, Transport: tr, Metrics: metrics(), Secrets: []string{token}, Lag: 4 * time.Minute, NoGaps: true, Idle: true,
			Refused: analysis.Metric{Name: "refused", Histogram: &analysis.Histogram{Series: "RequestLatency", Unit: "ms", Deployment: "deployment"}},
		}
	})
}
