package slacktest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/slack-go/slack"
)

// A method answers a call with an error's code, or "" and what it put into out.
type method = func(form url.Values, body []byte, out map[string]any) string

func (w *Workspace) methods() map[string]method {
	return map[string]method{
		"auth.test": func(_ url.Values, _ []byte, out map[string]any) string {
			out["team_id"], out["user_id"], out["bot_id"] = Team, "U0BELAY", "B0BELAY"
			return ""
		},
		"chat.postMessage":   w.post,
		"chat.update":        w.update,
		"chat.postEphemeral": w.postEphemeral,
		"respond": func(_ url.Values, body []byte, _ map[string]any) string {
			var m struct{ Text string }
			_ = json.Unmarshal(body, &m)
			w.Whispers = append(w.Whispers, "response: "+m.Text)
			return ""
		},
		"conversations.list": func(_ url.Values, _ []byte, out map[string]any) string {
			out["channels"] = []map[string]any{{"id": ChannelID, "name": strings.TrimPrefix(ChannelName, "#")}}
			return ""
		},
		"conversations.history": w.history,
		"conversations.replies": w.history,
		"views.open": func(_ url.Values, body []byte, out map[string]any) string {
			var v struct {
				TriggerID string                 `json:"trigger_id"`
				View      slack.ModalViewRequest `json:"view"`
			}
			if json.Unmarshal(body, &v) != nil || v.TriggerID == "" {
				return "invalid_arguments"
			}
			w.Views = append(w.Views, v.View)
			out["view"] = map[string]any{"id": "V1"}
			return ""
		},
		"users.info": func(form url.Values, _ []byte, out map[string]any) string {
			u, ok := w.Users[form.Get("user")]
			if !ok {
				return "user_not_found"
			}
			out["user"] = u
			return ""
		},
		"usergroups.list": func(_ url.Values, _ []byte, out map[string]any) string {
			out["usergroups"] = w.Groups
			return ""
		},
		"usergroups.users.list": func(form url.Values, _ []byte, out map[string]any) string {
			m, ok := w.Members[form.Get("usergroup")]
			if !ok {
				return "no_such_subteam"
			}
			out["users"] = m
			return ""
		},
		"files.getUploadURLExternal": func(form url.Values, _ []byte, out map[string]any) string {
			w.Files = append(w.Files, File{Name: form.Get("filename")})
			out["upload_url"], out["file_id"] = w.Base+"upload", "F1"
			return ""
		},
		"upload": func(_ url.Values, body []byte, _ map[string]any) string {
			w.Files[len(w.Files)-1].Data = body
			return ""
		},
		"files.completeUploadExternal": func(form url.Values, _ []byte, out map[string]any) string {
			f := &w.Files[len(w.Files)-1]
			f.Channel, f.Thread = form.Get("channel_id"), form.Get("thread_ts")
			out["files"] = []map[string]string{{"id": "F1"}}
			return ""
		},
	}
}

func (w *Workspace) post(form url.Values, _ []byte, out map[string]any) string {
	channel := form.Get("channel")
	if channel == ChannelName {
		channel = ChannelID
	}
	if !channelForm.MatchString(channel) {
		return "channel_not_found"
	}
	w.clock++
	if form.Has("thread_ts") && !strings.Contains(form.Get("thread_ts"), ".") {
		return "invalid_thread_ts"
	}
	m := &Message{Channel: channel, TS: fmt.Sprintf("1795521600.%06d", w.clock), Thread: form.Get("thread_ts")}
	if code := w.fill(m, form); code != "" {
		return code
	}
	w.Messages = append(w.Messages, m)
	out["channel"], out["ts"] = channel, m.TS
	return ""
}

func (w *Workspace) update(form url.Values, _ []byte, out map[string]any) string {
	i := slices.IndexFunc(w.Messages, func(m *Message) bool {
		return m.Channel == form.Get("channel") &&
			m.TS == form.Get("ts")
	})
	if i < 0 {
		return "message_not_found"
	}
	m := w.Messages[i]
	m.Edits++
	out["channel"], out["ts"] = m.Channel, m.TS
	return w.fill(m, form)
}

// fill checks a message's content as Slack does and keeps it.
func (w *Workspace) fill(m *Message, form url.Values) string {
	m.Text, m.Blocks = form.Get("text"), json.RawMessage(form.Get("blocks"))
	if problem := CheckBlocks(m.Blocks); problem != "" {
		w.t.Errorf("blocks: got %s, want what Slack takes", problem)
		return "invalid_blocks"
	}
	if form.Get("text") == "" || form.Get("link_names") == "1" ||
		(form.Get("parse") != "" && form.Get("parse") != "none") {
		w.t.Errorf("message: got text %q, link_names %q, parse %q, want text that is not parsed", form.Get("text"),
			form.Get("link_names"), form.Get("parse"))
	}
	if err := json.Unmarshal([]byte(form.Get("metadata")), &m.Metadata); err != nil {
		return "invalid_metadata_format"
	}
	return ""
}

func (w *Workspace) postEphemeral(form url.Values, _ []byte, _ map[string]any) string {
	w.Whispers = append(w.Whispers, form.Get("user")+": "+form.Get("text"))
	return ""
}

// history gives the messages of a channel, or of a thread, with their metadata.
func (w *Workspace) history(form url.Values, _ []byte, out map[string]any) string {
	found := []map[string]any{}
	for _, m := range slices.Backward(w.Messages) {
		if m.Channel == form.Get("channel") && (form.Get("ts") == m.Thread || form.Get("ts") == m.TS) &&
			form.Get("include_all_metadata") == "1" {
			found = append(found, map[string]any{"ts": m.TS, "text": m.Text, "metadata": m.Metadata})
		}
	}
	out["messages"] = found
	return ""
}
