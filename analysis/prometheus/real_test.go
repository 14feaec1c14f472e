package prometheus

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/realtest"
)

func TestMain(m *testing.M) { os.Exit(realtest.Main(m)) }

// A process is one exporter, whose counters move when it is scraped and only
// then: what was handed over is known exactly.
type process struct {
	*httptest.Server
	mu sync.Mutex
	// ok and bad are the process's counters; given what was ever handed over
	// after its first scrape.
	ok, bad           float64
	givenOK, givenBad float64
	deployment        string
	scrapes           int
	stopped           bool
	// badFrom is the scrape at which the first failure happens.
	badFrom int
	handler http.Handler
	reg     *client.Registry
	hists   [2]*client.HistogramVec // native and classic
	slow    map[float64]float64
}

func startProcess(t *testing.T, deployment string, badFrom int) *process {
	p := &process{deployment: deployment, badFrom: badFrom, slow: map[float64]float64{}}
	p.restart()
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// restart is a new process at the same address.
func (p *process) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ok, p.bad = 0, 0
	p.reg = client.NewRegistry()
	labels := []string{"endpoint", "deployment"}
	p.hists[0] = client.NewHistogramVec(client.HistogramOpts{Name: "native_latency_seconds", NativeHistogramBucketFactor: 1.1}, labels)
	p.hists[1] = client.NewHistogramVec(client.HistogramOpts{Name: "classic_latency_seconds", Buckets: client.DefBuckets}, labels)
	p.reg.MustRegister(p.hists[0], p.hists[1])
	p.reg.MustRegister(&counters{p: p})
	p.handler = promhttp.HandlerFor(p.reg, promhttp.HandlerOpts{})
}

// counters are the process's two counters; a code that never happened is not there.
type counters struct{ p *process }

func (c *counters) Describe(chan<- *client.Desc) {}

func (c *counters) Collect(ch chan<- client.Metric) {
	d := client.NewDesc("http_requests_total", "Requests.", []string{"endpoint", "deployment", "code"}, nil)
	ch <- client.MustNewConstMetric(d, client.CounterValue, c.p.ok, "recs", c.p.deployment, "200")
	if c.p.bad > 0 {
		ch <- client.MustNewConstMetric(d, client.CounterValue, c.p.bad, "recs", c.p.deployment, "503")
	}
}

func (p *process) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.scrapes == 0
	p.scrapes++
	if !p.stopped {
		ok, bad := 30+float64(p.scrapes%7), 0.0
		if p.scrapes >= p.badFrom {
			bad = 1 + float64(p.scrapes%3)
		}
		p.ok += ok
		p.bad += bad
		for i := range 40 {
			latency := 0.01 * float64(i+1) * float64(1+p.scrapes%5)
			for _, h := range p.hists {
				h.WithLabelValues("recs", p.deployment).Observe(latency)
			}
			if !first {
				p.slow[latency]++
			}
		}
		if !first {
			p.givenOK += ok
			p.givenBad += bad
		}
	}
	p.handler.ServeHTTP(w, r)
}

func (p *process) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

func (p *process) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = false
}

// given is what was handed over after the first scrape, and how much of it was bad.
func (p *process) given() (n, k float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.givenOK + p.givenBad, p.givenBad
}

func (p *process) target() string { return strings.TrimPrefix(p.URL, "http://") }

// writeTargets makes the processes the targets of a file for discovery.
func writeTargets(t *testing.T, file string, ps ...*process) {
	t.Helper()
	var hosts []string
	for _, p := range ps {
		hosts = append(hosts, p.target())
	}
	b, err := json.Marshal([]map[string]any{{"targets": hosts}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// Against the real server, with a scrape every second: steady, restarted, vanished and
// new-born series and targets, failures that begin late, classic counters and
// native histograms. What Belay counts is what was handed over, to the last
// request, and what increase() says is shown beside it.
func TestRealExactness(t *testing.T) {
	if testing.Short() {
		t.Skip("a real prometheus is scraped for half a minute")
	}
	t.Parallel() // it mostly waits for scrapes
	steady := startProcess(t, "blue", 1)
	late := startProcess(t, "blue", 12) // its first failure comes in the middle
	restarted := startProcess(t, "green", 1)
	vanished := startProcess(t, "green", 1)
	born := startProcess(t, "green", 1)

	sd := filepath.Join(t.TempDir(), "targets.json")
	targets := func(ps ...*process) { writeTargets(t, sd, ps...) }
	targets(steady, late, restarted, vanished)
	url := realtest.Prometheus(t, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: demo, file_sd_configs: [{files: [%q], refresh_interval: 1s}]}]
`, sd), "--enable-feature=native-histograms").URL

	s, err := New(Config{URL: url, Client: &http.Client{}})
	if err != nil {
		t.Fatal(err)
	}
	counts := metrics()[analysis.KindCounts]
	latency := func(kind string) analysis.Metric {
		return analysis.Metric{Name: kind, Histogram: &analysis.Histogram{Series: kind + `_latency_seconds{endpoint="${endpoint}"}`, Unit: "s", Deployment: "deployment", Instance: "instance"}}
	}
	rate := analysis.Metric{Name: "rate", Counts: &analysis.Counts{Bad: `http_requests_total{endpoint="${endpoint}",code="200"}`, Per: time.Hour, Deployment: "deployment", Instance: "instance"}}
	begin := time.Now().Truncate(time.Second).UTC()
	cursors := map[string]time.Time{"rate": begin, "failures": begin, "native": begin, "classic": begin}
	sums := map[string]map[string]analysis.Sample{"rate": {}, "failures": {}, "native": {}, "classic": {}}
	bounds := map[string][]float64{}
	for tick := range 15 {
		switch tick {
		case 4:
			restarted.restart()
		case 6:
			targets(steady, late, restarted, born) // one goes, one comes
		case 12:
			for _, p := range []*process{steady, late, restarted, vanished, born} {
				p.stop()
			}
		}
		time.Sleep(2 * time.Second)
		now := time.Now().Truncate(time.Second).UTC()
		names := analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}
		rs, err := s.Read(t.Context(), []analysis.Query{
			{Metric: counts, Names: names, From: cursors["failures"], To: now},
			{Metric: rate, Names: names, From: cursors["rate"], To: now},
			{Metric: latency("native"), Names: names, From: cursors["native"], To: now, Cuts: []float64{0.45}},
			{Metric: latency("classic"), Names: names, From: cursors["classic"], To: now, Cuts: []float64{0.45}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Status != analysis.StatusOK {
				t.Fatalf("tick %d: %s: %s", tick, r.Metric, r.Reason)
			}
			if !r.To.After(r.From) {
				continue
			}
			cursors[r.Metric] = r.To
			for _, x := range []analysis.Sample{r.Stable, r.Candidate} {
				for _, i := range x.Instances {
					y := sums[r.Metric][i.Name]
					y.N, y.K = y.N+i.N, y.K+i.K
					if r.Metric == "native" || r.Metric == "classic" {
						y.K += slower(i.Sample, 0.45)
						if b := boundsAround(x, 0.45); b != nil {
							bounds[r.Metric] = b
						}
					}
					sums[r.Metric][i.Name] = y
				}
			}
		}
	}

	t.Logf("%-9s  %7s  %7s  %12s", "series", "true", "counted", "increase()")
	for name, p := range map[string]*process{"steady": steady, "late": late, "restarted": restarted, "vanished": vanished, "born": born} {
		got := sums["failures"][p.target()]
		inc := increase(t, s, fmt.Sprintf(`sum(increase(http_requests_total{instance=%q}[%ds]))`, p.target(), int(cursors["failures"].Sub(begin).Seconds())), cursors["failures"])
		t.Logf("%-9s  %7v  %7v  %12s", name, p.givenOK+p.givenBad, got.N, inc)
		if got.N != p.givenOK+p.givenBad || got.K != p.givenBad {
			t.Errorf("%s: counted n=%v k=%v, true n=%v k=%v", name, got.N, got.K, p.givenOK+p.givenBad, p.givenBad)
		}
		if got := sums["rate"][p.target()]; got.K != p.givenOK || got.N <= 0 || got.N > cursors["rate"].Sub(begin).Hours()*analysis.Trials {
			t.Errorf("%s: counted k=%v in %v trials, true k=%v in at most %s", name, got.K, got.N, p.givenOK, cursors["rate"].Sub(begin))
		}
		for _, kind := range []string{"native", "classic"} {
			b := bounds[kind]
			var n, k float64
			for latency, c := range p.slow {
				n += c
				if len(b) == 2 && latency > b[1] {
					k += c
				}
			}
			h := sums[kind][p.target()]
			t.Logf("%-9s  %7v  %7v  %s histogram, %v slower than the second of %v, true %v", name, n, h.N, kind, h.K, b, k)
			if h.N != n || h.K != k || len(b) != 2 {
				t.Errorf("%s %s: counted n=%v slow=%v at %v, true n=%v slow=%v", name, kind, h.N, h.K, b, n, k)
			}
		}
	}
}

// boundsAround are the bounds next to the cut.
func boundsAround(x analysis.Sample, cut float64) []float64 {
	var out []float64
	for i, b := range x.Buckets {
		if b.Upper > cut && i > 0 {
			return []float64{x.Buckets[i-1].Upper, b.Upper}
		}
	}
	return out
}

// slower counts the events above the first bound beyond the cut.
func slower(x analysis.Sample, cut float64) float64 {
	n := x.N
	for _, b := range x.Buckets {
		n -= b.Count
		if b.Upper > cut {
			break
		}
	}
	return n
}

func increase(t *testing.T, s *Source, expr string, at time.Time) string {
	t.Helper()
	r, err := s.api.query(t.Context(), expr, at, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.series) != 1 {
		return "missing"
	}
	return fmt.Sprintf("%.2f", r.series[0].Points[0].V)
}

// Prometheus 2 takes no quoted names; the error says what to write instead.
// Prometheus 3 takes them, and finds nothing here.
func TestRealQuotedName(t *testing.T) {
	t.Parallel()
	url := realtest.Prometheus(t, "scrape_configs: []\n").URL
	s, err := New(Config{URL: url, Client: &http.Client{}})
	if err != nil {
		t.Fatal(err)
	}
	m := analysis.Metric{Name: "x", Counts: &analysis.Counts{Total: `{"http.requests"}`, Bad: `{"http.requests",code="503"}`, Deployment: "deployment"}}
	rs, err := s.Read(t.Context(), []analysis.Query{{Metric: m, Names: namesOf("recs"), From: time.Now().Add(-time.Minute), To: time.Now()}})
	if err != nil {
		t.Fatal(err)
	}
	if r := rs[0]; r.Status == analysis.StatusError && !strings.Contains(r.Reason, "take no quoted names") {
		t.Errorf("got %s, want the cure", r.Reason)
	}
}
