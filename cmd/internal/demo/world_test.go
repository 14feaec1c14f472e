package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/webhook"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// live opens a world, runs it for the life of the test and returns it.
func live(t *testing.T, o Options) *World {
	t.Helper()
	o.Dir = t.TempDir()
	w, err := Open(o)
	if err != nil {
		t.Fatalf("Open(%+v): %v", o, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return w
}

// base is the endpoint's address.
func (w *World) base() string { return strings.TrimSuffix(w.load.url, "/score") }

// put writes weights over the contract.
func put(t *testing.T, w *World, match, weights string) (int, stateJSON) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, w.base()+"/endpoints/"+Endpoint, strings.NewReader(`{"weights":`+weights+`}`))
	if err != nil {
		t.Fatal(err)
	}
	if match != "" {
		req.Header.Set("If-Match", match)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var s stateJSON
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
			t.Fatal(err)
		}
	}
	return resp.StatusCode, s
}

// scrape reads one model server's counters: series name (with code) to value.
func scrape(t *testing.T, url string) map[string]float64 {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			switch {
			case m.GetHistogram() != nil:
				out[name] = float64(m.GetHistogram().GetSampleCount())
				for _, b := range m.GetHistogram().GetBucket() {
					out[fmt.Sprintf("%s{%v}", name, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			case m.GetCounter() != nil:
				for _, l := range m.GetLabel() {
					if l.GetName() == "code" {
						out[name+"{"+l.GetValue()+"}"] += m.GetCounter().GetValue()
					}
				}
				out[name] += m.GetCounter().GetValue()
			}
		}
	}
	return out
}

// The counters of a model server tell one story: as many requests as latencies,
// as many plays as answers, about 90% of them completed, and a bucket that ends
// at the policy's limit.
func TestModelMetricsAgree(t *testing.T) {
	w := live(t, Options{Speed: 4, Fault: FaultNone})
	url := "http://" + w.servers[0].listener.Addr().String()
	var got map[string]float64
	realtest.Eventually(t, "1500 requests", func() bool { got = scrape(t, url); return got["http_requests_total"] >= 1500 })
	n := got["http_requests_total"]
	if got["http_request_duration_seconds"] != n {
		t.Errorf("histogram: got %v observations, want %v", got["http_request_duration_seconds"], n)
	}
	if ok := n - got["http_requests_total{500}"]; got["plays_started_total"] != ok {
		t.Errorf("plays started: got %v, want one per answer: %v", got["plays_started_total"], ok)
	}
	if share := got["plays_completed_total"] / got["plays_started_total"]; share < 0.86 || share > 0.94 {
		t.Errorf("completed share: got %.3f, want about %v", share, watchedShare)
	}
	if share := got["http_requests_total{500}"] / n; share > 0.006 {
		t.Errorf("failure share: got %.4f, want at most about %v", share, failureShare)
	}
	limit := Speed(4).scale(latencyLimit).Seconds()
	if _, ok := got[fmt.Sprintf("http_request_duration_seconds{%v}", limit)]; !ok {
		t.Fatalf("no bucket at the policy's limit %v: %v", limit, got)
	}
}

// A machine that lets every request wait for a minute changes neither a model server's
// figures nor the endpoint's own log: both tell what the model took.
func TestBusyMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModelServer(Candidate, CandidateVersion, 1)
		var drawn time.Duration
		m.wait = func(ctx context.Context, d time.Duration) error {
			drawn = d
			return pause(ctx, d+time.Minute)
		}
		answered := httptest.NewRecorder()
		m.score(answered, httptest.NewRequest(http.MethodPost, "/score", nil))
		families, err := m.gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "http_request_duration_seconds" {
				continue
			}
			if got, want := f.GetMetric()[0].GetHistogram().GetSampleSum(), drawn.Seconds(); got != want {
				t.Errorf("latency: got %v s, want the %v s that the model took", got, want)
			}
		}
		if got := took(answered.Header(), time.Hour); (got - drawn).Abs() > time.Microsecond {
			t.Errorf("the endpoint's log: got %s, want %s", got, drawn)
		}
	})
}

// Latencies are drawn as promised: 5% above 180 ms, about 0.025% above the limit,
// all divided by the speed.
func TestLatencyDistribution(t *testing.T) {
	for _, speed := range []Speed{1, 4} {
		m := newModelServer(Stable, StableVersion, speed)
		const n = 200_000
		slow, over := 0, 0
		for range n {
			d := m.draw(1)
			if d > speed.scale(latencyP95) {
				slow++
			}
			if d > speed.scale(latencyLimit) {
				over++
			}
		}
		if share := float64(slow) / n; share < 0.045 || share > 0.055 {
			t.Errorf("speed %v: share above the p95: got %.4f, want 0.05", speed, share)
		}
		if share, want := float64(over)/n, FaultLatency.usual(); share < want*0.6 || share > want*1.5 {
			t.Errorf("speed %v: share above the limit: got %.5f, want %.5f", speed, share, want)
		}
	}
}

// The endpoint keeps the webhook router's contract: versions, If-Match, sums.
func TestContract(t *testing.T) {
	w := live(t, Options{Speed: 1, Fault: FaultNone})
	resp, err := http.Get(w.base() + "/endpoints/" + Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var first stateJSON
	if err := json.NewDecoder(resp.Body).Decode(&first); err != nil {
		t.Fatal(err)
	}
	if first.Weights[Stable] != 100 || first.ScoringURI != w.base()+"/score" || !first.Deployments[Candidate].Ready {
		t.Fatalf("state: got %+v", first)
	}
	code, second := put(t, w, `"`+first.Version+`"`, `{"blue":95,"green":5}`)
	if code != http.StatusOK || second.Weights[Candidate] != 5 || second.Version == first.Version {
		t.Fatalf("put with the present version: got %d %+v", code, second)
	}
	for _, c := range []struct {
		match, weights string
		want           int
	}{
		{`"` + first.Version + `"`, `{"blue":75,"green":25}`, http.StatusPreconditionFailed},
		{`"x"`, `{"blue":75,"green":25}`, http.StatusPreconditionFailed},
		{"", `{"blue":75,"green":26}`, http.StatusUnprocessableEntity},
		{"", `{"blue":101,"green":-1}`, http.StatusUnprocessableEntity},
		{"", `{"red":100}`, http.StatusUnprocessableEntity},
		{"", `null`, http.StatusBadRequest},
	} {
		if got, _ := put(t, w, c.match, c.weights); got != c.want {
			t.Errorf("put %s with If-Match %s: got %d, want %d", c.weights, c.match, got, c.want)
		}
	}
	if got := w.Weights(); got[Stable] != 95 || got[Candidate] != 5 {
		t.Errorf("after refused writes: got %v, want 95/5", got)
	}
}

// The traffic follows the weights, as the endpoint's own log shows.
func TestTrafficFollowsWeights(t *testing.T) {
	w := live(t, Options{Speed: 4, Fault: FaultNone})
	from := time.Now()
	if code, _ := put(t, w, "", `{"blue":40,"green":60}`); code != http.StatusOK {
		t.Fatalf("put: got %d", code)
	}
	var got Facts
	realtest.Eventually(t, "1500 requests in the log", func() bool {
		got = facts(t, w, from, time.Now())
		return got.Served > 1500
	})
	if share := float64(got.Candidate) / float64(got.Served); share < 0.54 || share > 0.66 {
		t.Errorf("candidate's share: got %.3f, want about 0.60", share)
	}
}

// facts reads the world's log over a span of the test's own.
func facts(t *testing.T, w *World, from, to time.Time) Facts {
	t.Helper()
	if err := w.log.flush(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(w.RequestLog)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readFacts(bytes.NewReader(b), w.opts.Fault, w.opts.Speed, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Each fault begins with the candidate's 25%, not before, and shows where it
// should: in the log, or in the metrics, or in the weights.
func TestFaultsBeginAt25Percent(t *testing.T) {
	for _, f := range Faults {
		if f == FaultNone {
			continue
		}
		t.Run(string(f), func(t *testing.T) {
			w := live(t, Options{Speed: 4, Fault: f})
			put(t, w, "", `{"blue":95,"green":5}`)
			if _, begun := w.FaultAt(); begun {
				t.Fatal("the fault began at 5%")
			}
			put(t, w, "", `{"blue":75,"green":25}`)
			candidate := "http://" + w.servers[1].listener.Addr().String()
			switch f {
			case FaultNoData:
				if got := scrape(t, candidate); len(got) != 0 {
					t.Errorf("metrics of a silent candidate: got %v, want none of its series", got)
				}
			case FaultForeignChange:
				realtest.Eventually(t, "traffic off", func() bool { return len(w.Weights()) == 0 })
				realtest.Eventually(t, "refused requests", func() bool { return facts(t, w, time.Time{}, time.Now()).Bad > 20 })
			case FaultNone, FaultFailures, FaultLatency, FaultBusiness:
				realtest.Eventually(t, "bad requests well above the usual", func() bool {
					got := facts(t, w, time.Time{}, time.Now())
					return got.Candidate > 100 && float64(got.Bad) > 20+2*got.Expected
				})
			}
			put(t, w, "", `{"blue":100}`)
			back, ok := w.BackAt()
			at, begun := w.FaultAt()
			if !ok || !begun || !back.After(at) {
				t.Errorf("BackAt: got %v %v after a fault at %v %v", back, ok, at, begun)
			}
		})
	}
}

// A release message waits on the stream, as a CloudEvent, for whoever consumes it.
func TestPublish(t *testing.T) {
	w := live(t, Options{Speed: 1, Fault: FaultNone})
	for range 2 { // a pipeline that announces twice is stored once
		if err := w.Publish(t.Context()); err != nil {
			t.Fatalf("Publish: %v", err)
		}
	}
	nc, err := nats.Connect(w.nats.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("messages on the stream: got %d, want 1", n)
	}
	msg, err := s.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var event struct {
		ID, Source string
		Data       map[string]string
	}
	if err := json.Unmarshal(msg.Data, &event); err != nil {
		t.Fatal(err)
	}
	if event.ID == "" || event.Source == "" || event.Data["deployment"] != Candidate || event.Data["policy"] != PolicyName {
		t.Errorf("event: got %+v", event)
	}
}

// The pager shows a page that Belay's own notifier signed, once, and notes it in
// its file; a notice that is no page is taken and not shown, a forged one is
// refused.
func TestPager(t *testing.T) {
	shown := make(chan Page, 4)
	w := live(t, Options{Speed: 1, Fault: FaultNone, Show: func(p Page) { shown <- p }})
	url := "http://" + w.servers[3].listener.Addr().String() + "/pages"
	secret, err := os.ReadFile(w.PagerSecret)
	if err != nil {
		t.Fatal(err)
	}
	c, err := webhook.New(webhook.Config{URL: url, Secret: string(secret), Client: http.DefaultClient})
	if err != nil {
		t.Fatal(err)
	}
	page := notifier.Notice{Key: "k2", Delivery: "d2", Topic: notifier.TopicPage, Severity: notifier.SeverityCritical, Summary: "recs is being rolled back"}
	for _, n := range []notifier.Notice{{Key: "k1", Delivery: "d1", Topic: notifier.TopicStatus, Summary: "baking"}, page, page} {
		if _, err := c.Notify(t.Context(), n); err != nil {
			t.Errorf("Notify(%s): %v", n.Key, err)
		}
	}
	if p := <-shown; p.Summary != page.Summary || len(w.PagesReceived()) != 1 {
		t.Errorf("shown: got %+v of %d, want one page", p, len(w.PagesReceived()))
	}
	if b, err := os.ReadFile(w.Pages); err != nil || strings.Count(string(b), "PAGE [critical] recs is being rolled back") != 1 {
		t.Errorf("pages.log: got %q, %v", b, err)
	}
	forger, err := webhook.New(webhook.Config{URL: url, Secret: "sixteen bytes of another", Client: http.DefaultClient})
	if err != nil {
		t.Fatal(err)
	}
	page.Delivery = "d3"
	if _, err := forger.Notify(t.Context(), page); err == nil || len(w.PagesReceived()) != 1 {
		t.Errorf("forged page: got %v and %d pages, want an error and 1", err, len(w.PagesReceived()))
	}
}
