package slack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slack-go/slack"
)

// signed is a request as Slack sends it, signed at an instant with a secret.
func signed(body, secret string, at time.Time) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hooks/slack", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	ts := fmt.Sprint(at.Unix())
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("v0:" + ts + ":" + body))
	r.Header.Set("X-Slack-Request-Timestamp", ts)
	r.Header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	return r
}

func form(pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

func serve(c *Client, r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	c.ServeHTTP(rec, r)
	return rec
}

// TestHandler is the table of requests at POST /hooks/slack.
func TestHandler(t *testing.T) {
	w, l := newWorkspace(t), &ledger{}
	c := w.open(nil)
	click := form("payload", clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.1"))
	if got := serve(c, signed(click, signingSecret, time.Now())).Code; got != http.StatusServiceUnavailable {
		t.Errorf("before Run: got %d, want 503", got)
	}
	running(t, c, l)
	now := time.Now()
	change := func(f func(*http.Request)) *http.Request {
		r := signed(click, signingSecret, now)
		f(r)
		return r
	}
	for _, test := range []struct {
		name    string
		request *http.Request
		code    int
		body    string
		heard   int
	}{
		{"a click", signed(click, signingSecret, now), 200, "", 1},
		{"another secret", signed(click, signingSecret+"x", now), 401, "not signed", 0},
		{"six minutes old", signed(click, signingSecret, now.Add(-6*time.Minute)), 401, "not signed", 0},
		{"six minutes ahead", signed(click, signingSecret, now.Add(6*time.Minute)), 401, "not signed", 0},
		{"no signature", change(func(r *http.Request) { r.Header.Del("X-Slack-Signature") }), 401, "not signed", 0},
		{"another time", change(func(r *http.Request) { r.Header.Set("X-Slack-Request-Timestamp", fmt.Sprint(now.Unix()-1)) }), 401, "not signed", 0},
		{"payload in the address", change(func(r *http.Request) { r.URL.RawQuery = click }), 200, "", 1},
		{"only in the address", func() *http.Request {
			r := signed("", signingSecret, now)
			r.URL.RawQuery = click
			return r
		}(), 400, "neither", 0},
		{"GET", func() *http.Request {
			r := signed(click, signingSecret, now)
			r.Method = http.MethodGet
			return r
		}(), 405, "method", 0},
		{"a body without end", signed(strings.Repeat("x", maxMessage+1), signingSecret, now), 413, "cannot be read", 0},
		{"no form", signed("%zz", signingSecret, now), 400, "not a form", 0},
		{"no JSON", signed(form("payload", "{"), signingSecret, now), 400, "not an interaction", 0},
		{"nothing known", signed(form("event", "x"), signingSecret, now), 400, "neither", 0},
		{"Slack's own check", signed(form("ssl_check", "1", "token", "x"), signingSecret, now), 200, "", 0},
		{"another app's button", signed(form("payload", `{"type":"block_actions"}`), signingSecret, now), 200, "", 0},
		{"a command", signed(form("command", "/belay", "text", "list", "user_id", "U0OTHER", "team_id", team, "trigger_id", "t1"), signingSecret, now), 200, `"text":"Recorded."`, 1},
		{"help", signed(form("command", "/belay", "text", "", "user_id", "U0OTHER"), signingSecret, now), 200, "/belay rollback ID", 0},
		{"a dialog", signed(form("payload", sent("U0APPROVER", "reject", "n0nce-5be1", "", "t1")), signingSecret, now), 200, `"response_action":"errors"`, 0},
	} {
		before := len(l.answers())
		rec := serve(c, test.request)
		settle(c)
		if rec.Code != test.code || !strings.Contains(rec.Body.String(), test.body) || (test.body == "" && rec.Body.Len() > 0) {
			t.Errorf("%s: got %d %q, want %d with %q", test.name, rec.Code, rec.Body, test.code, test.body)
		}
		if got := len(l.answers()) - before; got != test.heard {
			t.Errorf("%s: got %d answers, want %d", test.name, got, test.heard)
		}
	}
	if len(l.recorded) != 2 {
		t.Errorf("recorded: got %d acts, want 2: the click, however often it came, and the command", len(l.recorded))
	}
	closed := w.open(func(c *Config) { c.SigningSecret = "" })
	if got := serve(closed, signed(click, "", now)).Code; got != http.StatusNotFound {
		t.Errorf("without a signing secret: got %d, want 404", got)
	}
}

// TestHandlerInTime: a slow store keeps Slack waiting for less than three seconds,
// and the person gets the outcome at the address that came with the command.
func TestHandlerInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorkspace(t), &ledger{delay: 5 * time.Second}
		c := w.open(nil)
		running(t, c, l)
		began := time.Now()
		rec := serve(c, signed(form("command", "/belay", "text", "rollback r-7f3a", "user_id", "U0OTHER", "trigger_id", "t1", "response_url", w.Base+"respond"), signingSecret, began))
		if took := time.Since(began); took > 3*time.Second || !strings.Contains(rec.Body.String(), "Heard.") {
			t.Errorf("slow command: got %q after %s, want it acknowledged within 3s", rec.Body, took)
		}
		settle(c)
		if got := w.Heard(); len(got) != 1 || got[0] != "response: Recorded." {
			t.Errorf("slow command: got %q, want the outcome at the response address", got)
		}
		serve(c, signed(form("command", "/belay", "text", "rollback r-7f3a", "user_id", "U0OTHER", "trigger_id", "t2", "response_url", "https://evil.example/"), signingSecret, time.Now()))
		settle(c)
		if got := w.Heard(); len(got) != 1 {
			t.Errorf("a response address that is not Slack's: got %q, want nothing sent there", got)
		}
	})
}

// TestWhisperElsewhere: where Belay is no member of the channel, a person is told
// by the address that came with the click.
func TestWhisperElsewhere(t *testing.T) {
	w, l := newWorkspace(t), &ledger{}
	w.Refuse["chat.postEphemeral"] = "user_not_in_channel"
	c := w.open(nil)
	running(t, c, l)
	say(t, c, clicked("U0OTHER", actionApprove, "n0nce-5be1", "1.1"))
	settle(c)
	if got := w.Heard(); len(got) != 1 || !strings.HasPrefix(got[0], "response: Not accepted: slack:T0TEAM/U0OTHER is not among") {
		t.Errorf("whispers: got %q, want one by the response address", got)
	}
}

// TestCommands is the table of what follows /belay.
func TestCommands(t *testing.T) {
	for _, test := range []struct{ text, command, rollout, reason string }{
		{"list", "list", "", ""}, {" LIST ", "list", "", ""}, {"status r-1", "status", "r-1", ""}, {"status `r-1`", "status", "r-1", ""},
		{"pause r-1", "pause", "r-1", "no reason given (by /belay)"}, {"pause r-1 the news", "pause", "r-1", "the news"},
		{"resume r-1 --reason all is well", "resume", "r-1", "all is well"}, {`rollback r-1 --reason="bad \ model"`, "rollback", "r-1", `bad \ model`},
		{"rollback r-1 “smart quotes”", "rollback", "r-1", "smart quotes"}, {"rollback\tr-1\ntwo\nlines", "rollback", "r-1", "two lines"},
		{"", "", "", ""}, {"help", "", "", ""}, {"list r-1", "", "", ""}, {"status", "", "", ""}, {"status r-1 r-2", "", "", ""}, {"pause", "", "", ""},
		{"approve r-1", "", "", ""}, {"promote r-1", "", "", ""}, {"rollback", "", "", ""},
	} {
		got, ok := parseCommand(test.text)
		if ok != (test.command != "") || ok && (got.Command != test.command || got.Rollout != test.rollout || got.Reason != test.reason) {
			t.Errorf("/belay %q: got %+v, %t, want %q %q %q", test.text, got, ok, test.command, test.rollout, test.reason)
		}
	}
}

// TestCommandPeople: a command is refused to those who may not click, and its
// answer is escaped and seen by one person alone.
func TestCommandPeople(t *testing.T) {
	w, l := newWorkspace(t), &ledger{}
	w.User("U0GUEST", map[string]any{"is_restricted": true})
	c := w.open(nil)
	running(t, c, l)
	said := func(user, text string) map[string]string {
		answer := make(chan any, 1)
		if !c.begin(*c.command(slack.SlashCommand{UserID: user, TeamID: team, Text: text, TriggerID: "t" + text}), func(ack any) { answer <- ack }) {
			t.Fatalf("/belay %s: not taken up", text)
		}
		var m map[string]string
		if err := json.Unmarshal(mustJSON(<-answer), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if got := said("U0GUEST", "rollback r-7f3a"); got["response_type"] != "ephemeral" || got["text"] != "Not accepted: guests cannot act here." {
		t.Errorf("a guest's command: got %v, want a refusal only they see", got)
	}
	if got := said("U0OTHER", "rollback r-7f3a it burns"); got["text"] != "Recorded." {
		t.Errorf("a member's command: got %v, want it recorded", got)
	}
	l.fail = fmt.Errorf("<!channel> & %s", botToken)
	if got := said("U0OTHER", "pause r-7f3a"); strings.Contains(got["text"], "<") || strings.Contains(got["text"], botToken) {
		t.Errorf("a command that fails: got %v, want neither marks nor tokens", got)
	}
	if got := len(l.answers()); got != 2 || slices.Contains(l.answers()[0].Groups, "product-owners") {
		t.Errorf("answers: got %d, want 2 of somebody who is not among the product owners", got)
	}
	for i, verb := range []string{"pause", "resume", "rollback", "status"} {
		said("U0MEMBER", verb+" r-7f3a")
		if got := l.answers()[2+i].Groups; len(got) != 3 {
			t.Errorf("%s: got groups %q, want those of the member", verb, got)
		}
	}
}

// FuzzHandler: whatever is signed, the handler answers and nothing panics.
func FuzzHandler(f *testing.F) {
	f.Add(form("payload", clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.1")))
	f.Add(form("payload", sent("U0APPROVER", "reject", "n0nce-5be1", "no", "t1")))
	f.Add(form("payload", `{"type":"block_actions","actions":[null,{"action_id":"belay_hold","value":"{}"}]}`))
	f.Add(form("payload", `{"type":"view_submission","view":{"callback_id":"belay_reason","state":{"values":null}}}`))
	f.Add(form("command", "/belay", "text", "rollback r-7f3a", "user_id", "U0OTHER"))
	f.Fuzz(func(t *testing.T, body string) {
		w, l := newWorkspace(t), &ledger{}
		c := w.open(func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
		c.inbox.deliver = l.deliver // as if Run ran
		rec := serve(c, signed(body, signingSecret, time.Now()))
		c.inbox.acts.Wait()
		if rec.Code != 200 && rec.Code != 400 && rec.Code != 413 {
			t.Errorf("body %q: got %d, want 200, 400 or 413", body, rec.Code)
		}
		for _, a := range l.answers() {
			if a.ID == "" || a.Who == "" || a.Command == "" {
				t.Errorf("body %q: got %+v, want an answer with an id, a person and a command", body, a)
			}
		}
	})
}
