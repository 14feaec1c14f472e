package cli

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/sim"
)

// real finds a program, or skips the test where it need not be there.
func realProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("BELAY_REQUIRE_REAL") == "1":
		t.Fatalf("a real %s is required: %v", name, err)
	default:
		t.Skipf("needs a real %s", name)
	}
	return ""
}

// history writes six hours of three healthy instances of blue and one bad one of
// green, as their /metrics would have shown them every 15 s.
func history(from time.Time) []byte {
	type server struct {
		deployment, instance string
		rate                 float64
		ok, bad              float64
	}
	servers := []*server{{"blue", "a", 0.002, 0, 0}, {"blue", "b", 0.002, 0, 0}, {"blue", "c", 0.002, 0, 0}, {"green", "d", 0.02, 0, 0}}
	r := sim.NewRandom(7)
	lines := map[string]*bytes.Buffer{}
	var order []string
	for i := range 6 * 240 {
		at := from.Add(time.Duration(i) * 15 * time.Second).Unix()
		for _, s := range servers {
			n := r.Poisson(900)
			k := r.Binomial(n, s.rate)
			s.ok, s.bad = s.ok+n-k, s.bad+k
			for code, v := range map[string]float64{"200": s.ok, "500": s.bad} {
				series := fmt.Sprintf(`http_requests_total{endpoint="search",deployment=%q,instance=%q,code=%q}`, s.deployment, s.instance, code)
				if lines[series] == nil {
					lines[series] = &bytes.Buffer{}
					order = append(order, series)
				}
				fmt.Fprintf(lines[series], "%s %.0f %d\n", series, v, at)
			}
		}
	}
	var out bytes.Buffer
	out.WriteString("# TYPE http_requests counter\n")
	for _, s := range order {
		out.Write(lines[s].Bytes())
	}
	out.WriteString("# EOF\n")
	return out.Bytes()
}

// startPrometheus serves the history on loopback and returns its address.
func startPrometheus(t *testing.T, text []byte) string {
	t.Helper()
	prometheus, promtool := realProgram(t, "prometheus"), realProgram(t, "promtool")
	dir := t.TempDir()
	in, config, data := filepath.Join(dir, "in.om"), filepath.Join(dir, "prometheus.yml"), filepath.Join(dir, "data")
	for file, b := range map[string][]byte{in: text, config: []byte("global: {}\n")} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "tsdb", "create-blocks-from", "openmetrics", in, data).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
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
	cmd := exec.CommandContext(t.Context(), prometheus, "--config.file", config, "--storage.tsdb.path", data,
		"--storage.tsdb.retention.time", "10y", "--web.listen-address", address)
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

// A real Prometheus remembers a day: stable's own instances are never rolled
// back, the deployment that was bad always, and a plan reads its figures.
func TestBacktestReal(t *testing.T) {
	from := time.Now().Add(-12 * time.Hour).Truncate(2 * time.Hour)
	url := startPrometheus(t, history(from))
	span := []string{"--source", url, "--stable", "blue", "--from", from.Add(15 * time.Minute).Format(time.RFC3339), "--to", from.Add(5*time.Hour + 45*time.Minute).Format(time.RFC3339)}
	policy := writeFile(t, "search.yaml", `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: search, owner: team-search}
spec:
  endpoint: {router: edge, name: search}
  steps: [25%, 50%]
  bake: 30m
  metrics: {failures: {source: prom, builtin: demo/failures}}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1.2x stable"}
    - {name: ceiling, metric: failures, limit: "<= 1%"}
`)
	code, out, errs := belay(t, append([]string{"backtest", policy, "--every", "45m"}, span...)...)
	if code != exitOK || !strings.Contains(out, " 0 rolled back") || !strings.Contains(out, "Every one was healthy: 0% of those that ended were rolled back.") {
		t.Errorf("healthy: got code %d:\n%s%s", code, out, errs)
	}
	code, out, errs = belay(t, append([]string{"backtest", policy, "--every", "1h", "--candidate", "green"}, span...)...)
	if code != exitOK || !strings.Contains(out, " 0 promoted") || strings.Count(out, "broke its limit") < 5 {
		t.Errorf("bad: got code %d:\n%s%s", code, out, errs)
	}
	e := &bytes.Buffer{}
	world := &env{stdin: strings.NewReader(""), stdout: e, stderr: e, getenv: func(string) string { return "" },
		now: func() time.Time { return from.Add(5 * time.Hour) }, zone: time.UTC, width: 80, height: 24}
	code = world.run(t.Context(), []string{"plan", policy, "--source", url, "--stable", "blue", "--candidate", "green"})
	if code != exitOK || !strings.Contains(e.String(), " at 180") && !strings.Contains(e.String(), " at 179") || strings.Contains(e.String(), "Assumed") {
		t.Errorf("plan: got code %d:\n%s", code, e.String())
	}
}
