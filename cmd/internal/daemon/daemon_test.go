package daemon

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/cmd/internal/certtest"
	"github.com/belayd/belay/store/bolt"
)

const policyText = `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recommendations, owner: team}
spec:
  endpoint: {router: edge, name: recs}
  steps: [5%, 100%]
  bake: 30m
  metrics:
    failures: {source: pods, counts: {total: 'a{endpoint="${endpoint}"}', bad: 'b{endpoint="${endpoint}"}', deployment: deployment}}
  guardrails:
    - {name: failures, metric: failures, limit: "<= 1%"}
  page: [hook]
`

const configText = `listen: 127.0.0.1:0
store: {bolt: {path: belay.db}}
policies: ["policies/*.yaml"]
sources:
  pods: {scrape: {targets: {recs: {blue: ["http://127.0.0.1:1/metrics"], green: ["http://127.0.0.1:1/metrics"]}}}}
  prom: {prometheus: {url: "http://127.0.0.1:1", http: {basic_auth: {username: belay, password_file: password}}}}
  logs: {loganalytics: {workspace: 11111111-2222-3333-4444-555555555555, credential: file, tokenFile: token}}
  azure: {azuremonitor: {region: westeurope, credential: file, tokenFile: token}}
  warehouse: {httpjson: {url: "http://127.0.0.1:1/q?e=${endpoint}"}}
routers:
  edge: {webhook: {url: "http://127.0.0.1:1"}}
  lb: {haproxy: {socket: /run/haproxy/admin.sock}}
  azureml-prod: {azureml: {subscription: 11111111-2222-3333-4444-555555555555, resourceGroup: g, workspace: w, credential: file, tokenFile: token}}
notifiers:
  hook: {webhook: {url: "http://127.0.0.1:1/pages", secretFile: secret, source: /belay/prod}}
  oncall: {pagerduty: {routingKeyFile: routing, templates: {page: "{{.Rollout.Endpoint}}: {{.Summary}}"}}}
  am: {alertmanager: {url: "http://127.0.0.1:1", lasts: 24h}}
  mail: {email: {server: "127.0.0.1:25", from: belay@belay.example, to: [team@belay.example], caFile: roots.pem, hello: belay.example}}
  slack: {slack: {botTokenFile: bot, appTokenFile: app, channel: "#releases"}}
triggers:
  - {nats: {url: "nats://127.0.0.1:1", stream: RELEASES, subject: "models.>"}, map: {policy: policy, candidate: candidate, version: version}}
  - {name: nightly, nats: {url: "nats://127.0.0.1:1", stream: RELEASES, subject: "nightly.>", durable: nightly}, map: {policy: policy, candidate: candidate, version: version}}
`

// canary is in every secret of the test: it may appear nowhere.
const canary = "c4n4ryc4n4ryc4n4ryc4n4ry"

// home writes a config with everything in it and returns the config's file.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("belayd.yaml", configText)
	write("policies/recommendations.yaml", policyText)
	for name, text := range map[string]string{"secret": canary, "password": canary, "token": canary, "routing": canary + "12345678",
		"bot": "xoxb-" + canary, "app": "xapp-" + canary} {
		write(name, text)
	}
	certtest.WritePEM(t, filepath.Join(dir, "roots.pem"), "CERTIFICATE", certtest.New(t).Cert.Raw)
	return filepath.Join(dir, "belayd.yaml")
}

// TestCheckConfig: a config with every adapter there is builds, and names what
// is wrong where something is.
func TestCheckConfig(t *testing.T) {
	file := home(t)
	if report, ok := CheckConfig(file); !ok || !strings.Contains(report, "ok: 1 policies, 5 sources, 3 routers, 5 notifiers") {
		t.Fatalf("check-config: got %v:\n%s", ok, report)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, security := range []string{"starttls", "tls", "plain"} {
		text := strings.Replace(string(good), "caFile: roots.pem", "caFile: roots.pem, security: "+security, 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if report, ok := CheckConfig(file); !ok {
			t.Errorf("mail with security: %s: got %v:\n%s", security, ok, report)
		}
	}
	for _, c := range []struct{ old, new, says string }{
		{"listen: 127.0.0.1:0", "listen: 0.0.0.0:7070", "not a loopback address and no auth is configured"},
		{"listen:", "lisen:", "did you mean listen"},
		{"secretFile: secret", "secretFile: missing", "no such file"},
		{"secretFile: secret", `secretFile: "${env:BELAY_TEST_NOT_SET}"`, "BELAY_TEST_NOT_SET is not set"},
		{"policies/*.yaml", "polices/*.yaml", "matches no file"},
		{"caFile: roots.pem", "caFile: secret", "notifiers.mail.email.caFile: there is no certificate in"},
		{"caFile: roots.pem", "caFile: nowhere.pem", "belayd.yaml:18:95: notifiers.mail.email.caFile: open"},
		{"stream: RELEASES, subject: \"models.>\"", "stream: RELEASES, url: \"nats://127.0.0.1:1\", subject: \"models.>\"", "given twice"},
		{"listen: 127.0.0.1:0", "tell: [nobody]\nlisten: 127.0.0.1:0", "belayd.yaml:1:8: tell[0]: there is no notifier"},
		{"{{.Summary}}", "{{.Sumary}}", "notifiers.oncall"},
		{"prom: {prometheus: {url: \"http://127.0.0.1:1\"", "prom: {prometheus: {url: \"http://127.0.0.1:1/prom/api/v1/\"", "url: ends in /api/v1, which is added to it"},
		{"listen: 127.0.0.1:0", "people: [{id: anna, slack: anna.smith}]\nlisten: 127.0.0.1:0", "belayd.yaml:1:21: people[0].slack: no Slack user has the id \"anna.smith\""},
		{"listen: 127.0.0.1:0", "metrics: {shared: {source: prom, counts: {total: 'rate(a[5m])', bad: b, deployment: d}}}\nlisten: 127.0.0.1:0", "belayd.yaml:1:43: metrics.shared.counts.total: 1:1: a plain selector is wanted: give the raw counter"},
		{"listen: 127.0.0.1:0", "metrics: {shared: {source: prm, value: {query: a}}}\nlisten: 127.0.0.1:0", "metrics.shared.source: there is no source"},
		{"lasts: 24h", "lasts: -1h", "notifiers.am"},
		{"azureml-prod: {azureml", "a2: {azureml: {subscription: 22222222-2222-3333-4444-555555555555, resourceGroup: g, workspace: w, credential: file, tokenFile: token}}\n  azureml-prod: {azureml",
			"sources.azure.azuremonitor: subscription: is missing, and the azureml routers name several"},
		{"azureml-prod: {azureml: {subscription: 11111111-2222-3333-4444-555555555555, resourceGroup: g, workspace: w, credential: file, tokenFile: token}}", "other: {webhook: {url: \"http://127.0.0.1:1\"}}",
			"subscription: is missing, and there is no azureml router"},
		{"password_file: password", "pasword_file: password", "sources.prom.prometheus.http: there is no field pasword_file; it takes basic_auth"},
		{"durable: nightly", "durable: belay", "triggers[1].nats.durable: triggers[0] consumes RELEASES as belay already"},
		{"name: nightly, ", "", "triggers[1].name: triggers[0] is called nats:RELEASES already"},
		{"pods: {scrape", "poods: {scrape", "pods"},
		{"webhook: {url: \"http://127.0.0.1:1\"}", "webhok: {url: x}", "did you mean"},
	} {
		bad := strings.Replace(string(good), c.old, c.new, 1)
		if bad == string(good) {
			t.Fatalf("%q is not in the config", c.old)
		}
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		report, ok := CheckConfig(file)
		if ok || !strings.Contains(report, c.says) {
			t.Errorf("with %q: got %v, want a report with %q:\n%s", c.new, ok, c.says, report)
		}
		if strings.Contains(report, canary) {
			t.Errorf("with %q: a secret is in the report:\n%s", c.new, report)
		}
	}
}

// TestRunAndStop: the daemon starts with every adapter configured and nobody
// there, serves, reloads policies, keeps the old set when a new one is bad, backs
// up while it runs, and stops within five seconds.
func TestRunAndStop(t *testing.T) {
	file := home(t)
	ctx, cancel := context.WithCancel(t.Context())
	reload, ready, done := make(chan struct{}), make(chan string, 1), make(chan error, 1)
	var log lockedBuilder
	go func() {
		done <- Run(ctx, Options{ConfigFile: file, Version: "test", Reload: reload, Logger: slog.New(slog.NewTextHandler(&log, nil)), Ready: func(a string) { ready <- a }})
	}()
	var address string
	select {
	case address = <-ready:
	case err := <-done:
		t.Fatalf("run: %v", err)
	}
	for _, path := range []string{"/healthz", "/metrics", "/v1/rollouts", "/v1/policies", "/v1/sources", "/openapi.yaml"} {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("GET %s: got %s", path, resp.Status)
		}
	}
	policy := filepath.Join(filepath.Dir(file), "policies", "recommendations.yaml")
	if err := os.WriteFile(policy, []byte("kind: nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload <- struct{}{}
	waitLog(t, &log, "policies not taken over")
	socket := filepath.Join(filepath.Dir(file), "belay.db.ctl")
	if info, err := os.Stat(socket); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket: got %v, %v, want one of mode 0600", info, err)
	}
	local := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer local.CloseIdleConnections()
	if resp, err := local.Get("http://localhost/v1/rollouts"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("over the socket: got %v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	copyTo := filepath.Join(t.TempDir(), "copy.db")
	if err := Backup(t.Context(), file, copyTo); err != nil {
		t.Errorf("backup while running: %v", err)
	}
	s, err := bolt.Open(copyTo, bolt.Options{ReadOnly: true})
	if err != nil {
		t.Errorf("open the copy: %v", err)
	} else {
		_ = s.Close()
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("stop: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the daemon does not stop")
	}
	if strings.Contains(log.String(), canary) {
		t.Errorf("a secret is in the log:\n%s", log.String())
	}
	if err := Backup(t.Context(), file, filepath.Join(t.TempDir(), "copy.db")); err != nil {
		t.Errorf("backup while stopped: %v", err)
	}
}

func waitLog(t *testing.T, log *lockedBuilder, text string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(log.String(), text) {
			return
		}
	}
	t.Fatalf("the log does not say %q:\n%s", text, log.String())
}
