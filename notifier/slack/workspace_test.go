package slack

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
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
	maps.Copy(u, more)
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
