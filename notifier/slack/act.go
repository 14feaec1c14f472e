package slack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/slack-go/slack"

	"github.com/belayd/belay/notifier"
)

// The dialog for a reason: its callback, and the block and action of its field.
const (
	callbackReason = "belay_reason"
	blockReason    = "belay_reason_block"
	inputReason    = "belay_reason_input"
	maxReason      = 500
)

// A dialog's private metadata says what it is about and where it was opened.
type dialog struct {
	value
	Command string `json:"c"`
	Channel string `json:"ch,omitempty"`
	Thread  string `json:"ts,omitempty"`
}

// interaction is the act behind a click or a dialog that was sent; nil where there
// is none of Belay's.
func (c *Client) interaction(ic slack.InteractionCallback) *act {
	if ic.Type == slack.InteractionTypeBlockActions {
		for _, a := range ic.ActionCallback.BlockActions {
			if a != nil && slices.Contains([]string{actionApprove, actionReject, actionHold, actionAck}, a.ActionID) {
				return &act{do: func(ctx context.Context) outcome { return c.click(ctx, ic, *a) }}
			}
		}
	}
	if ic.Type == slack.InteractionTypeViewSubmission && ic.View.CallbackID == callbackReason {
		return &act{
			do:   func(ctx context.Context) outcome { return c.submission(ctx, ic) },
			late: slack.NewClearViewSubmissionResponse(),
		}
	}
	return nil
}

// click decides an approval, acknowledges a page, and opens the dialog for what needs a reason. What
// came of it is posted for them alone, in time or not.
func (c *Client) click(ctx context.Context, ic slack.InteractionCallback, a slack.BlockAction) outcome {
	channel, ts := orElse(ic.Channel.ID, ic.Container.ChannelID), orElse(ic.Container.MessageTs, ic.Message.Timestamp)
	say := func(text string) outcome {
		tell := func(ctx context.Context) {
			c.postEphemeral(ctx, channel, ic.Container.ThreadTs, ic.User.ID, ic.ResponseURL, text)
		}
		return outcome{after: tell, late: tell}
	}
	v, err := parseValue(a.Value)
	if err != nil {
		return say("This button is not one that Belay can read; nothing was decided.")
	}
	command := strings.TrimPrefix(a.ActionID, "belay_")
	if command == "approve" || command == "ack" {
		return say(c.decide(ctx, ic.User.ID, notifier.Answer{
			ID:      actID("click", ic.User.ID, channel, ts, a.ActionID, orElse(a.ActionTs, ic.TriggerID)),
			Rollout: v.Rollout, Gate: v.Gate, Nonce: v.Nonce, Command: command,
		}).Text)
	}
	d := dialog{value: v, Command: command, Channel: channel, Thread: ic.Container.ThreadTs}
	err = c.open(ctx, ic.TriggerID, d)
	if code, _ := refusal(err); err == nil || code == "exchanged_trigger_id" {
		// The second try of the same click: the first has opened the dialog.
		return outcome{}
	}
	c.log.WarnContext(ctx, "dialog not opened", "rollout", v.Rollout, "outcome", c.classify(err).Error())
	instead := fmt.Sprintf("belay %s %s --reason '…'", d.verb(), v.Rollout)
	if c.config.Server != "" {
		instead += " --server " + c.config.Server
	}
	return say("The dialog could not be opened; nothing was decided. Try again, or use: " + instead)
}

// submission decides what a dialog was sent with. What is not accepted stands in
// the dialog, beside the reason.
func (c *Client) submission(ctx context.Context, ic slack.InteractionCallback) outcome {
	var d dialog
	if err := json.Unmarshal([]byte(ic.View.PrivateMetadata), &d); err != nil || d.Rollout == "" ||
		(d.Command != "reject" && d.Command != "hold") {
		return outcome{ack: inDialog("This dialog is not one that Belay can read; nothing was decided.")}
	}
	var reason string
	if ic.View.State != nil {
		reason = notifier.Line(ic.View.State.Values[blockReason][inputReason].Value, maxReason)
	}
	if reason == "" {
		return outcome{ack: inDialog("Please give a reason; it goes on record.")}
	}
	reply := c.decide(ctx, ic.User.ID, notifier.Answer{
		// A dialog that was refused may be sent again, and that is another act.
		ID:      actID("dialog", ic.User.ID, ic.View.ID, ic.View.Hash, ic.TriggerID, reason),
		Rollout: d.Rollout, Gate: d.Gate, Nonce: d.Nonce, Command: d.Command, Reason: reason,
	})
	tell := func(ctx context.Context) { c.postEphemeral(ctx, d.Channel, d.Thread, ic.User.ID, "", reply.Text) }
	if !reply.Accepted {
		return outcome{ack: inDialog(reply.Text), late: tell}
	}
	return outcome{ack: slack.NewClearViewSubmissionResponse(), after: tell, late: tell}
}

// inDialog shows an error beside the reason.
func inDialog(text string) any {
	return slack.NewErrorsViewSubmissionResponse(map[string]string{blockReason: notifier.Line(text, 600)})
}

// open shows the dialog that asks for a reason and says what cannot be undone.
func (c *Client) open(ctx context.Context, trigger string, d dialog) error {
	view, err := dialogView(d)
	if err != nil {
		return err
	}
	_, err = c.api.OpenViewContext(ctx, trigger, view)
	return err
}

func dialogView(d dialog) (slack.ModalViewRequest, error) {
	metadata, err := json.Marshal(d)
	if err != nil || len(metadata) > 3000 {
		return slack.ModalViewRequest{}, fmt.Errorf("%w: the dialog's metadata does not fit", notifier.ErrPermanent)
	}
	title, submit := "Hold", "Hold"
	text := fmt.Sprintf("Rollout %s stays where it is until somebody resumes it. Guardrails are watched on, and a "+
		"breach still rolls back.", code(clean(d.Rollout)))
	if d.Command == "reject" {
		title, submit = "Reject and roll back", "Reject and roll back"
		text = fmt.Sprintf(":warning: All traffic of rollout %s goes back to the stable deployment and the rollout "+
			"ends. *This cannot be undone;* a new release is needed to try again.", code(clean(d.Rollout)))
	}
	input := slack.NewPlainTextInputBlockElement(plain("Why? It goes on record.", 150),
		inputReason).WithMultiline(true).WithMinLength(1).WithMaxLength(maxReason)
	return slack.ModalViewRequest{
		Type: slack.VTModal, CallbackID: callbackReason, PrivateMetadata: string(metadata),
		Title: plain(title, 24), Submit: plain(submit, 24), Close: plain("Cancel", 24),
		Blocks: slack.Blocks{BlockSet: []slack.Block{section(text),
			slack.NewInputBlock(blockReason, plain("Reason", 150), nil, input)}},
	}, nil
}

// verb is the command line's word for what a dialog does.
func (d dialog) verb() string {
	if d.Command == "hold" {
		return "pause"
	}
	return d.Command
}

func parseValue(s string) (value, error) {
	var v value
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return v, fmt.Errorf("read button: %w", err)
	}
	if v.Rollout == "" || v.Nonce == "" || len(s) > 2000 {
		return v, fmt.Errorf("read button: the rollout or the nonce is missing")
	}
	return v, nil
}

// actID names an act: the same for every try of Slack to tell it, another for every
// other act.
func actID(kind string, parts ...string) string {
	sum := sha256.New()
	for _, p := range append([]string{kind}, parts...) {
		fmt.Fprintf(sum, "%d:%s", len(p), p)
	}
	return "slack-" + kind + "-" + hex.EncodeToString(sum.Sum(nil)[:16])
}
