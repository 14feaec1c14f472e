package webhook_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/notifier/webhook"
	"github.com/belayd/belay/rollout/realtest/goldentest"
)

const secret = "cAnAry-signing-secret-0123456789"

// A receiver verifies and keeps what it gets, as a careful program would: one
// event an id, and one message a subject.
type receiver struct {
	t   *testing.T
	ref string

	mu     sync.Mutex
	ids    map[string]bool
	bodies map[string][]byte
	header http.Header
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Errorf("read body: got %v, want no error", err)
	}
	if err := webhook.Verify(req.Header, body, secret, time.Now()); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	var e struct{ SpecVersion, ID, Source, Type, Subject string }
	if err := json.Unmarshal(body, &e); err != nil || e.SpecVersion != "1.0" || e.ID == "" || e.Source == "" || e.Type == "" {
		r.t.Errorf("event: got %.200s (%v), want the required attributes of CloudEvents 1.0", body, err)
	}
	if got := req.Header.Get("Webhook-Id"); got != e.ID {
		r.t.Errorf("Webhook-Id: got %q, want the event's id %q", got, e.ID)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[e.ID], r.bodies[e.Subject], r.header = true, body, req.Header.Clone()
	if r.ref != "" {
		_ = json.NewEncoder(w).Encode(map[string]string{"ref": r.ref})
	}
}

func open(t *testing.T, path, ref string) (*webhook.Client, *receiver, *notifiertest.Server) {
	t.Helper()
	r := &receiver{t: t, ref: ref, ids: map[string]bool{}, bodies: map[string][]byte{}}
	s := notifiertest.NewServer(t, r)
	c, err := webhook.New(webhook.Config{URL: s.URL + path, Secret: secret, Client: notifiertest.Client()})
	if err != nil {
		t.Fatalf("New: got %v, want no error", err)
	}
	return c, r, s
}

func TestExercise(t *testing.T) {
	notifiertest.Exercise(t, func(t *testing.T) notifiertest.Subject {
		c, r, s := open(t, "/hooks/cAnAry-path-token?key=cAnAry-query", "")
		return notifiertest.Subject{
			Notifier: c,
			Secrets:  []string{secret, "cAnAry-path-token", "cAnAry-query"},
			Messages: func(key string) int {
				r.mu.Lock()
				defer r.mu.Unlock()
				if _, ok := r.bodies[key]; ok {
					return 1
				}
				return 0
			},
			Break: s.Break, Silence: s.Silence, Heal: s.Heal,
		}
	})
}

func TestRetryTable(t *testing.T) {
	c, _, s := open(t, "/hooks/cAnAry-path-token", "")
	notifiertest.RetryTable(t, c, s, secret, "cAnAry-path-token")
}

// TestGoldenEvents holds the body of an event of each kind against the files in
// testdata: they are the format that receivers are written for.
func TestGoldenEvents(t *testing.T) {
	c, r, _ := open(t, "/", "")
	for _, topic := range notifiertest.Topics() {
		checkGolden(t, c, r, string(topic), notifiertest.Notice(topic))
	}
	checkGolden(t, c, r, "acknowledged", notifiertest.Acknowledged())
	n := notifiertest.Notice(notifier.TopicPage)
	n.Resolve, n.Delivery, n.Summary = true, n.Key+"/9", "recs: blue has 100% again"
	checkGolden(t, c, r, "resolved", n)
}

func checkGolden(t *testing.T, c *webhook.Client, r *receiver, name string, n notifier.Notice) {
	t.Helper()
	if _, err := c.Notify(t.Context(), n); err != nil {
		t.Fatalf("Notify(%s): got %v, want no error", name, err)
	}
	if got, want := r.header.Get("Content-Type"), "application/cloudevents+json"; got != want {
		t.Errorf("Content-Type: got %q, want %q", got, want)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, r.bodies[n.Key], "", "  "); err != nil {
		t.Fatalf("indent the event: got %v, want no error", err)
	}
	got.WriteByte('\n')
	file := filepath.Join("testdata", name+".json")
	goldentest.Check(t, file, got.String())
}

// TestReference tells of a bridge that hands out its own references: it gets them
// back with the next notice of the key; and one that hands out none keeps what it
// was given.
func TestReference(t *testing.T) {
	c, r, _ := open(t, "/", "post-17")
	n := notifiertest.Notice(notifier.TopicStatus)
	ref, err := c.Notify(t.Context(), n)
	if err != nil || ref != "post-17" {
		t.Fatalf("Notify: got %q, %v, want post-17", ref, err)
	}
	n.Ref = ref
	r.ref = strings.Repeat("x", 513)
	if ref, err = c.Notify(t.Context(), n); err != nil || ref != "post-17" {
		t.Errorf("Notify, answered with a reference that is too long: got %.20q, %v, want post-17", ref, err)
	}
	var e struct{ Data notifier.Notice }
	if err := json.Unmarshal(r.bodies[n.Key], &e); err != nil || e.Data.Ref != "post-17" {
		t.Errorf("event: got ref %q (%v), want post-17", e.Data.Ref, err)
	}
}

// TestDeliveryID: a delivery keeps its id whatever the id holds, and another
// delivery has another one.
func TestDeliveryID(t *testing.T) {
	c, r, _ := open(t, "/", "")
	for i, delivery := range []string{"", "with space", "line\nbreak", "full.stop", strings.Repeat("x", 300), "plain/7", "plain/8"} {
		n := notifiertest.Notice(notifier.TopicThread)
		n.Delivery = delivery
		for range 2 {
			if _, err := c.Notify(t.Context(), n); err != nil {
				t.Errorf("Notify(delivery %.20q): got %v, want no error", delivery, err)
			}
		}
		if got, want := len(r.ids), i+1; got != want {
			t.Errorf("ids after delivery %.20q twice: got %d, want %d", delivery, got, want)
		}
	}
}

func TestNew(t *testing.T) {
	good := webhook.Config{URL: "https://hooks.example/x", Secret: secret, Client: http.DefaultClient}
	for _, test := range []struct {
		name   string
		change func(*webhook.Config)
		want   string
	}{
		{"complete", func(*webhook.Config) {}, ""},
		{"standard webhooks secret", func(c *webhook.Config) { c.Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }, ""},
		{"relative address", func(c *webhook.Config) { c.URL = "/hook" }, "url"},
		{"another scheme", func(c *webhook.Config) { c.URL = "ftp://hooks.example/cAnAry" }, "url"},
		{"unreadable address", func(c *webhook.Config) { c.URL = "https://u:cAnAry@hooks.example:port/" }, "url"},
		{"no secret", func(c *webhook.Config) { c.Secret = "" }, "secret"},
		{"short secret", func(c *webhook.Config) { c.Secret = "cAnAry" }, "secret"},
		{"broken base64", func(c *webhook.Config) { c.Secret = "whsec_cAnAry!" }, "secret"},
		{"no client", func(c *webhook.Config) { c.Client = nil }, "client"},
		{"broken source", func(c *webhook.Config) { c.Source = "%zz" }, "source"},
	} {
		config := good
		test.change(&config)
		_, err := webhook.New(config)
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("New(%s): got %v, want an error about %q", test.name, err, test.want)
		}
		notifiertest.NoSecret(t, err, "cAnAry")
	}
}

// TestVerify signs one request and spoils it in every way that matters.
func TestVerify(t *testing.T) {
	c, r, _ := open(t, "/", "")
	n := notifiertest.Notice(notifier.TopicPage)
	if _, err := c.Notify(t.Context(), n); err != nil {
		t.Fatalf("Notify: got %v, want no error", err)
	}
	secs, err := strconv.ParseInt(r.header.Get("Webhook-Timestamp"), 10, 64)
	if err != nil {
		t.Fatalf("Webhook-Timestamp: got %v, want Unix seconds", err)
	}
	signed := time.Unix(secs, 0)
	for _, test := range []struct {
		name   string
		change func(h http.Header, body *[]byte, secret *string, now *time.Time)
		ok     bool
	}{
		{"as received", func(http.Header, *[]byte, *string, *time.Time) {}, true},
		{"five minutes later", func(_ http.Header, _ *[]byte, _ *string, now *time.Time) { *now = now.Add(5 * time.Minute) }, true},
		{"five minutes ahead", func(_ http.Header, _ *[]byte, _ *string, now *time.Time) { *now = now.Add(-5 * time.Minute) }, true},
		{"a second more", func(_ http.Header, _ *[]byte, _ *string, now *time.Time) { *now = now.Add(5*time.Minute + time.Second) }, false},
		{"a second more ahead", func(_ http.Header, _ *[]byte, _ *string, now *time.Time) {
			*now = now.Add(-5*time.Minute - time.Second)
		}, false},
		{"two signatures, one right", func(h http.Header, _ *[]byte, _ *string, _ *time.Time) {
			h.Set("Webhook-Signature", "v1,AAAA "+h.Get("Webhook-Signature"))
		}, true},
		{"another body", func(_ http.Header, body *[]byte, _ *string, _ *time.Time) { *body = append(bytes.Clone(*body), ' ') }, false},
		{"another secret", func(_ http.Header, _ *[]byte, s *string, _ *time.Time) { *s += "x" }, false},
		{"no secret", func(_ http.Header, _ *[]byte, s *string, _ *time.Time) { *s = "" }, false},
		{"another id", func(h http.Header, _ *[]byte, _ *string, _ *time.Time) { h.Set("Webhook-Id", "other") }, false},
		{"an id that eats the time", func(h http.Header, _ *[]byte, _ *string, _ *time.Time) {
			h.Set("Webhook-Id", h.Get("Webhook-Id")+"."+h.Get("Webhook-Timestamp"))
		}, false},
		{"no id", func(h http.Header, _ *[]byte, _ *string, _ *time.Time) { h.Del("Webhook-Id") }, false},
		{"another time", func(h http.Header, _ *[]byte, _ *string, _ *time.Time) {
			h.Set("Webhook-Timestamp", strconv.FormatInt(secs+1, 10))
		}, false},
		{"no number", func(h http.Header, _ *[]byte, _ *string, _ *time.Time) { h.Set("Webhook-Timestamp", "now") }, false},
		{"the end of time", func(h http.Header, _ *[]byte, _ *string, _ *time.Time) {
			h.Set("Webhook-Timestamp", "9223372036854775807")
		}, false},
		{"no signature", func(h http.Header, _ *[]byte, _ *string, _ *time.Time) { h.Del("Webhook-Signature") }, false},
		{"another version", func(h http.Header, _ *[]byte, _ *string, _ *time.Time) {
			h.Set("Webhook-Signature", strings.Replace(h.Get("Webhook-Signature"), "v1,", "v2,", 1))
		}, false},
	} {
		h, body, s, now := r.header.Clone(), r.bodies[n.Key], secret, signed
		test.change(h, &body, &s, &now)
		err := webhook.Verify(h, body, s, now)
		if (err == nil) != test.ok || (err != nil && !errors.Is(err, webhook.ErrSignature)) {
			t.Errorf("Verify(%s): got %v, want accepted = %t", test.name, err, test.ok)
		}
		notifiertest.NoSecret(t, err, secret)
	}
}

// TestShiftedParts tells of a signed body that begins like a time: its parts cannot
// be moved so that the same signature covers another body.
func TestShiftedParts(t *testing.T) {
	signed := "a.1795521600.1795521601.{}"
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	signature := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, test := range []struct {
		id, at, body string
		ok           bool
	}{{"a", "1795521600", "1795521601.{}", true}, {"a.1795521600", "1795521601", "{}", false}} {
		h := http.Header{"Webhook-Id": {test.id}, "Webhook-Timestamp": {test.at}, "Webhook-Signature": {signature}}
		if err := webhook.Verify(h, []byte(test.body), secret, time.Unix(1795521600, 0)); (err == nil) != test.ok {
			t.Errorf("Verify(%s, %s, %s): got %v, want accepted = %t", test.id, test.at, test.body, err, test.ok)
		}
	}
}

// TestStandardVector holds Verify against the example of the Standard Webhooks
// specification, so that other people's libraries and Belay agree.
func TestStandardVector(t *testing.T) {
	h := http.Header{}
	h.Set("Webhook-Id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	h.Set("Webhook-Timestamp", "1614265330")
	h.Set("Webhook-Signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	err := webhook.Verify(h, []byte(`{"test": 2432232314}`), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", time.Unix(1614265330, 0))
	if err != nil {
		t.Errorf("Verify of the specification's example: got %v, want no error", err)
	}
}

// FuzzVerify: no header makes Verify panic or accept what was not signed.
func FuzzVerify(f *testing.F) {
	f.Add("id", "1795521600", "v1,AAAA", []byte("{}"))
	f.Add("", "-9223372036854775808", "v1,", []byte(nil))
	f.Fuzz(func(t *testing.T, id, at, sig string, body []byte) {
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {sig}}
		if err := webhook.Verify(h, body, secret, time.Unix(1795521600, 0)); err == nil {
			t.Errorf("Verify(%q, %q, %q): got accepted, want refused", id, at, sig)
		}
	})
}
