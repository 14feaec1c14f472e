package prometheus

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/realtest"
)

// realVictoria starts the real VictoriaMetrics, which scrapes the targets of the
// file every second, and returns its address.
func realVictoria(t *testing.T, sd string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "scrape.yml")
	config := fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs: [{job_name: demo, file_sd_configs: [{files: [%q]}]}]\n", sd)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return realtest.Serve(t, "victoria-metrics", "/health", func(address string) []string {
		return []string{"-httpListenAddr=" + address, "-storageDataPath=" + filepath.Join(dir, "data"), "-promscrape.config=" + file,
			"-promscrape.fileSDCheckInterval=1s", "-search.latencyOffset=0s", "-memory.allowedBytes=64MB", "-loggerLevel=ERROR"}
	}).URL
}

// Against the real VictoriaMetrics, which shows the markers of a target that has
// gone as NaN in its older versions: readings go on, and all that was handed over
// is counted.
func TestRealVictoria(t *testing.T) {
	if testing.Short() {
		t.Skip("a real victoria-metrics is scraped for half a minute")
	}
	t.Parallel()
	steady, candidate, vanished := startProcess(t, "blue", 1), startProcess(t, "green", 4), startProcess(t, "blue", 1)
	sd := filepath.Join(t.TempDir(), "targets.json")
	writeTargets(t, sd, steady, candidate, vanished)
	s, err := New(Config{URL: realVictoria(t, sd), Client: &http.Client{}})
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]analysis.Sample{}
	cursor := time.Now().Truncate(time.Second).UTC()
	for tick := range 14 {
		switch tick {
		case 5:
			writeTargets(t, sd, steady, candidate)
		case 10:
			steady.stop()
			candidate.stop()
		}
		time.Sleep(2 * time.Second)
		rs, err := s.Read(t.Context(), []analysis.Query{{Metric: metrics()[analysis.KindCounts], Names: namesOf("recs"), From: cursor, To: time.Now().Truncate(time.Second).UTC()}})
		if err != nil {
			t.Fatal(err)
		}
		r := rs[0]
		if r.Status != analysis.StatusOK {
			t.Fatalf("tick %d: %s", tick, r.Reason)
		}
		if !r.To.After(r.From) {
			continue
		}
		cursor = r.To
		for _, x := range []analysis.Sample{r.Stable, r.Candidate} {
			for _, i := range x.Instances {
				y := sums[i.Name]
				y.N, y.K = y.N+i.N, y.K+i.K
				sums[i.Name] = y
			}
		}
	}
	for name, p := range map[string]*process{"steady": steady, "candidate": candidate, "vanished": vanished} {
		got := sums[p.target()]
		t.Logf("%-9s true %v of %v, counted %v of %v", name, p.givenBad, p.givenOK+p.givenBad, got.K, got.N)
		if got.N != p.givenOK+p.givenBad || got.K != p.givenBad {
			t.Errorf("%s: counted n=%v k=%v, true n=%v k=%v", name, got.N, got.K, p.givenOK+p.givenBad, p.givenBad)
		}
	}
}
