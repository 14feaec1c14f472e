package slack

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/notifier/slack/slacktest"
)

// The workspace that the tests of this package meet.
const (
	botToken      = slacktest.BotToken
	appToken      = slacktest.AppToken
	signingSecret = slacktest.SigningSecret
	team          = slacktest.Team
	channelName   = slacktest.ChannelName
	channelID     = slacktest.ChannelID
)

// A workspace makes clients of it.
type workspace struct {
	*slacktest.Workspace
	t *testing.T
}

func newWorkspace(t *testing.T) *workspace { return &workspace{slacktest.New(t), t} }

// open gives a client of the workspace over a wire without sockets.
func (w *workspace) open(change func(*Config)) *Client {
	w.t.Helper()
	return w.client(&http.Client{Transport: w}, func(c *Config) {
		c.SigningSecret = signingSecret
		if change != nil {
			change(c)
		}
	})
}

// dial gives a client that speaks Socket Mode over loopback.
func (w *workspace) dial() *Client {
	w.t.Helper()
	return w.client(notifiertest.Client(), func(c *Config) { c.AppToken = appToken })
}

func (w *workspace) client(over *http.Client, change func(*Config)) *Client {
	w.t.Helper()
	config := Config{BotToken: botToken, URL: w.Base, Channel: channelName, Client: over, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil))}
	change(&config)
	c, err := New(config)
	if err != nil {
		w.t.Fatalf("New: got %v, want no error", err)
	}
	return c
}
