package scrape

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

// pages serves a text by host, and counts who asked.
type pages struct {
	mu   sync.Mutex
	text map[string]string
	hits map[string]int
	kind string
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits[r.URL.Host]++
	text, ok := p.text[r.URL.Host]
	if to, redirect := strings.CutPrefix(text, "redirect "); redirect {
		http.Redirect(w, r, to, http.StatusMovedPermanently)
		return
	}
	if !ok {
		http.Error(w, "no such page", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", p.kind)
	_, _ = fmt.Fprint(w, text)
}

var failures = analysis.Metric{Name: "failures", Counts: &analysis.Counts{
	Total: `http_requests_total`, Bad: `http_requests_total{code=~"5..|424"}`,
	Deployment: "deployment", Instance: "instance",
}}

var names = analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}

func newPages(t *testing.T, targets map[string][]string) (*pages, *Source) {
	t.Helper()
	p := &pages{text: map[string]string{}, hits: map[string]int{}, kind: "text/plain; version=0.0.4"}
	s, err := New(Config{
		Targets: map[string]map[string][]string{"recs": targets},
		Client:  &http.Client{Transport: &analysistest.Transport{Handler: p}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, s
}

func counters(ok, bad int) string {
	return fmt.Sprintf("# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} %d\nhttp_requests_total{code=\"503\"} %d\n", ok, bad)
}

func read(t *testing.T, s *Source, q analysis.Query) analysis.Reading {
	t.Helper()
	rs, err := s.Read(t.Context(), []analysis.Query{q})
	if err != nil {
		t.Fatal(err)
	}
	return rs[0]
}

// The first reading knows nothing yet. From the second on, the increments
// between two scrapes are counted, with instances apart, through a restart.
func TestReadCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPages(t, map[string][]string{
			"blue":  {"http://blue-0:9100/metrics", "http://blue-1:9100/metrics"},
			"green": {"http://green-0:9100/metrics"},
		})
		p.text["blue-0:9100"], p.text["blue-1:9100"], p.text["green-0:9100"] = counters(1000, 10), counters(500, 0), counters(7, 0)
		start := time.Now().UTC()
		q := analysis.Query{Metric: failures, Names: names, From: start.Add(-time.Hour), To: start}
		if r := read(t, s, q); r.Status != analysis.StatusOK || !r.From.Equal(r.To) {
			t.Errorf("first reading: got %+v, want an empty interval", r)
		}

		time.Sleep(15 * time.Second)
		p.text["blue-0:9100"], p.text["blue-1:9100"], p.text["green-0:9100"] = counters(1100, 11), counters(20, 1), counters(17, 3)
		q.From, q.To = start, start.Add(15*time.Second)
		got := read(t, s, q)
		want := analysis.Reading{
			Metric: "failures", From: start, To: q.To, Status: analysis.StatusOK, Next: q.To.Add(slack),
			Stable: analysis.Sample{Fresh: true, N: 101 + 21, K: 2, Instances: []analysis.Instance{
				{Name: "blue-0:9100", Sample: analysis.Sample{Fresh: true, N: 101, K: 1}},
				{Name: "blue-1:9100", Sample: analysis.Sample{Fresh: true, N: 21, K: 1}},
			}},
			Candidate: analysis.Sample{Fresh: true, N: 13, K: 3, Instances: []analysis.Instance{
				{Name: "green-0:9100", Sample: analysis.Sample{Fresh: true, N: 13, K: 3}},
			}},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("second reading (-want +got):\n%s", d)
		}
	})
}

// Two rollouts that ask about the same instant share the scrape; a later
// instant is scraped again.
func TestReadScrapesAnInstantOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPages(t, map[string][]string{"blue": {"http://blue-0:9100/metrics"}, "green": {"http://green-0:9100/metrics"}})
		p.text["blue-0:9100"], p.text["green-0:9100"] = counters(1, 0), counters(1, 0)
		q := analysis.Query{Metric: failures, Names: names, From: time.Now().Add(-time.Minute), To: time.Now()}
		for range 3 {
			if _, err := s.Read(t.Context(), []analysis.Query{q, q}); err != nil {
				t.Fatal(err)
			}
		}
		if p.hits["blue-0:9100"] != 1 {
			t.Errorf("got %d scrapes of one instant, want 1", p.hits["blue-0:9100"])
		}
		time.Sleep(time.Second)
		q.To = time.Now()
		read(t, s, q)
		if p.hits["blue-0:9100"] != 2 {
			t.Errorf("got %d scrapes of two instants, want 2", p.hits["blue-0:9100"])
		}
	})
}

// The rules on what is missing: a series that one deployment does not give is
// no data; a target that does not answer is an error.
func TestReadMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPages(t, map[string][]string{
			"blue":  {"http://blue-0:9100/metrics"},
			"green": {"http://green-0:9100/metrics", "http://green-1:9100/metrics"},
		})
		p.text["blue-0:9100"] = counters(1, 0)
		p.text["green-0:9100"], p.text["green-1:9100"] = "up 1\n", "up 1\n"
		q := analysis.Query{Metric: failures, Names: names, From: time.Now().Add(-time.Minute), To: time.Now()}
		r := read(t, s, q)
		if r.Status != analysis.StatusOK || !r.Stable.Fresh || r.Candidate.Fresh || !strings.Contains(r.Reason, "green") {
			t.Errorf("green gives no series: got %+v, want ok, stable fresh, candidate not, and a reason", r)
		}
		time.Sleep(time.Second)
		delete(p.text, "green-1:9100")
		q.To = time.Now()
		if r := read(t, s, q); r.Status != analysis.StatusError || !strings.Contains(r.Reason, "1 of 2 targets of green") {
			t.Errorf("one of green's targets answers 404: got %+v, want an error", r)
		}
		time.Sleep(time.Second)
		p.text["green-1:9100"] = "redirect https://green-1:9443/metrics"
		q.To = time.Now()
		if r := read(t, s, q); !strings.Contains(r.Reason, "301 Moved Permanently to https://green-1:9443, and redirects are not followed") {
			t.Errorf("one of green's targets moved: got %+v, want to be told where to", r)
		}
		q.Names.Endpoint = "other"
		if r := read(t, s, q); r.Status != analysis.StatusError || !strings.Contains(r.Reason, "other") {
			t.Errorf("unknown endpoint: got %+v, want an error", r)
		}
	})
}

// The addresses behind a name may change: one that comes is counted from its
// second scrape, one that goes leaves no error behind.
func TestReadResolvesNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPages(t, map[string][]string{"blue": {"http://blue-0:9100/metrics"}, "green": {"dns+http://green.svc:9100/metrics"}})
		ips := []string{"10.0.0.1"}
		s.cfg.LookupHost = func(_ context.Context, host string) ([]string, error) {
			if host != "green.svc" {
				t.Errorf("got a look-up of %q, want green.svc", host)
			}
			return ips, nil
		}
		p.text["blue-0:9100"], p.text["10.0.0.1:9100"] = counters(1, 0), counters(1, 0)
		start := time.Now().UTC()
		at := func(from, to time.Duration) analysis.Reading {
			time.Sleep(time.Until(start.Add(to)))
			return read(t, s, analysis.Query{Metric: failures, Names: names, From: start.Add(from), To: start.Add(to)})
		}
		at(-time.Second, 0)
		ips = []string{"10.0.0.1", "10.0.0.2"}
		p.text["10.0.0.1:9100"], p.text["10.0.0.2:9100"] = counters(3, 0), counters(1000, 100)
		if r := at(0, time.Second); r.Candidate.N != 2 || !r.From.Equal(start) {
			t.Errorf("a new address: got n=%v from %v, want 2 from %v", r.Candidate.N, r.From, start)
		}
		ips = []string{"10.0.0.2"}
		p.text["10.0.0.2:9100"] = counters(1005, 101)
		if r := at(time.Second, 2*time.Second); r.Candidate.N != 6 || r.Candidate.K != 1 {
			t.Errorf("an address gone: got n=%v k=%v, want 6 and 1", r.Candidate.N, r.Candidate.K)
		}
	})
}

// One address that is listed for both deployments, and whose series name neither, would
// count for both: it is an error. With a label that names them it is two deployments' page.
func TestReadShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPages(t, map[string][]string{"blue": {"http://proxy:9100/metrics"}, "green": {"http://proxy:9100/metrics"}})
		both := func(n int) string {
			return fmt.Sprintf("http_requests_total{deployment=\"blue\"} %d\nhttp_requests_total{deployment=\"green\"} %d\n", 9*n, n)
		}
		look := func(page func(n int) string) analysis.Reading {
			var r analysis.Reading
			for n := range 2 {
				p.text["proxy:9100"] = page(n)
				now := time.Now().UTC()
				r = read(t, s, analysis.Query{Metric: failures, Names: names, From: now.Add(-15 * time.Second), To: now})
				time.Sleep(15 * time.Second)
			}
			return r
		}
		if r := look(both); r.Status != analysis.StatusOK || r.Stable.N != 9 || r.Candidate.N != 1 {
			t.Errorf("two deployments on one page: got %+v", r)
		}
		if r := look(func(n int) string { return counters(100*n, n) }); r.Status != analysis.StatusError || !strings.Contains(r.Reason, "counts for both blue and green") {
			t.Errorf("series of nobody on a page of both: got %s: %s, want an error", r.Status, r.Reason)
		}
	})
}

// A counter is the same with _total given or not.
func TestReadTotalSuffix(t *testing.T) {
	for _, asked := range []string{"http_requests", "http_requests_total"} {
		for _, shown := range []string{"http_requests", "http_requests_total"} {
			synctest.Test(t, func(t *testing.T) {
				p, s := newPages(t, map[string][]string{"blue": {"http://blue-0:9100/metrics"}, "green": {"http://green-0:9100/metrics"}})
				m := analysis.Metric{Name: "failures", Counts: &analysis.Counts{Total: asked, Bad: asked + `{code="503"}`, Deployment: "deployment", Instance: "instance"}}
				var r analysis.Reading
				for n := range 2 {
					text := strings.ReplaceAll(counters(100*n, n), "http_requests_total", shown)
					p.text["blue-0:9100"], p.text["green-0:9100"] = text, text
					now := time.Now().UTC()
					r = read(t, s, analysis.Query{Metric: m, Names: names, From: now.Add(-15 * time.Second), To: now})
					time.Sleep(15 * time.Second)
				}
				if r.Status != analysis.StatusOK || r.Candidate.N != 101 || r.Candidate.K != 1 {
					t.Errorf("%s for %s: got %s (%s), n=%v k=%v, want 101 and 1", asked, shown, r.Status, r.Reason, r.Candidate.N, r.Candidate.K)
				}
			})
		}
	}
}

// What an exposition calls a gauge is not counted, but for a name that says that it only
// rises; as a value it is read.
func TestReadGauge(t *testing.T) {
	for _, c := range []struct {
		kind, name string
		refused    bool
	}{{"gauge", "requests_now", true}, {"counter", "requests_now", false}, {"untyped", "requests_now", false}, {"gauge", "requests_total", false}} {
		synctest.Test(t, func(t *testing.T) {
			p, s := newPages(t, map[string][]string{"blue": {"http://blue-0:9100/metrics"}, "green": {"http://green-0:9100/metrics"}})
			m := analysis.Metric{Name: "failures", Counts: &analysis.Counts{Total: c.name, Bad: c.name + `{code="503"}`, Deployment: "deployment"}}
			value := analysis.Metric{Name: "now", Value: &analysis.Value{Query: "max(" + c.name + ")"}}
			var r, v analysis.Reading
			for n := range 2 {
				text := fmt.Sprintf("# HELP %s gauge\n# TYPE %s %s\n%s %d\n", c.name, c.name, c.kind, c.name, 10*n)
				p.text["blue-0:9100"], p.text["green-0:9100"] = text, text
				now := time.Now().UTC()
				r = read(t, s, analysis.Query{Metric: m, Names: names, From: now.Add(-15 * time.Second), To: now})
				v = read(t, s, analysis.Query{Metric: value, Names: names, From: now.Add(-15 * time.Second), To: now})
				time.Sleep(15 * time.Second)
			}
			refused := r.Status == analysis.StatusError && strings.Contains(r.Reason, c.name) && strings.Contains(r.Reason, "give the raw counter")
			if refused != c.refused || !refused && (r.Status != analysis.StatusOK || r.Stable.N != 10) {
				t.Errorf("%s by name of %s: got %s (%s), n=%v; want refused: %v", c.kind, c.name, r.Status, r.Reason, r.Stable.N, c.refused)
			}
			if v.Status != analysis.StatusOK || v.Stable.Value != 10 {
				t.Errorf("%s as a value: got %s (%s), %v, want 10", c.kind, v.Status, v.Reason, v.Stable.Value)
			}
		})
	}
}
