package prometheus

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

// samples are raw samples of both deployments, fifteen seconds apart up to now; the
// candidate's last are the texts given instead.
func samples(name string, last ...string) string {
	var rows []string
	for _, d := range []string{"blue", "green"} {
		var values []string
		now := time.Now().Unix()
		for i := range 8 {
			text := fmt.Sprint(1000 + 10*i)
			if j := i - 8 + len(last); d == "green" && j >= 0 {
				text = last[j]
			}
			values = append(values, fmt.Sprintf("[%d,%q]", now-int64(7-i)*15, text))
		}
		rows = append(rows, fmt.Sprintf(`{"metric":{"__name__":%q,"endpoint":"recs","deployment":%q,"instance":"%s-0","job":"j"},"values":[%s]}`, name, d, d, strings.Join(values, ",")))
	}
	return `{"resultType":"matrix","result":[` + strings.Join(rows, ",") + `]}`
}

const nothing = `{"resultType":"vector","result":[]}`

// What servers and the proxies before them say, each row written from the reference
// that the package's documentation names for it.
func TestDialects(t *testing.T) {
	answer := func(w http.ResponseWriter, status int, body string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
	ok := func(more, data string) string { return `{"status":"success"` + more + `,"data":` + data + `}` }
	plain := func(more string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.FormValue("query"), "[") {
				answer(w, 200, ok("", nothing))
				return
			}
			answer(w, 200, ok(more, samples("http_requests_total")))
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		total   string
		// n is what green counted; want what an error says instead.
		n    float64
		want string
	}{
		"infos":                             {handler: plain(`,"infos":["PromQL info: metric might not be a counter"]`), n: 20},
		"PromQL info among the warnings":    {handler: plain(`,"warnings":["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:6)"]`), n: 20},
		"PromQL warning":                    {handler: plain(`,"warnings":["PromQL warning: encountered a mix of histograms and floats for metric name \"x\" (1:6)"]`), want: "the server warns of the query: encountered a mix"},
		"Thanos: a store is away":           {handler: plain(`,"warnings":["PromQL info: x","receive series from Addr: 10.0.0.1:10901: rpc error: code = Unavailable"]`), want: "the answer may be partial: receive series"},
		"VictoriaMetrics: a node is away":   {handler: plain(`,"isPartial":true`), want: "a storage node did not answer"},
		"VictoriaMetrics: all nodes answer": {handler: plain(`,"isPartial":false`), n: 20},
		"M3: a limit was met": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("M3-Results-Limited", "max_fetch_series_limit_applied")
			answer(w, 200, ok("", samples("http_requests_total")))
		}, want: "M3 met a limit"},
		"VictoriaMetrics before 1.107: a marker ends a series": {handler: func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.FormValue("query"), "[") {
				answer(w, 200, ok("", nothing))
				return
			}
			one := strings.TrimSuffix(samples("http_requests_total"), "]}")
			gone := strings.ReplaceAll(strings.TrimPrefix(samples("http_requests_total", "1060", "NaN"), `{"resultType":"matrix","result":[`), "-0", "-1")
			answer(w, 200, ok("", one+","+gone))
		}, n: 20 + 10},
		"a counter that is NaN": {handler: func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, ok("", samples("http_requests_total", "NaN", "NaN")))
		}, want: "has the value NaN"},
		"a proxy drops the body of a POST": {handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("query") == "" {
				answer(w, 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": unknown position: parse error: no expression found in input"}`)
				return
			}
			plain("")(w, r)
		}, n: 20},
		"a proxy drops the body before VictoriaMetrics": {handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("query") == "" {
				answer(w, 422, "{\"status\":\"error\",\"errorType\":\"422\",\"error\":\"missing `query` arg\"}")
				return
			}
			plain("")(w, r)
		}, n: 20},
		"a proxy takes no POST": {handler: func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				http.Error(w, "no", http.StatusMethodNotAllowed)
				return
			}
			plain("")(w, r)
		}, n: 20},
		"a proxy drops every query": {handler: func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 400, `{"status":"error","errorType":"bad_data","error":"no expression found in input"}`)
		}, want: "a proxy drops it"},
		"a redirect to a login": {handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://login.example/oauth2/start?rd=hunter2", http.StatusFound)
		}, want: "302 Found to https://login.example/oauth2/start, and redirects are not followed"},
		"a tenant's header": {handler: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Scope-OrgID") != "team-a" {
				answer(w, 401, `{"status":"error","errorType":"unauthorized","error":"no org id"}`)
				return
			}
			plain("")(w, r)
		}, n: 20},
		"_total is not given": {handler: plain(""), total: "http_requests", n: 20},
		"_total is given and not stored": {handler: func(w http.ResponseWriter, r *http.Request) {
			if q := r.FormValue("query"); strings.HasPrefix(q, "http_requests_total") || !strings.Contains(q, "[") {
				answer(w, 200, ok("", strings.Replace(nothing, "vector", "matrix", 1)))
				return
			}
			answer(w, 200, ok("", samples("http_requests")))
		}, n: 20},
		"Prometheus before 3: a quoted name": {handler: func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:2: parse error: unexpected string \"http.requests\" in label matching, expected identifier or \"}\""}`)
		}, total: `{"http.requests"}`, want: "take no quoted names"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := New(Config{URL: "http://prometheus.example", Client: &http.Client{Transport: tenant{&analysistest.Transport{Handler: c.handler}}}, ScrapeInterval: 15 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				m := metrics()[analysis.KindCounts]
				total := c.total
				if total == "" {
					total = "http_requests_total"
				}
				m.Counts = &analysis.Counts{Total: total, Bad: strings.TrimSuffix(total+`{code="503"}`, "}") + "}", Deployment: "deployment", Instance: "instance"}
				if strings.HasPrefix(total, "{") {
					m.Counts.Bad = `{"http.requests",code="503"}`
				}
				now := time.Now().UTC()
				rs, err := s.Read(t.Context(), []analysis.Query{{Metric: m, Names: namesOf("recs"), From: now.Add(-30 * time.Second), To: now}})
				if err != nil {
					t.Fatal(err)
				}
				r := rs[0]
				if c.want != "" && (r.Status != analysis.StatusError || !strings.Contains(r.Reason, c.want)) {
					t.Errorf("got %s: %s, want an error that says %q", r.Status, r.Reason, c.want)
				}
				if c.want == "" && (r.Status != analysis.StatusOK || r.Candidate.N != c.n) {
					t.Errorf("got %s: %s, n=%v, want %v", r.Status, r.Reason, r.Candidate.N, c.n)
				}
			})
		})
	}
}

func namesOf(endpoint string) analysis.Names {
	return analysis.Names{Endpoint: endpoint, Stable: analysistest.Stable, Candidate: analysistest.Candidate}
}

// A tenant adds the header that Mimir and Loki tell tenants by, as http_headers does.
type tenant struct{ next http.RoundTripper }

func (x tenant) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("X-Scope-OrgID", "team-a")
	return x.next.RoundTrip(r)
}

// A histogram is the same with _bucket given or not.
func TestBucketSuffix(t *testing.T) {
	now := time.Now()
	for _, name := range []string{"latency_seconds", "latency_seconds_bucket"} {
		x := newQuestion(analysis.Query{Names: namesOf("recs"), From: now.Add(-time.Minute), To: now, Metric: analysis.Metric{
			Name: "p95", Histogram: &analysis.Histogram{Series: name, Unit: "s", Deployment: "deployment"},
		}}, time.Hour, selectorCache{})
		if x.err != nil || x.parts[0].shared.name != "latency_seconds_bucket" || x.parts[1].shared.name != "latency_seconds" {
			t.Errorf("%s: got %v, %+v", name, x.err, x.parts)
		}
	}
}

// A division by no traffic is no traffic, and never a server that does not answer.
func TestNoTraffic(t *testing.T) {
	for body, fresh := range map[string]bool{
		`{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}`: false,
		`{"resultType":"scalar","result":[1,"NaN"]}`:                         false,
		nothing: false,
		`{"resultType":"vector","result":[{"metric":{},"value":[1,"0"]}]}`: true,
	} {
		h := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"status":"success","data":` + body + `}`))
		}
		s, err := New(Config{URL: "http://prometheus.example", Client: &http.Client{Transport: &analysistest.Transport{Handler: http.HandlerFunc(h)}}})
		if err != nil {
			t.Fatal(err)
		}
		q := analysis.Query{Metric: analysis.Metric{Name: "x", Value: &analysis.Value{Query: `a{d="${deployment}"}/b`}}, Names: namesOf("recs"), From: time.Now().Add(-time.Minute), To: time.Now()}
		rs, err := s.Read(t.Context(), []analysis.Query{q})
		if err != nil {
			t.Fatal(err)
		}
		if r := rs[0]; r.Status != analysis.StatusOK || r.Candidate.Fresh != fresh || !fresh && !strings.Contains(r.Reason, "no traffic") {
			t.Errorf("%s: got %s: %s, fresh %t", body, r.Status, r.Reason, r.Candidate.Fresh)
		}
	}
}

// What does not fit into an address is asked in halves.
func TestGetInHalves(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if q, _ := url.ParseQuery(r.URL.RawQuery); strings.Contains(q.Get("query"), "a|b") || r.Method == http.MethodPost {
			w.WriteHeader(http.StatusRequestURITooLong)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status":"success","data":` + strings.Replace(nothing, "vector", "matrix", 1) + `}`))
	}
	tr := &analysistest.Transport{Handler: http.HandlerFunc(h)}
	s, err := New(Config{URL: "http://prometheus.example", Client: &http.Client{Transport: tr}, Get: true})
	if err != nil {
		t.Fatal(err)
	}
	var qs []analysis.Query
	to := time.Now()
	for _, e := range []string{"a", "b"} {
		qs = append(qs, analysis.Query{Metric: metrics()[analysis.KindCounts], Names: namesOf(e), From: to.Add(-time.Minute), To: to})
	}
	rs, err := s.Read(t.Context(), qs)
	if err != nil || rs[0].Status != analysis.StatusOK || rs[1].Status != analysis.StatusOK {
		t.Errorf("got %+v, %v, want two readings", rs, err)
	}
}

// What the server refuses of a question, no retry mends; what it cannot do now, one may.
func TestPermanent(t *testing.T) {
	type said struct {
		code int
		body string
	}
	refusal := func(kind string) string { return `{"status":"error","errorType":"` + kind + `","error":"it says why"}` }
	for answer, want := range map[said]bool{
		{http.StatusBadRequest, refusal("bad_data")}:               true,
		{http.StatusUnauthorized, ""}:                              true,
		{http.StatusForbidden, ""}:                                 true,
		{http.StatusServiceUnavailable, refusal("unavailable")}:    false,
		{http.StatusServiceUnavailable, refusal("timeout")}:        false,
		{http.StatusUnprocessableEntity, refusal("execution")}:     false,
		{http.StatusBadGateway, ""}:                                false,
		{http.StatusTooManyRequests, refusal("too_many_requests")}: false,
		{http.StatusInternalServerError, refusal("internal")}:      false,
	} {
		for name, m := range map[string]analysis.Metric{
			"counts": {Name: "x", Counts: &analysis.Counts{Total: "a_total", Bad: `a_total{code="5"}`, Deployment: "d"}},
			"value":  {Name: "x", Value: &analysis.Value{Query: `a{d="${deployment}"}/b`}},
		} {
			h := func(w http.ResponseWriter, _ *http.Request) {
				if answer.body != "" {
					w.Header().Set("Content-Type", "application/json")
				}
				w.WriteHeader(answer.code)
				_, _ = w.Write([]byte(answer.body))
			}
			s, err := New(Config{URL: "http://prometheus.example", Client: &http.Client{Transport: &analysistest.Transport{Handler: http.HandlerFunc(h)}}})
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			rs, err := s.Read(t.Context(), []analysis.Query{{Metric: m, Names: namesOf("recs"), From: now.Add(-time.Minute), To: now}})
			if err != nil {
				t.Fatal(err)
			}
			if r := rs[0]; r.Status != analysis.StatusError || r.Permanent != want {
				t.Errorf("%s, %d %s: got %s %q, permanent %t, want an error, %t", name, answer.code, answer.body, r.Status, r.Reason, r.Permanent, want)
			}
		}
	}
}
