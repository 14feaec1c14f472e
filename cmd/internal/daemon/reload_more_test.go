package daemon

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/cmd/internal/certtest"
	"github.com/belayd/belay/cmd/internal/config"
)

// A config that is being written is not read before its writer has let go of it:
// its first half, without auth, would be right by itself.
func TestReloadWaitsForWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "belayd.yaml")
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("old")
		d := &daemon{log: discard()}
		d.current.Store(&generation{files: map[string]string{file: config.Fingerprint(file)}})
		if d.due(t.Context()) {
			t.Error("nothing changed: got due")
		}
		whole := time.Now().Add(900 * time.Millisecond)
		go func() {
			for text := ""; time.Now().Before(whole); time.Sleep(100 * time.Millisecond) {
				text += "line\n"
				write(text)
			}
			write("whole")
		}()
		time.Sleep(time.Millisecond)
		if due := d.due(t.Context()); !due || time.Now().Before(whole) {
			t.Errorf("while it is written: got %v %s before it is whole", due, time.Until(whole))
		}
		if !d.due(t.Context()) {
			t.Error("not taken over: got not due")
		}
	})
}

// Nor at a signal, which may come amid what is being installed: the last file, a
// policy, is written 900 ms after it. Who never ends keeps nobody waiting for ever.
func TestSignalWaitsForWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "belayd.yaml")
		policy := filepath.Join(filepath.Dir(file), "recs.yaml")
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.WriteFile(policy, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		write := func(name string) {
			if err := os.Chtimes(name, time.Now(), time.Now()); err != nil {
				t.Error(err)
			}
		}
		write(file)
		write(policy)
		d := &daemon{log: discard(), o: Options{ConfigFile: file}}
		d.current.Store(&generation{config: &config.Config{File: file, Policies: []string{policy}}})
		time.Sleep(time.Minute)
		settles := func() time.Duration {
			began := time.Now()
			d.settle(t.Context())
			return time.Since(began)
		}
		if got := settles(); got != 0 {
			t.Errorf("when nobody writes: waited %s, want not at all", got)
		}
		writing := func(n int) {
			for i := range n {
				write([]string{file, policy}[i%2])
				time.Sleep(100 * time.Millisecond)
			}
		}
		go writing(10)
		synctest.Wait()
		if got := settles(); got != 900*time.Millisecond+steady {
			t.Errorf("while they are written: waited %s, want until %s after the last", got, steady)
		}
		go writing(200)
		synctest.Wait()
		if got := settles(); got < settleMax || got > settleMax+steady {
			t.Errorf("when it never ends: waited %s, want %s", got, settleMax)
		}
		time.Sleep(time.Minute)
	})
}

// Nor is a policy, whose first half may be one without a guardrail.
func TestReloadWaitsForPolicy(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("policies/recs.yaml", swift)
	write("secret", canary)
	write("belayd.yaml", settings{router: "http://127.0.0.1:1", pages: "http://127.0.0.1:1", scraped: "http://127.0.0.1:1"}.config())
	c, err := config.Read(filepath.Join(dir, "belayd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{log: discard()}
	s, _ := d.assemble(c, nil)
	if err := s.faults.Err(); err != nil {
		t.Fatal(err)
	}
	if d.reloading.metrics, err = newReloadMetrics(prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	d.current.Store(s)
	half, whole := strings.Replace(swift, "  rollback: {verifyWithin: 30s, cooldown: 1h}\n", "", 1), strings.Replace(swift, "cooldown: 1h", "cooldown: 2h", 1)
	synctest.Test(t, func(t *testing.T) {
		for _, first := range []string{half, "apiVersion: bel"} {
			write("policies/recs.yaml", first)
			time.AfterFunc(100*time.Millisecond, func() { write("policies/recs.yaml", whole) })
			if err := d.reloadPolicies(t.Context()); err != nil || d.now() != s {
				t.Errorf("while it is written: got %v and another set: %v, want nothing", err, d.now() != s)
			}
		}
		if err := d.reloadPolicies(t.Context()); err != nil || d.now() == s || d.now().policies.Sum == s.policies.Sum {
			t.Errorf("when it is whole: got %v and the old set, want the new one", err)
		}
	})
}

// A field that waits for a restart is shown at every instant, also while the config
// is read again.
func TestRestartRequiredStays(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newReloadMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{log: discard()}
	d.reloading.metrics = m
	d.await([]string{"listen", "store"})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2000 {
			d.await([]string{"listen", "store"})
		}
	}()
	shown := func() (fields int) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "belay_config_restart_required" {
				fields = len(f.GetMetric())
			}
		}
		return fields
	}
	for range 500 {
		if got := shown(); got != 2 {
			t.Fatalf("while the config is read again: got %d fields, want 2", got)
		}
	}
	<-done
	d.await([]string{"store"})
	if got := shown(); got != 1 {
		t.Errorf("one was put back: got %d fields, want 1", got)
	}
}

// Who hears over HTTP follows the config.
func TestReloadHooks(t *testing.T) {
	p := newEstate().place(t)
	b := run(t, at(p))
	b.write("bot", "xoxb-"+canary)
	hook := func() int {
		code, _ := b.ask("POST", "/hooks/slack", "", "payload={}")
		return code
	}
	if got := hook(); got != http.StatusNotFound {
		t.Errorf("before: got %d, want 404", got)
	}
	s := at(p)
	with := strings.Replace(s.config(), "notifiers: {hook:", "notifiers: {slack: {slack: {botTokenFile: bot, signingSecretFile: secret, url: '"+p.URL+"', channel: '#x'}}, hook:", 1)
	b.write("belayd.yaml", with)
	b.hup()
	if got := hook(); got != http.StatusUnauthorized {
		t.Errorf("with slack: got %d, want 401 to what is not signed", got)
	}
	b.take(s)
	if got := hook(); got != http.StatusNotFound {
		t.Errorf("without slack: got %d, want 404", got)
	}
}

// A click between two notifiers is heard, once and whole: it waits for the new one,
// which is not ready yet, and is told so when that takes too long.
func TestHooksBetweenTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard []string
		hear := func(name string, from time.Time) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := r.ParseForm(); err != nil || time.Now().Before(from) {
					w.Header().Set("X-Starting", "1")
					http.Error(w, "starting", http.StatusServiceUnavailable)
					return
				}
				heard = append(heard, name+" "+r.PostForm.Get("payload"))
				w.WriteHeader(http.StatusOK)
			})
		}
		began := time.Now()
		old := &generation{hooks: map[string]http.Handler{"/hooks/slack": hear("old", began.Add(time.Hour))}}
		fresh := &generation{hooks: map[string]http.Handler{"/hooks/slack": hear("new", began.Add(time.Second))}}
		h := hooks{func() *generation {
			if time.Since(began) < 300*time.Millisecond {
				return old
			}
			return fresh
		}, http.NotFoundHandler()}
		click := func(path, payload string) int {
			t.Helper()
			w := httptest.NewRecorder()
			r := httptest.NewRequest("POST", path, strings.NewReader("payload="+payload))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			h.ServeHTTP(w, r)
			if w.Header().Get("X-Starting") != "" {
				t.Errorf("%s: got %v, want nothing of the answers that were held back", payload, w.Header())
			}
			return w.Code
		}
		if code := click("/hooks/slack", "one"); code != http.StatusOK || strings.Join(heard, ", ") != "new one" {
			t.Errorf("while the new one was not ready: got %d, heard %v, want it to hear", code, heard)
		}
		if code := click("/hooks/slack", "two"); code != http.StatusOK || strings.Join(heard, ", ") != "new one, new two" {
			t.Errorf("when it is: got %d, heard %v", code, heard)
		}
		fresh.hooks["/hooks/slack"] = hear("dead", began.Add(time.Hour))
		if code := click("/hooks/slack", "three"); code != http.StatusServiceUnavailable || len(heard) != 2 {
			t.Errorf("with none that is ready: got %d, heard %v, want 503", code, heard)
		}
		if code := click("/hooks/other", "four"); code != http.StatusNotFound {
			t.Errorf("where nobody hears: got %d, want 404", code)
		}
	})
}

// Certificates of other files are served from the next connection on; that there
// is TLS at all waits for a restart.
func TestReloadCertificates(t *testing.T) {
	p := newEstate().place(t)
	first, second := t.TempDir(), t.TempDir()
	ca := certtest.New(t)
	one, two := ca.Server(t, first), ca.Server(t, second)
	s := at(p, "ann")
	in := func(dir string) settings {
		s.people = "  tls: {certFile: '" + dir + "/tls.crt', keyFile: '" + dir + "/tls.key'}\n"
		return s
	}
	b := run(t, in(first))
	serial := func() string {
		conn, err := tls.Dial("tcp", b.address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // the test looks at the certificate itself
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	if got, want := serial(), one.SerialNumber.String(); got != want {
		t.Fatalf("got certificate %s, want %s", got, want)
	}
	b.take(in(second))
	if got, want := serial(), two.SerialNumber.String(); got != want {
		t.Errorf("other files: got certificate %s, want %s", got, want)
	}
	b.take(at(p, "ann"))
	if got, want := serial(), two.SerialNumber.String(); got != want {
		t.Errorf("no TLS: got certificate %s, want %s until a restart", got, want)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}} //nolint:gosec // see above
	resp, err := client.Get("https://" + b.address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), `belay_config_restart_required{field="auth.tls"} 1`) {
		t.Errorf("metrics: %v, want auth.tls to wait for a restart", err)
	}
}
