package pagerduty_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/notifier/pagerduty"
)

const webhookSecret = "cAnAry-webhook-secret"

// acted is what a webhook subscription sends when an incident changes.
func acted(id, event, agent, agentType, incidentKey string) string {
	return fmt.Sprintf(`{"event":{"id":%q,"event_type":%q,"resource_type":"incident","occurred_at":"2026-11-24T12:01:00.000Z",
"agent":{"id":%q,"type":%q,"summary":"Earline Greenholt","html_url":"https://x.pagerduty.example/users/P1","self":"https://api.pagerduty.example/users/P1"},
"client":{"name":"PagerDuty"},"data":{"id":"PT4KHLK","type":"incident","number":7,"status":"acknowledged","incident_key":%q,"title":"recs"}}}`,
		id, event, agent, agentType, incidentKey)
}

// signature signs a body as PagerDuty does.
func signature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// hearing is a client whose inbox runs until the test ends; heard gives what it
// delivered.
func hearing(t *testing.T, secret string, reply notifier.Reply, fail error) (c *pagerduty.Client, heard func() []notifier.Answer) {
	t.Helper()
	c, err := pagerduty.New(pagerduty.Config{RoutingKey: key, WebhookSecret: secret, Client: notifiertest.Client(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan notifier.Answer, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, func(_ context.Context, a notifier.Answer) (notifier.Reply, error) {
			answers <- a
			return reply, fail
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
	// It hears once Run has begun: until then it says that it does not.
	probe := acted("probe", "incident.acknowledged", "P1", "user_reference", "rollout/recs/probe")
	for secret != "" && post(c, probe, signature(secret, probe)) == http.StatusServiceUnavailable {
		time.Sleep(time.Millisecond)
	}
	if secret != "" {
		<-answers
	}
	return c, func() (out []notifier.Answer) {
		for {
			select {
			case a := <-answers:
				out = append(out, a)
			default:
				return out
			}
		}
	}
}

func post(c *pagerduty.Client, body, sig string) int {
	r := httptest.NewRequest(http.MethodPost, "/hooks/pagerduty", strings.NewReader(body))
	r.Header.Set("X-PagerDuty-Signature", sig)
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w.Code
}

// Whoever acknowledges or resolves an incident of Belay's acknowledges its page, by
// the name that PagerDuty vouches for; the same event is the same act.
func TestHearsPeople(t *testing.T) {
	c, heard := hearing(t, webhookSecret, notifier.Reply{Accepted: true}, nil)
	for _, body := range []string{
		acted("E1", "incident.acknowledged", "PXPGF42", "user_reference", "rollout/recs/r-7f3a"),
		acted("E1", "incident.acknowledged", "PXPGF42", "user_reference", "rollout/recs/r-7f3a"),
		acted("E2", "incident.resolved", "PXPGF42", "user_reference", "rollout/recs/r-7f3a"),
	} {
		other := "v1=00, v1=no, v2=" + strings.Repeat("0", 64) + ","
		if got := post(c, body, other+signature(webhookSecret, body)); got != http.StatusOK {
			t.Errorf("a signed event: got %d, want 200", got)
		}
	}
	ack := notifier.Answer{ID: "pagerduty-E1", Rollout: "r-7f3a", Command: "ack", Who: "pagerduty:PXPGF42", Name: "Earline Greenholt",
		At: time.Date(2026, 11, 24, 12, 1, 0, 0, time.UTC)}
	resolved := ack
	resolved.ID, resolved.Reason = "pagerduty-E2", "resolved in PagerDuty"
	if diff := cmp.Diff([]notifier.Answer{ack, ack, resolved}, heard()); diff != "" {
		t.Errorf("heard (-want +got):\n%s", diff)
	}
}

// What is no person's word about a page of Belay's is taken and leads to nothing, so
// that PagerDuty does not send it again.
func TestHearsNobodyElse(t *testing.T) {
	c, heard := hearing(t, webhookSecret, notifier.Reply{Accepted: true}, nil)
	for name, body := range map[string]string{
		"a ping":                `{"event":{"id":"E1","event_type":"pagey.ping","data":{"message":"Hello from your friend Pagey!"}}}`,
		"opened":                acted("E1", "incident.triggered", "P1", "user_reference", "rollout/recs/r1"),
		"by Belay itself":       acted("E1", "incident.acknowledged", "P1", "inbound_integration_reference", "rollout/recs/r1"),
		"by a workflow":         acted("E1", "incident.acknowledged", "P1", "service_reference", "rollout/recs/r1"),
		"a test of Belay's":     acted("E1", "incident.acknowledged", "P1", "user_reference", "test/oncall/1795521700"),
		"of the store":          acted("E1", "incident.acknowledged", "P1", "user_reference", "store/here"),
		"somebody else's":       acted("E1", "incident.acknowledged", "P1", "user_reference", "d3640fbd41094207a1c11e58e46b1662"),
		"without an incident":   acted("E1", "incident.acknowledged", "P1", "user_reference", ""),
		"without an id":         acted("", "incident.acknowledged", "P1", "user_reference", "rollout/recs/r1"),
		"without a person":      acted("E1", "incident.acknowledged", "", "user_reference", "rollout/recs/r1"),
		"a key without rollout": acted("E1", "incident.acknowledged", "P1", "user_reference", "rollout/recs/"),
		"nothing":               `{}`,
	} {
		if got := post(c, body, signature(webhookSecret, body)); got != http.StatusOK {
			t.Errorf("%s: got %d, want 200", name, got)
		}
	}
	if got := heard(); len(got) != 0 {
		t.Errorf("heard: got %+v, want nothing", got)
	}
}

// What is not signed with the secret is not read at all; without a secret there is
// nothing that could be signed.
func TestSignature(t *testing.T) {
	body := acted("E1", "incident.acknowledged", "P1", "user_reference", "rollout/recs/r1")
	c, heard := hearing(t, webhookSecret, notifier.Reply{Accepted: true}, nil)
	for name, sig := range map[string]string{
		"none": "", "another secret's": signature("another-secret-of-theirs", body), "of another body": signature(webhookSecret, body+" "),
		"of no version": strings.TrimPrefix(signature(webhookSecret, body), "v1="), "of another version": strings.Replace(signature(webhookSecret, body), "v1", "v0", 1),
		"cut": signature(webhookSecret, body)[:40], "an empty one": "v1=", "of the empty secret": signature("", body),
	} {
		if got := post(c, body, sig); got != http.StatusUnauthorized {
			t.Errorf("signature %s: got %d, want 401", name, got)
		}
	}
	if got := heard(); len(got) != 0 {
		t.Errorf("heard: got %+v, want nothing", got)
	}
	if got := post(c, "{", signature(webhookSecret, "{")); got != http.StatusBadRequest {
		t.Errorf("no JSON: got %d, want 400", got)
	}
	twice := strings.Replace(body, `"id":`, `"id":"E0","id":`, 1)
	if got := post(c, twice, signature(webhookSecret, twice)); got != http.StatusBadRequest || twice == body {
		t.Errorf("an id that stands twice: got %d, want 400", got)
	}
	deaf, _ := hearing(t, "", notifier.Reply{}, nil)
	if got := post(deaf, body, signature("", body)); got != http.StatusNotFound {
		t.Errorf("without a secret: got %d, want 404", got)
	}
	if _, err := pagerduty.New(pagerduty.Config{RoutingKey: key, WebhookSecret: "short", Client: notifiertest.Client(), Log: slog.Default()}); err == nil || strings.Contains(err.Error(), `"short"`) {
		t.Errorf("New with a short secret: got %v, want an error that does not show it", err)
	}
}

// PagerDuty sends again what could not be recorded, and not what Belay refuses.
func TestHearsAgain(t *testing.T) {
	body := acted("E1", "incident.acknowledged", "P1", "user_reference", "rollout/recs/r1")
	for _, test := range []struct {
		name  string
		reply notifier.Reply
		fail  error
		want  int
	}{
		{"recorded", notifier.Reply{Accepted: true}, nil, http.StatusOK},
		{"refused", notifier.Reply{Text: "Not accepted"}, nil, http.StatusOK},
		{"not recorded", notifier.Reply{}, errors.New("store: conflict"), http.StatusInternalServerError},
	} {
		c, _ := hearing(t, webhookSecret, test.reply, test.fail)
		if got := post(c, body, signature(webhookSecret, body)); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}

// FuzzHook sends whatever may come, signed or not: nothing panics, and nothing that
// is not signed is heard.
func FuzzHook(f *testing.F) {
	body := acted("E1", "incident.acknowledged", "P1", "user_reference", "rollout/recs/r1")
	f.Add(body, signature(webhookSecret, body))
	f.Add(`{"event":null}`, "v1=zz,,v1=")
	c, err := pagerduty.New(pagerduty.Config{RoutingKey: key, WebhookSecret: webhookSecret, Client: notifiertest.Client(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body, sig string) {
		if got := post(c, body, sig); got != http.StatusUnauthorized && !strings.Contains(sig, signature(webhookSecret, body)) {
			t.Errorf("got %d for what is not signed, want 401", got)
		}
		post(c, body, signature(webhookSecret, body))
	})
}
