// Package slacktest is Slack as Belay meets it: a workspace with the methods of the
// Web API that notifier/slack calls, Socket Mode, and people who click.
//
// The rules of the package:
//   - It refuses what the real methods refuse, as far as that matters here, and
//     holds every message against the documented limits of Block Kit.
//   - It keeps everything that people would see; a test reads that, and clicks on
//     the buttons that stand in it.
//   - It imports nothing of Belay, so that tests of the adapter and tests of the
//     whole daemon use the same workspace.
//
// No production code imports it.
package slacktest

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/slack-go/slack"
)

// What is known of every workspace: its tokens, its id and its one channel. The
// tokens are made so that they are found wherever they must not be.
const (
	BotToken      = "xoxb-cAnAry-bot"
	AppToken      = "xapp-cAnAry-app"
	SigningSecret = "cAnAry-signing-secret"
	Team          = "T0TEAM"
	ChannelName   = "#recs-release"
	ChannelID     = "C0RECSREL"
)

// channelForm is the form of a channel's id.
var channelForm = regexp.MustCompile(`^[CGD][A-Z0-9]{5,}$`)

// A Workspace is an http.Handler that answers the Web API and an
// http.RoundTripper for clients without sockets. While clients run, its fields are
// changed, and those of its messages read, within Set.
type Workspace struct {
	t testing.TB

	mu sync.Mutex
	// Messages, Whispers ("<user>: <text>"), Views and Files are what people saw.
	Messages []*Message
	Whispers []string
	Views    []slack.ModalViewRequest
	Files    []File
	// Users are by id as users.info tells them; Groups as usergroups.list does, with
	// the Members that usergroups.users.list adds.
	Users   map[string]map[string]any
	Groups  []map[string]any
	Members map[string][]string
	// Refuse maps methods to the error's code that they answer, Lose those whose next
	// answer is lost once it took effect. Calls counts.
	Refuse map[string]string
	Lose   map[string]bool
	Calls  map[string]int
	// Down breaks every call. Silent, while it is open, leaves every call without an
	// answer; Arrived has one element for each of them.
	Down    error
	Silent  chan struct{}
	Arrived chan struct{}
	// Base is the Web API's address.
	Base  string
	clock int
}

// A Message is a posted message as people see it.
type Message struct {
	Channel, TS, Thread, Text string
	Blocks                    json.RawMessage
	Metadata                  slack.SlackMetadata
	Edits                     int
}

// A File was uploaded.
type File struct {
	Channel, Thread, Name string
	Data                  []byte
}

// New returns a workspace with three full members and two user groups.
func New(t testing.TB) *Workspace {
	w := &Workspace{
		t: t, Users: map[string]map[string]any{}, Members: map[string][]string{}, Refuse: map[string]string{},
		Lose:  map[string]bool{},
		Calls: map[string]int{}, Arrived: make(chan struct{}, 64), Base: "http://slack.example/api/",
	}
	for _, id := range []string{"U0APPROVER", "U0MEMBER", "U0OTHER"} {
		w.User(id, nil)
	}
	w.Groups = []map[string]any{
		{"id": "S0PRODUCT", "handle": "product-owners", "users": []string{"U0MEMBER"}, "user_count": 1},
		{"id": "S0OTHERS", "handle": "others", "users": []string{"U0OTHER"}, "user_count": 1},
	}
	return w
}

// User adds a full member, changed by more.
func (w *Workspace) User(id string, more map[string]any) {
	u := map[string]any{"id": id, "team_id": Team, "name": strings.ToLower(id), "real_name": "Name of " + id}
	maps.Copy(u, more)
	w.Users[id] = u
}

// RoundTrip is the wire, with the faults of a network.
func (w *Workspace) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	down, silent := w.Down, w.Silent
	w.mu.Unlock()
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if silent != nil {
		w.Arrived <- struct{}{}
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
	lost := w.Lose[method]
	delete(w.Lose, method)
	w.mu.Unlock()
	if lost {
		return nil, io.ErrUnexpectedEOF
	}
	return rec.Result(), nil
}

// Set changes the workspace while others may look at it.
func (w *Workspace) Set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// Heal ends what Down and Silent broke.
func (w *Workspace) Heal() {
	w.Set(func() {
		if w.Silent != nil {
			close(w.Silent)
		}
		w.Silent, w.Down = nil, nil
	})
}

// ServeHTTP answers one call of the Web API.
func (w *Workspace) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	method := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	w.Calls[method]++
	answer := map[string]any{}
	code := w.Refuse[method]
	if code == "" {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		if r.Header.Get("Authorization") != "Bearer "+BotToken && form.Get("token") != BotToken &&
			method != "apps.connections.open" && method != "respond" {
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

// Of gives the messages that carry a notice's key.
func (w *Workspace) Of(key string) []*Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ms []*Message
	for _, m := range w.Messages {
		if m.Metadata.EventPayload["key"] == key {
			ms = append(ms, m)
		}
	}
	return ms
}

// Heard gives what people were told privately so far.
func (w *Workspace) Heard() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.Whispers)
}
