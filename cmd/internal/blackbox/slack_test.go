package blackbox

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belayd/belay/notifier/slack/slacktest"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/realtest"
)

// A morning in Slack, with the program as it is shipped and a workspace over Socket
// Mode: a stranger may look and nothing else, an owner holds the rollout with a
// reason, goes on and approves, and the same click, heard again, is the same
// answer. Who said what is in the journal, and no token is in the log.
func TestSlack(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	chat := slacktest.New(t).Listen()
	secrets := t.TempDir()
	approvals := "  notify: [chat]\n  approvals:\n    - {name: owner, from: {notifier: chat, groups: [product-owners]}, quorum: 1, notBy: [requester], expires: 10m, onExpiry: hold}\n"
	pol := policy("recs", "recs", approvals, `[{weight: 5%, bake: 3s}, {weight: 100%, bake: 1s, requires: [owner]}]`)
	file := func(name, text string) string {
		(&world{t: t, dir: secrets}).write(name, text)
		return filepath.Join(secrets, name)
	}
	w := newWorld(t, e, fmt.Sprintf("notifiers: {chat: {slack: {botTokenFile: %q, appTokenFile: %q, url: %q, channel: %q}}}\n",
		file("bot", slacktest.BotToken), file("app", slacktest.AppToken), chat.Base, slacktest.ChannelName)+
		tokens(map[string]string{"viewer": "view", "ci": "start"}), pol)
	w.write("token-viewer", tokenOf("viewer"))
	w.write("token-ci", tokenOf("ci"))
	conn := chat.Conn()
	id := strings.TrimSpace(w.want(0, "ci", "start", "--policy", "recs", "--candidate", "green", "--version", "2", "--output", "name"))

	var m slacktest.Message
	realtest.Eventually(t, "the approval request", func() (asked bool) {
		chat.Set(func() {
			for _, x := range chat.Messages {
				if key, _ := x.Metadata.EventPayload["key"].(string); strings.HasPrefix(key, id+"/ask/owner/") {
					m, asked = *x, true
				}
			}
		})
		return asked
	})
	sent := 0
	send := func(kind, payload string) string {
		sent++
		return chat.Envelope(conn, fmt.Sprintf("e%d", sent), kind, payload)
	}
	say := func(user, text, want string) {
		t.Helper()
		payload := encode(t, map[string]string{"command": "/belay", "text": text, "user_id": user, "team_id": slacktest.Team,
			"channel_id": slacktest.ChannelID, "trigger_id": fmt.Sprintf("t%d", sent)})
		if got := send("slash_commands", payload); !strings.Contains(got, want) || !strings.Contains(got, "ephemeral") {
			t.Errorf("/belay %s by %s: got %s, want %q for them alone", text, user, got, want)
		}
	}
	click := func(user, action, at string) {
		t.Helper()
		c, ok := m.Button(user, action, at)
		if !ok {
			t.Fatalf("the request has no button %s: %s", action, m.Blocks)
		}
		send("interactive", c.JSON())
	}
	say("U0OTHER", "status "+id, id+": green 2 on recs is waiting")
	say("U0OTHER", "rollback "+id, "none of the roles")
	click("U0OTHER", "belay_approve", "1.1")

	click("U0MEMBER", "belay_hold", "1.2")
	var dialog map[string]any
	realtest.Eventually(t, "the dialog", func() (opened bool) {
		chat.Set(func() {
			if opened = len(chat.Views) == 1; opened {
				dialog = map[string]any{"id": "V1", "type": "modal", "callback_id": chat.Views[0].CallbackID, "private_metadata": chat.Views[0].PrivateMetadata, "hash": "h",
					"state": map[string]any{"values": map[string]any{"belay_reason_block": map[string]any{
						"belay_reason_input": map[string]string{"type": "plain_text_input", "value": "lunch"}}}}}
			}
		})
		return opened
	})
	send("interactive", encode(t, map[string]any{"type": "view_submission", "team": map[string]string{"id": slacktest.Team},
		"user": map[string]string{"id": "U0MEMBER"}, "trigger_id": "dialog", "view": dialog}))
	if got := w.rollout(id); got.Phase != rollout.PhasePaused || !strings.Contains(got.Sentence, "lunch") {
		t.Errorf("after the hold: got %s (%s), want paused for lunch", got.Phase, got.Sentence)
	}
	say("U0MEMBER", "resume "+id+" back", "Recorded.")
	click("U0MEMBER", "belay_approve", "1.3")
	click("U0MEMBER", "belay_approve", "1.3")
	w.want(0, "viewer", "watch", id)

	var heard []string
	realtest.Eventually(t, "what people were told", func() bool { heard = chat.Heard(); return len(heard) >= 4 })
	slices.Sort(heard)
	for i, want := range []string{"U0MEMBER: Recorded.", "U0MEMBER: Recorded.", "U0MEMBER: Recorded.", "U0OTHER: Not accepted: "} {
		if !strings.HasPrefix(heard[i], want) {
			t.Errorf("told: got %q, want %q", heard[i], want)
		}
	}
	history := w.want(0, "viewer", "history", id)
	if n := strings.Count(history, "(slack:T0TEAM/U0MEMBER) approves step 100% (1 of 1)"); n != 1 || e.green("recs") != 100 {
		t.Errorf("got %d approvals and green at %d%%, want one and 100%%: %s", n, e.green("recs"), history)
	}
	for _, secret := range []string{slacktest.BotToken, slacktest.AppToken} {
		if strings.Contains(w.logs.String(), secret) {
			t.Error("a token of Slack is in the log")
		}
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
