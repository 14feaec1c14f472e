package slack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/slack-go/slack"
)

const (
	botToken      = "xoxb-cAnAry-bot"
	appToken      = "xapp-cAnAry-app"
	signingSecret = "cAnAry-signing-secret"
	team          = "T0TEAM"
	channelName   = "#recs-release"
	channelID     = "C0RECSREL"
)

// A workspace is Slack as this package sees it: the methods of the Web API that it
// calls, with the checks of the real ones that matter, and everything that people
// would see.
type workspace struct {
	t *testing.T

	mu       sync.Mutex
	messages []*posted
	whispers []string // "<user>: <text>"
	views    []slack.ModalViewRequest
	files    []file
	users    map[string]map[string]any
	groups   []map[string]any
	members  map[string][]string
	refuse   map[string]string // method → error code
	lose     map[string]bool   // method → the answer is lost once it took effect
	calls    map[string]int
	down     error
	silent   chan struct{}
	arrived  chan struct{}
	clock    int
	base     string
}

// A posted message as people see it.
type posted struct {
	channel, ts, thread, text string
	blocks                    json.RawMessage
	metadata                  slack.SlackMetadata
	edits                     int
}

type file struct {
	channel, thread, name string
	data                  []byte
}

func newWorkspace(t *testing.T) *workspace {
	w := &workspace{
		t: t, users: map[string]map[string]any{}, members: map[string][]string{}, refuse: map[string]string{}, lose: map[string]bool{},
		calls: map[string]int{}, arrived: make(chan struct{}, 64), base: "http://slack.example/api/",
	}
	for _, id := range []string{"U0APPROVER", "U0MEMBER", "U0OTHER"} {
		w.user(id, nil)
	}
	w.groups = []map[string]any{
		{"id": "S0PRODUCT", "handle": "product-owners", "users": []string{"U0MEMBER"}, "user_count": 1},
		{"id": "S0OTHERS", "handle": "others", "users": []string{"U0OTHER"}, "user_count": 1},
	}
	return w
}

// user adds a full member, changed by more.
func (w *workspace) user(id string, more map[string]any) {
	u := map[string]any{"id": id, "team_id": team, "name": strings.ToLower(id), "real_name": "Name of " + id}
	for k, v := range more {
		u[k] = v
	}
	w.users[id] = u
}

// open gives a client of the workspace over a wire without sockets.
func (w *workspace) open(change func(*Config)) *Client {
	w.t.Helper()
	config := Config{
		BotToken: botToken, SigningSecret: signingSecret, URL: w.base, Channel: channelName,
		Client: &http.Client{Transport: w}, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	}
	if change != nil {
		change(&config)
	}
	c, err := New(config)
	if err != nil {
		w.t.Fatalf("New: got %v, want no error", err)
	}
	return c
}

// RoundTrip is the wire, with the faults of a network.
func (w *workspace) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	down, silent := w.down, w.silent
	w.mu.Unlock()
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if silent != nil {
		w.arrived <- struct{}{}
		select {
		case <-silent:
		case <-req.Context().Done():
		}
		return nil, errors.Join(errors.New("connection reset"), req.Context().Err())
	}
	if down != nil {
		return nil, down
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, req)
	method := strings.TrimPrefix(req.URL.Path, "/api/")
	w.mu.Lock()
	lost := w.lose[method]
	delete(w.lose, method)
	w.mu.Unlock()
	if lost {
		return nil, io.ErrUnexpectedEOF
	}
	return rec.Result(), nil
}

func (w *workspace) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *workspace) heal() {
	w.set(func() {
		if w.silent != nil {
			close(w.silent)
		}
		w.silent, w.down = nil, nil
	})
}

// ServeHTTP answers one call of the Web API.
func (w *workspace) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	method := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	w.calls[method]++
	answer := map[string]any{}
	code := w.refuse[method]
	if code == "" {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		if r.Header.Get("Authorization") != "Bearer "+botToken && form.Get("token") != botToken && method != "apps.connections.open" && method != "respond" {
			code = "not_authed"
		} else if f, ok := w.methods()[method]; ok {
			code = f(form, body, answer)
		} else {
			code = "unknown_method"
		}
	}
	answer["ok"] = code == ""
	if code != "" {
		answer["error"] = code
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(answer)
}

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

// of gives the messages that carry a notice's key.
func (w *workspace) of(key string) []*posted {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ms []*posted
	for _, m := range w.messages {
		if m.metadata.EventPayload["key"] == key {
			ms = append(ms, m)
		}
	}
	return ms
}

func (w *workspace) heard() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.whispers)
}
