package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/webhook"
)

// The answers of a Handler, request by request, in order.
func TestHandler(t *testing.T) {
	const weights = `{"weights":{"blue":95,"green":5}}`
	tests := []struct {
		name, method, path, ifMatch, contentType, body string
		status                                         int
		want                                           string
	}{
		{"list", "GET", "/endpoints", "", "", "", 200, `{"endpoints":["recs"]}`},
		{"read", "GET", "/endpoints/recs", "", "", "", 200, `"version":"1"`},
		{"unknown", "GET", "/endpoints/nope", "", "", "", 404, "no such endpoint"},
		{"no version", "PUT", "/endpoints/recs", "", "application/json", weights, 428, "If-Match"},
		{"any version", "PUT", "/endpoints/recs", "*", "application/json", weights, 428, "If-Match"},
		{"weak version", "PUT", "/endpoints/recs", `W/"1"`, "application/json", weights, 428, "If-Match"},
		{"several versions", "PUT", "/endpoints/recs", `"1", "2"`, "application/json", weights, 428, "If-Match"},
		{"stale version", "PUT", "/endpoints/recs", `"0"`, "application/json", weights, 412, "read the endpoint again"},
		{"not JSON", "PUT", "/endpoints/recs", `"1"`, "text/plain", weights, 400, "content type"},
		{"too large", "PUT", "/endpoints/recs", `"1"`, "application/json", `{"x":"` + strings.Repeat("x", 2<<20) + `"}`, 400, "body"},
		{"sum 99", "PUT", "/endpoints/recs", `"1"`, "application/json", `{"weights":{"blue":99}}`, 422, "sum to 99"},
		{"all zero", "PUT", "/endpoints/recs", `"1"`, "application/json", `{"weights":{"blue":0}}`, 422, "sum to 0"},
		{"unknown deployment", "PUT", "/endpoints/recs", `"1"`, "application/json", `{"weights":{"pink":100}}`, 422, "spelt"},
		{"unknown endpoint", "PUT", "/endpoints/nope", `"1"`, "application/json", weights, 404, "no such endpoint"},
		{"write, version in the body", "PUT", "/endpoints/recs", `"1"`, "application/json", `{"weights":{"blue":95,"green":5,"red":0},"version":"9"}`, 200, `"version":"2"`},
		{"the same again", "PUT", "/endpoints/recs", `"1"`, "application/json", weights, 412, "read the endpoint again"},
		{"wrong method", "DELETE", "/endpoints/recs", "", "", "", 405, ""},
	}
	h := newHost()
	handler := webhook.NewHandler(h, nil)
	for _, tt := range tests {
		r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
		if tt.ifMatch != "" {
			r.Header.Set("If-Match", tt.ifMatch)
		}
		r.Header.Set("Content-Type", tt.contentType)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s: got %d %s, want %d with %q", tt.name, w.Code, w.Body, tt.status, tt.want)
		}
		if tt.status == 200 && tt.path == "/endpoints/recs" && w.Header().Get("ETag") == "" {
			t.Errorf("%s: got no ETag", tt.name)
		}
	}
	if got := h.truth(); !got.Equal(five) {
		t.Errorf("in the end: got %s, want %s", got.String(), five.String())
	}
}

// brokenHost fails in the way it is told to.
type brokenHost struct {
	err   error
	state webhook.EndpointState
}

func (b brokenHost) Endpoints(context.Context) ([]string, error) { return nil, b.err }

func (b brokenHost) Endpoint(context.Context, string) (webhook.EndpointState, error) {
	return b.state, b.err
}

func (b brokenHost) Shift(context.Context, string, string, traffic.Split) (webhook.EndpointState, error) {
	return b.state, b.err
}

// What goes wrong inside stays inside: the log has it, the answer has not. A
// state that breaks the contract is not handed out.
func TestHandlerHidesFailures(t *testing.T) {
	for _, b := range []brokenHost{
		{err: errors.New("dial db.internal: " + secret)},
		{state: webhook.EndpointState{Weights: map[string]int{"blue": 99}, Version: "1"}},
		{state: webhook.EndpointState{Weights: map[string]int{"blue": 100}}},
	} {
		var log strings.Builder
		handler := webhook.NewHandler(b, slog.New(slog.NewTextHandler(&log, nil)))
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/endpoints/recs", http.NoBody))
		if w.Code != 500 || strings.Contains(w.Body.String(), "weights") || strings.Contains(w.Body.String(), secret) {
			t.Errorf("%v: got %d %s, want 500 without the cause", b.err, w.Code, w.Body)
		}
		if !strings.Contains(log.String(), "endpoint=recs") {
			t.Errorf("%v: got log %q, want it to name the endpoint", b.err, log.String())
		}
	}
	handler := webhook.NewHandler(brokenHost{err: &traffic.BusyError{RetryAfter: 1500 * time.Millisecond, Err: errors.New("updating")}}, nil)
	r := httptest.NewRequest("PUT", "/endpoints/recs", strings.NewReader(`{"weights":{"blue":100}}`))
	r.Header.Set("If-Match", `"1"`)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if w.Code != http.StatusConflict || w.Header().Get("Retry-After") != "2" {
		t.Errorf("busy host: got %d, Retry-After %q, want 409 and 2", w.Code, w.Header().Get("Retry-After"))
	}
}

// An endpoint that is built on Handler conforms; the split is as it was.
func TestConformPasses(t *testing.T) {
	h := newHost()
	score := "http://127.0.0.1:1/score"
	h.state.ScoringURI = &score
	h.foreign(traffic.Split{Weights: map[string]int{"blue": 100}, Mirror: map[string]int{"green": 10}})
	server := httptest.NewServer(webhook.NewHandler(h, nil))
	defer server.Close()
	findings := webhook.Conform(t.Context(), server.Client(), server.URL, "recs")
	for _, f := range findings {
		t.Logf("%-22s %-8s %s", f.Rule, f.Verdict, f.Found)
		if f.Verdict != webhook.Pass {
			t.Errorf("%s: got %s (%s), want pass (%s)", f.Rule, f.Verdict, f.Found, f.Want)
		}
	}
	if len(findings) != 14 {
		t.Errorf("findings: got %d, want 14", len(findings))
	}
	want := traffic.Split{Weights: map[string]int{"blue": 100}, Mirror: map[string]int{"green": 10}}
	if got := h.truth(); !got.Equal(want) {
		t.Errorf("in the end: got %s, want %s", got.String(), want.String())
	}
}

// breaches are ways to break the contract.
var breaches = []struct {
	name string
	// alter changes a request before, or answers it and returns false.
	alter func(h *host, w http.ResponseWriter, r *http.Request) bool
	rule  string
	want  webhook.RuleOutcome
}{
	{"ignores If-Match", func(h *host, _ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			state, _ := h.Endpoint(r.Context(), "recs")
			r.Header.Set("If-Match", `"`+state.Version+`"`)
		}
		return true
	}, "stale version", webhook.Fail},
	{"ignores a missing If-Match", func(h *host, _ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && r.Header.Get("If-Match") == "" {
			state, _ := h.Endpoint(r.Context(), "recs")
			r.Header.Set("If-Match", `"`+state.Version+`"`)
		}
		return true
	}, "no version", webhook.Advice},
	{"refuses all writes", func(_ *host, w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusPreconditionFailed)
			return false
		}
		return true
	}, "write", webhook.Fail},
	{"is not there", func(_ *host, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	}, "read", webhook.Fail},
	{"changes the version at every read", func(h *host, _ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			h.foreign(h.truth())
		}
		return true
	}, "version is steady", webhook.Fail},
	{"lists others", func(_ *host, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/endpoints" {
			answer("application/json", `{"endpoints":["fraud"]}`)(w, r)
			return false
		}
		return true
	}, "list", webhook.Fail},
	{"tells no facts", func(h *host, w http.ResponseWriter, r *http.Request) bool {
		return true
	}, "facts for preflight", webhook.Advice},
	{"uses the version of the body", func(_ *host, w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			raw, _ := io.ReadAll(r.Body)
			var body map[string]json.RawMessage
			_ = json.Unmarshal(raw, &body)
			if _, ok := body["version"]; ok {
				w.WriteHeader(http.StatusConflict)
				return false
			}
			r.Body = io.NopCloser(strings.NewReader(string(raw)))
		}
		return true
	}, "version in the body", webhook.Fail},
}

// Each way to break the contract is found under its rule.
func TestConformFinds(t *testing.T) {
	for _, tt := range breaches {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost()
			inner := webhook.NewHandler(h, nil)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.alter(h, w, r) {
					inner.ServeHTTP(w, r)
				}
			}))
			defer server.Close()
			findings := webhook.Conform(t.Context(), server.Client(), server.URL, "recs")
			told := ""
			for _, f := range findings {
				told += fmt.Sprintf("\n  %s: %s: %s", f.Rule, f.Verdict, f.Found)
				if f.Rule == tt.rule && f.Verdict == tt.want {
					told = ""
					break
				}
			}
			if told != "" {
				t.Errorf("%s: got%s\nwant %s: %s", tt.name, told, tt.rule, tt.want)
			}
			if got := h.truth(); !got.Equal(all) {
				t.Errorf("in the end: got %s, want %s", got.String(), all.String())
			}
		})
	}
}

// An endpoint that takes whatever it is sent, weights that sum to 99 included, is
// told so, every other rule is tried all the same, and it gets its split back.
func TestConformPutsBackWhatShouldHaveBeenRefused(t *testing.T) {
	var mu sync.Mutex
	weights, version := map[string]int{"blue": 100}, 1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPut {
			if r.Header.Get("If-Match") != fmt.Sprintf(`"%d"`, version) {
				w.WriteHeader(http.StatusPreconditionFailed)
				return
			}
			var to struct{ Weights map[string]int }
			_ = json.NewDecoder(r.Body).Decode(&to)
			weights, version = to.Weights, version+1
		}
		body, _ := json.Marshal(map[string]any{"weights": weights, "version": fmt.Sprint(version), "deployments": map[string]any{"green": map[string]any{}}})
		switch r.URL.Path {
		case "/endpoints":
			answer("application/json", `{"endpoints":["recs"]}`)(w, r)
		case "/endpoints/recs":
			answer("application/json", string(body))(w, r)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	got := map[string]webhook.RuleOutcome{}
	for _, f := range webhook.Conform(t.Context(), server.Client(), server.URL, "recs") {
		t.Logf("%-24s %-8s %s", f.Rule, f.Verdict, f.Found)
		got[f.Rule] = f.Verdict
	}
	for rule, want := range map[string]webhook.RuleOutcome{
		"stale version": webhook.Pass, "invalid sum": webhook.Advice, "unknown deployment": webhook.Advice,
		"write": webhook.Pass, "two writers": webhook.Pass, "split put back": webhook.Pass,
	} {
		if got[rule] != want {
			t.Errorf("%s: got %q, want %q", rule, got[rule], want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if weights["blue"] != 100 {
		t.Errorf("in the end: got %v, want blue 100", weights)
	}
}

// Whatever bytes an endpoint answers, the router returns an error or a split
// that sums to 100 or to nothing.
func FuzzSplit(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"weights":{"blue":0},"version":"7"}`))
	f.Add([]byte(`{"weights":{"blue":100},"mirror":null,"version":"7","deployments":{"green":null},"tags":{"a":null}}`))
	f.Add([]byte(`{"weights":{"blue":1e2},"version":"\u0000"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		client := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}},
				Body: io.NopCloser(strings.NewReader(string(body))),
			}, nil
		})}
		router, err := webhook.New(webhook.Config{URL: "http://edge", Client: client})
		if err != nil {
			t.Fatal(err)
		}
		s, err := router.Split(t.Context(), "recs")
		if err == nil && len(s.Weights) > 0 {
			if err := traffic.Validate(traffic.Split{Weights: s.Weights}); err != nil {
				t.Errorf("Split of %q: got %v: %v", body, s, err)
			}
		}
		if d, err := router.Describe(t.Context(), "recs"); err == nil && d.ManualRollback("blue") == "" {
			t.Errorf("Describe of %q: got an empty command", body)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
