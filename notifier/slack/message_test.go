package slack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/notifier/slack/slacktest"
	"github.com/belayd/belay/rollout/view"
)

// TestEvidence: many guardrails with long sentences are shown in as many sections
// as they need, each within its limit, the rest counted.
func TestEvidence(t *testing.T) {
	var gs []notifier.Guardrail
	verdicts := []analysis.Outcome{"pass", "breach", "undecided", "no-data", "error", "resting"}
	for i := range 27 {
		gs = append(gs, notifier.Guardrail{Guardrail: view.Guardrail{
			Name: fmt.Sprintf("g%02d", i), Verdict: verdicts[i%6], Limit: "<= 1%", Sentence: strings.Repeat("<long> ", 200),
		}})
	}
	blocks := evidence("The evidence", notifier.Rollout{Guardrails: gs})
	data, err := json.Marshal(blocks)
	if err != nil {
		t.Fatal(err)
	}
	if problem := slacktest.CheckBlocks(data); problem != "" || len(blocks) < 5 {
		t.Errorf("evidence: got %d blocks, %s, want several that Slack takes", len(blocks), problem)
	}
	text := string(data)
	for i := range 27 {
		if got, want := strings.Contains(text, fmt.Sprintf("*g%02d*", i)), i < maxGuardrails; got != want {
			t.Errorf("guardrail %d: got shown = %t, want %t", i, got, want)
		}
	}
	for _, want := range []string{"… and 7 more.", ":white_check_mark:", ":x:", ":hourglass_flowing_sand:", ":grey_question:", ":warning:", ":zzz:"} {
		if !strings.Contains(text, want) {
			t.Errorf("evidence: got none of %q, want it", want)
		}
	}
}

// TestPageMention: who is called by a page.
func TestPageMention(t *testing.T) {
	for mention, want := range map[string]string{"": ":rotating_light:", "here": "<!here> :rotating_light:", "U0ONCALL": "<@U0ONCALL> :", "S0ONCALL": "<!subteam^S0ONCALL> :"} {
		w := newWorkspace(t)
		n := notifiertest.Notice(notifier.TopicPage)
		notify(t, w.open(func(c *Config) { c.PageMention = mention }), n)
		if got := string(pretty(t, w.Messages[0].Blocks)); !strings.Contains(got, `"text": "`+want) {
			t.Errorf("page with mention %q: got %s, want it to begin with %q", mention, got, want)
		}
	}
}

// TestUnsayable: what cannot be a message in Slack is refused for good.
func TestUnsayable(t *testing.T) {
	for name, change := range map[string]func(*notifier.Notice){
		"a request without a question": func(n *notifier.Notice) { n.Question = nil },
		"an unknown state":             func(n *notifier.Notice) { n.Question.State = "maybe" },
		"the state of a template":      func(n *notifier.Notice) { n.Question.State = "page" },
		"a topic of tomorrow":          func(n *notifier.Notice) { n.Topic = "poem" },
		"a nonce without end":          func(n *notifier.Notice) { n.Question.Nonce = strings.Repeat("n", 2000) },
	} {
		w := newWorkspace(t)
		n := asked("open")
		change(&n)
		if _, err := w.open(nil).Notify(t.Context(), n); !errors.Is(err, notifier.ErrPermanent) || len(w.Messages) != 0 {
			t.Errorf("Notify(%s): got %v and %d messages, want a permanent error and none", name, err, len(w.Messages))
		}
	}
}

// TestQuorum: a request that needs more than one yes says so, and nobody is said to
// be nobody.
func TestQuorum(t *testing.T) {
	q := notifiertest.Question()
	q.Quorum, q.Users, q.Groups = 3, nil, nil
	if got := who(q); !strings.Contains(got, "3 people's yes") || !strings.Contains(got, "nobody") {
		t.Errorf("who: got %q, want three people and that nobody may", got)
	}
}

// TestLibraryLog: what the library logs goes to debug, without tokens.
func TestLibraryLog(t *testing.T) {
	var out bytes.Buffer
	w := newWorkspace(t)
	c := w.open(func(c *Config) {
		c.AppToken = appToken
		c.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	log.New(logWriter{c}, "", 0).Printf("dialing with %s and %s", botToken, appToken)
	if got := out.String(); !strings.Contains(got, "level=DEBUG") || !strings.Contains(got, "[redacted]") || strings.Contains(got, "cAnAry") {
		t.Errorf("log: got %q, want a debug line without tokens", got)
	}
}
