package scrape

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

// every keeps all metrics.
var every = filter{func(string) bool { return true }, 1000}

// flat is what an exposition says, as one line a sample, for comparing.
func flat(xs []sample) []string {
	var out []string
	for _, x := range xs {
		if x.native != nil {
			continue
		}
		x.labels.Sort()
		out = append(out, fmt.Sprintf("%s %v gauge=%v", x.labels, x.value, x.gauge))
	}
	slices.Sort(out)
	return out
}

const text = `# HELP a_total With \\ and \n in it.
# TYPE a_total counter
a_total{x="1",y="q\"\\\n"} 1e3 1700000000000
a_total{x="",y="2",} 2
# TYPE g gauge
g -1.5
g{z="é"} NaN
g{z="inf"}   +Inf

untyped_thing 7
# TYPE h histogram
h_bucket{le="0.5"} 1
h_bucket{le="+Inf"} 3
h_sum 4
h_count 3
`

// The text form is read as the library that defines it reads it.
func TestParseTextAgreesWithExpfmt(t *testing.T) {
	got, err := parseText(strings.NewReader(text), every, false)
	if err != nil {
		t.Fatal(err)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var want []sample
	for name, f := range families {
		for _, m := range f.GetMetric() {
			if want, err = spread(want, name, m, every); err != nil {
				t.Fatal(err)
			}
		}
	}
	if d := cmp.Diff(flat(want), flat(got)); d != "" {
		t.Errorf("samples (-expfmt +got):\n%s", d)
	}
}

// OpenMetrics: exemplars and units are passed over, the time of creation is
// kept, and an answer without its end is an error.
func TestParseOpenMetrics(t *testing.T) {
	const in = `# TYPE a counter
# UNIT a seconds
a_total{x="1"} 17 1520879607.789 # {trace_id="KOO5S4vxi0o"} 0.67 1520879607.789
a_created{x="1"} 1520872607.123
# TYPE h histogram
h_bucket{le="0.5"} 1 # {} 0.3
h_bucket{le="+Inf"} 3
h_count 3
h_created 1520872608
`
	if _, err := parseText(strings.NewReader(in), every, true); err == nil || !strings.Contains(err.Error(), "# EOF") {
		t.Errorf("without its end: got %v, want an error that says # EOF", err)
	}
	keeps := filter{func(n string) bool { return n == "a_total" || n == "h_bucket" }, 1000}
	got, err := parseText(strings.NewReader(in+"# EOF\n"), keeps, true)
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		Value   float64
		Created int64
	}
	var lines []line
	for _, x := range got {
		lines = append(lines, line{x.value, x.created})
	}
	if d := cmp.Diff([]line{{17, 1520872607123}, {1, 1520872608000}, {3, 1520872608000}}, lines); d != "" {
		t.Errorf("samples (-want +got):\n%s", d)
	}
}

// What is no exposition is refused, in words that repeat none of it.
func TestParseRefuses(t *testing.T) {
	for in, kind := range map[string]string{
		"a{":                   "text/plain",
		"a{x=\"1} 1":           "text/plain",
		"a{x=1} 1":             "text/plain",
		"a{x=\"1\" y=\"2\"} 1": "text/plain",
		"a{x=\"1\",x=\"2\"} 1": "text/plain",
		"a":                    "text/plain",
		"a x":                  "text/plain",
		"a 0x10":               "text/plain",
		"a 1 x":                "text/plain",
		"a 1":                  "text/html",
		"a 2":                  "application/json",
		"\x05abc":              "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
		"a 3":                  "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text",
		"a 4":                  "///",
	} {
		if got, err := parse(strings.NewReader(in), http.Header{"Content-Type": {kind}}, every, "i", 0); err == nil {
			t.Errorf("%q as %s: got %v, want an error", in, kind, got)
		}
	}
}

// No text makes the parser panic, and what it takes the library takes too: the
// same number of samples, or it was more careful.
func FuzzParseText(f *testing.F) {
	f.Add(text)
	f.Add("a{b=\"c\"} 1 2 # {x=\"y\"} 3\n# EOF\n")
	f.Add("{\"a.b\",c=\"d\"} 1\n")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := parseText(strings.NewReader(in), every, false)
		if err != nil {
			return
		}
		for _, x := range got {
			if len(x.labels) == 0 || x.labels[0].Name != "__name__" {
				t.Errorf("%q: a sample without a name: %v", in, x.labels)
			}
		}
	})
}

// The real client library, asked for protobuf: native histograms, counters that
// say when they were created.
func TestReadRealClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().UTC()
		now := func() time.Time { return time.Now() }
		handlers := map[string]http.Handler{}
		hists := map[string]*client.HistogramVec{}
		begin := func(host string) {
			reg := client.NewRegistry()
			h := client.NewHistogramVec(client.HistogramOpts{Name: "latency_seconds", NativeHistogramBucketFactor: 1.1, Buckets: client.DefBuckets}, []string{"path"})
			reg.MustRegister(h)
			handlers[host], hists[host] = promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), h
		}
		begin("blue:80")
		begin("green:80")
		mux := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h, ok := handlers[r.URL.Host]
			if !ok {
				http.NotFound(w, r)
				return
			}
			h.ServeHTTP(w, r)
		})
		s, err := New(Config{
			Targets: map[string]map[string][]string{"recs": {"blue": {"http://blue:80/"}, "green": {"dns+http://green-svc:80/"}}},
			Client:  &http.Client{Transport: &analysistest.Transport{Handler: mux}},
			LookupHost: func(_ context.Context, _ string) ([]string, error) {
				var out []string
				for h := range handlers {
					if strings.HasPrefix(h, "green") {
						out = append(out, strings.TrimSuffix(h, ":80"))
					}
				}
				return out, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		m := analysis.Metric{Name: "latency", Histogram: &analysis.Histogram{Series: "latency_seconds", Unit: "s"}}
		read := func(from, to time.Duration) analysis.Reading {
			t.Helper()
			time.Sleep(time.Until(start.Add(to)))
			r := read(t, s, analysis.Query{Metric: m, Names: names, From: start.Add(from), To: start.Add(to), Cuts: []float64{0.45}})
			if r.Status != analysis.StatusOK {
				t.Fatalf("got %s: %s", r.Status, r.Reason)
			}
			return r
		}
		observe := func(host string, ms ...int) {
			for _, x := range ms {
				hists[host].WithLabelValues("/").Observe(float64(x) / 1000)
			}
		}
		time.Sleep(time.Hour) // the processes are old when the rollout begins
		start = now().UTC()
		observe("blue:80", 10, 1000)
		observe("green:80", 10, 1000)
		read(-time.Minute, 0)
		observe("blue:80", 100, 200, 430, 600)
		observe("green:80", 700, 800, 0)
		time.Sleep(5 * time.Second)
		begin("green-2:80") // born now, and it says so
		observe("green-2:80", 900)
		r := read(0, 15*time.Second)
		below, above := math.Exp2(-10.0/8), math.Exp2(-9.0/8) // 0.42 and 0.459: a factor of 1.1 is schema 3
		if d := cmp.Diff([]analysis.Bucket{{Upper: below, Count: 2}, {Upper: above, Count: 1}}, r.Stable.Buckets); d != "" || r.Stable.N != 4 {
			t.Errorf("blue: got n=%v, want 4; buckets (-want +got):\n%s", r.Stable.N, d)
		}
		if d := cmp.Diff([]analysis.Bucket{{Upper: below, Count: 1}, {Upper: above, Count: 0}}, r.Candidate.Buckets); d != "" || r.Candidate.N != 4 || len(r.Candidate.Instances) != 2 {
			t.Errorf("green: got %+v, want n=4 of two instances; buckets (-want +got):\n%s", r.Candidate, d)
		}
	})
}

// A histogram that is both is its native one; a native one that makes no sense
// is refused.
func TestSpreadNative(t *testing.T) {
	u := func(n uint64) *uint64 { return &n }
	i := func(n int32) *int32 { return &n }
	fl := func(x float64) *float64 { return &x }
	good := &dto.Histogram{
		SampleCount: u(7), SampleSum: fl(3), Schema: i(0), ZeroThreshold: fl(0.001), ZeroCount: u(1),
		PositiveSpan:  []*dto.BucketSpan{{Offset: i(-1), Length: new(uint32(2))}, {Offset: i(1), Length: new(uint32(1))}},
		PositiveDelta: []int64{2, 1, -2}, // 2 in (1/4, 1/2], 3 in (1/2, 1], 1 in (2, 4]
		Bucket:        []*dto.Bucket{{UpperBound: fl(1), CumulativeCount: u(6)}},
	}
	xs, err := spread(nil, "h", &dto.Metric{Histogram: good}, every)
	if err != nil {
		t.Fatal(err)
	}
	var buckets []string
	for _, x := range xs {
		if strings.HasSuffix(x.labels.Get("__name__"), "_bucket") {
			t.Errorf("got the classic bucket %v beside the native histogram", x.labels)
		}
		if x.native != nil {
			for _, b := range x.native.Buckets {
				buckets = append(buckets, fmt.Sprintf("(%.4g,%.4g]=%v", b.Lower, b.Upper, b.Count))
			}
		}
	}
	if d := cmp.Diff([]string{"(-0.001,0.001]=1", "(0.25,0.5]=2", "(0.5,1]=3", "(2,4]=1"}, buckets); d != "" {
		t.Errorf("buckets (-want +got):\n%s", d)
	}
	bad := &dto.Histogram{SampleCount: u(1), Schema: i(0), PositiveSpan: []*dto.BucketSpan{{Offset: i(0), Length: new(uint32(1 << 30))}}, PositiveDelta: []int64{1}}
	if _, err := spread(nil, "h", &dto.Metric{Histogram: bad}, every); err == nil {
		t.Error("spans that are longer than the buckets: got no error")
	}
	odd := &dto.Histogram{SampleCount: u(1), Schema: i(-53), ZeroThreshold: fl(1)}
	if _, err := spread(nil, "h", &dto.Metric{Histogram: odd}, every); err == nil {
		t.Error("schema -53: got no error")
	}
}

// Compressed answers are bounded after they were unpacked.
func TestReadBoundsCompressed(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Error("no compression was asked for")
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(bomb(t))
	}))
	defer srv.Close()
	s, err := New(Config{Targets: map[string]map[string][]string{"recs": {"blue": {srv.URL}, "green": {srv.URL}}}, Client: srv.Client(), MaxBytes: 1 << 20, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	r := read(t, s, analysis.Query{Metric: failures, Names: names, From: time.Now().Add(-time.Minute), To: time.Now()})
	if r.Status != analysis.StatusError || !strings.Contains(r.Reason, "larger than 1048576 bytes") {
		t.Errorf("got %s (%s), want an error about the size", r.Status, r.Reason)
	}
}

// bomb is 4 MiB of comments in a few kilobytes.
func bomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	line := []byte("# " + strings.Repeat("x", 1022) + "\n")
	for range 4 << 10 {
		if _, err := z.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
