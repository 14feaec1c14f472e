package blackbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/api"
)

var (
	scaleSizes  = flag.String("scale.sizes", "10", "how many rollouts BenchmarkScale carries, one size after another")
	scaleSteady = flag.Duration("scale.steady", 20*time.Second, "how long BenchmarkScale watches rollouts that are healthy")
	scaleWithin = flag.Duration("scale.within", 5*time.Minute, "how long BenchmarkScale waits for each thing that must come")
)

// A figure is one row of what BenchmarkScale measured, by size.
type figure struct {
	name string
	at   map[int]float64
}

// figures are rows in the order in which they were first set.
type figures struct{ rows []*figure }

func (f *figures) set(name string, n int, v float64) {
	i := slices.IndexFunc(f.rows, func(r *figure) bool { return r.name == name })
	if i < 0 {
		i = len(f.rows)
		f.rows = append(f.rows, &figure{name, map[int]float64{}})
	}
	f.rows[i].at[n] = v
}

// table is the figures in Markdown, each with the exponent of its growth between the
// least size from 100 on and the largest; "-" where there are no two.
func (f *figures) table(sizes []int) string {
	out := &strings.Builder{}
	out.WriteString("| figure |")
	for _, n := range sizes {
		fmt.Fprintf(out, " %d |", n)
	}
	out.WriteString(" exponent |\n|---|" + strings.Repeat("---|", len(sizes)+1) + "\n")
	large := slices.DeleteFunc(slices.Clone(sizes), func(n int) bool { return n < 100 })
	for _, r := range f.rows {
		fmt.Fprintf(out, "| %s |", r.name)
		for _, n := range sizes {
			fmt.Fprintf(out, " %.4g |", r.at[n])
		}
		exponent := "-"
		if len(large) > 1 {
			a, b := large[0], large[len(large)-1]
			if r.at[a] > 0 && r.at[b] > 0 {
				exponent = fmt.Sprintf("%.2f", math.Log(r.at[b]/r.at[a])/math.Log(float64(b)/float64(a)))
			}
		}
		fmt.Fprintf(out, " %s |\n", exponent)
	}
	return out.String()
}

// BenchmarkScale is what many rollouts cost a belayd of its own process, and how fast
// it rolls back the few or all of them that fail, as a table in Markdown.
func BenchmarkScale(b *testing.B) {
	var all figures
	var sizes []int
	for text := range strings.SplitSeq(*scaleSizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			b.Fatalf("-scale.sizes: %q is not a number of rollouts", text)
		}
		sizes = append(sizes, n)
		b.Run(text, func(b *testing.B) { newScale(b, n).measure(&all) })
		if b.Failed() {
			break
		}
	}
	b.Logf("\n%s", all.table(sizes))
}

// A scale is a belayd with n rollouts.
type scale struct {
	*besieged
	b      *testing.B
	n      int
	source string // the address of its Prometheus
	pages  atomic.Int64
}

func newScale(b *testing.B, n int) *scale {
	s := &scale{b: b, n: n, source: startSource(b)}
	pager := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		s.pages.Add(1)
	}))
	b.Cleanup(pager.Close)
	var names, policies []string
	for i := range n {
		name := fmt.Sprintf("ep%05d", i)
		names = append(names, name)
		policies = append(policies, scalePolicy(name))
	}
	e := newEndpoints(b, names...)
	w := prepare(b, e, "", policies...)
	listen, _, _ := strings.Cut(w.read("belayd.yaml"), "\n")
	w.write("belayd.yaml", fmt.Sprintf(`%s
store: {bolt: {path: belay.db}}
policies: ["policies/*.yaml"]
sources: {prom: {prometheus: {url: "http://%s"}}}
routers: {edge: {webhook: {url: %q}}}
notifiers: {oncall: {webhook: {url: %q, secretFile: %q}}}
`, listen, s.source, e.URL, pager.URL, secretFile(b, strings.Repeat("k", 32))))
	s.besieged = &besieged{world: w, t: b, e: e, names: names}
	return s
}

// startSource starts a source in a process of its own.
func startSource(b *testing.B) string {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env, cmd.Stderr = append(os.Environ(), sourceEnv+"=1"), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close() // tells it to end
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("the source says no address: %v", err)
	}
	return strings.TrimSpace(line)
}

func scalePolicy(name string) string {
	return fmt.Sprintf(`apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: %s, owner: team-a}
spec:
  endpoint: {router: edge, name: %s}
  preflight: [{check: ready}]
  interval: 10s
  metrics:
    failures: {source: prom, counts: {total: 'http_requests_total{endpoint="${endpoint}"}', bad: 'http_requests_total{endpoint="${endpoint}",code=~"5.."}', deployment: deployment, instance: instance}}
    latency: {source: prom, histogram: {series: 'http_request_duration_seconds{endpoint="${endpoint}"}', unit: s, deployment: deployment, instance: instance}}
    watched: {source: prom, counts: {total: 'plays_started_total{endpoint="${endpoint}"}', good: 'plays_completed_total{endpoint="${endpoint}"}', deployment: deployment, instance: instance}}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%%"}
    - {name: p95, metric: latency, quantile: p95, limit: "<= 450ms"}
    - {name: watch-through, metric: watched, limit: ">= 0.98x stable"}
  steps: [{weight: 50%%, bake: 2h}, {weight: 100%%, bake: 2h}]
  page: [oncall]
`, name, name)
}

// measure goes through a day of the rollouts: started, healthy, some broken, killed and
// started again, all broken.
func (s *scale) measure(f *figures) {
	s.start()
	began := time.Now()
	s.startAll()
	s.until("every endpoint to have its first weight", func() bool { return s.moved(s.names, 50) })
	f.set("start all, s", s.n, time.Since(began).Seconds())
	s.until("every endpoint to be asked about", func() bool { return len(s.seen(false).Asked) == s.n })

	s.seen(true)
	began, used, appends := time.Now(), s.used(), s.appends()
	time.Sleep(*scaleSteady)
	took, seen := time.Since(began).Seconds(), s.seen(true)
	f.set("queries/s", s.n, float64(seen.Queries)/took)
	f.set("answers, kB/s", s.n, float64(seen.Bytes)/took/1e3)
	f.set("CPU, s/min", s.n, (s.used()-used).Seconds()/took*60)
	f.set("appends/s", s.n, (s.appends()-appends)/took)

	few := max(1, s.n/100)
	s.breakdown(f, "some breach", s.names[:few])
	f.set("peak memory, MiB", s.n, s.peak())
	s.kill(syscall.SIGKILL)
	s.seen(true)
	began = time.Now()
	s.start()
	if rest := s.names[few:]; len(rest) > 0 {
		s.until("every rollout to be asked about again", func() bool {
			asked := s.seen(false).Asked
			return !slices.ContainsFunc(rest, func(n string) bool { return !asked[n] })
		})
		f.set("killed: all asked again, s", s.n, time.Since(began).Seconds())
		s.breakdown(f, "all breach", rest)
	}
	f.set("peak memory after, MiB", s.n, s.peak())
	f.set("pages", s.n, float64(s.pages.Load()))
	if info, err := os.Stat(filepath.Join(s.dir, "belay.db")); err == nil {
		f.set("store, MB", s.n, float64(info.Size())/1e6)
	}
}

// breakdown breaks candidates and measures until all are rolled back.
func (s *scale) breakdown(f *figures, what string, names []string) {
	s.b.Helper()
	broken := time.Now()
	s.post("/break", names)
	s.until(what+": rolled back", func() bool { return s.moved(names, 0) })
	time.Sleep(time.Second) // the last answers are noted
	seen := s.seen(false)
	visible := broken.Truncate(scraped).Add(scraped)
	var decided, shown []float64
	first, last := time.Time{}, time.Time{}
	for _, n := range names {
		at := s.e.at(n)
		answer := time.Time{}
		for _, a := range seen.Answers[n] {
			if a.Before(at) && a.After(answer) {
				answer = a
			}
			if a.After(visible) && (first.IsZero() || a.Before(first)) {
				first = a
			}
		}
		if answer.IsZero() {
			s.b.Fatalf("%s: %s was rolled back without an answer about it", what, n)
		}
		decided = append(decided, at.Sub(answer).Seconds()*1000)
		shown = append(shown, at.Sub(visible).Seconds())
		if at.After(last) {
			last = at
		}
	}
	slices.Sort(decided)
	slices.Sort(shown)
	f.set(what+": answer → call p50, ms", s.n, percentile(decided, 50))
	f.set(what+": answer → call p99, ms", s.n, percentile(decided, 99))
	f.set(what+": answer → call max, ms", s.n, decided[len(decided)-1])
	f.set(what+": visible → call p50, s", s.n, percentile(shown, 50))
	f.set(what+": visible → call p99, s", s.n, percentile(shown, 99))
	f.set(what+": first answer → last call, s", s.n, last.Sub(first).Seconds())
}

// percentile is of sorted values.
func percentile(sorted []float64, p int) float64 { return sorted[(len(sorted)*p+99)/100-1] }

// startAll starts a rollout of every endpoint, eight at a time; what belayd is too busy
// for is asked again.
func (s *scale) startAll() {
	c, err := api.NewClient("http://"+s.address, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}, "")
	if err != nil {
		s.b.Fatal(err)
	}
	names := make(chan string)
	end := time.Now().Add(*scaleWithin)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for n := range names {
				for {
					_, _, err := c.Start(s.b.Context(), n+"-1", api.StartRequest{Policy: n, Candidate: "green", Version: "1"})
					if err == nil {
						break
					}
					if time.Now().After(end) {
						s.b.Errorf("start of %s: %v", n, err)
						break
					}
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	for _, n := range s.names {
		names <- n
	}
	close(names)
	all.Wait()
	if s.b.Failed() {
		s.b.FailNow()
	}
}

// moved says whether the candidates of all names have a weight.
func (s *scale) moved(names []string, weight int) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return s.e.green(n) != weight })
}

func (s *scale) until(what string, is func() bool) {
	s.b.Helper()
	for end := time.Now().Add(*scaleWithin); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.b.Fatalf("want %s within %s; the log ends:\n%s", what, *scaleWithin, tail(s.logs.String()))
		}
	}
}

func tail(text string) string { return text[max(0, len(text)-4000):] }

// seen is what the source was asked; it begins anew where forget says so.
func (s *scale) seen(forget bool) seen {
	s.b.Helper()
	path := "/seen"
	if forget {
		path += "?forget=1"
	}
	out := newSeen()
	if err := json.Unmarshal(s.post(path, nil), &out); err != nil {
		s.b.Fatal(err)
	}
	return out
}

func (s *scale) post(path string, in any) []byte {
	s.b.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.b.Fatal(err)
	}
	resp, err := http.Post("http://"+s.source+path, "application/json", bytes.NewReader(body))
	if err != nil {
		s.b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.b.Fatalf("POST %s to the source: %s, %v", path, resp.Status, err)
	}
	return out
}

var (
	appended = regexp.MustCompile(`(?m)^belay_store_append_seconds_count (\S+)$`)
	highest  = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)
)

// appends is how often belayd has appended to its store.
func (s *scale) appends() float64 {
	s.b.Helper()
	return s.number(appended, s.metrics())
}

// peak is belayd's most resident memory, in MiB.
func (s *scale) peak() float64 {
	s.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.b.Fatal(err)
	}
	return s.number(highest, string(text)) / 1024
}
