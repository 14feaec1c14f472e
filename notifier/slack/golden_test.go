package slack

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/realtest/goldentest"
)

// golden compares got with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	goldentest.Check(t, filepath.Join("testdata", name), string(got))
}

// pretty is JSON for people: indented, with < and > as they are.
func pretty(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	// What is raw JSON already keeps its escapes; here they are for nobody.
	return []byte(strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(b.String()))
}

// asked is an approval request in a state, with what people said.
func asked(state approval.QuestionState, answers ...notifier.ShownVote) notifier.Notice {
	n := notifiertest.Notice(notifier.TopicAsk)
	n.Question.State, n.Question.Answers = state, answers
	return n
}

// TestGoldenMessages holds the Block Kit of every message against testdata.
func TestGoldenMessages(t *testing.T) {
	yes := notifier.ShownVote{Who: "slack:T1/U024BE7LH", When: notifiertest.Noon.Add(9 * time.Minute), Approve: true, Reason: "numbers look good"}
	no := notifier.ShownVote{Who: "Robin", When: notifiertest.Noon.Add(12 * time.Minute), Reason: "wrong week <!channel>"}
	two := asked("open", yes)
	two.Question.Quorum, two.Question.Groups = 2, []string{"S0PRODUCT"}
	mirror := asked("open")
	mirror.Question.Step, mirror.Question.FromWeight, mirror.Question.ToWeight, mirror.Question.ToMirror, mirror.Question.RequestsPerHour = "shadow", 0, 0, 10, 0
	void := asked("void")
	void.Rollout.Sentence = "watch-through broke its limit while people were asked."
	over := notifiertest.Notice(notifier.TopicStatus)
	over.Rollout.Phase, over.Rollout.WaitingFor, over.Rollout.Weights = "rolled-back", "", map[string]int{"blue": 100}
	over.Rollout.Sentence = "failures broke its limit; blue has 100% again, confirmed."
	unready := notifiertest.Notice(notifier.TopicStatus)
	unready.Rollout.Phase, unready.Rollout.Sentence, unready.Rollout.Guardrails = "refused", "Check capacity: found 1 instance, expected 3.", nil
	unready.Rollout.Checks = []notifier.Check{{Name: "ready", OK: true}, {Name: "tags", OK: true},
		{Name: "capacity", Found: "1 instance <!channel>", Expected: "3", Remedy: "Scale green out."}}
	resolved := notifiertest.Notice(notifier.TopicPage)
	resolved.Resolve, resolved.Summary = true, "recs: blue has 100% again, confirmed"
	warned := notifiertest.Notice(notifier.TopicThread)
	warned.Severity, warned.Summary = notifier.SeverityWarning, "held: no data for p95 & failures since 11:58"
	for name, n := range map[string]notifier.Notice{
		"status": notifiertest.Notice(notifier.TopicStatus), "status-over": over, "status-refused": unready,
		"thread": notifiertest.Notice(notifier.TopicThread), "thread-warning": warned,
		"ask-mirror": mirror,
		"page":       notifiertest.Notice(notifier.TopicPage), "page-resolved": resolved, "page-acknowledged": notifiertest.Acknowledged(),
		"test": notifiertest.Notice(notifier.TopicTest),
		"ask":  asked("open"), "ask-one-of-two": two,
		"ask-approved": asked("approved", yes), "ask-rejected": asked("rejected", no),
		"ask-expired": asked("expired"), "ask-void": void,
	} {
		w := newWorkspace(t)
		notify(t, w.open(func(c *Config) { c.PageMention = "S0ONCALL" }), n)
		m := w.Messages[0]
		golden(t, name+".json", pretty(t, map[string]any{"text": m.Text, "blocks": m.Blocks, "metadata": m.Metadata}))
	}
}

// TestGoldenDialogs holds the dialogs against testdata.
func TestGoldenDialogs(t *testing.T) {
	for _, command := range []string{"reject", "hold"} {
		view, err := dialogView(dialog{value: value{"r-7f3a", "product-owner", "n0nce-5be1"}, Command: command, Channel: channelID})
		if err != nil {
			t.Fatalf("dialogView(%s): got %v, want no error", command, err)
		}
		golden(t, "dialog-"+command+".json", pretty(t, view))
	}
}

// TestTemplates: a team's words for a message; evidence, rules and buttons follow,
// and values are as clean as in the default's words.
func TestTemplates(t *testing.T) {
	w := newWorkspace(t)
	c := w.open(func(c *Config) {
		c.Templates = map[string]string{
			"ask":    `:eyes: {{link .Rollout.URL "look"}} {{link .Rollout.Runbook "no link"}} {{.Summary}} until {{date .Question.Expires}}`,
			"status": `{{code .Summary}} {{icon .Severity}}{{mention "slack:T1/U024BE7LH"}}`,
		}
	})
	n := asked("open")
	n.Summary, n.Rollout.Runbook = "<!channel> & co", "javascript:alert(1)"
	notify(t, c, n)
	status := notifiertest.Notice(notifier.TopicStatus)
	status.Summary, status.Severity = "`<@U1>`", notifier.SeverityCritical
	notify(t, c, status)
	for i, want := range []string{
		`:eyes: <https://belay.example/v1/rollouts/r-7f3a|look> no link &lt;!channel&gt; &amp; co until <!date^1795536000^{date_short_pretty} {time}|2026-11-24 16:00 UTC>`,
		"`'&lt;@U1&gt;'` :red_circle: <@U024BE7LH>",
	} {
		if got := string(pretty(t, w.Messages[i].Blocks)); !strings.Contains(got, string(bytes.Trim(pretty(t, want), "\"\n"))) {
			t.Errorf("message %d: got %s, want %s in it", i, got, want)
		}
	}
	if got := string(w.Messages[0].Blocks); !strings.Contains(got, actionApprove) || !strings.Contains(got, "The evidence") {
		t.Errorf("request in a team's words: got %s, want the evidence and the buttons", got)
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		in   string
		n    int
		want string
	}{
		{"short", 10, "short"}, {"exactly ten", 11, "exactly ten"}, {"a bit longer", 6, "a bit…"},
		{"one &amp; two", 7, "one …"}, {"see <https://x.example|the page> there", 20, "see …"}, {"äöüß", 3, "äö…"},
	} {
		if got := cut(test.in, test.n); got != test.want {
			t.Errorf("cut(%q, %d): got %q, want %q", test.in, test.n, got, test.want)
		}
	}
}
