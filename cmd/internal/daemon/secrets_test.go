package daemon

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/belayd/belay/cmd/internal/certtest"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/secret"
)

// everyFile is a config that names a file in every setting that there is for one.
const everyFile = `listen: 127.0.0.1:0
store: {bolt: {path: belay.db}}
policies: ["policies/*.yaml"]
sources:
  pods: {scrape: {targets: {recs: {blue: ["http://127.0.0.1:1/metrics"], green: ["http://127.0.0.1:1/metrics"]}}, http: {authorization: {credentials_file: f-scrape}}}}
  prom: {prometheus: {url: "http://127.0.0.1:1", azure: {credential: file, tokenFile: f-azure}, http: {basic_auth: {username: belay, password_file: f-password}}}}
  logs: {loganalytics: {workspace: 11111111-2222-3333-4444-555555555555, credential: file, tokenFile: f-logs, http: {http_headers: {X-Key: {files: [f-header]}}}}}
  azure: {azuremonitor: {region: westeurope, subscription: 11111111-2222-3333-4444-555555555555, resourceGroup: g, workspace: w, credential: file, tokenFile: f-monitor}}
  warehouse: {httpjson: {url: "http://127.0.0.1:1/q?e=${endpoint}", http: {oauth2: {client_id: i, client_secret_file: f-oauth, token_url: "https://t.example"}}}}
routers:
  edge: {webhook: {url: "http://127.0.0.1:1", http: {basic_auth: {username_file: f-user, password_file: f-router}}, probe: {keyFile: f-probe}}}
  lb: {haproxy: {socket: /run/haproxy/admin.sock, probe: {http: {bearer_token_file: f-bearer}}}}
  azureml-prod: {azureml: {subscription: 11111111-2222-3333-4444-555555555555, resourceGroup: g, workspace: w, credential: file, tokenFile: f-ml}}
notifiers:
  hook: {webhook: {url: "http://127.0.0.1:1/pages", secretFile: f-hook}}
  oncall: {pagerduty: {routingKeyFile: f-routing, webhookSecretFile: f-subscription}}
  am: {alertmanager: {url: "http://127.0.0.1:1", http: {tls_config: {ca_file: roots.pem}}}}
  mail: {email: {server: "127.0.0.1:25", from: belay@belay.example, to: [team@belay.example], caFile: roots.pem, username: u, passwordFile: f-mail}}
  team: {teams: {urlFile: f-channel}}
  topic: {sns: {topic: "arn:aws:sns:eu-west-1:123456789012:t", credentialsFile: f-sns}}
  slack: {slack: {botTokenFile: f-bot, appTokenFile: f-app, signingSecretFile: f-signing, channel: "#releases"}}
triggers:
  - {nats: {url: "nats://127.0.0.1:1", stream: RELEASES, subject: "models.>", credentialsFile: f-nats, caFile: roots.pem}, map: {policy: policy, candidate: candidate, version: version}}
events: {nats: {url: "nats://127.0.0.1:1", credentialsFile: f-events}}
auth:
  tls: {certFile: tls.crt, keyFile: tls.key}
  mtls: {clientCAFile: roots.pem, clients: [{name: a, commonName: a, roles: [view]}]}
`

// homeOfFiles writes everyFile, with the files that it names.
func homeOfFiles(t *testing.T) (file string, mentions []secret.Mention) {
	t.Helper()
	file = home(t)
	dir := filepath.Dir(file)
	certtest.New(t).Server(t, dir)
	if err := os.WriteFile(file, []byte(everyFile), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if mentions, err = secret.Survey(c); err != nil {
		t.Fatal(err)
	}
	for _, m := range mentions {
		text := canary + "12345678"
		switch m.File {
		case "f-bot":
			text = "xoxb-" + canary
		case "f-app":
			text = "xapp-" + canary
		case "f-channel":
			text = "https://127.0.0.1:1/" + canary
		}
		if strings.HasPrefix(m.File, "f-") {
			if err := os.WriteFile(filepath.Join(dir, m.File), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return file, mentions
}

// Every file that a config can name is checked: for who reads it, or, of
// certificates, for who writes it. The settings are those of the types, so that a
// new one is not forgotten.
func TestEveryFileIsChecked(t *testing.T) {
	file, mentions := homeOfFiles(t)
	if report, ok := CheckConfig(file); !ok {
		t.Fatalf("as it should be: got it refused:\n%s", report)
	}
	var named []string
	for _, m := range mentions {
		named = append(named, m.Field[strings.LastIndexByte(m.Field, '.')+1:])
	}
	for _, setting := range fileSettings(reflect.TypeFor[config.Config](), map[reflect.Type]bool{}) {
		if setting != "stateFile" && !slices.Contains(named, setting) {
			t.Errorf("the config of this test does not set %s, or the survey does not see it", setting)
		}
	}
	for _, m := range mentions {
		name := m.Within(filepath.Dir(file))
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []fs.FileMode{0o666, 0o644} {
			if err := os.Chmod(name, mode); err != nil {
				t.Fatal(err)
			}
			report, ok := CheckConfig(file)
			if want := mode == 0o666 || !m.Public; ok == want || want && !strings.Contains(report, m.Field+": ") {
				t.Errorf("%s in a file of mode %04o: got ok=%v, want it refused=%v:\n%s", m.Field, mode, ok, want, report)
			}
			if strings.Contains(report, canary) {
				t.Errorf("%s: a secret is in the report:\n%s", m.Field, report)
			}
		}
		if err := os.Chmod(name, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

// fileSettings are the keys of a config's type that name files.
func fileSettings(t reflect.Type, seen map[reflect.Type]bool) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return fileSettings(t.Elem(), seen)
	case reflect.Struct:
	default:
		return nil
	}
	if seen[t] {
		return nil
	}
	seen[t] = true
	var out []string
	for f := range t.Fields() {
		if name := f.Tag.Get("yaml"); strings.HasSuffix(name, "File") {
			out = append(out, name)
		}
		if f.Anonymous || f.Tag.Get("yaml") != "" {
			out = append(out, fileSettings(f.Type, seen)...)
		}
	}
	return out
}

// Mistakes of every kind, on lines that hold a secret where none belongs: the report
// says where and why, and never shows what stands there.
func TestMistakesShowNoSecret(t *testing.T) {
	file := home(t)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const router = `edge: {webhook: {url: "http://127.0.0.1:1"}}`
	http := func(section string) string {
		return `edge: {webhook: {url: "http://127.0.0.1:1", http: ` + section + "}}"
	}
	for i, c := range []struct{ old, new, says string }{
		{router, http(`{basic_auth: {username: u}, prob: {}}`), "there is no field prob"},
		{router, `edge: {webhook: {url: "http://127.0.0.1:1/CANARY?k=CANARY", prob: {}}}`, "did you mean probe?"},
		{router, http(`{basic_auth: {username: u, password: CANARY}}`), "routers.edge.webhook.http.basic_auth.password: a secret stands in the config"},
		{router, http(`{oauth2: {client_id: i, client_secret: CANARY, token_url: "https://t.example"}}`), "http.oauth2.client_secret: "},
		{router, http(`{proxy_url: "http://pu:CANARY%zz@127.0.0.1:1"}`), "http.proxy_url: "},
		{router, http(`{proxy_url: "http://[CANARY"}`), "proxy_url is no address"},
		{router, http(`{basic_auth: CANARY}`), "cannot unmarshal"},
		{router, http(`{basic_auth: {CANARY: u}}`), "a field that it does not know"},
		{router, http(`{tls_config: {min_version: CANARY}}`), "unknown TLS version"},
		{router, http(`{enable_http2: CANARY}`), "cannot unmarshal"},
		{router, http(`{bearer_token: CANARY}`), "http.bearer_token: "},
		{router, `edge: {webhook: {url: "http://u:CANARY@127.0.0.1:1"}}`, "routers.edge.webhook.url: an address holds a password"},
		{router, `edge: {webhook: {url: "http://[CANARY"}}`, "routers.edge"},
		{router, `edge: {webhook: {url: [CANARY]}}`, "must be a single value"},
		{router, `edge: {webhook: {url: 12345678}}`, "must be text"},
		{router, `edge: {webhook: CANARY}`, "must be a mapping"},
		{router, `edge: {webhook: {url: *CANARY}}`, "this is not YAML"},
		{router, `edge: {webhook: {url: &CANARY x}}`, "anchors are not part"},
		{router, `edge: {webhook: {url: !CANARY x}}`, "tags are not part"},
		{router, "edge: {webhook: {url: \"CANARY\n", "this is not YAML"},
		{router, `edge: {webhook: {url: "http://127.0.0.1:1", CANARY: x}}`, "no such key"},
		{router, `edge: {webhook: {url: "http://127.0.0.1:1", url: CANARY}}`, "given twice"},
		{router, `edge: {webhook: {url: "http://127.0.0.1:1"}, haproxy: {socket: CANARY}}`, "takes only one of"},
		{router, `edge: {haproxy: {socket: "CANARY", probe: {keyFile: CANARY}}}`, "keyFile: no such file; its name is not shown"},
		{"secretFile: secret", "secretFile: CANARY", "secretFile: no such file; its name is not shown"},
		{"secretFile: secret", `secretFile: "xx/CANARY/CANARY"`, "secretFile: no such file; its name is not shown"},
		{"secretFile: secret", "secretFile: {CANARY: x}", "must be a single value"},
		{"secretFile: secret", "secretFile: \"${CANARY}\"", "secretFile: no such file; its name is not shown"},
		{"lasts: 24h", "lasts: CANARY", "notifiers.am.alertmanager.lasts"},
		{"hello: belay.example", "security: CANARY", "must be starttls, tls or plain"},
		{"credential: file, tokenFile: token}}\n  azure", "credential: CANARY, tokenFile: token}}\n  azure", "sources.logs.loganalytics.credential"},
		{`url: "nats://127.0.0.1:1", stream: RELEASES, subject: "models.>"`, `url: "nats://u:CANARY@127.0.0.1:1", stream: RELEASES, subject: "models.>"`, "triggers[0].nats.url: an address holds a password"},
		{`url: "nats://127.0.0.1:1", stream: RELEASES, subject: "models.>"`, `url: "CANARY@127.0.0.1:1", stream: RELEASES, subject: "models.>"`, "triggers[0].nats.url: an address holds a password"},
		{`url: "nats://127.0.0.1:1", stream: RELEASES, subject: "models.>"`, `url: "nats://[CANARY", stream: RELEASES, subject: "models.>"`, "triggers[0].nats.url: "},
		{`prometheus: {url: "http://127.0.0.1:1", http`, `prometheus: {url: "http://u:CANARY@127.0.0.1:1", http`, "sources.prom.prometheus.url: an address holds a password"},
		{`prometheus: {url: "http://127.0.0.1:1", http`, `prometheus: {url: "http://[CANARY", http`, "sources.prom"},
		{`blue: ["http://127.0.0.1:1/metrics"]`, `blue: ["http://u:CANARY@127.0.0.1:1/metrics"]`, "sources.pods.scrape.targets.recs.blue[0]: "},
		{"listen: 127.0.0.1:0", "listen: 127.0.0.1:0\nevents: {nats: {url: \"nats://u:CANARY@h\"}}", "events.nats.url: "},
		{"listen: 127.0.0.1:0", "listen: 127.0.0.1:0\nauth: {tokens: [{name: ci, roles: [view], sha256: CANARY}]}", "sha256: want a SHA-256 in hex"},
		{"listen: 127.0.0.1:0", "listen: 127.0.0.1:0\nauth: {tokens: [{name: ci, roles: [view], token: CANARY}]}", "no such key"},
		{"listen: 127.0.0.1:0", "listen: 127.0.0.1:0\nCANARY: x", "no such key"},
		{"channel: \"#releases\"", "channel: \"#releases\", botToken: xoxb-CANARY", "known here: appTokenFile, botTokenFile"},
	} {
		hidden := fmt.Sprintf("Canary%02dSecret", i)
		bad := strings.Replace(string(good), c.old, strings.ReplaceAll(c.new, "CANARY", hidden), 1)
		if bad == string(good) {
			t.Fatalf("%q is not in the config", c.old)
		}
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		report, ok := CheckConfig(file)
		if ok || !strings.Contains(report, c.says) {
			t.Errorf("with %s: got ok=%v, want a report with %q:\n%s", c.new, ok, c.says, report)
		}
		if strings.Contains(strings.ToLower(report), strings.ToLower(hidden)) || strings.Contains(report, "12345678") {
			t.Errorf("with %s: what stands there is in the report:\n%s", c.new, report)
		}
		if !strings.Contains(report, "belayd.yaml:") {
			t.Errorf("with %s: the report says no place:\n%s", c.new, report)
		}
		for range 2 { // as the log and /readyz show it, and as belay policy check --config does
			if _, err := config.Read(file); err != nil && strings.Contains(err.Error(), hidden) {
				t.Errorf("with %s: what stands there is in the error: %v", c.new, err)
			}
		}
	}
}

// Whoever may write a policy reads no secret by it: not through a link, by another
// name, or by naming one that lies in the policy's own folder.
func TestPoliciesReadNoSecrets(t *testing.T) {
	file := home(t)
	dir := filepath.Dir(file)
	policies := filepath.Join(dir, "policies")
	if err := os.Mkdir(filepath.Join(policies, "smoke"), 0o700); err != nil {
		t.Fatal(err)
	}
	ask := func(name string) string {
		return strings.Replace(policyText, "  bake: 30m\n", "  bake: 30m\n  preflight: [{check: invoke, request: {file: "+name+"}}]\n", 1)
	}
	at := func(name string) string { return filepath.Join(policies, name) }
	link := func(to, name string) func() error { return func() error { return os.Symlink(to, at(name)) } }
	for what, c := range map[string]struct {
		text string
		make func() error
		says string
	}{
		"a link to a secret":      {ask("smoke/link.json"), link("../../secret", "smoke/link.json"), "a link leads out of the folder"},
		"an absolute link":        {ask("smoke/passwd"), link("/etc/passwd", "smoke/passwd"), "a link leads out of the folder"},
		"a linked folder":         {ask("up/secret"), link("..", "up"), "a link leads out of the folder"},
		"an extended link":        {strings.Replace(policyText, "metadata:", "extends: [base.yaml]\nmetadata:", 1), link("../secret", "base.yaml"), "a link leads out of the folder"},
		"a second name":           {ask("smoke/hard"), func() error { return os.Link(filepath.Join(dir, "secret"), at("smoke/hard")) }, "the config or one of its secrets"},
		"a named pipe":            {ask("smoke/pipe"), func() error { return syscall.Mkfifo(at("smoke/pipe"), 0o600) }, "no regular file"},
		"a pipe that is a policy": {policyText, func() error { return syscall.Mkfifo(at("z.yaml"), 0o600) }, "no regular file"},
		"a linked policy":         {policyText, link("../belayd.yaml", "z.yaml"), "a link leads out of the folder"},
	} {
		if err := os.WriteFile(at("recommendations.yaml"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.make(); err != nil {
			t.Fatal(err)
		}
		report, ok := CheckConfig(file)
		if ok || !strings.Contains(report, c.says) || strings.Contains(report, canary) || strings.Contains(report, "root:") {
			t.Errorf("%s: got ok=%v, want it refused with %q:\n%s", what, ok, c.says, report)
		}
		for _, name := range []string{"up", "base.yaml", "z.yaml", "smoke/link.json", "smoke/passwd", "smoke/hard", "smoke/pipe"} {
			_ = os.Remove(at(name)) // most are not there
		}
	}

	// Where policies lie beside the config, its files are no part of them either.
	if err := os.WriteFile(file, []byte(strings.Replace(configText, "policies/*.yaml", "rec*.yaml", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"secret", "belayd.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, "recommendations.yaml"), []byte(ask(name)), 0o600); err != nil {
			t.Fatal(err)
		}
		if report, ok := CheckConfig(file); ok || !strings.Contains(report, "the config or one of its secrets") {
			t.Errorf("%s beside the policy: got ok=%v:\n%s", name, ok, report)
		}
	}
}
