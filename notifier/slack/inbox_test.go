package slack

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/notifier"
)

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
		{name: "while Slack does not know its users", user: "U0APPROVER", before: func(w *workspace, _ *ledger) { w.Refuse["users.info"] = "internal_error" }},
		{name: "while Slack does not know its workspace", user: "U0APPROVER", before: func(w *workspace, _ *ledger) { w.Refuse["auth.test"] = "invalid_auth" }},
		{name: "a member while the groups are not told", user: "U0MEMBER", before: func(w *workspace, _ *ledger) { w.Refuse["usergroups.list"] = "plan_upgrade_required" }},
		{name: "an approver while the groups are not told", user: "U0APPROVER", before: func(w *workspace, _ *ledger) { w.Refuse["usergroups.list"] = "internal_error" }, want: true},
		{name: "while the store is away", user: "U0APPROVER", before: func(_ *workspace, l *ledger) { l.fail = errors.New("store: conflict " + botToken) }},
	} {
		w, l := newWorkspace(t), &ledger{}
		if test.more != nil {
			w.User(test.user, test.more)
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
		heard := w.Heard()
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
			Rollout: "r-7f3a", Gate: "product-owner", Nonce: "n0nce-5be1", Command: "hold", Reason: "let me look", Who: "slack:T0TEAM/U0OTHER", Name: "Name of U0OTHER", Groups: []string{"@others", "S0OTHERS", "others"},
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
	if len(w.Views) != 1 || len(l.answers()) != 0 {
		t.Fatalf("click on reject: got %d dialogs and %d answers, want one dialog", len(w.Views), len(l.answers()))
	}
	if got := string(mustJSON(w.Views[0])); !strings.Contains(got, "cannot be undone") || w.Views[0].CallbackID != callbackReason {
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
	if got := w.Heard(); l.decided != "reject" || len(got) != 1 || got[0] != "U0APPROVER: Recorded." {
		t.Errorf("accepted: got decided %q and whispers %q, want reject, recorded", l.decided, got)
	}
}

// TestDialogNotOpened: what a person is told when Slack does not open the dialog.
func TestDialogNotOpened(t *testing.T) {
	for code, want := range map[string]string{"expired_trigger_id": "use: belay pause r-7f3a", "exchanged_trigger_id": ""} {
		w, l := newWorkspace(t), &ledger{}
		w.Refuse["views.open"] = code
		c := w.open(nil)
		running(t, c, l)
		say(t, c, clicked("U0APPROVER", actionHold, "n0nce-5be1", "1.1"))
		settle(c)
		if got := strings.Join(w.Heard(), "; "); !strings.Contains(got, want) || (want == "") != (got == "") {
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
	if got := w.Heard(); len(got) != 5 || len(l.answers()) != 0 || !strings.Contains(got[0], "not one that Belay can read") {
		t.Errorf("buttons nobody can read: got whispers %q and %d answers, want five and none", got, len(l.answers()))
	}
}
