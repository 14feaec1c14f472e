package slack

import (
	"context"
	"strings"

	"github.com/slack-go/slack"

	"github.com/belayd/belay/notifier"
)

// usage is what /belay says when it is not told what to do.
const usage = "`/belay list` — rollouts that are open\n" +
	"`/belay status ID` — where one stands\n" +
	"`/belay ack ID [reason]` — take charge of its page\n" +
	"`/belay pause ID [reason]` — nothing moves until it is resumed\n" +
	"`/belay resume ID [reason]`\n" +
	"`/belay rollback ID [reason]` — all traffic back to the stable deployment; this cannot be undone"

// command is the act behind /belay; it is told what came of it in the answer.
func (c *Client) command(sc slack.SlashCommand) *act {
	a, ok := parseCommand(sc.Text)
	if !ok {
		return &act{do: func(context.Context) outcome { return outcome{ack: private(usage)} }}
	}
	a.ID = actID("command", sc.TeamID, sc.UserID, sc.ChannelID, sc.TriggerID, sc.Text)
	return &act{
		do: func(ctx context.Context) outcome {
			text := escaper.Replace(notifier.Lines(c.decide(ctx, sc.UserID, a).Text, maxSection))
			return outcome{ack: private(text), late: func(ctx context.Context) { c.respond(ctx, sc, text) }}
		},
		late: private("Heard. This takes a moment …"),
	}
}

// respond tells what came of a command that took longer than Slack waits; the text
// is escaped already.
func (c *Client) respond(ctx context.Context, sc slack.SlashCommand, text string) {
	if !c.trusted(sc.ResponseURL) {
		return
	}
	err := slack.PostWebhookCustomHTTPContext(ctx, sc.ResponseURL, c.config.Client,
		&slack.WebhookMessage{Text: text, ResponseType: slack.ResponseTypeEphemeral})
	if err != nil {
		c.log.WarnContext(ctx, "person not told", "outcome", notifier.Redact(c.classify(err), sc.ResponseURL).Error())
	}
}

// private is an answer that only the person who asked sees.
func private(text string) map[string]string {
	return map[string]string{"response_type": "ephemeral", "text": cut(text, maxSection)}
}

// parseCommand reads what follows /belay.
func parseCommand(text string) (notifier.Answer, bool) {
	verb, rest := word(text)
	a := notifier.Answer{Command: strings.ToLower(verb)}
	switch a.Command {
	case "list":
		return a, rest == ""
	case "status", "ack", "pause", "resume", "rollback":
		a.Rollout, rest = word(rest)
		a.Rollout = strings.Trim(a.Rollout, "`")
		if a.Command == "status" {
			return a, a.Rollout != "" && rest == ""
		}
		rest = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(rest, "--reason="), "--reason"))
		a.Reason = orElse(notifier.Line(strings.Trim(rest, `"'“”`), maxReason), "no reason given (by /belay)")
		return a, a.Rollout != ""
	}
	return a, false
}

// word cuts the first word off.
func word(s string) (first, rest string) {
	s = strings.TrimSpace(s)
	i := strings.IndexAny(s, " \t\n")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}
