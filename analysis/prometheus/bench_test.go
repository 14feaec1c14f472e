package prometheus

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/realtest"
)

// benchBounds are the buckets of every histogram, with +Inf twelve.
var benchBounds = []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"}

// load writes a block of 10 minutes of samples, one every 15 s, of 2 deployments
// with 2 counters and 12 buckets an endpoint, and returns its folder and its end.
func load(b *testing.B, endpoints int) (dir string, end time.Time) {
	b.Helper()
	bin := realtest.Program(b, "promtool")
	dir = b.TempDir()
	end = time.Now().Truncate(2 * time.Hour).Add(-time.Hour)
	file := filepath.Join(dir, "samples.om")
	f, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	const samples = 40
	line := func(name, labels string, rate int) {
		for i := range samples {
			t := end.Add(time.Duration(i-samples+1) * 15 * time.Second)
			_, _ = fmt.Fprintf(w, "%s{%s} %d %d\n", name, labels, 1000+rate*i, t.Unix())
		}
	}
	_, _ = fmt.Fprintln(w, "# TYPE http_requests counter")
	each(endpoints, func(labels string) {
		line("http_requests_total", labels+`,code="200"`, 300)
		line("http_requests_total", labels+`,code="503"`, 3)
	})
	_, _ = fmt.Fprintln(w, "# TYPE latency_seconds histogram")
	each(endpoints, func(labels string) {
		for i, le := range benchBounds {
			line("latency_seconds_bucket", labels+`,le="`+le+`"`, 25*(i+1))
		}
	})
	_, _ = fmt.Fprintln(w, "# EOF")
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	_ = f.Close()
	data := filepath.Join(dir, "data")
	if out, err := exec.Command(bin, "tsdb", "create-blocks-from", "openmetrics", file, data).CombinedOutput(); err != nil {
		b.Fatalf("promtool: %v\n%s", err, out)
	}
	return data, end
}

func each(endpoints int, f func(labels string)) {
	for e := range endpoints {
		for _, d := range []string{"blue", "green"} {
			f(fmt.Sprintf(`endpoint="ep%04d",deployment=%q,instance="10.0.%d.%d:80",job="serving"`, e, d, e/250, e%250))
		}
	}
}

// A meter counts requests and the bytes of their answers.
type meter struct{ requests, bytes atomic.Int64 }

func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	m.requests.Add(1)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		resp.Body = &metered{resp.Body, m}
	}
	return resp, err
}

type metered struct {
	io.ReadCloser
	m *meter
}

func (x *metered) Read(p []byte) (int, error) {
	n, err := x.ReadCloser.Read(p)
	x.m.bytes.Add(int64(n))
	return n, err
}

// cpu is the processor time that a process has used, in seconds.
func cpu(b *testing.B, p *realtest.Server) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		b.Fatalf("no processor time to be had: %v", err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

// BenchmarkRealEvaluation is one evaluation of a failure and a p95 guardrail of all
// endpoints, 30 s after the one before: merged, as Read does it, and apart, one
// query a guardrail's series and deployment, eight at a time.
func BenchmarkRealEvaluation(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			data, end := load(b, n)
			server := realtest.Prometheus(b, "scrape_configs: []\n", "--storage.tsdb.path="+data, "--storage.tsdb.retention.time=10y")
			m := &meter{}
			s, err := New(Config{URL: server.URL, Client: &http.Client{Transport: m}})
			if err != nil {
				b.Fatal(err)
			}
			ms := metrics()
			var qs []analysis.Query
			for e := range n {
				names := analysis.Names{Endpoint: fmt.Sprintf("ep%04d", e), Stable: "blue", Candidate: "green"}
				for _, k := range []analysis.Kind{analysis.KindCounts, analysis.KindHistogram} {
					qs = append(qs, analysis.Query{Metric: ms[k], Names: names, From: end.Add(-30 * time.Second), To: end, Cuts: []float64{0.45}})
				}
			}
			run := func(name string, f func()) {
				b.Run(name, func(b *testing.B) {
					f() // what is only looked up once is not part of it
					m.requests.Store(0)
					m.bytes.Store(0)
					before := cpu(b, server)
					for b.Loop() {
						f()
					}
					n := float64(b.N)
					b.ReportMetric(float64(m.requests.Load())/n, "requests/op")
					b.ReportMetric(float64(m.bytes.Load())/n/1e6, "MB/op")
					b.ReportMetric((cpu(b, server)-before)/n, "server-s/op")
				})
			}
			run("merged", func() { merged(b, s, qs) })
			run("apart", func() { apart(b, s, qs) })
		})
	}
}

func merged(b *testing.B, s *Source, qs []analysis.Query) {
	rs, err := s.Read(b.Context(), qs)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range rs {
		if r.Status != analysis.StatusOK || !r.Stable.Fresh || r.Candidate.N == 0 {
			b.Fatalf("got %+v, want a full reading", r)
		}
	}
}

// apart asks for the same windows of the same series, without merging.
func apart(b *testing.B, s *Source, qs []analysis.Query) {
	var wg sync.WaitGroup
	free := make(chan struct{}, 8)
	for _, q := range qs {
		names := []string{`http_requests_total{endpoint=%q,deployment=%q}[80s]`, `http_requests_total{endpoint=%q,deployment=%q,code=~"5.."}[80s]`}
		if q.Metric.Histogram != nil {
			names = []string{`latency_seconds_bucket{endpoint=%q,deployment=%q}[80s]`}
		}
		for _, expr := range names {
			for _, d := range []string{"blue", "green"} {
				free <- struct{}{}
				wg.Go(func() {
					defer func() { <-free }()
					r, err := s.api.query(b.Context(), fmt.Sprintf(expr, q.Names.Endpoint, d), q.To, 0)
					if err != nil || len(r.series) == 0 {
						b.Errorf("got %v, want series", err)
					}
				})
			}
		}
	}
	wg.Wait()
}
