package blackbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
)

// exporters are the two deployments of many endpoints, of which one candidate after
// another begins to fail every other request.
type exporters struct {
	*httptest.Server
	mu sync.Mutex
	// broken is when an endpoint's candidate began to fail, and shown when a scrape first
	// showed that it fails at ten times the limit.
	broken, shown map[string]time.Time
}

func newExporters(t testing.TB) *exporters {
	x := &exporters{broken: map[string]time.Time{}, shown: map[string]time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{endpoint}/{deployment}", x.metrics)
	x.Server = httptest.NewServer(mux)
	t.Cleanup(x.Close)
	return x
}

// gross is how many failures a scrape of 5 s shows at ten times the limit of 1%.
const gross = 250

// metrics are those of a deployment with 500 requests a second.
func (x *exporters) metrics(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	name, now := r.PathValue("endpoint"), time.Now()
	n, failed := requests(), requests()/1000
	if at, ok := x.broken[name]; ok && r.PathValue("deployment") == "green" {
		bad := int64(now.Sub(at).Seconds() * 250)
		if failed += bad; bad >= gross && x.shown[name].IsZero() {
			x.shown[name] = now
		}
	}
	fmt.Fprintf(w, "# TYPE requests_total counter\nrequests_total %d\n# TYPE failed_total counter\nfailed_total %d\n", n, failed)
}

// startPrometheus starts a real one that scrapes every endpoint's deployments.
func startPrometheus(t testing.TB, x *exporters, scrape time.Duration, names []string) string {
	t.Helper()
	config := &strings.Builder{}
	fmt.Fprintf(config, "global: {scrape_interval: %s, scrape_timeout: %s}\nscrape_configs:\n", scrape, scrape)
	for _, name := range names {
		for _, d := range []string{"blue", "green"} {
			fmt.Fprintf(config, "  - {job_name: %s-%s, metrics_path: /%s/%s, static_configs: [{targets: [%q], labels: {endpoint: %s, deployment: %s}}]}\n",
				name, d, name, d, strings.TrimPrefix(x.URL, "http://"), name, d)
		}
	}
	return realtest.Prometheus(t, config.String()).URL
}

// BenchmarkReaction is the time from the first scrape that shows that half of the
// candidate's requests fail to the traffic call, through a real Prometheus and a belayd
// of its own process: scrapes of 5 s, readings of 10 s and of 30 s.
func BenchmarkReaction(b *testing.B) {
	const scrape = 5 * time.Second
	for _, interval := range []time.Duration{2 * scrape, 6 * scrape} {
		b.Run(interval.String(), func(b *testing.B) {
			took := react(b, scrape, interval, 12)
			goal := scrape*6/5 + time.Second
			if interval > 2*scrape {
				goal = interval*6/10 + time.Second
			}
			b.ReportMetric(took[len(took)/2].Seconds(), "median-s")
			b.ReportMetric(took[len(took)-1].Seconds(), "most-s")
			b.ReportMetric(goal.Seconds(), "goal-s")
			b.Logf("reactions at %s: %v", interval, took)
			if median := took[len(took)/2]; median > goal {
				b.Logf("missed: got a median of %s, want at most %s", median, goal)
			}
		})
	}
}

// react breaks the candidates of n endpoints one after another and returns how long each
// took to be rolled back, sorted.
func react(b *testing.B, scrape, interval time.Duration, n int) []time.Duration {
	var names, policies []string
	x := newExporters(b)
	for i := range n {
		name := fmt.Sprintf("recs%d", i)
		p := policy(name, name, "", "[{weight: 50%, bake: 1h}, {weight: 100%, bake: 1h}]")
		p = strings.Replace(p, "interval: 1s", "interval: "+interval.String(), 1)
		for _, series := range []string{"requests_total", "failed_total"} {
			p = strings.Replace(p, "'"+series+"'", fmt.Sprintf("'%s{endpoint=%q}'", series, name), 1)
		}
		names, policies = append(names, name), append(policies, strings.Replace(p, "source: pods", "source: prom", 1))
	}
	e := newEndpoints(b, names...)
	url := startPrometheus(b, x, scrape, names)
	w := prepare(b, e, "", policies...)
	w.write("belayd.yaml", strings.Replace(w.read("belayd.yaml"), "sources:\n", fmt.Sprintf("sources:\n  prom: {prometheus: {url: %q}}\n", url), 1))
	time.Sleep(3 * scrape)
	w.start()
	defer func() {
		if b.Failed() {
			b.Log(w.logs)
		}
	}()
	for _, name := range names {
		w.want(0, "", "start", "--policy", name, "--candidate", "green", "--version", "1", "--output", "name")
	}
	for _, name := range names {
		within(b, time.Minute, name+" is at 50%", func() bool { return e.green(name) == 50 })
	}
	time.Sleep(3 * interval)
	for i, name := range names {
		x.mu.Lock()
		x.broken[name] = time.Now()
		x.mu.Unlock()
		time.Sleep(interval*3/10 + time.Duration(i)*37*time.Millisecond)
	}
	var took []time.Duration
	for _, name := range names {
		within(b, 10*interval, name+" is rolled back", func() bool { return e.green(name) == 0 })
		x.mu.Lock()
		took = append(took, e.at(name).Sub(x.shown[name]).Round(100*time.Millisecond))
		x.mu.Unlock()
	}
	slices.Sort(took)
	return took
}

// within waits until it is so.
func within(b *testing.B, d time.Duration, what string, is func() bool) {
	b.Helper()
	for end := time.Now().Add(d); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%s: not within %s", what, d)
		}
	}
}
