package config

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/azuremonitor"
	"github.com/belayd/belay/analysis/httpjson"
	"github.com/belayd/belay/analysis/loganalytics"
	"github.com/belayd/belay/analysis/prometheus"
	"github.com/belayd/belay/analysis/scrape"
	"github.com/belayd/belay/policies"
)

// A nobody is a service that understands every question and knows of nothing; it
// remembers what it was asked.
type nobody struct {
	answer string
	mu     sync.Mutex
	asked  []string
}

func (n *nobody) RoundTrip(r *http.Request) (*http.Response, error) {
	body := []byte{}
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	n.asked = append(n.asked, r.URL.String()+"\n"+string(body))
	n.mu.Unlock()
	kind := "application/json"
	if n.answer == "" {
		kind = "text/plain; version=0.0.4"
	}
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {kind}, "Date": {time.Now().UTC().Format(http.TimeFormat)}}, Body: io.NopCloser(strings.NewReader(n.answer))}, nil
}

type anyone struct{}

func (anyone) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// emptySources are the adapters that ready-made metrics are for, each before a
// service that knows of nothing.
func emptySources(t *testing.T) map[string]func() (analysis.Source, *nobody) {
	t.Helper()
	const id = "11111111-2222-3333-4444-555555555555"
	made := func(s analysis.Source, err error, n *nobody) (analysis.Source, *nobody) {
		if err != nil {
			t.Fatal(err)
		}
		return s, n
	}
	return map[string]func() (analysis.Source, *nobody){
		"prometheus": func() (analysis.Source, *nobody) {
			n := &nobody{answer: `{"status":"success","data":{"resultType":"matrix","result":[]}}`}
			s, err := prometheus.New(prometheus.Config{URL: "http://prometheus.example", Client: &http.Client{Transport: n}, ScrapeInterval: 15 * time.Second})
			return made(s, err, n)
		},
		"scrape": func() (analysis.Source, *nobody) {
			n := &nobody{}
			s, err := scrape.New(scrape.Config{Client: &http.Client{Transport: n}, Targets: map[string]map[string][]string{
				"recs": {"blue": {"http://blue.example/metrics"}, "green": {"http://green.example/metrics"}}}})
			return made(s, err, n)
		},
		"loganalytics": func() (analysis.Source, *nobody) {
			n := &nobody{answer: `{"tables":[]}`}
			s, err := loganalytics.New(loganalytics.Config{Workspace: id, Credential: anyone{}, Client: &http.Client{Transport: n}})
			return made(s, err, n)
		},
		"httpjson": func() (analysis.Source, *nobody) {
			n := &nobody{answer: `{}`}
			s, err := httpjson.New(httpjson.Config{URL: "https://vendor.example/?q=${query}", Query: "q", Client: &http.Client{Transport: n}})
			return made(s, err, n)
		},
		"azuremonitor": func() (analysis.Source, *nobody) {
			n := &nobody{answer: `{"values":[]}`}
			s, err := azuremonitor.New(azuremonitor.Config{Region: "westeurope", Subscription: id, ResourceGroup: "g", Workspace: "w", Credential: anyone{}, Client: &http.Client{Transport: n}})
			return made(s, err, n)
		},
	}
}

// understood reads one metric before a service that knows of nothing; the error
// says why the adapter did not even ask.
func understood(ctx context.Context, source analysis.Source, n *nobody, m analysis.Metric) error {
	to := time.Now().Truncate(time.Second)
	q := analysis.Query{Metric: m, Names: analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}, From: to.Add(-15 * time.Minute), To: to}
	rs, err := source.Read(ctx, []analysis.Query{q})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.asked) == 0 {
		return fmt.Errorf("the adapter asked nothing: %s", rs[0].Reason)
	}
	if asked := strings.Join(n.asked, "\n"); strings.Contains(asked, "${") || strings.Contains(asked, "%24%7B") {
		return fmt.Errorf("a substitution is left over: %s", asked)
	}
	return nil
}

// Every ready-made metric is understood by every adapter that it says it is for:
// the adapter refuses what it does not understand before it asks anybody.
func TestBuiltinsAreUnderstood(t *testing.T) {
	empty := emptySources(t)
	tried := 0
	for _, ref := range policies.Builtins() {
		b, ok := policies.FindBuiltin(ref)
		if !ok {
			t.Fatalf("%s: it is listed and not there", ref)
		}
		for _, kind := range b.Sources {
			open, ok := empty[kind]
			if !ok {
				t.Errorf("%s: it is for %s, which this test knows nothing of", ref, kind)
				continue
			}
			source, n := open()
			if err := understood(t.Context(), source, n, b.Definition(ref, kind)); err != nil {
				t.Errorf("%s on %s: %v", ref, kind, err)
			}
			tried++
		}
	}
	if tried < 20 {
		t.Errorf("got %d definitions tried, want all", tried)
	}
	// What an adapter does not understand is found by the same means.
	for kind, bad := range map[string]string{
		"prometheus": `rate(http_requests_total{endpoint="${endpoint}"}[5m])`, "scrape": `sum(http_requests_total)`,
		"loganalytics": `AppRequests | where Name == "${nonsense}"`, "azuremonitor": `RequestsPerMinute{deployment="blue"`,
	} {
		source, n := empty[kind]()
		m := analysis.Metric{Name: "bad", Source: kind, Counts: &analysis.Counts{Total: bad, Bad: bad, Deployment: "deployment"}}
		if err := understood(t.Context(), source, n, m); err == nil {
			t.Errorf("%s understood %q", kind, bad)
		}
	}
	// Each kind that a ready-made metric names is one that the daemon has.
	for kind := range empty {
		if !slices.ContainsFunc(sources, func(a adapter[SourceConfig, Source]) bool { return a.kind == kind }) {
			t.Errorf("%s: the daemon has no such source", kind)
		}
	}
}
