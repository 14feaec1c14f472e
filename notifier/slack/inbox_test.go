package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slack-go/slack"

	"github.com/belayd/belay/notifier"
)

// A ledger stands for the engine: it keeps each act once, under its id, and decides
// by the gate's `from`, its quorum of one, its nonce and the requester.
type ledger struct {
	mu       sync.Mutex
	heard    []notifier.Answer
	recorded map[string]notifier.Answer
	decided  string
	delay    time.Duration
	fail     error
}

func (l *ledger) deliver(ctx context.Context, a notifier.Answer) (notifier.Reply, error) {
	if l.delay > 0 {
		timer := time.NewTimer(l.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return notifier.Reply{}, ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, a)
	if l.fail != nil {
		return notifier.Reply{}, l.fail
	}
	if l.recorded == nil {
		l.recorded = map[string]notifier.Answer{}
	}
	if _, again := l.recorded[a.ID]; again {
		return notifier.Reply{Accepted: true, Text: "Recorded."}, nil
	}
	switch {
	case a.Command == "list" || a.Command == "status" || a.Command == "pause" || a.Command == "resume" || a.Command == "rollback" || a.Command == "hold":
	case a.Who == "slack:"+team+"/U0REQUESTER":
		return notifier.Reply{Text: "Not accepted: the requester may not approve."}, nil
	case a.Who != "slack:"+team+"/U0APPROVER" && !slices.Contains(a.Groups, "product-owners"):
		return notifier.Reply{Text: "You are not among those who may answer for product-owner."}, nil
	case a.Nonce == "expired":
		return notifier.Reply{Text: "Not accepted: the request has expired."}, nil
	case a.Nonce != "n0nce-5be1":
		return notifier.Reply{Text: "Not accepted: this was asked about older evidence."}, nil
	case l.decided != "":
		return notifier.Reply{Text: "Not accepted: it has been decided."}, nil
	default:
		l.decided = a.Command
	}
	l.recorded[a.ID] = a
	return notifier.Reply{Accepted: true, Text: "Recorded."}, nil
}

func (l *ledger) answers() []notifier.Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard)
}

// running makes c hear people until the test ends, without Socket Mode.
func running(t *testing.T, c *Client, l *ledger) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, l.deliver) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v, want nil when the context ended", err)
		}
	})
	for {
		c.inbox.mu.Lock()
		up := c.inbox.deliver != nil
		c.inbox.mu.Unlock()
		if up {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// clicked is what Slack sends for a click, as JSON.
func clicked(user, action, nonce, ts string) string {
	value := fmt.Sprintf(`{"r":"r-7f3a","g":"product-owner","n":%q}`, nonce)
	return string(mustJSON(map[string]any{
		"type": "block_actions", "team": map[string]string{"id": team}, "user": map[string]string{"id": user, "name": "display name"},
		"trigger_id": "trigger-" + ts, "response_url": "http://slack.example/api/respond",
		"channel":   map[string]string{"id": channelID, "name": "recs-release"},
		"container": map[string]string{"type": "message", "message_ts": "1795521600.000001", "channel_id": channelID},
		"actions":   []map[string]string{{"type": "button", "action_id": action, "block_id": "belay_buttons", "value": value, "action_ts": ts}},
	}))
}

// sent is what Slack sends for a dialog.
func sent(user, command, nonce, reason, trigger string) string {
	metadata := string(mustJSON(dialog{value: value{"r-7f3a", "product-owner", nonce}, Command: command, Channel: channelID}))
	return string(mustJSON(map[string]any{
		"type": "view_submission", "team": map[string]string{"id": team}, "user": map[string]string{"id": user}, "trigger_id": trigger,
		"view": map[string]any{
			"id": "V1", "type": "modal", "callback_id": callbackReason, "private_metadata": metadata, "hash": "h1",
			"state": map[string]any{"values": map[string]any{blockReason: map[string]any{inputReason: map[string]string{"type": "plain_text_input", "value": reason}}}},
		},
	}))
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // unreachable: tests encode texts
	}
	return b
}

// say lets a client hear a payload and gives what Slack is told, as JSON.
func say(t *testing.T, c *Client, payload string) string {
	t.Helper()
	var ic slack.InteractionCallback
	if err := json.Unmarshal([]byte(payload), &ic); err != nil {
		t.Fatalf("decode payload: got %v, want no error", err)
	}
	a := c.interaction(ic)
	if a == nil {
		return "nothing"
	}
	answer := make(chan any, 1)
	if !c.begin(*a, func(ack any) { answer <- ack }) {
		return "not taken up"
	}
	return string(mustJSON(<-answer))
}

// settle waits until everything that acts have started is done.
func settle(c *Client) {
	for range maxActs {
		c.inbox.slots <- struct{}{}
	}
	for range maxActs {
		<-c.inbox.slots
	}
}

// TestClicks is the table of clicks: who, what, and what comes of it. What the
// person is told stands in testdata/clicks.txt.
func TestClicks(t *testing.T) {
	var table strings.Builder
	for _, test := range []struct {
		name   string
		user   string
		more   map[string]any // of the user
		before func(*workspace, *ledger)
		nonce  string
		want   bool // decided
	}{
		{name: "an approver by name", user: "U0APPROVER", want: true},
		{name: "an approver by group", user: "U0MEMBER", want: true},
		{name: "somebody else", user: "U0OTHER"},
		{name: "a stranger to Slack", user: "U0NOBODY"},
		{name: "the requester", user: "U0REQUESTER", more: map[string]any{}},
		{name: "a bot", user: "U0BOT", more: map[string]any{"is_bot": true}},
		{name: "a workflow", user: "U0FLOW", more: map[string]any{"is_workflow_bot": true}},
		{name: "a connector", user: "U0CONN", more: map[string]any{"is_connector_bot": true}},
		{name: "Slackbot", user: "USLACKBOT", more: map[string]any{}},
		{name: "no user at all", user: ""},
		{name: "a guest", user: "U0GUEST", more: map[string]any{"is_restricted": true}},
		{name: "a guest of one channel", user: "U0GUEST", more: map[string]any{"is_ultra_restricted": true}},
		{name: "a deactivated member", user: "U0APPROVER", more: map[string]any{"deleted": true}},
		{name: "somebody invited", user: "U0APPROVER", more: map[string]any{"is_invited_user": true}},
		{name: "a stranger from a shared channel", user: "U0APPROVER", more: map[string]any{"is_stranger": true}},
		{name: "a member of another workspace", user: "U0APPROVER", more: map[string]any{"team_id": "T0OTHER"}},
		{name: "another user in the answer", user: "U0APPROVER", more: map[string]any{"id": "U0OTHER"}},
		{name: "a button of older evidence", user: "U0APPROVER", nonce: "older"},
		{name: "an expired request", user: "U0APPROVER", nonce: "expired"},
		{name: "a decided request", user: "U0APPROVER", before: func(_ *workspace, l *ledger) { l.decided = "reject" }},
		{name: "while Slack does not know its users", user: "U0APPROVER", before: func(w *workspace, _ *ledger) { w.refuse["users.info"] = "internal_error" }},
		{name: "while Slack does not know its workspace", user: "U0APPROVER", before: func(w *workspace, _ *ledger) { w.refuse["auth.test"] = "invalid_auth" }},
		{name: "a member while the groups are not told", user: "U0MEMBER", before: func(w *workspace, _ *ledger) { w.refuse["usergroups.list"] = "plan_upgrade_required" }},
		{name: "an approver while the groups are not told", user: "U0APPROVER", before: func(w *workspace, _ *ledger) { w.refuse["usergroups.list"] = "internal_error" }, want: true},
		{name: "while the store is away", user: "U0APPROVER", before: func(_ *workspace, l *ledger) { l.fail = errors.New("store: conflict " + botToken) }},
	} {
		w, l := newWorkspace(t), &ledger{}
		if test.more != nil {
			w.user(test.user, test.more)
		}
		if test.before != nil {
			test.before(w, l)
		}
		c := w.open(nil)
		running(t, c, l)
		if got := say(t, c, clicked(test.user, actionApprove, orElse(test.nonce, "n0nce-5be1"), "1795521700.1")); got != "null" {
			t.Errorf("%s: got %s for Slack, want an empty acknowledgement", test.name, got)
		}
		settle(c)
		if got := l.decided == "approve"; got != test.want {
			t.Errorf("%s: got decided = %t, want %t", test.name, got, test.want)
		}
		heard := w.heard()
		if len(heard) != 1 || !strings.HasPrefix(heard[0], test.user+": ") {
			t.Errorf("%s: got whispers %q, want one to %s", test.name, heard, test.user)
			continue
		}
		fmt.Fprintf(&table, "%-42s %s\n", test.name, strings.TrimPrefix(heard[0], test.user+": "))
	}
	golden(t, "clicks.txt", []byte(table.String()))
	if strings.Contains(table.String(), botToken) {
		t.Error("whispers: got a token in them, want none")
	}
}

// TestAnswer: what an answer holds, for each way of giving one.
func TestAnswer(t *testing.T) {
	for _, test := range []struct {
		name, payload string
		want          notifier.Answer
	}{
		{"approve", clicked("U0MEMBER", actionApprove, "n0nce-5be1", "1.1"), notifier.Answer{
			Rollout: "r-7f3a", Gate: "product-owner", Nonce: "n0nce-5be1", Command: "approve", Who: "slack:T0TEAM/U0MEMBER", Name: "Name of U0MEMBER",
			Groups: []string{"@product-owners", "S0PRODUCT", "product-owners"},
		}},
		{"reject", sent("U0MEMBER", "reject", "n0nce-5be1", " too\nslow ", "t1"), notifier.Answer{
			Rollout: "r-7f3a", Gate: "product-owner", Nonce: "n0nce-5be1", Command: "reject", Reason: "too slow", Who: "slack:T0TEAM/U0MEMBER", Name: "Name of U0MEMBER",
			Groups: []string{"@product-owners", "S0PRODUCT", "product-owners"},
		}},
		{"hold", sent("U0OTHER", "hold", "n0nce-5be1", "let me look", "t1"), notifier.Answer{
			Rollout: "r-7f3a", Gate: "product-owner", Nonce: "n0nce-5be1", Command: "hold", Reason: "let me look", Who: "slack:T0TEAM/U0OTHER", Name: "Name of U0OTHER",
		}},
	} {
		w, l := newWorkspace(t), &ledger{}
		c := w.open(nil)
		running(t, c, l)
		say(t, c, test.payload)
		settle(c)
		heard := l.answers()
		if len(heard) != 1 {
			t.Errorf("%s: got %d answers, want 1", test.name, len(heard))
			continue
		}
		got := heard[0]
		if got.ID == "" || time.Since(got.At) > time.Minute {
			t.Errorf("%s: got id %q at %s, want an id and the present", test.name, got.ID, got.At)
		}
		got.ID, got.At = "", time.Time{}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

// TestIDs: Slack's repetitions are the same act, everything else is another.
func TestIDs(t *testing.T) {
	w, l := newWorkspace(t), &ledger{}
	a, b := w.open(nil), w.open(nil) // two replicas
	running(t, a, l)
	running(t, b, l)
	first := clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.1")
	for i, payload := range []string{
		first, clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.2"), clicked("U0MEMBER", actionApprove, "n0nce-5be1", "1.1"),
		sent("U0APPROVER", "reject", "n0nce-5be1", "slow", "t1"), sent("U0APPROVER", "reject", "n0nce-5be1", "slow", "t2"),
		sent("U0APPROVER", "hold", "n0nce-5be1", "slow", "t3"),
	} {
		say(t, a, payload)
		say(t, b, payload)
		settle(a)
		settle(b)
		ids := map[string]bool{}
		for _, answer := range l.answers() {
			ids[answer.ID] = true
		}
		if got := len(l.answers()); got != 2*(i+1) || len(ids) != i+1 {
			t.Errorf("after payload %d, heard by two replicas: got %d answers with %d ids, want %d with %d", i, got, len(ids), 2*(i+1), i+1)
		}
	}
	if l.decided != "approve" {
		t.Errorf("decided: got %q, want the first click's approve", l.decided)
	}
}

// TestDialog tells of a rejection: the click opens a dialog that says what it leads
// to, and what is sent with it decides; a refusal stands in the dialog.
func TestDialog(t *testing.T) {
	w, l := newWorkspace(t), &ledger{}
	c := w.open(nil)
	running(t, c, l)
	if got := say(t, c, clicked("U0APPROVER", actionReject, "n0nce-5be1", "1.1")); got != "null" {
		t.Errorf("click on reject: got %s for Slack, want an empty acknowledgement", got)
	}
	settle(c)
	if len(w.views) != 1 || len(l.answers()) != 0 {
		t.Fatalf("click on reject: got %d dialogs and %d answers, want one dialog", len(w.views), len(l.answers()))
	}
	if got := string(mustJSON(w.views[0])); !strings.Contains(got, "cannot be undone") || w.views[0].CallbackID != callbackReason {
		t.Errorf("dialog: got %s, want a warning in it", got)
	}
	for _, test := range []struct{ name, payload, want string }{
		{"no reason", sent("U0APPROVER", "reject", "n0nce-5be1", "  ", "t1"), "Please give a reason"},
		{"a stranger", sent("U0OTHER", "reject", "n0nce-5be1", "no", "t2"), "not among those"},
		{"an old dialog", sent("U0APPROVER", "reject", "older", "no", "t3"), "older evidence"},
		{"a foreign dialog", strings.Replace(sent("U0APPROVER", "reject", "n0nce-5be1", "no", "t4"), "r-7f3a", "", 1), "not one that Belay can read"},
		{"another command", strings.Replace(sent("U0APPROVER", "promote", "n0nce-5be1", "no", "t4"), "r-7f3a", "r", 1), "not one that Belay can read"},
	} {
		got := say(t, c, test.payload)
		if !strings.Contains(got, `"response_action":"errors"`) || !strings.Contains(got, test.want) || !strings.Contains(got, blockReason) {
			t.Errorf("%s: got %s, want the dialog to say %q", test.name, got, test.want)
		}
	}
	if l.decided != "" {
		t.Fatalf("decided after refusals: got %s, want nothing", l.decided)
	}
	if got := say(t, c, sent("U0APPROVER", "reject", "n0nce-5be1", "wrong week", "t9")); !strings.Contains(got, `"response_action":"clear"`) {
		t.Errorf("accepted: got %s, want the dialog closed", got)
	}
	settle(c)
	if got := w.heard(); l.decided != "reject" || len(got) != 1 || got[0] != "U0APPROVER: Recorded." {
		t.Errorf("accepted: got decided %q and whispers %q, want reject, recorded", l.decided, got)
	}
}

// TestDialogNotOpened: what a person is told when Slack does not open the dialog.
func TestDialogNotOpened(t *testing.T) {
	for code, want := range map[string]string{"expired_trigger_id": "use: belay pause r-7f3a", "exchanged_trigger_id": ""} {
		w, l := newWorkspace(t), &ledger{}
		w.refuse["views.open"] = code
		c := w.open(nil)
		running(t, c, l)
		say(t, c, clicked("U0APPROVER", actionHold, "n0nce-5be1", "1.1"))
		settle(c)
		if got := strings.Join(w.heard(), "; "); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: got whispers %q, want %q in them", code, got, want)
		}
	}
}

// TestNotBelays: payloads of other apps' making are acknowledged and lead to
// nothing.
func TestNotBelays(t *testing.T) {
	w, l := newWorkspace(t), &ledger{}
	c := w.open(nil)
	running(t, c, l)
	for _, payload := range []string{
		`{"type":"block_actions","actions":[{"action_id":"other","value":"{}"}]}`, `{"type":"block_actions"}`,
		`{"type":"view_submission","view":{"callback_id":"other"}}`, `{"type":"shortcut"}`, `{}`,
	} {
		if got := say(t, c, payload); got != "nothing" {
			t.Errorf("payload %s: got %s, want nothing", payload, got)
		}
	}
	for _, v := range []string{"", "r-7f3a", `{"r":"r"}`, `{"n":"n"}`, `[]`} {
		payload := strings.Replace(clicked("U0APPROVER", actionApprove, "x", "1.1"), string(mustJSON(`{"r":"r-7f3a","g":"product-owner","n":"x"}`)), string(mustJSON(v)), 1)
		say(t, c, payload)
		settle(c)
	}
	if got := w.heard(); len(got) != 5 || len(l.answers()) != 0 || !strings.Contains(got[0], "not one that Belay can read") {
		t.Errorf("buttons nobody can read: got whispers %q and %d answers, want five and none", got, len(l.answers()))
	}
}

// TestInTime tells of a store that takes ten seconds: Slack is answered within
// three, and the person hears the outcome when there is one.
func TestInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorkspace(t), &ledger{delay: 10 * time.Second}
		c := w.open(nil)
		running(t, c, l)
		for _, test := range []struct{ name, payload, ack, whisper string }{
			{"click", clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.1"), "null", "U0APPROVER: Recorded."},
			{"accepted dialog", sent("U0APPROVER", "hold", "n0nce-5be1", "look", "t1"), `"response_action":"clear"`, "U0APPROVER: Recorded."},
			{"refused dialog", sent("U0OTHER", "reject", "n0nce-5be1", "no", "t2"), `"response_action":"clear"`, "U0OTHER: You are not among those"},
		} {
			w.set(func() { w.whispers = nil })
			began := time.Now()
			if got := say(t, c, test.payload); !strings.Contains(got, test.ack) {
				t.Errorf("%s: got %s for Slack, want %s", test.name, got, test.ack)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%s: acknowledged after %s, want at most 3s", test.name, took)
			}
			if got := w.heard(); len(got) != 0 {
				t.Errorf("%s: got whispers %q before there was an outcome, want none", test.name, got)
			}
			settle(c)
			if got := w.heard(); len(got) != 1 || !strings.HasPrefix(got[0], test.whisper) || time.Since(began) != 10*time.Second {
				t.Errorf("%s: got whispers %q after %s, want %q after 10s", test.name, got, time.Since(began), test.whisper)
			}
		}
		// A store that never answers: the act ends, and the person is told so.
		l.delay = time.Hour
		w.set(func() { w.whispers = nil })
		say(t, c, clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.9"))
		settle(c)
		if got := w.heard(); len(got) != 1 || !strings.Contains(got[0], "could not be recorded") {
			t.Errorf("a store that never answers: got whispers %q, want the person told", got)
		}
	})
}

// TestOverload: an act that finds no slot is not taken up, and nothing waits.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorkspace(t), &ledger{delay: time.Minute}
		c := w.open(nil)
		running(t, c, l)
		for i := range maxActs {
			if got := say(t, c, clicked("U0APPROVER", actionApprove, "n0nce-5be1", fmt.Sprint(i))); got != "null" {
				t.Fatalf("click %d: got %s, want it taken up", i, got)
			}
			// say returns after the 2.5 s that Slack waits; let them all be under way.
			if i == 4 {
				break
			}
		}
		for range maxActs - 5 {
			c.inbox.slots <- struct{}{}
		}
		if got := say(t, c, clicked("U0APPROVER", actionApprove, "n0nce-5be1", "last")); got != "not taken up" {
			t.Errorf("click without a slot: got %s, want it not taken up", got)
		}
		for range maxActs - 5 {
			<-c.inbox.slots
		}
		settle(c)
	})
}

// TestStop: acts under way when the daemon stops are finished, and later ones are
// not taken up.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorkspace(t), &ledger{delay: time.Second}
		c := w.open(nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx, l.deliver) }()
		synctest.Wait()
		told := make(chan string, 1)
		go func() { told <- say(t, c, clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.1")) }()
		synctest.Wait()
		if err := c.Run(ctx, l.deliver); err == nil {
			t.Error("Run a second time: got no error, want one")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if got := <-told; got != "null" || l.decided != "approve" || len(w.heard()) != 1 {
			t.Errorf("act under way: got %s, decided %q, whispers %q, want it finished", got, l.decided, w.heard())
		}
		if got := say(t, c, clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.2")); got != "not taken up" {
			t.Errorf("act after the end: got %s, want it not taken up", got)
		}
	})
}
