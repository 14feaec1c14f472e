package slack

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/slack-go/slack"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/slack/slacktest"
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
		return notifier.Reply{Text: "Not accepted: " + a.Who + " is not among those whom approval product-owner asks: U0APPROVER, S0OWNERS."}, nil
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
	return slacktest.Click{
		User: user, Action: action, Value: fmt.Sprintf(`{"r":"r-7f3a","g":"product-owner","n":%q}`, nonce),
		Message: "1795521600.000001", At: ts, Respond: "http://slack.example/api/respond",
	}.JSON()
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
