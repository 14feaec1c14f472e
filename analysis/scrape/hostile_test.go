package scrape

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/belayd/belay/analysis"
)

const protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

// family is one metric family on the wire: a name and so many metrics.
func family(name string, metric []byte, n int) []byte {
	b := protowire.AppendString(protowire.AppendTag(nil, fieldName, protowire.BytesType), name)
	one := protowire.AppendBytes(protowire.AppendTag(nil, fieldMetric, protowire.BytesType), metric)
	b = append(b, bytes.Repeat(one, n)...)
	return append(protowire.AppendVarint(nil, uint64(len(b))), b...)
}

// A candidate writes its own /metrics. Whatever it says of its lengths, and however
// small the parts are of which it claims millions, what is allocated is bounded.
func TestHostileExpositions(t *testing.T) {
	labels := bytes.Repeat([]byte{0x0a, 0x00}, 4<<20) // empty labels, two bytes each
	for name, c := range map[string]struct{ kind, body, want string }{
		"a length of all ones":   {protobuf, "\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "a metric family of 9223372036854775807 bytes"},
		"a length of 64 GiB":     {protobuf, "\x80\x80\x80\x80\x80\x02", "a metric family of 68719476736 bytes"},
		"a length without end":   {protobuf, strings.Repeat("\xff", 20), "overflow"},
		"more than there is":     {protobuf, "\x80\x80\x80\x07abc", "ends in the middle"},
		"a million empty ones":   {protobuf, string(family("a", nil, 8<<20-64)), "more than 1000 metrics"},
		"empty counters":         {protobuf, string(family("a", []byte{0x1a, 0x00}, 1<<20)), "more than 1000 "},
		"empty labels":           {protobuf, string(family("a", labels, 1)), "a metric of 8388608 bytes"},
		"nonsense in a message":  {protobuf, "\x02\x0a\x7f", "no message"},
		"a text of many lines":   {"text/plain", strings.Repeat("a 1\n", 1<<20), "more than 1000 series"},
		"a line without an end":  {"text/plain", "a{x=\"" + strings.Repeat("x", 2<<20), "too long"},
		"created without an end": {"application/openmetrics-text", strings.Repeat("a_created 5\n", 1<<18), "# EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			keeps := filter{func(n string) bool { return n == "a" || n == "a_total" }, 1000}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := parse(strings.NewReader(c.body), http.Header{"Content-Type": {c.kind}}, keeps, "i", 0)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %d samples and %v, want an error that says %q", len(got), err, c.want)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 128<<20 {
				t.Errorf("%d MiB were allocated for %d bytes, want at most 128", took>>20, len(c.body))
			}
		})
	}
}

// No protobuf makes the parser panic, and what it takes is bounded and named.
func FuzzParseProto(f *testing.F) {
	reg := client.NewRegistry()
	h := client.NewHistogramVec(client.HistogramOpts{Name: "latency_seconds", NativeHistogramBucketFactor: 1.1, Buckets: client.DefBuckets}, []string{"path"})
	c := client.NewCounterVec(client.CounterOpts{Name: "a_total"}, []string{"code"})
	reg.MustRegister(h, c)
	for i := range 20 {
		h.WithLabelValues("/").Observe(float64(i) / 10)
		h.WithLabelValues("/b").Observe(-float64(i))
		c.WithLabelValues("200").Inc()
	}
	var wire bytes.Buffer
	families, err := reg.Gather()
	if err != nil {
		f.Fatal(err)
	}
	for _, x := range append(families, &dto.MetricFamily{}) {
		if _, err := protodelim.MarshalTo(&wire, x); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(wire.Bytes())
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))
	f.Add(family("a", []byte{0x1a, 0x00}, 3))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := parseProto(bytes.NewReader(in), filter{every.keeps, 50})
		if err != nil {
			return
		}
		if len(got) > 50 {
			t.Errorf("got %d samples, want at most 50", len(got))
		}
		for _, x := range got {
			if len(x.labels) == 0 || x.labels[0].Name != "__name__" {
				t.Errorf("a sample without a name: %v", x.labels)
			}
			if x.native != nil && len(x.native.Buckets) > 3*maxNative {
				t.Errorf("a histogram of %d buckets", len(x.native.Buckets))
			}
		}
	})
}

// An exporter that hands out figures of ten minutes ago says nothing new: the
// deployment is not fresh. Where only some are old, there is no reading.
func TestOldTimestamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPages(t, map[string][]string{"blue": {"http://blue-0:9100/metrics"}, "green": {"http://green-0:9100/metrics"}})
		line := func(code string, n int, age time.Duration) string {
			return fmt.Sprintf("http_requests_total{code=%q} %d %d\n", code, n, time.Now().Add(-age).UnixMilli())
		}
		q := analysis.Query{Metric: failures, Names: names, From: time.Now().UTC()}
		look := func(green func(n int) string) analysis.Reading {
			t.Helper()
			var r analysis.Reading
			for n := range 3 {
				p.text["blue-0:9100"], p.text["green-0:9100"] = line("200", 100*n, time.Second), green(100*n)
				q.To = time.Now().UTC()
				r = read(t, s, q)
				q.From = q.To
				time.Sleep(15 * time.Second)
			}
			return r
		}
		r := look(func(n int) string { return line("200", n, time.Minute) + line("503", n, time.Second) })
		if r.Status != analysis.StatusOK || !r.Candidate.Fresh || r.Candidate.N != 200 {
			t.Errorf("young timestamps: got %+v, want 200 requests", r)
		}
		r = look(func(n int) string { return line("200", n, 10*time.Minute) + line("503", n, 11*time.Minute) })
		if r.Status != analysis.StatusOK || r.Candidate.Fresh || !r.Stable.Fresh || r.Reason == "" {
			t.Errorf("old timestamps: got %+v, want a candidate that is not fresh", r)
		}
		r = look(func(n int) string { return line("200", n, time.Second) + line("503", n, 10*time.Minute) })
		if r.Status != analysis.StatusError || !strings.Contains(r.Reason, "hands out old figures") {
			t.Errorf("one old timestamp: got %s: %s, want an error that names the cause", r.Status, r.Reason)
		}
	})
}
