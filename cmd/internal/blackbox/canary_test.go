package blackbox

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
)

// canaries are secrets, each of another place. Whatever belayd writes, answers or
// sends to people is searched for all of them.
type canaries map[string]string // the secret by its place

// at is the secret of a place.
func (c canaries) at(place string) string {
	if c[place] == "" {
		c[place] = fmt.Sprintf("Kn4ry%02dQ7zS3cretVv", len(c))
	}
	return c[place]
}

// in are the places whose secrets are in a text, as they are or as base64 of
// something around them.
func (c canaries) in(text string) []string {
	var found []string
	for _, place := range slices.Sorted(maps.Keys(c)) {
		seen := strings.Contains(text, c[place])
		for shift := range 3 { // of the bits before it
			whole := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", shift) + c[place]))
			seen = seen || strings.Contains(text, strings.TrimRight(whole[[]int{0, 2, 3}[shift]:len(whole)-4], "="))
		}
		if seen {
			found = append(found, place)
		}
	}
	return found
}

// An echo answers everything with an error that holds all that it was sent, and
// keeps it.
type echo struct {
	*httptest.Server
	mu   sync.Mutex
	got  strings.Builder
	mail string // host:port of a mail server that does the same
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	e := &echo{}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	e.mail = l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			go e.postmaster(c)
		}
	}()
	return e
}

// ServeHTTP implements http.Handler.
func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20)) // what came is enough
	all := fmt.Sprint(r.Method, " ", r.URL, " ", r.Header, " ", string(body))
	if user, password, ok := r.BasicAuth(); ok {
		all += " " + user + ":" + password
	}
	e.keep(all)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_ = json.NewEncoder(w).Encode(map[string]any{"ok": false, "error": all, "error_description": all, "message": all, "errors": []string{all}, "status": all})
}

// postmaster refuses whoever signs in, and says with what.
func (e *echo) postmaster(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "220 mail\r\n")
	for lines := bufio.NewScanner(c); lines.Scan(); {
		e.keep(lines.Text())
		switch word, rest, _ := strings.Cut(lines.Text(), " "); {
		case strings.HasPrefix(word, "EHLO"):
			fmt.Fprint(c, "250-mail\r\n250 AUTH PLAIN\r\n")
		case word == "AUTH":
			clear, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			e.keep(string(clear))
			fmt.Fprintf(c, "535 not %s, which is %q\r\n", rest, clear)
		default:
			fmt.Fprintf(c, "500 %s\r\n", rest)
		}
	}
}

func (e *echo) keep(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got.WriteString(text + "\n")
}

func (e *echo) heard() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got.String()
}

// Every place that may hold a secret holds one, and everybody whom belayd speaks to
// answers with an error that says what it was sent. There are a rollout that is
// rolled back, one whose figures are missing and one whose router refuses, mistakes
// in the config at reload, strangers with secrets of their own, and in the end a
// crash with all stacks. No secret is in anything that belayd or belay writes.
func TestCanaries(t *testing.T) {
	t.Parallel()
	c, other, e := canaries{}, newEcho(t), newEndpoints(t, "recs", "blind", "shut")
	w := burdened(t, c, other, e)
	w.start()
	found := &findings{t: t, c: c}
	ids := map[string]string{}
	for _, name := range []string{"recs", "blind", "shut"} {
		ids[name] = strings.TrimSpace(w.want(0, "admin", "start", "--policy", name, "--candidate", "green", "--version", "1", "--output", "name"))
	}
	realtest.Eventually(t, "green to have 5%", func() bool { return e.green("recs") == 5 })
	e.broken.Store(requests())
	realtest.Eventually(t, "the broken candidate to be rolled back", func() bool { return e.green("recs") == 0 })
	realtest.Eventually(t, "the figures to be missed", func() bool { return w.rollout(ids["blind"]).Phase == "held" })
	strange(t, c, w)
	w.mistaken(found)
	w.asked(found, ids)
	if err := w.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	_ = w.cmd.Wait() // a crash
	realtest.Eventually(t, "the stacks", func() bool { return strings.Contains(w.logs.String(), "net/http.(*") })
	found.look("the log", w.logs.String())
	found.look("the store", w.read("belay.db"))
	heard := c.in(other.heard())
	t.Logf("%d secrets, %d of them sent to others; %d of them seen in %d places of belayd's own", len(c), len(heard), found.seen, found.places)
	if len(c) < 40 || len(heard) < 10 {
		t.Errorf("got %d secrets of which others heard %d (%q), want 40 and 10: the test shows nothing", len(c), len(heard), heard)
	}
}

// findings is what was searched.
type findings struct {
	t            *testing.T
	c            canaries
	places, seen int
}

func (f *findings) look(where, text string) {
	f.places++
	for _, place := range f.c.in(text) {
		f.seen++
		at := strings.Index(text, f.c[place])
		f.t.Errorf("%s shows the secret of %s: …%s…", where, place, text[max(at-200, 0):min(max(at, 0)+40, len(text))])
	}
}

// burdened is a world with a secret in every place.
func burdened(t *testing.T, c canaries, other *echo, e *endpoints) *world {
	var ps []string
	for _, name := range []string{"recs", "blind", "shut"} {
		p := policy(name, name, "  page: [hook, oncall, am, mail, chat, team, topic]\n  notify: [hook, chat]\n", "[{weight: 5%, bake: 1h}, {weight: 100%, bake: 1h}]")
		switch name {
		case "blind":
			p = strings.Replace(p, "source: pods, counts: {total: 'requests_total', bad: 'failed_total', deployment: deployment}", "source: prom, counts: {total: 'requests_total', bad: 'failed_total', deployment: deployment}", 1)
			p = strings.Replace(p, "  steps:", "  onSourceError: {after: 2s, then: hold}\n  onNoData: {after: 2s, then: hold}\n  steps:", 1)
		case "shut":
			p = strings.Replace(p, "router: edge", "router: second", 1)
		}
		ps = append(ps, p)
	}
	w := prepare(t, e, "", ps...)
	certificate(t, w.dir)
	file := func(name, before string) string {
		text := before + c.at(name)
		if name == "routing key" {
			text = (text + strings.Repeat("0", 32))[:32]
		}
		path := filepath.Join("secrets", strings.ReplaceAll(name, " ", "-"))
		w.write(path, text+"\n")
		return path
	}
	env := func(name, format string, of ...any) string {
		key := "CANARY_" + strings.ToUpper(strings.ReplaceAll(name, " ", "_"))
		w.env = append(w.env, key+"="+fmt.Sprintf(format, append(of, c.at(name))...))
		return "${env:" + key + "}"
	}
	w.write("secrets/nats-creds", "-----BEGIN NATS USER JWT-----\n"+c.at("NATS JWT")+"\n------END NATS USER JWT------\n-----BEGIN USER NKEY SEED-----\nSUA"+c.at("NATS seed")+"\n------END USER NKEY SEED------\n")
	w.write("secrets/aws", fmt.Sprintf(`{"Version": 1, "AccessKeyId": "AKIDBELAY", "SecretAccessKey": %q, "SessionToken": %q}`,
		c.at("AWS secret"), c.at("AWS session")))
	var people strings.Builder
	for _, actor := range []string{"viewer", "admin"} {
		token := c.at("token of " + actor)
		w.write("token-"+actor, token)
		sum := sha256.Sum256([]byte(token))
		fmt.Fprintf(&people, "    - {name: %s, roles: [%s], sha256: %s}\n", actor, map[string]string{"viewer": "view", "admin": "admin"}[actor], hex.EncodeToString(sum[:]))
	}
	host := strings.TrimPrefix(other.URL, "http://")
	const azure = "credential: file, tokenFile: "
	w.write("belayd.yaml", fmt.Sprintf(`listen: %s
store: {bolt: {path: belay.db}}
policies: ["policies/*.yaml"]
sources:
  pods: {scrape: {targets: {recs: {blue: [%q], green: [%q]}, shut: {blue: [%q], green: [%q]}}, http: {authorization: {credentials_file: %s}}}}
  prom: {prometheus: {url: %q, http: {basic_auth: {username: belay, password_file: %s}, http_headers: {X-Key: {files: [%s]}}}}}
  cloudprom: {prometheus: {url: %q, azure: {%s%s}}}
  logs: {loganalytics: {workspace: 11111111-2222-3333-4444-555555555555, %s%s}}
  azure: {azuremonitor: {region: westeurope, subscription: 11111111-2222-3333-4444-555555555555, resourceGroup: g, workspace: w, %s%s}}
  warehouse: {httpjson: {url: %q, http: {oauth2: {client_id: i, client_secret_file: %s, token_url: %q}}}}
  proxied: {prometheus: {url: "http://prometheus.example", http: {proxy_url: %q, bearer_token_file: %s}}}
routers:
  edge: {webhook: {url: %q, http: {basic_auth: {username_file: %s, password_file: %s}}, probe: {keyFile: %s}}}
  second: {webhook: {url: %q, http: {authorization: {credentials_file: %s}}, probe: {http: {bearer_token_file: %s}}}}
  third: {webhook: {url: %q, http: {oauth2: {client_id: i, client_secret_file: %s, token_url: %q}}}}
  ml: {azureml: {subscription: 11111111-2222-3333-4444-555555555555, resourceGroup: g, workspace: w, %s%s}}
notifiers:
  hook: {webhook: {url: %q, secretFile: %s, http: {authorization: {credentials_file: %s}}}}
  oncall: {pagerduty: {routingKeyFile: %s, webhookSecretFile: %s, url: %q}}
  am: {alertmanager: {url: %q, http: {basic_auth: {username: belay, password_file: %s}}}}
  mail: {email: {server: %q, security: plain, from: belay@belay.example, to: [team@belay.example], username: belay, passwordFile: %s}}
  chat: {slack: {botTokenFile: %s, signingSecretFile: %s, url: %q, channel: "#releases"}}
  team: {teams: {urlFile: %s}}
  topic: {sns: {topic: "arn:aws:sns:eu-west-1:123456789012:releases", credentialsFile: secrets/aws, url: %q}}
triggers:
  - {nats: {url: %q, stream: RELEASES, subject: "models.>", credentialsFile: secrets/nats-creds}, map: {policy: policy, candidate: candidate, version: version}}
events: {nats: {url: %q}}
tell: [hook, chat]
auth:
  tokens:
%s`,
		realtest.Address(t), e.URL+"/metrics/blue", e.URL+"/metrics/green", e.URL+"/metrics/blue", e.URL+"/metrics/green", file("scrape bearer", ""),
		env("prometheus address", "%s/%s", other.URL), file("prometheus password", ""), file("prometheus header", ""),
		other.URL, azure, file("azure prometheus token", ""), azure, file("log analytics token", ""), azure, file("azure monitor token", ""),
		env("httpjson address", "%s/q?key=%s", other.URL), file("warehouse oauth secret", ""), env("token address", "%s/token?key=%s", other.URL),
		env("proxy password", "http://belay:%[2]s@%[1]s", host), file("proxied bearer", ""),
		e.URL, file("router user", ""), file("router password", ""), file("probe key", ""),
		other.URL, file("router bearer", ""), file("probe bearer", ""),
		other.URL, file("router oauth secret", ""), env("router token address", "%s/token/%s", other.URL), azure, file("resource manager token", ""),
		env("webhook address", "%s/hooks/%s", other.URL), file("webhook signing secret", "0123456789"), file("webhook bearer", ""),
		file("routing key", ""), file("pagerduty subscription", ""), other.URL,
		other.URL, file("alertmanager password", ""), other.mail, file("mail password", ""),
		file("slack bot token", "xoxb-"), file("slack signing secret", ""), other.URL+"/",
		file("teams address", other.URL+"/"), other.URL,
		env("trigger password", "nats://belay:%[2]s@%[1]s", "127.0.0.1:1"), env("events password", "nats://belay:%[2]s@%[1]s", "127.0.0.1:1"), &people))
	return w
}

// strange sends secrets of people whom belayd does not know.
func strange(t *testing.T, c canaries, w *world) {
	t.Helper()
	for place, set := range map[string]func(*http.Request, string){
		"a stranger's bearer":    func(r *http.Request, s string) { r.Header.Set("Authorization", "Bearer "+s) },
		"a stranger's password":  func(r *http.Request, s string) { r.SetBasicAuth("ann", s) },
		"a stranger's cookie":    func(r *http.Request, s string) { r.Header.Set("Cookie", "session="+s) },
		"a token in a query":     func(r *http.Request, s string) { r.URL.RawQuery = "access_token=" + s },
		"a header of no meaning": func(r *http.Request, s string) { r.Header.Set("X-Api-Key", s) },
		"a hook's signature": func(r *http.Request, s string) {
			r.Method, r.URL.Path = http.MethodPost, "/hooks/chat"
			r.Header.Set("X-Slack-Signature", "v0="+s)
			r.Header.Set("X-Slack-Request-Timestamp", fmt.Sprint(time.Now().Unix()))
		},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.address+"/v1/rollouts", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		set(r, c.at(place))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s: got %d, want a refusal", place, resp.StatusCode)
		}
	}
}

// mistaken makes a mistake in the config where a secret stands, one after another,
// and looks at what is said of it.
func (w *world) mistaken(f *findings) {
	w.t.Helper()
	good := w.read("belayd.yaml")
	for place, line := range map[string]string{
		"a password in the config":    `  x: {webhook: {url: "http://127.0.0.1:1", http: {basic_auth: {username: u, password: SECRET}}}}`,
		"a misspelt key beside it":    `  x: {webhook: {url: "http://127.0.0.1:1/SECRET", prob: {}}}`,
		"an address with a password":  `  x: {webhook: {url: "http://u:SECRET@127.0.0.1:1"}}`,
		"a bearer in the config":      `  x: {webhook: {url: "http://127.0.0.1:1", http: {bearer_token: SECRET}}}`,
		"a client secret":             `  x: {webhook: {url: "http://127.0.0.1:1", http: {oauth2: {client_id: i, client_secret: SECRET, token_url: "http://127.0.0.1:1"}}}}`,
		"a secret as a file's name":   `  x: {webhook: {url: "http://127.0.0.1:1", probe: {keyFile: SECRET}}}`,
		"a line that is no YAML":      `  x: {webhook: {url: "http://127.0.0.1:1/SECRET`,
		"a proxy that is no address":  `  x: {webhook: {url: "http://127.0.0.1:1", http: {proxy_url: "http://u:SECRET%zz@127.0.0.1:1"}}}`,
		"a key that is a secret":      `  x: {webhook: {url: "http://127.0.0.1:1", SECRET: x}}`,
		"a number that is a password": `  x: {webhook: {url: [SECRET]}}`,
	} {
		w.write("belayd.yaml", strings.Replace(good, "routers:\n", "routers:\n"+strings.ReplaceAll(line, "SECRET", f.c.at(place))+"\n", 1))
		w.hup()
		realtest.Eventually(w.t, "/readyz to name the mistake: "+place, func() bool { return strings.Contains(w.get("admin", "/readyz"), "belayd.yaml") })
		f.look("/readyz of "+place, w.get("admin", "/readyz")+w.get("", "/readyz"))
		w.write("belayd.yaml", good)
		w.hup()
		realtest.Eventually(w.t, "/readyz to be rid of it", func() bool { return !strings.Contains(w.get("admin", "/readyz"), "belayd.yaml:") })
	}
}

// asked asks for everything there is to be asked for.
func (w *world) asked(f *findings, ids map[string]string) {
	w.t.Helper()
	paths := []string{"/metrics", "/readyz", "/v1/rollouts", "/v1/endpoints", "/v1/sources", "/v1/triggers", "/v1/policies", "/v1/audit/head"}
	for name, id := range ids {
		paths = append(paths, "/v1/rollouts/"+id, "/v1/rollouts/"+id+"/plan", "/v1/rollouts/"+id+"/history", "/v1/endpoints/edge/"+name)
		for _, args := range [][]string{{"status", id}, {"history", id}, {"explain", id}, {"list"}, {"endpoint", "list"}} {
			_, out := w.run("admin", args...)
			f.look("belay "+strings.Join(args, " "), out)
		}
	}
	for _, path := range paths {
		f.look("GET "+path, w.get("admin", path))
	}
	for _, args := range [][]string{{"doctor"}, {"doctor", "--notify"}, {"trigger", "list"}, {"backup", filepath.Join(w.dir, "copy.db")}} {
		_, out := w.run("admin", args...)
		f.look("belay "+strings.Join(args, " "), out)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.address+"/v1/events", http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+f.c.at("token of admin"))
	r.Header.Set("Last-Event-ID", "0")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	events, _ := io.ReadAll(resp.Body) // it ends when the time is over
	if len(events) == 0 {
		w.t.Error("the stream of events is empty")
	}
	f.look("the stream of events", string(events))
}

// get is what an actor gets for a path, "" as nobody.
func (w *world) get(actor, path string) string {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+w.address+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	if actor != "" {
		token, err := os.ReadFile(filepath.Join(w.dir, "token-"+actor))
		if err != nil {
			w.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}
