package loganalytics

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

var names = analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}

// Failures of two endpoints and two limits on their latency are one query: this
// one.
func TestReadIsOneQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := analysistest.NewWorld()
		s, e, _ := newEmulated(t, w)
		for range 80 {
			w.Step(analysistest.Interval)
		}
		var qs []analysis.Query
		latency := metrics()[analysis.KindHistogram]
		for _, endpoint := range []string{"recs", `fr"aud`} {
			n := names
			n.Endpoint = endpoint
			for _, cut := range []float64{0.45, 0.25} {
				qs = append(qs,
					analysis.Query{Metric: metrics()[analysis.KindCounts], Names: n, From: w.Start, To: time.Now()},
					analysis.Query{Metric: latency, Names: n, From: w.Start, To: time.Now(), Cuts: []float64{cut}})
			}
		}
		rs, err := s.Read(t.Context(), qs)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{`declare query_parameters(belay_from:datetime = datetime(2000-01-01T00:00:00.0000000Z), belay_to:datetime = datetime(2000-01-01T00:10:00.0000000Z), belay_begin:datetime = datetime(2000-01-01T00:00:00.0000000Z), belay_endpoints:string = "[\"fr\\\"aud\",\"recs\"]");
AmlOnlineEndpointTrafficLog
| where EndpointName in~ (todynamic(belay_endpoints))
| where TimeGenerated > belay_begin and TimeGenerated <= belay_to
| summarize c0 = countif(TimeGenerated > belay_from),
    c1 = countif(TimeGenerated > belay_from and (ResponseCode >= 500 or ResponseCode in (408, 424))),
    c2 = countif(TimeGenerated > belay_from and todouble(TotalDurationMs) <= 450),
    c3 = countif(TimeGenerated > belay_from and isnull(todouble(TotalDurationMs))),
    c4 = countif(TimeGenerated > belay_from and todouble(TotalDurationMs) <= 250)
  by belay_deployment = tostring(DeploymentName), belay_endpoint = tostring(EndpointName)`}
		if d := cmp.Diff(want, e.texts); d != "" {
			t.Errorf("queries (-want +got):\n%s", d)
		}
		truth := w.Truth("recs", "green", rs[1].From, rs[1].To)
		fast := truth.Slow[0] + truth.Slow[1] + truth.Slow[2]
		if d := cmp.Diff([]analysis.Bucket{{Upper: 0.45, Count: fast}}, rs[1].Candidate.Buckets); d != "" || rs[1].Candidate.N != truth.Total() {
			t.Errorf("p95 of recs: got n=%v, want %v; buckets (-want +got):\n%s", rs[1].Candidate.N, truth.Total(), d)
		}
		if rs[4].Status != analysis.StatusOK || rs[4].Stable.Fresh {
			t.Errorf("an endpoint that is not there: got %+v, want ok and nothing fresh", rs[4])
		}
	})
}

// What Azure answers over TLS: throttling that passes, throttling that lasts,
// partial results, no rights, numbers that are none, tables of another shape.
func TestReadAnswers(t *testing.T) {
	const table = `{"tables":[{"name":"PrimaryResult","columns":[{"name":"belay_deployment"},{"name":"belay_endpoint"},{"name":"c0"},{"name":"c1"}],"rows":[%s]}]}`
	good := fmt.Sprintf(table, `["blue","recs",9,1],["Green","Recs","8",2]`)
	type reply struct {
		status int
		retry  string
		text   string
	}
	for name, c := range map[string]struct {
		replies []reply
		want    string
	}{
		"good":              {[]reply{{200, "", good}}, ""},
		"429, then good":    {[]reply{{429, "1", `{"error":{"code":"ThrottledError"}}`}, {200, "", good}}, ""},
		"429 for long":      {[]reply{{429, "300", `{"error":{"code":"ThrottledError","message":"` + token + `"}}`}}, "429 Too Many Requests (ThrottledError)"},
		"partial":           {[]reply{{200, "", strings.TrimSuffix(good, "}") + `,"error":{"code":"PartialError","message":"` + token + `"}}`}}, "partial: PartialError"},
		"a redirect":        {[]reply{{302, "", "https://login.example/sign-in?x=" + token}}, "302 Found to https://login.example/sign-in, and redirects are not followed"},
		"no rights":         {[]reply{{403, "", `{"error":{"code":"InsufficientAccessError","message":"` + token + `"}}`}}, "(InsufficientAccessError): does belayd's identity"},
		"bad query":         {[]reply{{400, "", `{"error":{"code":"BadArgumentError","innererror":{"code":"SemanticError"}}}`}}, "(SemanticError)"},
		"NaN":               {[]reply{{200, "", fmt.Sprintf(table, `["blue","recs","NaN",1]`)}}, `"NaN"`},
		"null":              {[]reply{{200, "", fmt.Sprintf(table, `["blue","recs",null,1]`)}}, "nothing where a number"},
		"negative":          {[]reply{{200, "", fmt.Sprintf(table, `["blue","recs",-9,1]`)}}, "negative"},
		"short row":         {[]reply{{200, "", fmt.Sprintf(table, `["blue","recs"]`)}}, "not as long as its columns"},
		"no such column":    {[]reply{{200, "", strings.ReplaceAll(good, `"c1"`, `"c9"`)}}, "no column c1"},
		"no table":          {[]reply{{200, "", `{"tables":[]}`}}, "no table"},
		"nothing at all":    {[]reply{{200, "", ``}}, "did not answer the JSON"},
		"tables twice":      {[]reply{{200, "", strings.TrimSuffix(good, "}") + `,"Tables":[]}`}}, "a field twice"},
		"an answer and one": {[]reply{{200, "", good + good}}, "goes on"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+token || r.Header.Get("Prefer") != "wait=60" {
					t.Errorf("got the headers %v, want a token and a wait", r.Header)
				}
				var in map[string]string
				if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in["timespan"] == "" {
					t.Errorf("got the body %v, %v, want a query and a timespan", in, err)
				}
				x := c.replies[min(asked, len(c.replies)-1)]
				asked++
				w.Header().Set("Content-Type", "application/json")
				if x.retry != "" {
					w.Header().Set("Retry-After", x.retry)
				}
				if x.status == http.StatusFound {
					w.Header().Set("Location", x.text)
				}
				w.WriteHeader(x.status)
				_, _ = fmt.Fprint(w, x.text)
			}))
			defer srv.Close()
			s, err := New(Config{Workspace: workspace, Credential: credential{}, Client: srv.Client(), Endpoint: srv.URL})
			if err != nil {
				t.Fatal(err)
			}
			q := analysis.Query{Metric: metrics()[analysis.KindCounts], Names: names, From: time.Now().Add(-time.Hour), To: time.Now()}
			read := func() analysis.Reading {
				rs, err := s.Read(t.Context(), []analysis.Query{q})
				if err != nil {
					t.Fatal(err)
				}
				return rs[0]
			}
			r := read()
			if strings.Contains(r.Reason, token) {
				t.Errorf("the token stands in %q", r.Reason)
			}
			if !strings.Contains(r.Reason, c.want) || (c.want == "") != (r.Reason == "") {
				t.Fatalf("got %s (%s), want %q", r.Status, r.Reason, c.want)
			}
			if want := name == "no rights" || name == "bad query"; r.Permanent != want {
				t.Errorf("permanent is %t, want %t", r.Permanent, want)
			}
			if c.want == "" {
				if d := cmp.Diff([]analysis.Sample{{Fresh: true, N: 9, K: 1}, {Fresh: true, N: 8, K: 2}}, []analysis.Sample{r.Stable, r.Candidate}); d != "" {
					t.Errorf("samples (-want +got):\n%s", d)
				}
			}
			if name == "429 for long" {
				if r := read(); !strings.Contains(r.Reason, "no questions for another 5m0s") || asked != 1 {
					t.Errorf("asked again: got %q after %d requests, want to be kept back after 1", r.Reason, asked)
				}
			}
		})
	}
}

// A condition on the endpoint is merged only where it stands alone.
func TestTabular(t *testing.T) {
	for text, column := range map[string]string{
		`T | where E == "${endpoint}"`:                                        "E",
		`T | where A == 1 | where tolower(E) =~ "${endpoint}" | extend x = 1`: "tolower(E)",
		`T | where A == 1 and E == "${endpoint}"`:                             "",
		`T | where E == "${endpoint}" or A == 1`:                              "",
		`T | where E has "${endpoint}"`:                                       "",
		`T`:                                                                   "",
	} {
		x := newQuestion(analysis.Query{Names: names, Metric: analysis.Metric{Name: "m", Counts: &analysis.Counts{Total: text, Bad: "A == 2", Deployment: "D"}}})
		if x.err != nil || x.rows.column != column {
			t.Errorf("%s: got the column %q, %v, want %q", text, x.rows.column, x.err, column)
		}
		if column == "" && strings.Contains(text, "${") && !strings.Contains(x.rows.before, `"recs"`) {
			t.Errorf("%s: got %q, want the name in it", text, x.rows.before)
		}
	}
}

// What marks a row may be said in two ways.
func TestPredicate(t *testing.T) {
	for bad, want := range map[string]string{
		"A == 2":                           "A == 2",
		"T | where A == 2":                 "A == 2",
		`T | where A == 2 | where B != 3 `: "A == 2) and (B != 3",
		"T | take 5":                       "",
		"T":                                "",
		"T2 | where A == 2":                "",
		"U | where A == 2":                 "",
	} {
		x := newQuestion(analysis.Query{Names: names, Metric: analysis.Metric{Name: "m", Counts: &analysis.Counts{Total: "T", Bad: bad, Deployment: "D"}}})
		if (x.err == nil) != (want != "") || x.marked != want {
			t.Errorf("bad: %q: got %q, %v, want %q", bad, x.marked, x.err, want)
		}
	}
}

// Expressions that would reach beyond their place are refused.
func TestExpressionsRefused(t *testing.T) {
	for _, bad := range []string{"", "a)", "(a", "a; b", "a | b", `"a`, `a == ${endpoint}`, `a == "${nobody}"`} {
		x := newQuestion(analysis.Query{Names: names, Metric: analysis.Metric{Name: "m", Counts: &analysis.Counts{Total: "T", Bad: bad, Deployment: "D"}}})
		if x.err == nil {
			t.Errorf("bad: %q: got no error", bad)
		}
	}
	for _, m := range []analysis.Metric{
		{Name: "no arrow", Histogram: &analysis.Histogram{Series: "T", Unit: "s", Deployment: "D"}},
		{Name: "no deployment", Counts: &analysis.Counts{Total: "T", Bad: "a"}},
		{Name: "two statements", Counts: &analysis.Counts{Total: "T; U", Bad: "a", Deployment: "D"}},
		{Name: "a column that ends its place", Counts: &analysis.Counts{Total: "T", Bad: "a", Deployment: "d), x = (e"}},
		{Name: "no table", Counts: &analysis.Counts{Total: " ", Bad: "a", Deployment: "D"}},
	} {
		if x := newQuestion(analysis.Query{Names: names, Metric: m}); x.err == nil {
			t.Errorf("%s: got no error", m.Name)
		}
	}
}

// What cannot be asked is refused at the start.
func TestNewRefuses(t *testing.T) {
	good := Config{Workspace: workspace, Credential: credential{}, Client: http.DefaultClient}
	if _, err := New(good); err != nil {
		t.Fatalf("New: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"workspace":  func(c *Config) { c.Workspace = "../x" },
		"credential": func(c *Config) { c.Credential = nil },
		"client":     func(c *Config) { c.Client = nil },
		"endpoint":   func(c *Config) { c.Endpoint = "http://x" },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(strings.ToLower(err.Error()), name) {
			t.Errorf("New without a good %s: got %v", name, err)
		}
	}
}

// Two instances whose latencies fall into different buckets of the spectrum are
// cut at the bounds of both.
func TestSpectrumOfInstances(t *testing.T) {
	m := analysis.Metric{Name: "latency", Histogram: &analysis.Histogram{Series: "T | extend value = Ms", Unit: "ms", Deployment: "D", Instance: "I"}}
	x := newQuestion(analysis.Query{Metric: m, Names: names, From: time.Unix(0, 0), To: time.Unix(60, 0)})
	x.from, x.to = x.From, x.To
	b := &batch{queries: map[string]*query{}}
	b.add(x, time.Minute)
	p := b.order[0].parts()[0]
	if !strings.Contains(p.text, "belay_le = iff(todouble(Ms) > 0, exp2(ceiling(log2(todouble(Ms)) * 8) / 8), 0.0)") || !strings.Contains(p.text, "belay_instance = tostring(I)") {
		t.Errorf("got the query %s, want the spectrum and the instance", p.text)
	}
	var r response
	if err := json.Unmarshal([]byte(`{"tables":[{"name":"PrimaryResult","columns":[{"name":"belay_deployment"},{"name":"belay_instance"},{"name":"belay_le"},{"name":"c0"},{"name":"c1"}],
		"rows":[["green","a","512","3","0"],["green","b","256","2","0"],["green","b","1024","1","0"],["green","b","0","4","0"]]}]}`), &r); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.table, err = r.table(); err != nil {
		t.Fatal(err)
	}
	s, err := x.sample("green")
	if err != nil {
		t.Fatal(err)
	}
	upTo := map[float64]float64{}
	var sum float64
	for _, b := range s.Buckets {
		sum += b.Count
		upTo[b.Upper] = sum
	}
	if s.N != 10 || len(s.Instances) != 2 || upTo[0] != 4 || upTo[0.256] != 6 || upTo[0.512] != 9 || upTo[1.024] != 10 {
		t.Errorf("got %+v, want 4 at zero, 6 up to 0.256, 9 up to 0.512, 10 up to 1.024", s)
	}
}
