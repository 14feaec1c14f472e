package config

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/prometheus"
	"github.com/belayd/belay/policies"
)

// realPrometheus starts an empty Prometheus on loopback and returns its address.
func realPrometheus(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("BELAY_REQUIRE_REAL") == "1" {
			t.Fatalf("a real prometheus is required: %v", err)
		}
		t.Skip("needs a real prometheus")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	for range 300 {
		resp, err := http.Get("http://" + address + "/-/ready") //nolint:noctx // a test's own loopback server
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return "http://" + address
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("prometheus did not get ready:\n%s", log.String())
	return ""
}

// A real Prometheus understands every ready-made metric that is for one: it
// answers that there is no such series, which is no error.
func TestBuiltinsOnRealPrometheus(t *testing.T) {
	source, err := prometheus.New(prometheus.Config{URL: realPrometheus(t), Client: &http.Client{Timeout: 10 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	to := time.Now().Truncate(time.Second)
	ask := func(m analysis.Metric) analysis.Reading {
		t.Helper()
		rs, err := source.Read(t.Context(), []analysis.Query{{Metric: m, Names: analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}, From: to.Add(-5 * time.Minute), To: to}})
		if err != nil {
			t.Fatal(err)
		}
		return rs[0]
	}
	tried := 0
	for _, ref := range policies.Builtins() {
		b, _ := policies.FindBuiltin(ref)
		if !slices.Contains(b.Sources, "prometheus") {
			continue
		}
		tried++
		if r := ask(b.Definition(ref, "prom")); r.Status != analysis.StatusOK || r.Stable.Fresh || r.Candidate.Fresh {
			t.Errorf("%s: got %+v, want an answer without series", ref, r)
		}
	}
	if tried < 10 {
		t.Errorf("got %d definitions tried, want all", tried)
	}
	if r := ask(analysis.Metric{Name: "bad", Value: &analysis.Value{Query: `max(up{deployment="${deployment}"}`}}); r.Status != analysis.StatusError {
		t.Errorf("an expression without its end: got %+v, want an error", r)
	}
}
