package httpjson

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/jsonpath"
)

// Names land in the path, the parameters and the body of a request, and change
// none of their shapes; the host takes none.
func TestRequestEscapes(t *testing.T) {
	s := &Source{cfg: Config{URL: "https://h.example/e/${endpoint}/x?q=${query}&e=${endpoint}", Body: `{"e":"${endpoint}","q":"${query}"}`}}
	for _, evil := range []string{"recs", `a/../b?c#d&e=f"\`, "é\n", `"},{"`} {
		req, err := s.request(map[string]string{"endpoint": evil, "query": evil})
		if err != nil {
			t.Fatalf("%q: %v", evil, err)
		}
		var body map[string]string
		if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
			t.Fatalf("%q: body: %v", evil, err)
		}
		got := []string{req.URL.Host, req.URL.Path, req.URL.Query().Get("q"), req.URL.Query().Get("e"), body["e"], body["q"]}
		want := []string{"h.example", "/e/" + evil + "/x", evil, evil, evil, evil}
		if d := cmp.Diff(want, got); d != "" || len(body) != 2 || len(req.URL.Query()) != 2 {
			t.Errorf("%q (-want +got):\n%s", evil, d)
		}
	}
	if _, err := s.request(map[string]string{"endpoint": "..", "query": "q"}); err == nil {
		t.Error("an endpoint named ..: got no error")
	}
	for _, u := range []string{"https://${endpoint}.example/", "ftp://h/", "h.example", "https:///x", "https://h/${unknown}"} {
		if _, err := New(Config{URL: u, Client: http.DefaultClient}); err == nil {
			t.Errorf("New with %s: got no error", u)
		}
	}
}

// A query's language is unknown: only harmless names go into it.
func TestQueryTakesHarmlessNames(t *testing.T) {
	for name, ok := range map[string]bool{"recs-v2.1": true, "a b": false, "a'": false, `a"`: false, "a;": false, "a--b": false, "": false, "a{b}": false} {
		_, err := jsonpath.ParseExpr("SELECT ${endpoint} -> $", "", map[string]string{"endpoint": name})
		if (err == nil) != ok {
			t.Errorf("%q in a query: got %v, want it taken: %t", name, err, ok)
		}
	}
}

// Against a real server: a redirect is not followed, 429 keeps everybody away
// for as long as it says, other answers are what they are.
func TestReadAnswers(t *testing.T) {
	asked := 0
	var status int
	var header map[string]string
	var text string
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, text)
	}))
	defer srv.Close()
	m := analysis.Metric{Name: "n", Counts: &analysis.Counts{Total: "$.n", Bad: "$.bad"}}
	for _, c := range []struct {
		status int
		header map[string]string
		text   string
		want   string
	}{
		{200, nil, `{"n":5,"bad":1}`, ""},
		{200, nil, `{"n":5}`, ""},
		{200, nil, `{"n":"5","bad":"9"}`, ""},
		{200, nil, `{"bad":1}`, "nothing for blue"},
		{200, nil, `{"n":-5}`, "negative"},
		{200, nil, `{"n":1e999}`, "number is wanted"},
		{200, nil, `{"n":true}`, "number is wanted"},
		{200, nil, `{"n":5}{"n":6}`, "goes on"},
		{200, nil, `{"n":5,"n":6}`, "a field twice"},
		{200, nil, `{"n":5,"x":[{"a":1,"\u0061":2}]}`, "a field twice"},
		{200, map[string]string{"Content-Type": "text/html"}, `<html>`, "did not answer JSON"},
		{302, map[string]string{"Location": "http://169.254.169.254/login?token=hunter2"}, ``, "302 Found to http://169.254.169.254/login, and"},
		{500, nil, `{"n":5}`, "500"},
		{200, nil, `{"n":"` + strings.Repeat("x", 5<<20) + `"}`, "larger than"},
		{429, map[string]string{"Retry-After": "30"}, ``, "429"},
		{200, nil, `{"n":5}`, "no questions for another"},
	} {
		status, header, text = c.status, c.header, c.text
		s, err := New(Config{URL: srv.URL + "/q?to=${to}", Client: srv.Client()})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(c.want, "no questions") {
			s.pause.Heed(&http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"30"}}}, time.Now())
			asked = 0
		}
		q := analysis.Query{Metric: m, From: time.Now().Add(-time.Hour), To: time.Now(), Names: analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}}
		rs, err := s.Read(t.Context(), []analysis.Query{q})
		if err != nil {
			t.Fatal(err)
		}
		r := rs[0]
		if !strings.Contains(r.Reason, c.want) || (c.want == "") != (r.Reason == "") {
			t.Errorf("%d %.40s: got %s (%s), want %q", c.status, c.text, r.Status, r.Reason, c.want)
		}
		if c.want == "" && (!r.Stable.Fresh || r.Stable.N != 5 || r.Stable.K > 5) {
			t.Errorf("%d %s: got %+v, want n=5", c.status, c.text, r.Stable)
		}
		if strings.Contains(c.want, "no questions") && asked != 0 {
			t.Errorf("while it wants no questions: got %d requests, want none", asked)
		}
	}
}

// One answer holds both deployments: one request, unless the query names the
// deployment.
func TestReadAsksOnce(t *testing.T) {
	asked := map[string]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Query().Get("q")]++
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"n":1}`)
	}))
	defer srv.Close()
	s, err := New(Config{URL: srv.URL + "/?q=${query}&to=${toUnix}", Client: srv.Client(), Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	q := analysis.Query{
		Metric: analysis.Metric{Name: "n", Counts: &analysis.Counts{Total: "all -> $.n", Bad: "bad ${deployment} -> $.n"}},
		Names:  analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}, From: time.Now().Add(-time.Hour), To: time.Now(),
	}
	if _, err := s.Read(t.Context(), []analysis.Query{q, q}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int{"all": 1, "bad blue": 1, "bad green": 1}, asked); d != "" {
		t.Errorf("requests (-want +got):\n%s", d)
	}
}

// The numbers of a deployment are found by its role, its version and the name that
// the source has for it.
func TestReadByOtherNames(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"rows":[{"d":"recs-7f9","r":"primary","v":"1","n":70,"bad":7},{"d":"green","r":"canary","v":"2","n":30,"bad":3}]}`)
	}))
	defer srv.Close()
	s, err := New(Config{URL: srv.URL, Client: srv.Client()})
	if err != nil {
		t.Fatal(err)
	}
	m := analysis.Metric{
		Name: "n", Roles: map[string]string{"stable": "primary", "candidate": "canary"}, Deployments: map[string]string{"blue": "recs-7f9"},
		Counts: &analysis.Counts{Total: `$.rows[?@.d=="${deployment}" && @.v=="${version}"].n`, Bad: `$.rows[?@.r=="${role}"].bad`},
	}
	q := analysis.Query{Metric: m, From: time.Now().Add(-time.Hour), To: time.Now(),
		Names: analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green", StableVersion: "1", CandidateVersion: "2"}}
	rs, err := s.Read(t.Context(), []analysis.Query{q})
	if err != nil {
		t.Fatal(err)
	}
	got := [4]float64{rs[0].Stable.N, rs[0].Stable.K, rs[0].Candidate.N, rs[0].Candidate.K}
	if want := [4]float64{70, 7, 30, 3}; got != want {
		t.Errorf("got %v (%s), want %v", got, rs[0].Reason, want)
	}
	q.Names.StableVersion = ""
	if rs, err = s.Read(t.Context(), []analysis.Query{q}); err != nil || !strings.Contains(rs[0].Reason, "${version}") {
		t.Errorf("without stable's version: got %v, %v, want an error that names it", rs, err)
	}
}

// What an answer says of itself decides whether it is whole; a value that says nothing
// is none, and instants may stand in a path as numbers.
func TestReadPartial(t *testing.T) {
	text := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = fmt.Fprint(w, strings.ReplaceAll(text, "FROM", r.URL.Query().Get("from")))
	}))
	defer srv.Close()
	s, err := New(Config{URL: srv.URL + "/?from=${fromUnix}", Client: srv.Client(), Partial: []string{"$.error", `$.parts[?@.state != "whole"]`}})
	if err != nil {
		t.Fatal(err)
	}
	q := analysis.Query{
		Metric: analysis.Metric{Name: "n", Counts: &analysis.Counts{Total: "sum($.points[?@[0] >= ${fromUnix}][1])", Bad: "$.bad"}},
		Names:  analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}, From: time.Now().Add(-time.Hour), To: time.Now(),
	}
	for more, want := range map[string]string{
		``: "", `,"error":null`: "", `,"error":""`: "", `,"error":0`: "", `,"error":false`: "", `,"error":[]`: "", `,"error":{}`: "", `,"parts":[{"state":"whole"}]`: "",
		`,"error":"away"`: "$.error says so", `,"error":1`: "$.error says so", `,"error":true`: "$.error", `,"error":[0]`: "$.error", `,"error":{"a":0}`: "$.error",
		`,"parts":[{"state":"whole"},{"state":"cut"}]`: "may be partial",
	} {
		text = `{"points":[[1,500],[FROM,7]]` + more + `}`
		rs, err := s.Read(t.Context(), []analysis.Query{q})
		if err != nil {
			t.Fatal(err)
		}
		if r := rs[0]; !strings.Contains(r.Reason, want) || (want == "") != (r.Status == analysis.StatusOK && r.Stable.N == 7) {
			t.Errorf("%s: got %s (%s), n=%v, want %q", more, r.Status, r.Reason, r.Stable.N, want)
		}
	}
	if _, err := New(Config{URL: srv.URL, Client: srv.Client(), Partial: []string{"error"}}); err == nil || !strings.Contains(err.Error(), "partial") {
		t.Errorf("a path that is none: got %v", err)
	}
}
