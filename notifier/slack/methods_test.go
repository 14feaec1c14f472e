package slack

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

func (w *workspace) methods() map[string]method {
	return map[string]method{
		"auth.test": func(_ url.Values, _ []byte, out map[string]any) string {
			out["team_id"], out["user_id"], out["bot_id"] = team, "U0BELAY", "B0BELAY"
			return ""
		},
		"chat.postMessage":   w.post,
		"chat.update":        w.update,
		"chat.postEphemeral": w.whisper,
		"respond": func(_ url.Values, body []byte, _ map[string]any) string {
			var m struct{ Text string }
			_ = json.Unmarshal(body, &m)
			w.whispers = append(w.whispers, "response: "+m.Text)
			return ""
		},
		"conversations.list": func(_ url.Values, _ []byte, out map[string]any) string {
			out["channels"] = []map[string]any{{"id": channelID, "name": strings.TrimPrefix(channelName, "#")}}
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
			w.views = append(w.views, v.View)
			out["view"] = map[string]any{"id": "V1"}
			return ""
		},
		"users.info": func(form url.Values, _ []byte, out map[string]any) string {
			u, ok := w.users[form.Get("user")]
			if !ok {
				return "user_not_found"
			}
			out["user"] = u
			return ""
		},
		"usergroups.list": func(form url.Values, _ []byte, out map[string]any) string {
			out["usergroups"] = w.groups
			return ""
		},
		"usergroups.users.list": func(form url.Values, _ []byte, out map[string]any) string {
			m, ok := w.members[form.Get("usergroup")]
			if !ok {
				return "no_such_subteam"
			}
			out["users"] = m
			return ""
		},
		"files.getUploadURLExternal": func(form url.Values, _ []byte, out map[string]any) string {
			w.files = append(w.files, file{name: form.Get("filename")})
			out["upload_url"], out["file_id"] = w.base+"upload", "F1"
			return ""
		},
		"upload": func(_ url.Values, body []byte, _ map[string]any) string {
			w.files[len(w.files)-1].data = body
			return ""
		},
		"files.completeUploadExternal": func(form url.Values, _ []byte, out map[string]any) string {
			f := &w.files[len(w.files)-1]
			f.channel, f.thread = form.Get("channel_id"), form.Get("thread_ts")
			out["files"] = []map[string]string{{"id": "F1"}}
			return ""
		},
	}
}

func (w *workspace) post(form url.Values, _ []byte, out map[string]any) string {
	channel := form.Get("channel")
	if channel == channelName {
		channel = channelID
	}
	if !placeForm.MatchString(channel) {
		return "channel_not_found"
	}
	w.clock++
	if form.Has("thread_ts") && !strings.Contains(form.Get("thread_ts"), ".") {
		return "invalid_thread_ts"
	}
	m := &posted{channel: channel, ts: fmt.Sprintf("1795521600.%06d", w.clock), thread: form.Get("thread_ts")}
	if code := w.fill(m, form); code != "" {
		return code
	}
	w.messages = append(w.messages, m)
	out["channel"], out["ts"] = channel, m.ts
	return ""
}

func (w *workspace) update(form url.Values, _ []byte, out map[string]any) string {
	i := slices.IndexFunc(w.messages, func(m *posted) bool { return m.channel == form.Get("channel") && m.ts == form.Get("ts") })
	if i < 0 {
		return "message_not_found"
	}
	m := w.messages[i]
	m.edits++
	out["channel"], out["ts"] = m.channel, m.ts
	return w.fill(m, form)
}

// fill checks a message's content as Slack does and keeps it.
func (w *workspace) fill(m *posted, form url.Values) string {
	m.text, m.blocks = form.Get("text"), json.RawMessage(form.Get("blocks"))
	if problem := checkBlocks(m.blocks); problem != "" {
		w.t.Errorf("blocks: got %s, want what Slack takes", problem)
		return "invalid_blocks"
	}
	if form.Get("text") == "" || form.Get("link_names") == "1" || (form.Get("parse") != "" && form.Get("parse") != "none") {
		w.t.Errorf("message: got text %q, link_names %q, parse %q, want text that is not parsed", form.Get("text"), form.Get("link_names"), form.Get("parse"))
	}
	if err := json.Unmarshal([]byte(form.Get("metadata")), &m.metadata); err != nil {
		return "invalid_metadata_format"
	}
	return ""
}

func (w *workspace) whisper(form url.Values, _ []byte, _ map[string]any) string {
	w.whispers = append(w.whispers, form.Get("user")+": "+form.Get("text"))
	return ""
}

// history gives the messages of a channel, or of a thread, with their metadata.
func (w *workspace) history(form url.Values, _ []byte, out map[string]any) string {
	found := []map[string]any{}
	for _, m := range slices.Backward(w.messages) {
		if m.channel == form.Get("channel") && (form.Get("ts") == m.thread || form.Get("ts") == m.ts) && form.Get("include_all_metadata") == "1" {
			found = append(found, map[string]any{"ts": m.ts, "text": m.text, "metadata": m.metadata})
		}
	}
	out["messages"] = found
	return ""
}
