package slacktest

import "encoding/json"

// A Click is somebody's click on a button.
type Click struct {
	User, Action, Value string
	// Message is the timestamp of the message that has the button, At that of the
	// click.
	Message, At string
	// Respond is the address for an answer.
	Respond string
}

// JSON is what Slack sends for the click.
func (c Click) JSON() string {
	return marshal(map[string]any{
		"type": "block_actions", "team": map[string]string{"id": Team},
		"user":       map[string]string{"id": c.User, "name": "display name"},
		"trigger_id": "trigger-" + c.At, "response_url": c.Respond,
		"channel":   map[string]string{"id": ChannelID, "name": ChannelName[1:]},
		"container": map[string]string{"type": "message", "message_ts": c.Message, "channel_id": ChannelID},
		"actions": []map[string]string{{"type": "button", "action_id": c.Action, "block_id": "belay_buttons",
			"value": c.Value, "action_ts": c.At}},
	})
}

// Button is the click of a user on the button of a message whose action has the
// given id; ok is false where the message has no such button.
func (m *Message) Button(user, action, at string) (c Click, ok bool) {
	var blocks []struct {
		Elements []struct {
			ActionID string `json:"action_id"`
			Value    string `json:"value"`
		} `json:"elements"`
	}
	if json.Unmarshal(m.Blocks, &blocks) != nil {
		return Click{}, false
	}
	for _, b := range blocks {
		for _, e := range b.Elements {
			if e.ActionID == action {
				return Click{User: user, Action: action, Value: e.Value, Message: m.TS, At: at}, true
			}
		}
	}
	return Click{}, false
}

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // Unreachable: it is called with texts.
	}
	return string(b)
}
