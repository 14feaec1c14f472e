package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/sim"
)

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
	in, data := filepath.Join(t.TempDir(), "in.om"), filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(in, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool := exec.CommandContext(t.Context(), realtest.Program(t, "promtool"), "tsdb", "create-blocks-from", "openmetrics", in, data)
	if out, err := promtool.CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	return realtest.Prometheus(t, "global: {}\n", "--storage.tsdb.path="+data, "--storage.tsdb.retention.time=10y").URL
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
	// Both deployments' 180 and 60 requests a second are the endpoint's load.
	code = world.run(t.Context(), []string{"plan", policy, "--source", url, "--stable", "blue", "--candidate", "green"})
	if code != exitOK || !strings.Contains(e.String(), " at 240") && !strings.Contains(e.String(), " at 239") || !strings.Contains(e.String(), "Read: the load of search is 2") || strings.Contains(e.String(), "Assumed") {
		t.Errorf("plan: got code %d:\n%s", code, e.String())
	}
	config := writeFile(t, "belayd.yaml", `listen: 127.0.0.1:0
store: {bolt: {path: belay.db}}
policies: [search.yaml]
sources: {prom: {prometheus: {url: "`+url+`"}}, spare: {prometheus: {url: "http://127.0.0.1:1"}}}
routers: {edge: {webhook: {url: "http://127.0.0.1:1"}}}
`)
	// The config's source tells the same, and another one is not there.
	span = append([]string{"backtest", policy, "--every", "1h", "--candidate", "green", "--config", config}, span[2:]...)
	if code, out, errs = belay(t, span...); code != exitOK || strings.Count(out, "broke its limit") < 5 {
		t.Errorf("by the config: got code %d:\n%s%s", code, out, errs)
	}
	if code, _, errs = belay(t, append(span, "--source", "none")...); code != exitUsage || !strings.Contains(errs, "it has prom, spare") {
		t.Errorf("a source that is not there: got code %d: %s", code, errs)
	}
	// A plan by the config: the router is away, which is said, and with --stable the
	// sources are asked all the same. A load that is given scales what was read.
	e.Reset()
	code = world.run(t.Context(), []string{"plan", policy, "--config", config, "--stable", "blue", "--candidate", "green", "--rps", "2400"})
	if out := e.String(); code != exitOK || !strings.Contains(out, "read the weights of edge/search") || !strings.Contains(out, " at 2400 requests/s") ||
		!strings.Contains(out, "Read: stable's failures: 0.2% of") || strings.Contains(out, "Assumed") {
		t.Errorf("plan by the config: got code %d:\n%s", code, out)
	}
	e.Reset()
	code = world.run(t.Context(), []string{"plan", policy, "--config", config, "--candidate", "green", "--rps", "200", "--offline"})
	if out := e.String(); code != exitOK || strings.Contains(out, "Read:") || !strings.Contains(out, "Assumed: stable's failures") {
		t.Errorf("plan without asking: got code %d:\n%s", code, out)
	}
}
