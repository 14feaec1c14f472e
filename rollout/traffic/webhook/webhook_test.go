package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/webhook"
)

const good = `{"weights":{"blue":100},"mirror":{},"version":"7"}`

var (
	all  = traffic.Split{Weights: map[string]int{"blue": 100}}
	five = traffic.Split{Weights: map[string]int{"blue": 95, "green": 5}}
)

// serve answers every request with h and returns a router for it.
func serve(t *testing.T, h http.HandlerFunc) (*webhook.Router, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	router, err := webhook.New(webhook.Config{
		URL: server.URL, Client: authorized(server),
		Prober: traffic.Prober{Authorized: authorized(server), Anonymous: server.Client()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return router, server
}

func answer(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	}
}

// Whatever an endpoint answers that is not the contract is an error, never a
// split.
func TestSplitRefusesMalformedAnswers(t *testing.T) {
	tests := []struct{ name, contentType, body, want string }{
		{"login page", "text/html", "<html>", "content type"},
		{"no content type", "", good, "content type"},
		{"not JSON", "application/json", "{", "not JSON"},
		{"trailing", "application/json", good + "x", "not JSON"},
		{"array", "application/json", "[]", "not of type"},
		{"no weights", "application/json", `{"version":"7"}`, "no \"weights\""},
		{"null weights", "application/json", `{"weights":null,"version":"7"}`, "no \"weights\""},
		{"fraction", "application/json", `{"weights":{"blue":99.5,"green":0.5},"version":"7"}`, "not of type"},
		{"sum 99", "application/json", `{"weights":{"blue":99},"version":"7"}`, "sum to 99"},
		{"sum 101", "application/json", `{"weights":{"blue":99,"green":2},"version":"7"}`, "sum to 101"},
		{"negative", "application/json", `{"weights":{"blue":105,"green":-5},"version":"7"}`, "want 0 to 100"},
		{"no version", "application/json", `{"weights":{"blue":100}}`, "no \"version\""},
		{"quote in version", "application/json", `{"weights":{"blue":100},"version":"7\""}`, "printable"},
		{"number as version", "application/json", `{"weights":{"blue":100},"version":7}`, "not of type"},
		{"mirror 200", "application/json", `{"weights":{"blue":100},"mirror":{"green":200},"version":"7"}`, "want 0 to 100"},
		{"weights twice", "application/json", `{"weights":{"blue":0,"green":100},"weights":{"blue":100},"version":"7"}`, "stands there twice"},
		{"a weight twice", "application/json", `{"weights":{"blue":99,"blue":100},"version":"7"}`, "stands there twice"},
		{"a field twice by case", "application/json", `{"weights":{"blue":100},"version":"7","Version":"8"}`, "stands there twice"},
		{"endless", "application/json", `{"weights":{"blue":100},"version":"7","x":"` + strings.Repeat("x", 2<<20) + `"}`, "larger"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			router, _ := serve(t, answer(tt.contentType, tt.body))
			if s, err := router.Split(t.Context(), "recs"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Split: got %v, %v, want an error with %q", s, err, tt.want)
			}
		})
	}
}

// What an answer's status means to whoever called.
func TestStatus(t *testing.T) {
	const transient, busy = "transient", "busy"
	tests := []struct {
		status    int
		get, put  any
		retryHint time.Duration
	}{
		{301, traffic.ErrPermanent, traffic.ErrPermanent, 0},
		{400, traffic.ErrPermanent, traffic.ErrPermanent, 0},
		{401, traffic.ErrPermanent, traffic.ErrPermanent, 0},
		{403, traffic.ErrPermanent, traffic.ErrPermanent, 0},
		{404, traffic.ErrNotFound, traffic.ErrNotFound, 0},
		{405, traffic.ErrPermanent, traffic.ErrPermanent, 0},
		{408, transient, transient, 0},
		{409, busy, busy, 7 * time.Second},
		{412, traffic.ErrPermanent, traffic.ErrForeignChange, 0},
		{422, traffic.ErrPermanent, traffic.ErrPermanent, 0},
		{423, busy, busy, 7 * time.Second},
		{429, busy, busy, 7 * time.Second},
		{500, transient, transient, 0},
		{502, transient, transient, 0},
		{503, transient, transient, 0},
	}
	check := func(t *testing.T, method string, status int, err error, want any, hint time.Duration) {
		t.Helper()
		var b *traffic.BusyError
		switch want {
		case transient:
			if err == nil || errors.Is(err, traffic.ErrPermanent) || errors.Is(err, traffic.ErrNotFound) || errors.As(err, &b) {
				t.Errorf("%s answered %d: got %v, want a transient error", method, status, err)
			}
		case busy:
			if !errors.As(err, &b) || b.RetryAfter != hint {
				t.Errorf("%s answered %d: got %v, want a BusyError that waits %s", method, status, err, hint)
			}
		default:
			if !errors.Is(err, want.(error)) {
				t.Errorf("%s answered %d: got %v, want %v", method, status, err, want)
			}
		}
	}
	for _, tt := range tests {
		answerStatus := func(method string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.Method != method {
					answer("application/json", good)(w, r)
					return
				}
				w.Header().Set("Location", "/login")
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(tt.status)
			}
		}
		router, _ := serve(t, answerStatus(http.MethodGet))
		_, err := router.Split(t.Context(), "recs")
		check(t, "GET", tt.status, err, tt.get, tt.retryHint)
		router, _ = serve(t, answerStatus(http.MethodPut))
		check(t, "PUT", tt.status, router.Shift(t.Context(), "recs", all, five), tt.put, tt.retryHint)
	}
}

// An endpoint that repeats our credential in bodies and headers does not get it
// into an error.
func TestErrorsTellNoSecret(t *testing.T) {
	for _, status := range []int{200, 302, 400, 401, 404, 409, 412, 422, 429, 500} {
		for _, contentType := range []string{"application/json", "text/plain", secret} {
			router, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut && status == 200 {
					panic(http.ErrAbortHandler)
				}
				echo := r.Header.Get("Authorization")
				w.Header().Set("Content-Type", contentType)
				w.Header().Set("Location", "http://127.0.0.1:1/?"+secret)
				w.Header().Set("Retry-After", secret)
				w.Header().Set("Www-Authenticate", echo)
				w.WriteHeader(status)
				_, _ = fmt.Fprintf(w, `{"weights":{%q:1},"version":7,"scoringURI":%q}`, echo, "http://"+secret+"@127.0.0.1:1/") //nolint:gosec // No browser reads it.
			})
			_, splitErr := router.Split(t.Context(), "recs")
			_, describeErr := router.Describe(t.Context(), "recs")
			for _, err := range []error{splitErr, describeErr, router.Shift(t.Context(), "recs", all, five)} {
				if err == nil || strings.Contains(err.Error(), secret) {
					t.Errorf("status %d: got %v, want an error without the secret", status, err)
				}
			}
		}
	}
	router, _ := serve(t, answer("application/json",
		`{"weights":{"blue":100},"version":"7","scoringURI":"http://u:`+secret+`@127.0.0.1:1/"}`))
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "", http.NoBody)
	if _, err := router.Probe(t.Context(), "recs", "blue", r); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("Probe: got %v, want an error without the secret", err)
	}
	if _, err := webhook.New(webhook.Config{URL: "http://u:" + secret + "@h", Client: http.DefaultClient}); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("New: got %v, want an error without the secret", err)
	}
}

// A configuration that cannot work is refused at once.
func TestNewRefuses(t *testing.T) {
	for _, c := range []webhook.Config{
		{URL: "http://edge"},
		{URL: "", Client: http.DefaultClient},
		{URL: "ftp://edge", Client: http.DefaultClient},
		{URL: "http://", Client: http.DefaultClient},
		{URL: "http://edge?x=1", Client: http.DefaultClient},
		{URL: "http://edge/\x00", Client: http.DefaultClient},
	} {
		if _, err := webhook.New(c); err == nil {
			t.Errorf("New(%q): got nil, want an error", c.URL)
		}
	}
}

// A name cannot lead out of the contract's path.
func TestEndpointNames(t *testing.T) {
	var paths []string
	router, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.EscapedPath())
		answer("application/json", good)(w, r)
	})
	for _, name := range []string{"", ".", ".."} {
		if _, err := router.Split(t.Context(), name); !errors.Is(err, traffic.ErrPermanent) {
			t.Errorf("Split(%q): got %v, want ErrPermanent", name, err)
		}
	}
	for _, name := range []string{"a/../b", "a?b#c", "é"} {
		if _, err := router.Split(t.Context(), name); err != nil {
			t.Errorf("Split(%q): %v", name, err)
		}
	}
	want := []string{"/endpoints/a%2F..%2Fb", "/endpoints/a%3Fb%23c", "/endpoints/%C3%A9"}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

// Facts that an endpoint leaves out are named, so that a check can say which
// one it needs.
func TestDescribe(t *testing.T) {
	tests := []struct {
		name, body string
		want       traffic.Description
	}{
		{
			"nothing told", `{"weights":{"blue":100},"version":"7"}`,
			traffic.Description{
				Deployments: map[string]traffic.Deployment{},
				Unknown:     []string{"authMode", "deployments", "publicNetwork", "scoringURI", "tags"},
			},
		},
		{
			"the contract's example",
			`{"weights":{"blue":95,"green":5},"mirror":{},"version":"7","deployments":{"green":{"ready":true,"instances":2,` +
				`"concurrency":8,"version":"v2"}},"tags":{},"scoringURI":"https://recs.example/score"}`,
			traffic.Description{
				Deployments: map[string]traffic.Deployment{"green": {Ready: true, Instances: 2, Concurrency: 8, Version: "v2"}},
				Tags:        map[string]string{}, ScoringURI: "https://recs.example/score", CanMirror: true,
				Unknown: []string{"authMode", "deployments.blue", "publicNetwork"},
			},
		},
		{
			"half told", `{"weights":{"blue":100},"version":"7","deployments":{"blue":{"ready":false,"reason":"starting"}}}`,
			traffic.Description{
				Deployments: map[string]traffic.Deployment{"blue": {Reason: "starting"}},
				Unknown: []string{
					"authMode", "deployments.blue.concurrency", "deployments.blue.instances", "deployments.blue.version",
					"publicNetwork", "scoringURI", "tags",
				},
			},
		},
	}
	for _, tt := range tests {
		router, _ := serve(t, answer("application/json", tt.body))
		got, err := router.Describe(t.Context(), "recs")
		if err != nil {
			t.Fatal(err)
		}
		if got.ManualRollback == nil {
			t.Fatalf("%s: ManualRollback is nil", tt.name)
		}
		got.ManualRollback = nil
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: Describe (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A probe of a deployment carries the header and the prober's credential; an
// anonymous one carries neither and is not led away by a redirect.
func TestProbe(t *testing.T) {
	var base string
	router, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/endpoints/recs":
			answer("application/json", `{"weights":{"blue":100},"version":"7","scoringURI":"`+base+`/score"}`)(w, r)
		case r.Header.Get("Authorization") == "":
			http.Redirect(w, r, "/login", http.StatusFound)
		default:
			_, _ = io.WriteString(w, r.Method+" "+r.URL.String()+" to "+r.Header.Get("Belay-Deployment")) //nolint:gosec // No browser reads it.
		}
	})
	base = server.URL
	probe := func(deployment, path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer someone-else")
		resp, err := router.Probe(t.Context(), "recs", deployment, r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if code, body := probe("green", ""); code != 200 || body != "POST /score to green" {
		t.Errorf("Probe of green: got %d %q", code, body)
	}
	if code, body := probe("green", "score/v2?x=1"); code != 200 || body != "POST /score/v2?x=1 to green" {
		t.Errorf("Probe of green with a path: got %d %q", code, body)
	}
	if code, _ := probe("", ""); code != http.StatusFound {
		t.Errorf("anonymous Probe: got %d, want %d", code, http.StatusFound)
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://169.254.169.254/", http.NoBody)
	if _, err := router.Probe(t.Context(), "recs", "green", r); !errors.Is(err, traffic.ErrPermanent) {
		t.Errorf("Probe with an absolute address: got %v, want ErrPermanent", err)
	}
}

// The command for a rollback by hand is run as it stands, by a shell.
func TestManualRollbackRuns(t *testing.T) {
	for _, tool := range []string{"sh", "curl", "jq"} {
		realtest.Program(t, tool)
	}
	h := newHost()
	server := httptest.NewServer(&rig{host: h, inner: webhook.NewHandler(h, nil)})
	defer server.Close()
	config := t.TempDir() + "/it's a config"
	if err := os.WriteFile(config, []byte(`header = "Authorization: Bearer `+secret+`"`), 0o600); err != nil {
		t.Fatal(err)
	}
	router, err := webhook.New(webhook.Config{URL: server.URL, Client: authorized(server), CurlArgs: []string{"--config", config}})
	if err != nil {
		t.Fatal(err)
	}
	h.foreign(traffic.Split{Weights: map[string]int{"blue": 40, "green": 60}})
	d, err := router.Describe(t.Context(), "recs")
	if err != nil {
		t.Fatal(err)
	}
	command := d.ManualRollback("blue")
	t.Log(strings.ReplaceAll(command, server.URL, "https://edge.example"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput(); err != nil { //nolint:gosec // The command is what is tested.
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	if got := h.truth(); !got.Equal(all) {
		t.Errorf("after the command: got %s, want %s", got.String(), all.String())
	}
}
