package prometheus

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/realtest"
)

// A relay stands between a Prometheus that writes to another and that other: it
// takes everything at once and hands it on late, in order, or not at all.
type relay struct {
	*httptest.Server
	mu    sync.Mutex
	queue []written
	// holds keeps everything back until it is false; drops is how many batches are
	// lost from now on.
	holds bool
	drops int
}

type written struct {
	header http.Header
	body   []byte
}

func startRelay(t *testing.T, to string) *relay {
	r := &relay{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Errorf("read what was written: %v", err)
		}
		r.mu.Lock()
		r.queue = append(r.queue, written{q.Header.Clone(), body})
		r.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				r.handOn(t, to)
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		wg.Wait()
		r.Close()
	})
	return r
}

// handOn writes what has come on to the other server.
func (r *relay) handOn(t *testing.T, to string) {
	r.mu.Lock()
	var out []written
	if !r.holds {
		out, r.queue = r.queue, nil
	}
	n := min(r.drops, len(out))
	out, r.drops = out[n:], r.drops-n
	r.mu.Unlock()
	for _, x := range out {
		req, err := http.NewRequest(http.MethodPost, to+"/api/v1/write", bytes.NewReader(x.body))
		if err != nil {
			t.Error(err)
			return
		}
		for _, h := range []string{"Content-Type", "Content-Encoding", "X-Prometheus-Remote-Write-Version"} {
			req.Header.Set(h, x.header.Get(h))
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return // the test is over
		}
		_ = resp.Body.Close()
	}
}

func (r *relay) set(holds bool, drops int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds, r.drops = holds, r.drops+drops
}

// writer is the config of a Prometheus that scrapes the processes every second and
// writes to the relay; more is added to its external labels, rules to its metrics.
func writer(r *relay, more, rules string, ps ...*process) string {
	var hosts []string
	for _, p := range ps {
		hosts = append(hosts, fmt.Sprintf("%q", p.target()))
	}
	return fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, external_labels: {%s}}
scrape_configs: [{job_name: demo, static_configs: [{targets: [%s]}], metric_relabel_configs: [%s]}]
remote_write: [{url: %q, queue_config: {batch_send_deadline: 200ms, max_shards: 1}}]
`, more, strings.Join(hosts, ","), rules, r.URL)
}

// Against real servers that write to one real store: samples that come late, in
// bulk and not at all, a restart meanwhile, a label that everything gets at once,
// and a second writer of the same targets. What is counted is what was handed over
// to the last request, or a scrape or two less where the label came, or an error.
func TestRealLate(t *testing.T) {
	if testing.Short() {
		t.Skip("four real servers run for most of a minute")
	}
	t.Parallel()
	url := realtest.Prometheus(t, "scrape_configs: []\n", "--web.enable-remote-write-receiver").URL
	stable, near, far := startProcess(t, "blue", 1), startProcess(t, "green", 3), startProcess(t, "green", 2)
	first, second := startRelay(t, url), startRelay(t, url)
	begin := time.Now().Truncate(time.Second).UTC()
	one := realtest.Prometheus(t, writer(first, "", "", stable, near))
	realtest.Prometheus(t, writer(second, "", "", far))

	s, err := New(Config{URL: url, Client: &http.Client{}})
	if err != nil {
		t.Fatal(err)
	}
	cursor, sums := begin, map[string]analysis.Sample{}
	look := func() analysis.Reading {
		t.Helper()
		time.Sleep(time.Second)
		rs, err := s.Read(t.Context(), []analysis.Query{{Metric: metrics()[analysis.KindCounts], Names: namesOf("recs"), From: cursor, To: time.Now().Truncate(time.Second).UTC()}})
		if err != nil {
			t.Fatal(err)
		}
		r := rs[0]
		if r.Status != analysis.StatusOK || !r.To.After(r.From) || !r.Candidate.Fresh {
			return r
		}
		cursor = r.To
		for _, x := range []analysis.Sample{r.Stable, r.Candidate} {
			for _, i := range x.Instances {
				y := sums[i.Name]
				y.N, y.K = y.N+i.N, y.K+i.K
				sums[i.Name] = y
			}
		}
		return r
	}
	for tick := range 24 {
		switch tick {
		case 3:
			second.set(true, 0) // one writer stands still
		case 9:
			far.restart() // after some scrapes: a counter that is above its old value again hides it
		case 12:
			second.set(false, 0)
		case 14:
			first.set(false, 3) // some are lost for good
		case 18:
			for _, p := range []*process{stable, near, far} {
				p.stop()
			}
		}
		if r := look(); r.Status != analysis.StatusOK {
			t.Errorf("tick %d: %s", tick, r.Reason)
		}
	}
	for name, p := range map[string]*process{"stable": stable, "near": near, "far": far} {
		got := sums[p.target()]
		n, k := p.given()
		t.Logf("%-6s true %v of %v, counted %v of %v", name, k, n, got.K, got.N)
		if got.N != n || got.K != k {
			t.Errorf("%s: counted n=%v k=%v, true n=%v k=%v", name, got.N, got.K, n, k)
		}
	}

	before := map[*process]float64{}
	for _, p := range []*process{stable, near, far} {
		before[p], _ = p.given()
		p.resume()
	}
	relabel := `{target_label: cluster, replacement: x}`
	clear(sums)
	one.Reload(writer(first, "", relabel, stable, near))
	for range 8 {
		look()
	}
	for name, p := range map[string]*process{"stable": stable, "near": near} {
		n, _ := p.given()
		n -= before[p]
		got := sums[p.target()].N
		t.Logf("%-6s true %v, counted %v beside a new label", name, n, got)
		if got > n || got < n/3 {
			t.Errorf("%s: counted %v of %v when a label was added to all series, want at most what happened, and most of it", name, got, n)
		}
	}

	realtest.Prometheus(t, writer(first, "replica: b", relabel, stable, near))
	reason := ""
	for range 15 {
		if r := look(); r.Status == analysis.StatusError {
			reason = r.Reason
			break
		}
	}
	if !strings.Contains(reason, "is there twice") || !strings.Contains(reason, "replica") {
		t.Errorf("two writers of the same targets: got %q, want an error that says so", reason)
	}
}
