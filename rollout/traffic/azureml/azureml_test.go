package azureml_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/azureml"
	"github.com/belayd/belay/rollout/traffic/azureml/armtest"
)

func weights(blue, green int) traffic.Split {
	return traffic.Split{Weights: traffic.Positive(map[string]int{"blue": blue, "green": green})}
}

func (w *world) shift(t *testing.T, from, to traffic.Split) {
	t.Helper()
	if err := w.router.Shift(t.Context(), "recs", from, to); err != nil {
		t.Fatalf("Shift to %s: %v", to, err)
	}
}

// members decodes a resource into the members that a writer may write, numbers
// as they are written.
func members(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var top map[string]any
	if err := d.Decode(&top); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	for _, name := range []string{"id", "name", "type", "systemData"} {
		delete(top, name)
	}
	props := top["properties"].(map[string]any)
	for _, name := range []string{"provisioningState", "scoringUri", "swaggerUri", "keys"} {
		delete(props, name)
	}
	return top
}

// The raw body of a write is the resource as it was read, in everything but the
// traffic: members that nobody knows are kept, numbers to their last digit.
func TestPutChangesTrafficAlone(t *testing.T) {
	w := open(t)
	shadow := weights(100, 0)
	shadow.Mirror = map[string]int{"green": 10}
	from := weights(100, 0)
	for _, to := range []traffic.Split{shadow, weights(95, 5), weights(40, 60), weights(0, 100), weights(100, 0)} {
		w.shift(t, from, to)
		from = to
	}
	for i, p := range w.arm.Puts() {
		before, body := members(t, p.Before), members(t, p.Body)
		diff := cmp.Diff(before, body, cmp.FilterPath(func(path cmp.Path) bool {
			return strings.Contains(path.GoString(), `["properties"].(map[string]any)["traffic"]`) ||
				strings.Contains(path.GoString(), `["properties"].(map[string]any)["mirrorTraffic"]`)
		}, cmp.Ignore()))
		if diff != "" {
			t.Errorf("PUT %d (-before +body):\n%s", i+1, diff)
		}
		if !bytes.Contains(p.Body, []byte(`"exact":0.1000`)) || !bytes.Contains(p.Body, []byte(`12345678901234567890`)) {
			t.Errorf("PUT %d: got %s, want numbers to their last digit", i+1, p.Body)
		}
		for _, name := range []string{`"provisioningState"`, `"scoringUri"`, `"swaggerUri"`, `"keys"`, `"systemData"`, `"id"`} {
			if bytes.Contains(p.Body, []byte(name)) {
				t.Errorf("PUT %d: got %s, want it without %s", i+1, p.Body, name)
			}
		}
		t.Logf("PUT %d before:\n%s\nPUT %d body:\n%s", i+1, p.Before, i+1, p.Body)
	}
	var bodies []string
	for _, s := range w.sent(t) {
		bodies = append(bodies, s.String())
	}
	want := []string{"blue 100, mirror green 10", "blue 95, green 5", "blue 40, green 60", "green 100", "blue 100"}
	if diff := cmp.Diff(want, lowered(bodies)); diff != "" {
		t.Errorf("splits sent (-want +got):\n%s", diff)
	}
}

func lowered(in []string) []string {
	var out []string
	for _, s := range in {
		out = append(out, strings.ToLower(s))
	}
	return out
}

// What goes live is no longer mirrored: both stand in one write.
func TestMirrorIsClearedInTheSamePut(t *testing.T) {
	w := open(t)
	shadow := weights(100, 0)
	shadow.Mirror = map[string]int{"green": 10}
	w.shift(t, weights(100, 0), shadow)
	w.shift(t, shadow, weights(95, 5))
	puts := w.arm.Puts()
	if len(puts) != 2 || !bytes.Contains(puts[1].Body, []byte(`"mirrorTraffic":{}`)) {
		t.Errorf("PUTs: got %d, the last %s, want 2, the last with an empty mirrorTraffic", len(puts), puts[len(puts)-1].Body)
	}
}

// What ARM's answers mean; no write is ever sent twice.
func TestAnswers(t *testing.T) {
	const transient, waits = "transient", "busy"
	tests := []struct {
		fault armtest.Fault
		want  any
		after time.Duration
	}{
		{armtest.Conflict(0), waits, 0},
		{armtest.Conflict(7 * time.Second), waits, 7 * time.Second},
		{armtest.Throttle(90 * time.Second), waits, 90 * time.Second},
		{armtest.Answer(400, "OperationCanceled", "Operation was canceled, waiting for lock confirmation."), waits, 0},
		{armtest.Answer(500, "OperationCanceled", "Operation was canceled."), waits, 0},
		{armtest.Answer(423, "ResourceLocked", "A lock."), waits, 0},
		{armtest.Answer(400, "BadRequest", "The request is invalid."), traffic.ErrPermanent, 0},
		{armtest.Answer(401, "InvalidAuthenticationToken", "No."), traffic.ErrPermanent, 0},
		{armtest.Answer(403, "LinkedAuthorizationFailed", "No."), traffic.ErrPermanent, 0},
		{armtest.Answer(404, "ResourceNotFound", "Gone."), traffic.ErrNotFound, 0},
		{armtest.Answer(302, "Found", "Elsewhere."), traffic.ErrPermanent, 0},
		{armtest.Answer(408, "RequestTimeout", "Late."), transient, 0},
		{armtest.Answer(500, "InternalServerError", "Oops."), transient, 0},
		{armtest.Answer(502, "BadGateway", "Oops."), transient, 0},
		{armtest.Answer(503, "ServerBusy", "Oops."), transient, 0},
		{armtest.Answer(504, "GatewayTimeout", "Oops."), transient, 0},
	}
	for i, tt := range tests {
		w := open(t)
		w.arm.Next(tt.fault, tt.fault)
		err := w.router.Shift(t.Context(), "recs", weights(100, 0), weights(95, 5))
		var busy *traffic.BusyError
		isBusy := errors.As(err, &busy)
		switch tt.want {
		case transient:
			if err == nil || isBusy || errors.Is(err, traffic.ErrPermanent) || errors.Is(err, traffic.ErrNotFound) {
				t.Errorf("answer %d: got %v, want a transient error", i, err)
			}
		case waits:
			if !isBusy || busy.RetryAfter != tt.after || errors.Is(err, traffic.ErrPermanent) {
				t.Errorf("answer %d: got %v, want a BusyError that waits %s", i, err, tt.after)
			}
		default:
			if !errors.Is(err, tt.want.(error)) || isBusy {
				t.Errorf("answer %d: got %v, want %v", i, err, tt.want)
			}
		}
		if n := len(w.arm.Puts()); n != 1 {
			t.Errorf("answer %d: got %d writes, want 1", i, n)
		}
	}
}

// Deployments are the same in any case; the resource keeps its spelling.
func TestNamesAreFolded(t *testing.T) {
	w := open(t)
	from := traffic.Split{Weights: map[string]int{"BLUE": 100}}
	to := traffic.Split{Weights: map[string]int{"Blue": 95, "GREEN": 5}}
	w.shift(t, from, to)
	w.shift(t, from, to)
	got, err := w.router.Split(t.Context(), "recs")
	if err != nil || !got.Equal(weights(95, 5)) {
		t.Errorf("Split: got %s, %v, want %s", got, err, weights(95, 5))
	}
	puts := w.arm.Puts()
	if len(puts) != 1 || !bytes.Contains(puts[0].Body, []byte(`"traffic":{"Blue":95,"green":5}`)) {
		t.Errorf("PUTs: got %d, %s, want one with the resource's own spelling", len(puts), puts[0].Body)
	}
	twice := traffic.Split{Weights: map[string]int{"blue": 60, "Blue": 40}}
	w.shift(t, weights(95, 5), twice)
	if got := w.truth(); !got.Equal(weights(100, 0)) {
		t.Errorf("in effect: got %s, want %s", got, weights(100, 0))
	}
}

// What ARM does not mirror is refused before it is sent.
func TestMirrorLimits(t *testing.T) {
	with := func(mirror map[string]int) traffic.Split {
		s := weights(100, 0)
		s.Mirror = mirror
		return s
	}
	w := open(t)
	for _, to := range []traffic.Split{
		with(map[string]int{"green": 51}), with(map[string]int{"green": 10, "red": 10}), with(map[string]int{"blue": 10}),
	} {
		if err := w.router.Shift(t.Context(), "recs", weights(100, 0), to); !errors.Is(err, traffic.ErrPermanent) {
			t.Errorf("Shift to %s: got %v, want ErrPermanent", to, err)
		}
	}
	w.arm.Edit("recs", func(r map[string]any) { r["properties"].(map[string]any)["compute"] = "/computes/k8s" })
	if err := w.router.Shift(t.Context(), "recs", weights(100, 0), with(map[string]int{"green": 10})); !errors.Is(err, traffic.ErrPermanent) {
		t.Errorf("Shift with a mirror on Kubernetes: got %v, want ErrPermanent", err)
	}
	if n := len(w.arm.Puts()); n != 0 {
		t.Errorf("writes: got %d, want 0", n)
	}
}

// raw is a router that speaks to h.
func raw(t *testing.T, h http.HandlerFunc) (*azureml.Router, *httptest.Server) {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	router, err := azureml.New(azureml.Config{
		Subscription: "s-1", ResourceGroup: "rg-1", Workspace: "ws-1",
		Credential: armtest.Credential(secret), Options: armtest.Options(server.URL, server.Client()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return router, server
}

// A service that repeats our credential wherever it can does not get it into an
// error, and an identity library that prints everything neither.
func TestErrorsTellNoSecret(t *testing.T) {
	for _, status := range []int{200, 400, 401, 403, 404, 409, 429, 500} {
		for _, body := range []string{
			`{"error":{"code":"` + secret + `","message":"Authorization: Bearer ` + secret + ` was refused"}}`,
			`{"error":{"code":"Code","message":"token=` + secret + `"}}`,
			`{"properties":{"provisioningState":"` + secret + `","traffic":{}}}`,
			`{"properties":{"traffic":"` + secret + `"}}`,
			secret,
		} {
			router, _ := raw(t, func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("X-Ms-Error-Code", secret)
				rw.WriteHeader(status)
				_, _ = io.WriteString(rw, body)
			})
			_, splitErr := router.Split(t.Context(), "recs")
			_, describeErr := router.Describe(t.Context(), "recs")
			for _, err := range []error{splitErr, describeErr, router.Shift(t.Context(), "recs", weights(100, 0), weights(95, 5))} {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("status %d, body %s: got %v, want no secret", status, body, err)
				}
			}
			if splitErr == nil {
				t.Errorf("status %d, body %s: got nil, want an error", status, body)
			}
		}
	}
	router, err := azureml.New(azureml.Config{
		Subscription: "s-1", ResourceGroup: "rg-1", Workspace: "ws-1", Credential: chatty{}, Options: armtest.Options("https://127.0.0.1:1", http.DefaultClient),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := router.Split(t.Context(), "recs"); err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "AADSTS700016") {
		t.Errorf("Split: got %v, want an error that names the cause and no secret", err)
	}
}

// chatty fails as identity libraries do.
type chatty struct{ armtest.Credential }

func (chatty) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errors.New("ClientAssertionCredential authentication failed. AADSTS700016: not found.\nclient_assertion=" + secret)
}

// A configuration that cannot work is refused at once; names that are none ask
// nobody.
func TestNames(t *testing.T) {
	good := azureml.Config{Subscription: "s-1", ResourceGroup: "rg-1", Workspace: "ws-1", Credential: armtest.Credential("x")}
	for _, change := range []func(*azureml.Config){
		func(c *azureml.Config) { c.Subscription = "" },
		func(c *azureml.Config) { c.ResourceGroup = "a/b" },
		func(c *azureml.Config) { c.Workspace = "ws?x" },
		func(c *azureml.Config) { c.Credential = nil },
	} {
		c := good
		change(&c)
		if _, err := azureml.New(c); err == nil {
			t.Errorf("New(%+v): got nil, want an error", c)
		}
	}
	router, _ := raw(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("got a request for %s, want none", r.URL) })
	for _, name := range []string{"", "..", "a/b", "recs?x=1", "1recs", "recs-"} {
		if _, err := router.Split(t.Context(), name); !errors.Is(err, traffic.ErrNotFound) {
			t.Errorf("Split(%q): got %v, want ErrNotFound", name, err)
		}
	}
}

// A probe carries the header that routes it to a deployment without traffic.
func TestProbe(t *testing.T) {
	scoring := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, r.URL.Path+" "+r.Header.Get("azureml-model-deployment")) //nolint:gosec // No browser reads it.
	}))
	defer scoring.Close()
	w := open(t)
	w.arm.Edit("recs", func(r map[string]any) { r["properties"].(map[string]any)["scoringUri"] = scoring.URL + "/score" })
	router, err := azureml.New(azureml.Config{
		Subscription: "s-1", ResourceGroup: "rg-1", Workspace: "ws-1",
		Credential: armtest.Credential(secret), Options: armtest.Options(w.server.URL, w.server.Client()),
		Prober: traffic.Prober{Authorized: scoring.Client()},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := router.Probe(t.Context(), "recs", "green", r)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != "/score green" {
		t.Errorf("Probe: got %q, want %q", body, "/score green")
	}
	if _, err := router.Probe(t.Context(), "recs", "", r); !errors.Is(err, traffic.ErrPermanent) {
		t.Errorf("anonymous Probe without a client: got %v, want ErrPermanent", err)
	}
}
