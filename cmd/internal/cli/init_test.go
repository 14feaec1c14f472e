package cli

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/cmd/internal/daemon"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/traffic/azureml/armtest"
)

// passes holds a drafted folder against the commands that a person runs next:
// not one of them finds an error.
func passes(t *testing.T, s *shell, dir, name string) {
	t.Helper()
	config := filepath.Join(dir, "belayd.yaml")
	policy, test := filepath.Join(dir, name+".yaml"), filepath.Join(dir, name+".test.yaml")
	s.want(exitOK, "policy", "check", policy, test, "--config", config)
	s.want(exitOK, "policy", "test", test, "--config", config)
	// The plan asks the endpoint and makes the checks that send nothing.
	if out, want := s.want(exitOK, "plan", policy, "--candidate", "green", "--config", config), "     rollback-ready   OK     "; !strings.Contains(out, want) {
		t.Errorf("plan: got\n%swant %q in it", out, want)
	}
	if report, ok := daemon.CheckConfig(config); !ok {
		t.Errorf("belayd check-config: %s", report)
	}
}

// initialized runs init, which must succeed, and returns what it says as JSON.
func initialized(t *testing.T, s *shell, args ...string) (out drafted) {
	t.Helper()
	text := s.want(exitOK, append([]string{"init"}, append(args, "--output", "json")...)...)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// fields are the fields that must be filled in.
func (d drafted) fields() (out []string) {
	for _, b := range d.FillIn {
		out = append(out, b.Field)
	}
	return out
}

// read reads a drafted file.
func readDrafted(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// An endpoint that tells everything gets a policy with all checks but those that
// need a sample request or an authentication; a second run overwrites nothing.
func TestInitWebhook(t *testing.T) {
	x := newEdge()
	url := x.serve(t)
	s := newShell(t)
	dir := filepath.Join(t.TempDir(), "policies")
	out := s.want(exitOK, "init", "webhook", url, "--dir", dir)
	golden(t, "init-webhook.txt", strings.ReplaceAll(strings.ReplaceAll(out, dir, "DIR"), url, "URL"))
	golden(t, "init/webhook/recs.yaml", readDrafted(t, dir, "recs.yaml"))
	golden(t, "init/webhook/recs.test.yaml", readDrafted(t, dir, "recs.test.yaml"))
	golden(t, "init/webhook/belayd.yaml", strings.ReplaceAll(readDrafted(t, dir, "belayd.yaml"), url, "URL"))
	passes(t, s, dir, "recs")
	if x.version != 1 {
		t.Errorf("the endpoint: got version %d, want 1: nothing is written", x.version)
	}
	before := readDrafted(t, dir, "recs.yaml")
	if err := os.Remove(filepath.Join(dir, "belayd.yaml")); err != nil {
		t.Fatal(err)
	}
	s.want(exitError, "init", "webhook", url, "--dir", dir, "--owner", "somebody else")
	if !strings.Contains(s.err.String(), "nothing is overwritten") || readDrafted(t, dir, "recs.yaml") != before {
		t.Errorf("a second run: got %q, want it refused and recs.yaml as it was", s.err.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "belayd.yaml")); err == nil {
		t.Error("a refused run wrote one of its files")
	}
}

// What an endpoint does not tell is named by field, and the checks that need it
// are left out; hostile texts stay texts; the token is in no file.
func TestInitWebhookTellsLittle(t *testing.T) {
	x := newEdge()
	x.token, x.names = "tok-5f2c9a", []string{"Recs: #1", "ads"}
	x.state.Deployments, x.state.ScoringURI, x.state.Weights = nil, nil, map[string]int{"blue": 60, "green": 40}
	x.state.Tags = map[string]string{"owner": "team \"a\"\nspec: {steps: [100%]}", "runbook": "https://runbooks.example/recs"}
	url := x.serve(t)
	s := newShell(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(x.token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s.want(exitUsage, "init", "webhook", url, "--token-file", token, "--dir", dir)
	d := initialized(t, s, "webhook", url, "--token-file", token, "--dir", dir, "--endpoint", "Recs: #1", "--alertmanager", "http://127.0.0.1:9093", "--prometheus", "http://127.0.0.1:9090")
	for _, field := range []string{"deployments", "scoringURI", "authMode", "publicNetwork"} {
		if !slices.Contains(d.Unknown, field) {
			t.Errorf("untold: got %v, want %s among them", d.Unknown, field)
		}
	}
	if len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "blue 60, green 40") {
		t.Errorf("notes: got %q, want that nobody has all the traffic", d.Notes)
	}
	if slices.Contains(d.fields(), "metadata.owner") || slices.Contains(d.fields(), "notifiers.oncall") || !slices.Contains(d.fields(), "spec.metrics") {
		t.Errorf("fill in: got %v", d.fields())
	}
	policy := readDrafted(t, dir, "recs-1.yaml")
	for _, want := range []string{"\n    # - {check: ready}          # deployments", "\n    # - {check: refuses-anonymous}          # scoringURI", "\n    - {check: tags, required: [owner]}"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy: it lacks %q:\n%s", want, policy)
		}
	}
	for _, f := range d.Files {
		if b, err := os.ReadFile(f); err != nil || strings.Contains(string(b), x.token) {
			t.Errorf("%s: it holds the token, or: %v", f, err)
		}
	}
	s.want(exitOK, "policy", "check", d.Files[0], d.Files[1], "--config", d.Files[2])
	s.want(exitOK, "policy", "test", d.Files[1], "--config", d.Files[2])
	if report, ok := daemon.CheckConfig(d.Files[2]); !ok {
		t.Error(report)
	}
}

// Azure: managed endpoints read the traffic log, Kubernetes ones Application
// Insights; the launch checklist takes the tags that are there.
func TestInitAzureML(t *testing.T) {
	arm := &armtest.Server{Subscription: "s-1", ResourceGroup: "ml", Workspace: "prod", Token: "tok-azure-1"}
	for name, resource := range map[string]string{
		"recs": `{"tags":{"owner":"team-recommendations","dataClass":"internal"},"properties":{"traffic":{"blue":100}}}`,
		"edge": `{"properties":{"compute":"aks-1","traffic":{"blue":100}}}`,
	} {
		if err := arm.SetEndpoint(name, resource); err != nil {
			t.Fatal(err)
		}
		arm.SetDeployment(name, "blue", "ranker/versions/16", 4, 16)
	}
	arm.SetDeployment("recs", "green", "ranker/versions/17", 2, 16)
	arm.SetState("recs", "green", "Updating")
	server := httptest.NewServer(arm)
	defer server.Close()
	s := newShell(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(arm.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := []string{"azureml", "--subscription", "s-1", "--resource-group", "ml", "--workspace", "prod", "--resource-manager", server.URL, "--credential", "file", "--token-file", token}
	dir := t.TempDir()
	d := initialized(t, s, append(base, "--endpoint", "recs", "--dir", dir)...)
	if len(d.Unknown) != 0 || len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "green is not ready: provisioning state Updating") {
		t.Errorf("recs: got untold %v and notes %q", d.Unknown, d.Notes)
	}
	if got := d.fields(); !slices.Contains(got, "sources.metrics.loganalytics.workspace") || slices.Contains(got, "metadata.owner") {
		t.Errorf("fill in: got %v", got)
	}
	golden(t, "init/azureml/recs.yaml", readDrafted(t, dir, "recs.yaml"))
	passes(t, s, dir, "recs")

	dir = t.TempDir()
	d = initialized(t, s, append(base, "--endpoint", "edge", "--dir", dir, "--logs", "6f1f6c1e-6a52-4c6d-9a7e-0d5c5d0b9c11")...)
	policy := readDrafted(t, dir, "edge.yaml")
	if !strings.Contains(policy, "azureml-kubernetes/failures") || strings.Contains(policy, "saturation") || len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "there is one deployment") {
		t.Errorf("edge: got notes %q and\n%s", d.Notes, policy)
	}
	passes(t, s, dir, "edge")
	if n := len(arm.Puts()); n != 0 {
		t.Errorf("writes: got %d, want none", n)
	}

	for _, c := range []struct{ line, want string }{
		{"init azureml --subscription s-1", "want --subscription, --resource-group and --workspace"},
		{"init azureml --subscription s-1 --resource-group ml --workspace prod --credential file", "--token-file"},
		{"init haproxy", "want --socket"},
		{"init haproxy --socket x --map y", "--endpoint: a map has no name"},
		{"init webhook", "want URL"},
	} {
		s.want(exitUsage, strings.Fields(c.line)...)
		if !strings.Contains(s.err.String(), c.want) {
			t.Errorf("belay %s: got %q, want %q", c.line, s.err.String(), c.want)
		}
	}
	s.want(exitError, append([]string{"init"}, append(base, "--endpoint", "nobody", "--dir", dir)...)...)
	if !strings.Contains(s.err.String(), "404") || strings.Contains(s.err.String(), arm.Token) {
		t.Errorf("no endpoint: got %q", s.err.String())
	}
}

// A real HAProxy: a backend whose servers are the deployments, and a map that
// leads to backends.
func TestInitHAProxy(t *testing.T) {
	dir := startHAProxy(t)
	s := newShell(t)
	socket := filepath.Join(dir, "admin.sock")
	servers := t.TempDir()
	d := initialized(t, s, "haproxy", "--socket", socket, "--endpoint", "recs", "--dir", servers)
	if d.Weights["blue"] != 100 || !slices.Contains(d.Unknown, "deployments.green.concurrency") || !slices.Contains(d.Unknown, "tags") {
		t.Errorf("recs: got weights %v, untold %v", d.Weights, d.Unknown)
	}
	golden(t, "init/haproxy/recs.yaml", readDrafted(t, servers, "recs.yaml"))
	passes(t, s, servers, "recs")

	mapped := t.TempDir()
	d = initialized(t, s, "haproxy", "--socket", socket, "--endpoint", "mapped", "--map", filepath.Join(dir, "recs.map"), "--dir", mapped, "--prometheus", "http://127.0.0.1:9090")
	policy := readDrafted(t, mapped, "mapped.yaml")
	if d.Weights["recs-blue"] != 100 || !strings.Contains(policy, "deployment: proxy") || !strings.Contains(policy, `recs-blue|recs-green`) {
		t.Errorf("mapped: got weights %v and\n%s", d.Weights, policy)
	}
	passes(t, s, mapped, "mapped")
	s.want(exitUsage, "init", "haproxy", "--socket", socket, "--dir", t.TempDir())
	if !strings.Contains(s.err.String(), "--endpoint: name one of") {
		t.Errorf("several endpoints: got %q", s.err.String())
	}
}

// startHAProxy runs a real HAProxy over a socket in the folder that is returned.
func startHAProxy(t *testing.T) string {
	t.Helper()
	bin := realtest.Program(t, "haproxy")
	dir, err := os.MkdirTemp("", "belay") //nolint:usetesting // Paths of t.TempDir are too long for unix sockets.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var entries strings.Builder
	for key := range 100 {
		fmt.Fprintf(&entries, "%d recs-blue\n", key)
	}
	config := fmt.Sprintf(`global
  stats socket %[1]s/admin.sock mode 600 level admin
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 2s
frontend mapped
  bind unix@%[1]s/mapped.sock
  use_backend %%[rand(100),map_int(%[1]s/recs.map)]
backend recs
  balance roundrobin
  server blue unix@%[1]s/blue.sock weight 100 maxconn 64
  server green unix@%[1]s/green.sock weight 0
backend recs-blue
  server a unix@%[1]s/blue.sock maxconn 32
backend recs-green
  server a unix@%[1]s/green.sock maxconn 32
`, dir)
	for name, text := range map[string]string{"recs.map": entries.String(), "haproxy.cfg": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	cmd := exec.Command(bin, "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "admin.sock")); err == nil {
			return dir
		}
	}
	_ = cmd.Process.Kill()
	<-ended
	t.Fatalf("haproxy did not start:\n%s", &log)
	return ""
}
