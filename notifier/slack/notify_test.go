package slack

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/notifiertest"
)

func notify(t *testing.T, c *Client, n notifier.Notice) string {
	t.Helper()
	ref, err := c.Notify(t.Context(), n)
	if err != nil {
		t.Fatalf("Notify(%s): got %v, want no error", n.Topic, err)
	}
	return ref
}

func TestExercise(t *testing.T) {
	notifiertest.Exercise(t, func(t *testing.T) notifiertest.Subject {
		w := newWorkspace(t)
		return notifiertest.Subject{
			Notifier: w.open(nil), Secrets: []string{botToken, signingSecret},
			Messages: func(key string) int { return len(w.Of(key)) },
			Break:    func() { w.Set(func() { w.Down = fmt.Errorf("dial tcp: connection refused (token %s)", botToken) }) },
			Silence: func() <-chan struct{} {
				w.Set(func() { w.Silent = make(chan struct{}) })
				return w.Arrived
			},
			Heal: w.Heal,
		}
	})
}

func TestRetryTable(t *testing.T) {
	w := newWorkspace(t)
	s := notifiertest.NewServer(t, w)
	c := w.open(func(c *Config) { c.URL, c.Client = s.URL, notifiertest.Client() })
	notifiertest.RetryTable(t, c, s, botToken)
}

// TestRefusals: what Slack says with "ok": false is for good, but for its own
// troubles, and tells an operator what to do.
func TestRefusals(t *testing.T) {
	for code, want := range map[string]struct {
		permanent bool
		remedy    string
	}{
		"channel_not_found": {true, "check the channel's name"}, "not_in_channel": {true, "invite the app"}, "is_archived": {true, "archived"},
		"invalid_auth": {true, "valid bot token"}, "token_revoked": {true, "valid bot token"}, "missing_scope": {true, "scope"},
		"invalid_blocks": {true, ""}, "msg_too_long": {true, ""},
		"internal_error": {false, ""}, "fatal_error": {false, ""}, "service_unavailable": {false, ""}, "ratelimited": {false, ""}, "request_timeout": {false, ""},
	} {
		w := newWorkspace(t)
		w.Refuse["chat.postMessage"] = code
		_, err := w.open(nil).Notify(t.Context(), notifiertest.Notice(notifier.TopicPage))
		if err == nil || errors.Is(err, notifier.ErrPermanent) != want.permanent || !strings.Contains(err.Error(), code) || !strings.Contains(err.Error(), want.remedy) {
			t.Errorf("Notify refused with %s: got %v, want permanent = %t and %q in it", code, err, want.permanent, want.remedy)
		}
	}
}

// TestLostAnswer tells of Slack posting a message and the network losing the
// answer: the next try finds the message by its metadata and updates it.
func TestLostAnswer(t *testing.T) {
	for _, topic := range notifiertest.Topics() {
		w := newWorkspace(t)
		c := w.open(nil)
		status := notify(t, c, notifiertest.Notice(notifier.TopicStatus))
		n := notifiertest.Notice(topic)
		n.Key, n.ThreadRef = n.Key+"/2", status
		w.Set(func() { w.Lose["chat.postMessage"] = true })
		if _, err := c.Notify(t.Context(), n); err == nil || errors.Is(err, notifier.ErrPermanent) {
			t.Fatalf("Notify(%s) with its answer lost: got %v, want an error that may pass", topic, err)
		}
		// Another replica tries again: what the first remembered is gone.
		n.Summary = "told again"
		ref := notify(t, w.open(nil), n)
		ms := w.Of(n.Key)
		if len(ms) != 1 || ms[0].Text != "told again" || ref != ms[0].Channel+":"+ms[0].TS {
			t.Errorf("messages of %s after a lost answer: got %d, reference %s, want one with the newest text", topic, len(ms), ref)
		}
	}
}

// TestHistoryNotAllowed: where the workspace does not let Belay look, messages are
// posted all the same, and Slack is not asked again and again.
func TestHistoryNotAllowed(t *testing.T) {
	w := newWorkspace(t)
	w.Refuse["conversations.list"] = "missing_scope"
	c := w.open(nil)
	for i := range 5 {
		n := notifiertest.Notice(notifier.TopicThread)
		n.Key = fmt.Sprint(n.Key, i)
		notify(t, c, n)
	}
	if len(w.Messages) != 5 || w.Calls["conversations.list"] != 1 {
		t.Errorf("without the scope: got %d messages and %d tries to look, want 5 and 1", len(w.Messages), w.Calls["conversations.list"])
	}
}

// TestPageIsNotHeldUp: while Slack cannot look, a page goes out without looking;
// anything else waits.
func TestPageIsNotHeldUp(t *testing.T) {
	w := newWorkspace(t)
	w.Refuse["conversations.history"] = "internal_error"
	c := w.open(nil)
	notify(t, c, notifiertest.Notice(notifier.TopicPage))
	if _, err := c.Notify(t.Context(), notifiertest.Notice(notifier.TopicAsk)); err == nil || errors.Is(err, notifier.ErrPermanent) {
		t.Errorf("Notify(ask) while Slack cannot look: got %v, want an error that may pass", err)
	}
}

// TestPageAgain tells of a page that is resolved and opens again: people hear of the
// second only by a message of its own, once, whatever gets lost on the way.
func TestPageAgain(t *testing.T) {
	w := newWorkspace(t)
	c := w.open(nil)
	n := notifiertest.Notice(notifier.TopicPage)
	for i, step := range []struct {
		resolve  bool
		lost     string
		messages int
		over     bool
	}{
		{false, "", 1, false}, {false, "", 1, false}, {true, "", 1, true}, {true, "", 1, true},
		{false, "chat.postMessage", 2, false}, {false, "", 2, false}, {true, "chat.update", 2, true}, {false, "", 3, false},
	} {
		n.Resolve = step.resolve
		if step.lost != "" {
			w.Set(func() { w.Lose[step.lost] = true })
			if _, err := c.Notify(t.Context(), n); err == nil {
				t.Fatalf("step %d: got no error, want the answer lost", i)
			}
		}
		n.Ref = notify(t, c, n)
		if got := len(w.Of(n.Key)); got != step.messages || strings.HasSuffix(n.Ref, "/over") != step.over {
			t.Errorf("step %d: got %d messages and reference %s, want %d, over = %t", i, got, n.Ref, step.messages, step.over)
		}
	}
	for i, m := range w.Of(n.Key) {
		if got, want := strings.Contains(string(m.Blocks), "*Over:*"), i < 2; got != want {
			t.Errorf("message %d: got over = %t, want %t", i, got, want)
		}
	}
}

// TestDeleted: a message that somebody deleted is posted again.
func TestDeleted(t *testing.T) {
	w := newWorkspace(t)
	c := w.open(nil)
	n := notifiertest.Notice(notifier.TopicStatus)
	n.Ref = notify(t, c, n)
	w.Set(func() { w.Messages = nil })
	ref := notify(t, c, n)
	if ms := w.Of(n.Key); len(ms) != 1 || ref == n.Ref {
		t.Errorf("after a deletion: got %d messages and reference %s, want one with another reference than %s", len(ms), ref, n.Ref)
	}
}

// TestPlaces: where each message goes.
func TestPlaces(t *testing.T) {
	w := newWorkspace(t)
	c := w.open(func(c *Config) {
		c.Channel, c.Channels = "C0DEFAULT", map[string]string{"team-recommendations": "C0OWNER"}
	})
	status := notifiertest.Notice(notifier.TopicStatus)
	status.Ref = notify(t, c, status)
	entry := notifiertest.Notice(notifier.TopicThread)
	entry.ThreadRef = status.Ref
	notify(t, c, entry)
	ask := notifiertest.Notice(notifier.TopicAsk)
	notify(t, c, ask)
	other := notifiertest.Notice(notifier.TopicPage)
	other.Rollout.Owner = "team-other"
	notify(t, c, other)
	var got []string
	for _, m := range w.Messages {
		got = append(got, fmt.Sprintf("%s in %s, thread %q", m.Metadata.EventPayload["key"], m.Channel, m.Thread))
	}
	_, ts, _ := parseRef(status.Ref)
	want := []string{
		`status/r-7f3a in C0OWNER, thread ""`, fmt.Sprintf(`thread/r-7f3a in C0OWNER, thread %q`, ts),
		`ask/r-7f3a in ` + channelID + `, thread ""`, `page/r-7f3a in C0DEFAULT, thread ""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("channels (-want +got):\n%s", diff)
	}
	none := w.open(func(c *Config) { c.Channel = "" })
	if _, err := none.Notify(t.Context(), status2()); !errors.Is(err, notifier.ErrPermanent) || !strings.Contains(err.Error(), "set channel") {
		t.Errorf("Notify without a channel: got %v, want a permanent error with the remedy", err)
	}
}

func status2() notifier.Notice {
	n := notifiertest.Notice(notifier.TopicStatus)
	n.Key += "/2"
	return n
}

// TestChartUpload: a request and a page have a picture in their thread, once;
// updates have none.
func TestChartUpload(t *testing.T) {
	w := newWorkspace(t)
	c := w.open(nil)
	for _, topic := range notifiertest.Topics() {
		n := plotted(topic)
		n.Ref = notify(t, c, n)
		notify(t, c, n)
		_, ts, _ := parseRef(n.Ref)
		want := topic == notifier.TopicAsk || topic == notifier.TopicPage
		if got := len(w.Files) == 1; got != want {
			t.Errorf("files after %s: got %d, want one = %t", topic, len(w.Files), want)
		}
		if want && (w.Files[0].Channel != channelID || w.Files[0].Thread != ts || !bytes.Contains(w.Files[0].Data, []byte("\x89PNG"))) {
			t.Errorf("file of %s: got %s in %s, thread %s, want a PNG in the message's thread", topic, w.Files[0].Name, w.Files[0].Channel, w.Files[0].Thread)
		}
		w.Files = nil
	}
	off := w.open(func(c *Config) { c.NoCharts = true })
	n := plotted(notifier.TopicAsk)
	n.Key += "/2"
	notify(t, off, n)
	if len(w.Files) != 0 {
		t.Errorf("files with charts off: got %d, want none", len(w.Files))
	}
}

// TestChartRefused: a workspace that allows no files is not asked again, and a
// message is delivered without its picture.
func TestChartRefused(t *testing.T) {
	w := newWorkspace(t)
	w.Refuse["files.getUploadURLExternal"] = "missing_scope"
	c := w.open(nil)
	for i := range 3 {
		n := plotted(notifier.TopicAsk)
		n.Key = fmt.Sprint(n.Key, i)
		notify(t, c, n)
	}
	if len(w.Messages) != 3 || w.Calls["files.getUploadURLExternal"] != 1 {
		t.Errorf("without files: got %d messages and %d tries, want 3 and 1", len(w.Messages), w.Calls["files.getUploadURLExternal"])
	}
}

// TestOutage tells of a rollout during which Slack is away for ten minutes, and of
// what an outbox then does, which tries each message until it is delivered, in
// order: nothing is lost and nothing is there twice.
func TestOutage(t *testing.T) {
	w := newWorkspace(t)
	c := w.open(nil)
	refs := map[string]string{}
	tries, failures := 0, 0
	tell := func(topic notifier.Topic, key, summary string) {
		n := notifiertest.Notice(topic)
		n.Key, n.Delivery, n.Summary = key, fmt.Sprintf("%s/%d", key, tries), summary
		n.ThreadRef = refs["status"]
		for try := 0; ; try++ {
			n.Ref = refs[key]
			// The outage begins in the middle of a call that took effect, and ends by
			// itself; in between, connections fail in every way.
			if summary == "quarter begins" {
				switch try {
				case 0:
					w.Set(func() { w.Lose["chat.postMessage"], w.Lose["chat.update"] = true, true })
				case 1:
					w.Set(func() { w.Down = errors.New("connection refused") })
				case 8:
					w.Set(func() {
						w.Down = nil
						w.Refuse["chat.postMessage"], w.Refuse["chat.update"] = "service_unavailable", "service_unavailable"
					})
				case 10:
					w.Set(func() { clear(w.Refuse) })
				}
			}
			tries++
			ref, err := c.Notify(t.Context(), n)
			if err == nil {
				refs[key] = ref
				return
			}
			if failures++; errors.Is(err, notifier.ErrPermanent) || failures > 100 {
				t.Fatalf("Notify(%s): got %v, want an error that passes", summary, err)
			}
		}
	}
	tell(notifier.TopicStatus, "status", "canary begins")
	tell(notifier.TopicThread, "entry/1", "canary begins")
	tell(notifier.TopicStatus, "status", "quarter begins")
	tell(notifier.TopicThread, "entry/2", "quarter begins")
	tell(notifier.TopicAsk, "ask", "majority?")
	tell(notifier.TopicStatus, "status", "majority begins")
	tell(notifier.TopicThread, "entry/3", "majority begins")
	var got []string
	for _, m := range w.Messages {
		got = append(got, fmt.Sprintf("%s: %s", m.Metadata.EventPayload["key"], m.Text))
	}
	want := []string{"status: majority begins", "entry/1: canary begins", "entry/2: quarter begins", "ask: majority?", "entry/3: majority begins"}
	if diff := cmp.Diff(want, got); diff != "" || failures == 0 {
		t.Errorf("messages after %d failures (-want +got):\n%s", failures, diff)
	}
	t.Logf("7 deliveries, %d tries, %d failures, %d messages", tries, failures, len(w.Messages))
}

func TestNew(t *testing.T) {
	_, err := New(Config{BotToken: appToken, AppToken: botToken, URL: "slack", PageMention: "@channel", Templates: map[string]string{"aks": "x"}})
	for _, want := range []string{`bot token: want one that begins with "xoxb-"`, `app token: want one that begins with "xapp-"`, "url: want", "page mention: want", "client: want", "log: want", "template aks"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: got %v, want %q in it", err, want)
		}
	}
	notifiertest.NoSecret(t, err, botToken, appToken)
	w := newWorkspace(t)
	if c := w.open(func(c *Config) { c.URL, c.Client = "", http.DefaultClient }); c.config.URL != DefaultURL {
		t.Errorf("New: got address %s, want %s", c.config.URL, DefaultURL)
	}
}
