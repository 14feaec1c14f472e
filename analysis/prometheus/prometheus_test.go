package prometheus

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

// A recorder keeps the expressions that were asked.
type recorder struct {
	http.Handler
	mu    sync.Mutex
	exprs []string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if strings.HasSuffix(req.URL.Path, "/query") { // and not about types
		r.mu.Lock()
		r.exprs = append(r.exprs, req.FormValue("query"))
		r.mu.Unlock()
	}
	r.Handler.ServeHTTP(w, req)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.exprs
	r.exprs = nil
	return out
}

func newTest(t *testing.T, w *analysistest.World, h func(http.Handler) http.Handler, cfg Config) (*Source, *recorder) {
	t.Helper()
	r := &recorder{Handler: &server{w: w}}
	if h != nil {
		r.Handler = h(r.Handler)
	}
	cfg.URL, cfg.Client = "http://prometheus.example", &http.Client{Transport: &analysistest.Transport{Handler: r}}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

// Every rollout asks for failures, twice, and for a p95 of 450 ms, also in
// other words: two requests for all of them, and only the buckets around the cut.
func TestReadMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := analysistest.NewWorld()
		s, rec := newTest(t, w, nil, Config{ScrapeInterval: 15 * time.Second, Lag: 15 * time.Second})
		for range 6 {
			w.Step(analysistest.Interval)
		}
		ms := metrics()
		spaced := ms[analysis.KindCounts]
		spaced.Counts = &analysis.Counts{Total: ` http_requests_total { endpoint = "${endpoint}" } `, Good: `http_requests_total{code!~"5..",endpoint="${endpoint}"}`, Deployment: "deployment"}
		part := ms[analysis.KindCounts]
		part.Counts = &analysis.Counts{Total: `http_requests_total{instance="${endpoint}-0"}`, Bad: `http_requests_total{instance="${endpoint}-0",code="503"}`, Deployment: "deployment"}
		per := ms[analysis.KindCounts]
		per.Counts = &analysis.Counts{Total: `http_requests_total{endpoint="${endpoint}",deployment="${deployment}"}`, Bad: `http_requests_total{endpoint="${endpoint}",deployment="${deployment}",code="503"}`}
		var qs []analysis.Query
		for _, e := range analysistest.Endpoints {
			for _, m := range []analysis.Metric{ms[analysis.KindCounts], ms[analysis.KindCounts], spaced, ms[analysis.KindHistogram], per, part} {
				qs = append(qs, analysis.Query{
					Metric: m, From: time.Now().Add(-45 * time.Second), To: time.Now(), Cuts: []float64{0.45},
					Names: analysis.Names{Endpoint: e, Stable: "blue", Candidate: "green"},
				})
			}
		}
		if _, err := s.Read(t.Context(), qs); err != nil {
			t.Fatal(err)
		}
		rec.take() // the bounds are looked up once
		rs, err := s.Read(t.Context(), qs)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			`http_requests_total{endpoint=~"fraud|recs"}[96000ms]`,
			`http_requests_total{instance=~"fraud-0|recs-0"}[96000ms]`,
			`http_requests_total{endpoint=~"fraud|recs",deployment=~"blue|green"}[96000ms]`,
			`latency_seconds_bucket{endpoint=~"fraud|recs",le=~"\\+Inf|0\\.25|0\\.5"}[96000ms]`,
		}
		got := rec.take()
		slices.Sort(got)
		slices.Sort(want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("expressions (-want +got):\n%s", d)
		}
		for i, r := range rs {
			truth := w.Truth(qs[i].Names.Endpoint, "green", r.From, r.To)
			if i%6 == 5 {
				continue // no instance has such a name
			}
			if r.Status != analysis.StatusOK || r.Candidate.N != truth.Total() {
				t.Errorf("reading %d: got %s %s n=%v, want ok n=%v", i, r.Status, r.Reason, r.Candidate.N, truth.Total())
			}
			if k := r.Candidate.K; i%6 == 2 && k != truth.OK {
				t.Errorf("reading %d, of good requests: got k=%v, want %v", i, k, truth.OK)
			}
		}
	})
}

// Where no endpoint is named, rollouts are told apart by their deployments, as
// behind Envoy: still one request, and each gets its own.
func TestReadMergesDeployments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := analysistest.NewWorld()
		s, rec := newTest(t, w, nil, Config{ScrapeInterval: 15 * time.Second, Lag: 15 * time.Second})
		for range 6 {
			w.Step(analysistest.Interval)
		}
		pair := analysis.Metric{Name: "pair", Counts: &analysis.Counts{
			Total: `http_requests_total{deployment=~"${stable}|${candidate}"}`, Bad: `http_requests_total{deployment=~"${stable}|${candidate}",code="503"}`, Deployment: "deployment",
		}}
		latency := analysis.Metric{Name: "latency", Histogram: &analysis.Histogram{Series: `latency_seconds{deployment=~"${stable}|${candidate}"}`, Unit: "s", Deployment: "deployment"}}
		var qs []analysis.Query
		for _, n := range []analysis.Names{{Endpoint: "a", Stable: "blue", Candidate: "green"}, {Endpoint: "b", Stable: "red", Candidate: "blue"}} {
			for _, m := range []analysis.Metric{pair, latency} {
				qs = append(qs, analysis.Query{Metric: m, Names: n, From: time.Now().Add(-45 * time.Second), To: time.Now(), Cuts: []float64{0.25}})
			}
		}
		if _, err := s.Read(t.Context(), qs); err != nil {
			t.Fatal(err)
		}
		rec.take()
		rs, err := s.Read(t.Context(), qs)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(rec.take(), func(e string) bool { return strings.HasPrefix(e, "group") })
		slices.Sort(got)
		want := []string{`http_requests_total{deployment=~"blue|green|red"}[96000ms]`, `latency_seconds_bucket{deployment=~"blue|green|red",le=~"\\+Inf|0\\.25"}[96000ms]`}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("expressions (-want +got):\n%s", d)
		}
		n := func(deployment string) (sum float64) {
			for _, e := range analysistest.Endpoints {
				sum += w.Truth(e, deployment, rs[0].From, rs[0].To).Total()
			}
			return sum
		}
		if rs[0].Stable.N != n("blue") || rs[0].Candidate.N != n("green") || rs[1].Candidate.N != n("green") {
			t.Errorf("a: got %v, %v and %v, want %v, %v and %v", rs[0].Stable.N, rs[0].Candidate.N, rs[1].Candidate.N, n("blue"), n("green"), n("green"))
		}
		if rs[2].Stable.Fresh || rs[2].Candidate.N != n("blue") {
			t.Errorf("b: got %+v, want nothing of red and %v of blue", rs[2], n("blue"))
		}
	})
}

// Endpoints come in chunks, and a chunk that fails spoils no other.
func TestReadChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := analysistest.NewWorld()
		broken := func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.FormValue("query"), `"fraud"`) {
					http.Error(rw, "no", http.StatusServiceUnavailable)
					return
				}
				h.ServeHTTP(rw, r)
			})
		}
		s, rec := newTest(t, w, broken, Config{ScrapeInterval: 15 * time.Second, Chunk: 1})
		for range 40 { // long enough that no series is in doubt
			w.Step(analysistest.Interval)
		}
		var qs []analysis.Query
		for _, e := range analysistest.Endpoints {
			qs = append(qs, analysis.Query{
				Metric: metrics()[analysis.KindCounts], From: time.Now().Add(-45 * time.Second), To: time.Now(),
				Names: analysis.Names{Endpoint: e, Stable: "blue", Candidate: "green"},
			})
		}
		rs, err := s.Read(t.Context(), qs)
		if err != nil {
			t.Fatal(err)
		}
		if rs[0].Status != analysis.StatusOK || rs[1].Status != analysis.StatusError || !strings.Contains(rs[1].Reason, "503") {
			t.Errorf("got %s and %s (%s), want ok and an error that says 503", rs[0].Status, rs[1].Status, rs[1].Reason)
		}
		if n := len(rec.take()); n != 2 {
			t.Errorf("got %d requests, want 2", n)
		}
	})
}

// What does not fit into one answer is asked in halves, and the next time in
// pieces that fit; one endpoint that does not fit alone is an error.
func TestReadHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := analysistest.NewWorld()
		s, rec := newTest(t, w, nil, Config{ScrapeInterval: 15 * time.Second, MaxSeries: 9})
		for range 40 { // long enough that no series is in doubt
			w.Step(analysistest.Interval)
		}
		read := func() []analysis.Reading {
			var qs []analysis.Query
			for _, e := range analysistest.Endpoints {
				qs = append(qs, analysis.Query{
					Metric: metrics()[analysis.KindCounts], From: time.Now().Add(-45 * time.Second), To: time.Now(),
					Names: analysis.Names{Endpoint: e, Stable: "blue", Candidate: "green"},
				})
			}
			rs, err := s.Read(t.Context(), qs)
			if err != nil {
				t.Fatal(err)
			}
			return rs
		}
		for _, want := range []int{3, 2} {
			for i, r := range read() {
				if r.Status != analysis.StatusOK || r.Stable.N == 0 {
					t.Errorf("reading %d: got %s (%s) n=%v, want ok and some", i, r.Status, r.Reason, r.Stable.N)
				}
			}
			if got := len(rec.take()); got != want {
				t.Errorf("got %d requests, want %d", got, want)
			}
		}
		for _, d := range []string{"x", "y"} {
			w.Add("recs", "blue", d)
		}
		w.Step(analysistest.Interval)
		w.Step(analysistest.Interval)
		rs := read()
		if rs[0].Status != analysis.StatusError || !strings.Contains(rs[0].Reason, "more than 9 series") || rs[1].Status != analysis.StatusOK {
			t.Errorf("too many series of one endpoint: got %s (%s) and %s, want an error and ok", rs[0].Status, rs[0].Reason, rs[1].Status)
		}
	})
}

// Prometheus 3 leaves the left end of a range out; a proxy takes no POST; a
// server's clock is off: the first two change nothing, the third is an error.
func TestReadServers(t *testing.T) {
	for name, c := range map[string]struct {
		wrap func(http.Handler) http.Handler
		want string
	}{
		"left-open": {func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				q := r.FormValue("query")
				r.Form.Set("query", strings.Replace(q, "000ms]", "999ms]", 1)) // one millisecond less
				h.ServeHTTP(w, r)
			})
		}, ""},
		"no POST": {func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					http.Error(w, "no", http.StatusMethodNotAllowed)
					return
				}
				h.ServeHTTP(w, r)
			})
		}, ""},
		"clock ahead": {func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rec := &dated{ResponseWriter: w, date: time.Now().Add(2 * time.Minute)}
				h.ServeHTTP(rec, r)
			})
		}, "2m0s ahead"},
		"refused query": {func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(`{"status":"error","errorType":"bad_data","error":"1:5: parse error, see http://u:hunter2@h/x"}`))
			})
		}, "bad_data: 1:5: parse error, see …"},
		"too many samples": {func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusUnprocessableEntity)
				_, _ = w.Write([]byte(`{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory in query execution"}`))
			})
		}, "more samples than the server loads"},
		"inner error": {func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = w.Write([]byte(`{"status":"error","errorType":"internal","error":"hunter2"}`))
			})
		}, "with an error: internal"},
		"throttled": {func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(http.StatusTooManyRequests)
			})
		}, "429 Too Many Requests"},
		"another API": {func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[]}}`))
			})
		}, "not with samples"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := analysistest.NewWorld()
				s, _ := newTest(t, w, c.wrap, Config{Lag: 15 * time.Second})
				for range 4 {
					w.Step(analysistest.Interval)
				}
				q := analysis.Query{
					Metric: metrics()[analysis.KindCounts], From: w.Start, To: time.Now(),
					Names: analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"},
				}
				rs, err := s.Read(t.Context(), []analysis.Query{q})
				if err != nil {
					t.Fatal(err)
				}
				r := rs[0]
				if c.want != "" {
					if r.Status != analysis.StatusError || !strings.Contains(r.Reason, c.want) {
						t.Errorf("got %s (%s), want an error that says %q", r.Status, r.Reason, c.want)
					}
					if strings.Contains(r.Reason, "hunter2") {
						t.Errorf("the secret stands in %q", r.Reason)
					}
					return
				}
				if want := w.Truth("recs", "blue", r.From, r.To).Total(); r.Status != analysis.StatusOK || r.Stable.N != want {
					t.Errorf("got %s (%s) n=%v, want ok n=%v", r.Status, r.Reason, r.Stable.N, want)
				}
			})
		})
	}
}

// dated is an answer with a date of its own.
type dated struct {
	http.ResponseWriter
	date time.Time
}

func (d *dated) Write(b []byte) (int, error) {
	d.Header().Set("Date", d.date.UTC().Format(http.TimeFormat))
	return d.ResponseWriter.Write(b)
}

// Values: one number for each deployment; nothing, several and none are told
// apart.
func TestReadValues(t *testing.T) {
	answers := map[string]string{
		"one":    `{"resultType":"vector","result":[{"metric":{},"value":[1,"0.7"]}]}`,
		"scalar": `{"resultType":"scalar","result":[1,"0.7"]}`,
		"empty":  `{"resultType":"vector","result":[]}`,
		"two":    `{"resultType":"vector","result":[{"metric":{},"value":[1,"0.7"]},{"metric":{"a":"b"},"value":[1,"0.7"]}]}`,
		"none":   `{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}`,
		"matrix": `{"resultType":"matrix","result":[]}`,
	}
	h := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			which, _, _ := strings.Cut(strings.TrimPrefix(r.FormValue("query"), "last_over_time("), "{")
			_, _ = w.Write([]byte(`{"status":"success","data":` + answers[which] + `}`))
		})
	}
	for which, want := range map[string]string{"one": "", "scalar": "", "empty": "no traffic", "two": "2 series", "none": "no traffic", "matrix": "matrix"} {
		s, rec := newTest(t, nil, h, Config{})
		m := analysis.Metric{Name: "cpu", Value: &analysis.Value{Query: `last_over_time(` + which + `{d="${deployment}"}[${window}])`}}
		q := analysis.Query{Metric: m, From: time.Now().Add(-time.Minute), To: time.Now(), Names: analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}}
		rs, err := s.Read(t.Context(), []analysis.Query{q, q})
		if err != nil {
			t.Fatal(err)
		}
		r := rs[1]
		switch {
		case !strings.Contains(r.Reason, want) || (want == "") != (r.Reason == ""):
			t.Errorf("%s: got %s (%s), want %q", which, r.Status, r.Reason, want)
		case want == "" && (r.Candidate.Value != 0.7 || !r.Candidate.Fresh):
			t.Errorf("%s: got %+v, want 0.7", which, r.Candidate)
		case which == "empty" && (r.Status != analysis.StatusOK || r.Stable.Fresh):
			t.Errorf("empty: got %s, fresh %t, want ok and not fresh", r.Status, r.Stable.Fresh)
		}
		exprs := rec.take()
		if len(exprs) != 2 || !strings.Contains(strings.Join(exprs, ""), `{d="green"}[4m])`) {
			t.Errorf("%s: got the expressions %q, want one for each deployment", which, exprs)
		}
	}
}

// A configuration that cannot be asked with is refused, without repeating it.
func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{
		{URL: "http://p"},
		{Client: http.DefaultClient},
		{Client: http.DefaultClient, URL: "ftp://hunter2@p"},
		{Client: http.DefaultClient, URL: "http://hunter2@:%"},
	} {
		if _, err := New(cfg); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New(%+v): got %v, want an error without the address", cfg, err)
		}
	}
}
