package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/view"
)

// Without authentication only requests to a loopback name are answered, so that a
// foreign page whose name resolves to loopback is not; and no page of another
// origin may order anything.
func TestForeignPagesAreRefused(t *testing.T) {
	r := serve(t, Config{})
	for host, want := range map[string]int{"127.0.0.1:7070": 200, "localhost": 200, "[::1]:80": 200, "evil.example": 421, "127.0.0.1.evil.example": 421, "10.0.0.1": 421} {
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/policies", nil)
		req.Host = host
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code != want {
			t.Errorf("Host %s: got %d, want %d", host, w.Code, want)
		}
	}
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		resp, _ := r.ask(t, "POST", "/v1/policies/check", "", `{"text":"x"}`, h...)
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%v: got %d, want 403", h, resp.StatusCode)
		}
	}
	if resp, _ := r.ask(t, "POST", "/v1/policies/check", "", `{"text":"x"}`); resp.StatusCode != 200 {
		t.Errorf("a program: got %d, want 200", resp.StatusCode)
	}
}

// Every actor has a rate of its own.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Engine: newFakeEngine(), Catalog: fakeCatalog{}, Log: slog.New(slog.DiscardHandler), Auth: actors(), Rate: 2, Burst: 3})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(role Role) int {
			req := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/policies", nil)
			req.Header.Set("Authorization", "Bearer "+tokenOf(role))
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") != "1" {
				t.Errorf("Retry-After: got %q, want 1", w.Header().Get("Retry-After"))
			}
			return w.Code
		}
		for i, want := range []int{200, 200, 200, 429} {
			if got := ask(RoleView); got != want {
				t.Errorf("request %d: got %d, want %d", i, got, want)
			}
		}
		if got := ask(RoleAdmin); got != 200 {
			t.Errorf("another actor: got %d, want 200", got)
		}
		time.Sleep(500 * time.Millisecond)
		if got := ask(RoleView); got != 200 {
			t.Errorf("half a second later: got %d, want 200", got)
		}
	})
}

// Whoever may roll back can, however much they, their programs or their colleagues
// read: the order waits for its turn at worst. Looking at the rollout is another
// matter than reading elsewhere, too.
func TestRollbackIsNeverRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Engine: newFakeEngine(), Catalog: fakeCatalog{}, Log: slog.New(slog.DiscardHandler), Auth: actors(), Rate: 2, Burst: 3})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(method, path, body string) int {
			req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
			req.Header.Set("Authorization", "Bearer "+tokenOf(RoleAdmin))
			req.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			return w.Code
		}
		for ask("GET", "/v1/endpoints", "") != http.StatusTooManyRequests {
		}
		if got := ask("GET", "/v1/rollouts/none", ""); got != http.StatusNotFound {
			t.Errorf("look at a rollout after reading too much: got %d, want 404", got)
		}
		for ask("GET", "/v1/rollouts/none", "") != http.StatusTooManyRequests {
		}
		began := time.Now()
		for i := range 3 + 2*4 {
			verb := []string{"rollback", "pause", "reject"}[i%3]
			if got := ask("POST", "/v1/rollouts/none/"+verb, `{"reason":"x"}`); got != http.StatusNotFound {
				t.Errorf("%s, the order %d: got %d, want 404", verb, i, got)
			}
		}
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("eleven orders, three at once and two a second: took %s, want 4s", took)
		}
	})
}

// An actor has as many requests of a kind under way as they may, and waits with the
// rest; others are not kept waiting by that, and nothing is remembered in the end.
func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2, 1)
		leave, err := s.enter(t.Context(), "mallory")
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			go func() {
				if _, err := s.enter(t.Context(), "mallory"); err == nil {
					t.Error("a second one of the same actor: got a slot, want none within the time")
				}
			}()
		}
		synctest.Wait()
		other, err := s.enter(t.Context(), "ann")
		if err != nil {
			t.Errorf("somebody else: %v", err)
		}
		began := time.Now()
		if _, err := s.enter(t.Context(), "bob"); problemOf(err).Status != http.StatusTooManyRequests || time.Since(began) != slotWait {
			t.Errorf("a third one in all: got %v after %s, want 429 after %s", err, time.Since(began), slotWait)
		}
		other()
		go func() {
			time.Sleep(time.Second)
			leave()
		}()
		began = time.Now()
		again, err := s.enter(t.Context(), "mallory")
		if err != nil || time.Since(began) != time.Second {
			t.Errorf("the next one: got %v after %s, want a slot after 1s", err, time.Since(began))
		}
		again()
		if len(s.of) != 0 || len(s.all) != 0 {
			t.Errorf("left: %d actors, %d slots, want none", len(s.of), len(s.all))
		}
	})
}

// A page of another site can neither read nor make what it asks count.
func TestForeignPagesDoNotCount(t *testing.T) {
	r := serve(t, Config{Rate: 0.001, Burst: 1})
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "null"}, {"Origin", "http://evil.example"}} {
		if resp, _ := r.ask(t, "GET", "/v1/policies", "", "", h...); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%v: got %d, want 403", h, resp.StatusCode)
		}
	}
	if resp, _ := r.ask(t, "GET", "/v1/policies", "", "", "Sec-Fetch-Site", "same-origin"); resp.StatusCode != http.StatusOK {
		t.Errorf("a page of its own, the first that counts: got %d, want 200", resp.StatusCode)
	}
}

// A name that cannot be one is of nothing: 404, and nothing that somebody must look
// at in the log.
func TestNamesThatAreNone(t *testing.T) {
	r := serve(t, Config{Triggers: fakeTriggers{}})
	for _, op := range operations(t) {
		for _, name := range []string{"%00", "%ff", "%1b%5b2J", "%e2%80%ae", strings.Repeat("x", 5000)} {
			path := strings.NewReplacer("{id}", name, "{name}", name, "{router}", "edge").Replace(op.path)
			if path == op.path {
				continue
			}
			body := ""
			if op.method == http.MethodPost {
				body = bodyOf(op.OperationID, "recs")
			}
			if resp, b := r.ask(t, op.method, path, "", body); resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s of %.20s: got %d %.200s, want 404", op.OperationID, name, resp.StatusCode, b)
			}
		}
	}
	if log := r.log.String(); strings.Contains(log, "ERROR") {
		t.Errorf("the log: %s", log)
	}
}

// Whose role is limited to labels sees the endpoints of the policies with them, and
// of others' rollouts there not even the names.
func TestEndpointsOfOthers(t *testing.T) {
	r := serve(t, Config{Auth: actors()})
	mine := r.client(t, "token-of-team-a-77aa")
	l, err := mine.Endpoints(t.Context())
	if err != nil || len(l.Endpoints) != 1 || l.Endpoints[0].Name != "recs" {
		t.Errorf("endpoints: got %+v, %v, want recs alone", l.Endpoints, err)
	}
	ref := rollout.EndpointRef{Router: "edge", Name: "recs"}
	d, err := mine.Endpoint(t.Context(), ref)
	if err != nil || d.Active != "" || len(d.Queue) != 0 {
		t.Errorf("its own endpoint: got active %q, queue %v, %v; want neither, they are others'", d.Active, d.Queue, err)
	}
	if _, err := mine.Endpoint(t.Context(), rollout.EndpointRef{Router: "edge", Name: "ads"}); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("another's endpoint: got %v, want not found", err)
	}
	d, err = r.client(t, tokenOf(RoleView)).Endpoint(t.Context(), ref)
	if err != nil || d.Active != "r1" || len(d.Queue) != 1 {
		t.Errorf("whose role has no limit: got active %q, queue %v, %v; want both", d.Active, d.Queue, err)
	}
}

// Wrong credentials are counted by where they come from, told once, and bounded
// however many addresses there are.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		reg := prometheus.NewRegistry()
		s, err := New(Config{Engine: newFakeEngine(), Catalog: fakeCatalog{}, Log: slog.New(slog.NewTextHandler(&log, nil)), Auth: Any{actors()}, Registerer: reg})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(from, token string) {
			req := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/policies", nil)
			req.RemoteAddr = from
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			s.ServeHTTP(httptest.NewRecorder(), req)
		}
		for range 30 {
			ask("192.0.2.7:4711", "wrong-s3cret")
			ask("192.0.2.8:4711", "")
		}
		ask("192.0.2.8:4711", "wrong-s3cret")
		shows := func(name string, want float64) {
			t.Helper()
			all, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			got := -1.0
			for _, f := range all {
				for _, m := range f.GetMetric() {
					full := f.GetName()
					for _, l := range m.GetLabel() {
						full += "/" + l.GetValue()
					}
					if full == name {
						got = m.GetCounter().GetValue() + m.GetGauge().GetValue()
					}
				}
			}
			if got != want {
				t.Errorf("%s: got %g, want %g", name, got, want)
			}
		}
		shows("belay_api_unauthorized_total/wrong", 31)
		shows("belay_api_unauthorized_total/none", 30)
		shows("belay_api_unauthorized_address_max", 30)
		if n := strings.Count(log.String(), "credentials refused again and again"); n != 1 || !strings.Contains(log.String(), "192.0.2.7") || strings.Contains(log.String(), "s3cret") {
			t.Errorf("got %d lines, want one with the address and without the token: %s", n, log.String())
		}
		for i := range 2 * strangersMax {
			ask(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), "wrong")
		}
		if n := len(s.strangers.from); n > strangersMax {
			t.Errorf("addresses: got %d, want at most %d", n, strangersMax)
		}
		time.Sleep(strangersWindow)
		shows("belay_api_unauthorized_address_max", 0)
	})
}

// Credentials: wrong and missing tokens are told apart, and never repeated.
func TestTokens(t *testing.T) {
	r := serve(t, Config{Auth: Any{actors()}})
	for header, want := range map[string]string{
		"":                            "send a bearer token",
		"Basic YTpi":                  "send a bearer token",
		"Bearer ":                     "send a bearer token",
		"Bearer wrong-s3cret":         "the token is not known",
		"bearer " + tokenOf(RoleView): "",
	} {
		resp, b := r.ask(t, "GET", "/v1/policies", "", "", "Authorization", header)
		if want == "" {
			if resp.StatusCode != 200 {
				t.Errorf("%s: got %d", header, resp.StatusCode)
			}
			continue
		}
		if p := asProblem(t, resp, b); p.Status != 401 || p.Detail == "" || !strings.Contains(p.Detail, want) || strings.Contains(string(b), "s3cret") {
			t.Errorf("%q: got %s, want 401 and %q", header, b, want)
		}
		if !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%q: got WWW-Authenticate %q", header, resp.Header.Get("WWW-Authenticate"))
		}
	}
	if strings.Contains(r.log.String(), "s3cret") {
		t.Error("the log shows a token")
	}
	sum := sha256.Sum256([]byte("x"))
	if got, err := ParseSHA256(" " + hex.EncodeToString(sum[:]) + "\n"); err != nil || got != sum {
		t.Errorf("ParseSHA256: got %x, %v", got, err)
	}
	for _, s := range []string{"", "xyz", "00"} {
		if _, err := ParseSHA256(s); err == nil {
			t.Errorf("ParseSHA256(%q): got no error", s)
		}
	}
	if _, err := access.ParseRole("root"); err == nil {
		t.Error("ParseRole(root): got no error")
	}
}

// A handler that panics is a 500 with its stack in the log, not a dead daemon.
func TestPanicIsAProblem(t *testing.T) {
	r := serve(t, Config{Ready: func(context.Context) []string { panic("no") }})
	resp, b := r.ask(t, "GET", "/readyz", "", "")
	if p := asProblem(t, resp, b); p.Status != 500 || !strings.Contains(r.log.String(), "guard_test.go") {
		t.Errorf("got %s, want 500 and a stack in the log", b)
	}
}

// What is wrong with the daemon is named by /readyz to those who may view; /healthz
// depends on nothing.
func TestHealth(t *testing.T) {
	problems := []string{"trigger nats:RELEASES: disconnected"}
	r := serve(t, Config{Auth: actors(), Ready: func(context.Context) []string { return problems }, Version: "1.2.3"})
	for token, told := range map[string]bool{tokenOf(RoleView): true, "token-of-bob": false, "": false} {
		resp, b := r.ask(t, "GET", "/readyz", token, "")
		if resp.StatusCode != 503 || strings.Contains(string(b), problems[0]) != told {
			t.Errorf("readyz as %q: got %d %s, want 503 and what is wrong told=%v", token, resp.StatusCode, b, told)
		}
	}
	if resp, b := r.ask(t, "GET", "/healthz", "", ""); resp.StatusCode != 200 || !strings.Contains(string(b), "1.2.3") {
		t.Errorf("healthz: got %d %s", resp.StatusCode, b)
	}
	h, err := r.client(t, "").Ready(t.Context())
	if err != nil || h.Status != "not ready" {
		t.Errorf("client: got %+v, %v", h, err)
	}
	problems = nil
	if resp, _ := r.ask(t, "GET", "/readyz", "", ""); resp.StatusCode != 200 {
		t.Errorf("readyz: got %d, want 200", resp.StatusCode)
	}
	if resp, b := r.ask(t, "DELETE", "/v1/rollouts", "", ""); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, POST" {
		t.Errorf("a method that is not there: got %d, Allow %q: %s", resp.StatusCode, resp.Header.Get("Allow"), b)
	}
}

// The client repeats what may be repeated while the daemon is away, never sends a
// token in the clear, and shows none in its errors.
func TestClient(t *testing.T) {
	calls := 0
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls < 3 {
			w.Header().Set("Content-Type", problemContentType)
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = json.NewEncoder(w).Encode(ProblemDetails{Type: TypeUnavailable, Title: "Not available now", Status: 503})
			return
		}
		if r.Header.Get(keyHeader) != "k" {
			t.Errorf("key: got %q, want k", r.Header.Get(keyHeader))
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(view.Rollout{ID: "r1"})
	}))
	defer h.Close()
	c, err := NewClient(h.URL+"/prefix/", http.DefaultClient, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, created, err := c.Start(t.Context(), "k", StartRequest{}); err != nil || got.ID != "r1" || !created || calls != 3 {
		t.Errorf("Start: got %s %v %v after %d calls, want r1 after 3", got.ID, created, err, calls)
	}
	for _, bad := range []string{"", "localhost:7070", "ftp://x", "http://belay.example"} {
		if _, err := NewClient(bad, http.DefaultClient, "s3cret-token"); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("NewClient(%q) with a token: got %v, want an error without it", bad, err)
		}
	}
	c, err = NewClient("http://user:s3cret@127.0.0.1:1", http.DefaultClient, "s3cret-token")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Rollout(t.Context(), "r1")
	if !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "--server") {
		t.Errorf("a daemon that is gone: got %v, want ErrUnreachable with a remedy and no secret", err)
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", 404) }))
	defer other.Close()
	c, err = NewClient(other.URL, http.DefaultClient, "")
	if err != nil {
		t.Fatal(err)
	}
	var p *ProblemDetails
	if _, err := c.Rollout(t.Context(), "r1"); !errors.As(err, &p) || p.Status != 404 || errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("something else that answers 404: got %v, want a problem that is not ErrNotFound", err)
	}
}
