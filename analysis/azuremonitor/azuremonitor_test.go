package azuremonitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
)

// serve stands a batch API before a source, over TLS.
func serve(t *testing.T, h http.HandlerFunc) *Source {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	cfg := config(srv.Client())
	cfg.Endpoint = srv.URL
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// to is the end of all questions.
var to = time.Now().Truncate(time.Minute)

func query(m analysis.Metric, endpoint string) analysis.Query {
	return analysis.Query{
		Metric: m, From: to.Add(-10 * time.Minute), To: to,
		Names: analysis.Names{Endpoint: endpoint, Stable: "blue", Candidate: "green"},
	}
}

// 120 endpoints are three requests of at most 50 for each of the two forms of the metric.
func TestReadBatches(t *testing.T) {
	var sizes []int
	filters := map[string]int{}
	requests := make(chan struct{}, 1)
	requests <- struct{}{}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		<-requests
		defer func() { requests <- struct{}{} }()
		var ask struct{ ResourceIDs []string }
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			t.Error(err)
		}
		sizes = append(sizes, len(ask.ResourceIDs))
		filters[r.URL.Query().Get("filter")]++
		var values []string
		for _, id := range ask.ResourceIDs {
			values = append(values, fmt.Sprintf(`{"resourceid":%q,"value":[{"name":{"value":"RequestsPerMinute"},"errorCode":"Success","timeseries":[]}]}`, strings.ToUpper(id)))
		}
		_, _ = fmt.Fprintf(w, `{"values":[%s]}`, strings.Join(values, ","))
	})
	var qs []analysis.Query
	for i := range 120 {
		q := query(metrics()[analysis.KindCounts], fmt.Sprintf("ep-%d", i))
		qs = append(qs, q, q)
	}
	rs, err := s.Read(t.Context(), qs)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		if r.Status != analysis.StatusOK || r.Stable.Fresh || r.Reason == "" {
			t.Fatalf("no series: got %+v, want ok, nothing fresh and a reason", r)
		}
	}
	slices.Sort(sizes)
	if d := cmp.Diff([]int{20, 20, 50, 50, 50, 50}, sizes); d != "" {
		t.Errorf("sizes of requests (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[string]int{"deployment eq '*'": 3, "deployment eq '*' and statusCode eq '*'": 3}, filters); d != "" {
		t.Errorf("filters (-want +got):\n%s", d)
	}
}

// What the service answers besides figures.
func TestReadAnswers(t *testing.T) {
	id := "/subscriptions/" + subscription + "/resourceGroups/ml-prod/providers/Microsoft.MachineLearningServices/workspaces/recommendations/onlineEndpoints/recs"
	at := func(i int) string {
		return to.Add(time.Duration(i-10) * time.Minute).UTC().Format(time.RFC3339)
	}
	answer := func(series string) string {
		return fmt.Sprintf(`{"values":[{"resourceid":%q,"value":[{"name":{"value":"RequestLatency_P95"},"errorCode":"Success","timeseries":[%s]}]}]}`, id, series)
	}
	one := func(deployment, data string) string {
		return fmt.Sprintf(`{"metadatavalues":[{"name":{"value":"deployment"},"value":%q}],"data":[%s]}`, deployment, data)
	}
	point := func(i int, v string) string { return fmt.Sprintf(`{"timeStamp":%q,"average":%s}`, at(i), v) }
	null := fmt.Sprintf(`{"timeStamp":%q}`, at(2))
	for name, c := range map[string]struct {
		status int
		retry  string
		text   string
		want   string
	}{
		"a mean of minutes": {200, "", answer(one("blue", point(0, "100")+","+point(1, "300")+","+null+","+point(9, "9999")) + "," + one("green", point(0, "250"))), ""},
		"null is not zero":  {200, "", answer(one("blue", null) + "," + one("green", point(0, "250"))), "no figure of RequestLatency_P95 for blue"},
		"two series":        {200, "", answer(one("blue", point(0, "1")) + "," + one("blue", point(0, "2"))), "2 series"},
		"cut off":           {200, "", answer(strings.TrimSuffix(strings.Repeat(one("blue", "")+",", top), ",")), "cut off"},
		"no such metric":    {200, "", strings.Replace(answer(""), "Success", "InvalidMetric", 1), "gave no figures"},
		"another resource":  {200, "", strings.Replace(answer(""), "/recs", "/other", 1), "says nothing about recs"},
		"no rights":         {403, "", `{"error":{"code":"AuthorizationFailed","message":"` + token + `"}}`, "(AuthorizationFailed): does belayd's identity"},
		"throttled":         {429, "120", `{}`, "429"},
		"negative":          {200, "", answer(one("blue", point(0, "-1"))), "-1"},
		"no JSON":           {200, "", `<html>`, "did not answer the JSON"},
		"a figure twice":    {200, "", answer(one("blue", point(0, `100,"average":1`)) + "," + one("green", point(0, "250"))), "a field twice"},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if c.retry != "" {
				w.Header().Set("Retry-After", c.retry)
			}
			w.WriteHeader(c.status)
			_, _ = fmt.Fprint(w, c.text)
		})
		rs, err := s.Read(t.Context(), []analysis.Query{query(metrics()[analysis.KindValue], "recs")})
		if err != nil {
			t.Fatal(err)
		}
		r := rs[0]
		if !strings.Contains(r.Reason, c.want) || (c.want == "") != (r.Reason == "") || strings.Contains(r.Reason, token) {
			t.Errorf("%s: got %s (%s), want %q", name, r.Status, r.Reason, c.want)
		}
		if want := c.status == http.StatusForbidden; r.Permanent != want {
			t.Errorf("%s: permanent is %t, want %t", name, r.Permanent, want)
		}
		if c.want == "" && (r.Stable.Value != 200 || r.Candidate.Value != 250) {
			t.Errorf("%s: got %v and %v, want 200 and 250", name, r.Stable.Value, r.Candidate.Value)
		}
	}
}

// What one figure a minute cannot tell is refused with the way out.
func TestQuestionsRefused(t *testing.T) {
	for want, q := range map[string]analysis.Query{
		"no mean: use Log Analytics":    query(analysis.Metric{Name: "m", Mean: &analysis.Mean{}}, "recs"),
		"not the name of an online end": query(metrics()[analysis.KindCounts], "../other"),
		"deployment is missing":         query(analysis.Metric{Name: "m", Value: &analysis.Value{Query: "RequestLatency_P95"}}, "recs"),
		"parse selector":                query(analysis.Metric{Name: "m", Value: &analysis.Value{Query: "rate(x[5m])"}}, "recs"),
		"only be the query of a value":  query(analysis.Metric{Name: "m", Counts: &analysis.Counts{Total: "CpuUtilizationPercentage", Bad: "x"}}, "recs"),
	} {
		x := newQuestion(q)
		if want == "deployment is missing" {
			want = "is missing"
		}
		if !errors.Is(x.err, analysis.ErrPermanent) || !strings.Contains(x.err.Error(), want) {
			t.Errorf("got %v, want %q", x.err, want)
		}
	}
}

// What cannot be asked is refused at the start.
func TestNewRefuses(t *testing.T) {
	if _, err := New(config(http.DefaultClient)); err != nil {
		t.Fatalf("New: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"region":        func(c *Config) { c.Region = "west.example" },
		"subscription":  func(c *Config) { c.Subscription = "x" },
		"resourceGroup": func(c *Config) { c.ResourceGroup = "a/b" },
		"workspace":     func(c *Config) { c.Workspace = "" },
		"credential":    func(c *Config) { c.Credential = nil },
		"HTTP client":   func(c *Config) { c.Client = nil },
		"endpoint":      func(c *Config) { c.Endpoint = "http://x" },
	} {
		c := config(http.DefaultClient)
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New without a good %s: got %v", want, err)
		}
	}
}

// Deployments have metrics of their own: both are one request, and several instances
// become one number by the word that stands around them.
func TestReadDeployments(t *testing.T) {
	at := to.Add(-5 * time.Minute).UTC().Format(time.RFC3339)
	one := func(instance string, v int) string {
		return fmt.Sprintf(`{"metadatavalues":[{"name":{"value":"instanceid"},"value":%q}],"data":[{"timeStamp":%q,"average":%d}]}`, instance, at, v)
	}
	asked := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		var ask struct{ ResourceIDs []string }
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || r.URL.Query().Get("metricnamespace") != ofDeployments {
			t.Errorf("got %v, namespace %s, want the deployments'", err, r.URL.Query().Get("metricnamespace"))
		}
		var values []string
		for _, id := range ask.ResourceIDs {
			series := one("a", 40) + "," + one("b", 60)
			if strings.HasSuffix(id, "/onlineEndpoints/recs/deployments/green") {
				series = one("c", 90)
			}
			values = append(values, fmt.Sprintf(`{"resourceid":%q,"value":[{"name":{"value":"CpuUtilizationPercentage"},"timeseries":[%s]}]}`, strings.ToLower(id), series))
		}
		_, _ = fmt.Fprintf(w, `{"values":[%s]}`, strings.Join(values, ","))
	})
	for text, want := range map[string]string{
		`max(CpuUtilizationPercentage{instanceId=~".+"})`: "60 90",
		`avg(CpuUtilizationPercentage{instanceId=~".+"})`: "50 90",
		`sum(CpuUtilizationPercentage{instanceId=~".+"})`: "100 90",
		`CpuUtilizationPercentage{instanceId=~".+"}`:      "2 series",
	} {
		asked = 0
		rs, err := s.Read(t.Context(), []analysis.Query{query(analysis.Metric{Name: "cpu", Value: &analysis.Value{Query: text}}, "recs")})
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(rs[0].Stable.Value, " ", rs[0].Candidate.Value, rs[0].Reason)
		if !strings.Contains(got, want) || asked != 1 {
			t.Errorf("%s: got %s by %d requests, want %s by one", text, got, asked, want)
		}
	}
}
