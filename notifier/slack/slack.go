// Package slack puts a rollout before people in Slack and hears their answers.
//
// The rules of the package:
//   - A rollout has one status message, updated in place, with its entries in the
//     thread below. An approval request is a message of its own, with the evidence
//     and the buttons; when it is decided, expired or void, the same message says so
//     and has no buttons. The reference of a message is "<channel>:<timestamp>".
//   - A page that opens again after its end is another message, since nobody hears
//     of an update: the reference of a page that is over ends in "/over".
//   - Slack has no idempotency key. A message carries its notice's key in its
//     metadata, and before one is posted it is looked for, so that a delivery whose
//     answer was lost is not posted twice. Where the workspace does not allow that
//     (channels:history), a lost answer may cost a second message.
//   - Everything in a message that comes from a notice is escaped and shown
//     verbatim: no label, version or reason can mention a channel or make a link.
//   - A button carries the rollout, the gate and an opaque nonce. It decides nothing:
//     deliver does, by a record that is created once. The same click has the same
//     Answer.ID however often and over whichever connection it arrives.
//   - Whoever acts is asked of Slack at that moment: guests, bots, workflows,
//     strangers from shared channels and deactivated people are refused, and so is
//     everybody while Slack does not say who they are. User groups are cached for
//     five minutes; one that cannot be read has no members.
//   - Slack gets its acknowledgement within 3 s whatever happens. People get what
//     came of it as a reply that only they see.
//
// The package speaks Socket Mode where it has an app token and serves signed HTTP
// requests where it has a signing secret; it may do both. It does not retry.
//
// The app is made of deploy/slack/manifest.yaml. It needs the scopes chat:write,
// commands, users:read and, for what they bring, usergroups:read (approvers by group), channels:history and
// groups:history
// (no second message), channels:read and groups:read (channels by name), files:write
// (charts), chat:write.public (channels it was not invited to).
package slack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/slack-go/slack"

	"github.com/belayd/belay/notifier"
)

// DefaultURL is Slack's Web API.
const DefaultURL = "https://slack.com/api/"

// Config says which workspace is spoken to and where.
type Config struct {
	// BotToken ("xoxb-…") sends messages; required.
	BotToken string
	// AppToken ("xapp-…", connections:write) opens Socket Mode; "" for none.
	AppToken string
	// SigningSecret verifies what arrives at Handler; "" for none.
	SigningSecret string
	// URL is the Web API's; "" is DefaultURL.
	URL string `yaml:"url" doc:"The Web API's address; a proxy."`
	// Channel is where messages go that have no other place: "#name" or, better,
	// the channel's id. Channels has others by the policy's owner. An approval
	// request goes to the channel that its policy names.
	Channel  string            `yaml:"channel" doc:"Where messages go that have no other place."`
	Channels map[string]string `yaml:"channels" doc:"Other places, by the policy's owner."`
	// PageMention is who is mentioned in a page: a user ("U…"), a user group ("S…"),
	// "here", or "" for nobody.
	PageMention string `yaml:"pageMention" doc:"Who is mentioned in a page: a user (U…), a user group (S…), or here."`
	// Server is belayd's address in commands that people are told to use; "" for none.
	Server string
	// NoCharts leaves out the picture of the guardrails.
	NoCharts bool `yaml:"noCharts" doc:"Leave out the picture of the guardrails."`
	// Templates override the first section of messages, see defaults for the names.
	Templates map[string]string `yaml:"templates" doc:"Texts instead of the built-in ones."`
	// Client makes the calls; required. Log is told what cannot be told anybody
	// else; required.
	Client *http.Client
	Log    *slog.Logger
}

// A Client is one app in one workspace: a notifier and an inbox. It is safe for
// concurrent use.
type Client struct {
	config   Config
	api      *slack.Client
	log      *slog.Logger
	words    *notifier.Templates
	people   *people
	channels *channels
	uploads  *uploads
	inbox    inbox
}

// New checks the configuration, all of it, and connects to nothing.
func New(c Config) (*Client, error) {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf("slack: "+format, args...)) }
	if !strings.HasPrefix(c.BotToken, "xoxb-") {
		problem(`bot token: want one that begins with "xoxb-"`)
	}
	if c.AppToken != "" && !strings.HasPrefix(c.AppToken, "xapp-") {
		problem(`app token: want one that begins with "xapp-"`)
	}
	if c.URL == "" {
		c.URL = DefaultURL
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		problem("url: want an absolute http or https address")
	}
	c.URL = strings.TrimSuffix(c.URL, "/") + "/"
	if m := c.PageMention; m != "" && m != "here" && !isUser(m) && !isGroup(m) {
		problem(`page mention: want "here", a user's id or a user group's id (got %q)`, m)
	}
	if c.Client == nil {
		problem("client: want an HTTP client")
	}
	if c.Log == nil {
		problem("log: want a logger")
	}
	words, err := notifier.ParseTemplates(defaults, c.Templates, clean, functions())
	if err != nil {
		problem("%w", err)
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	api := slack.New(c.BotToken, slack.OptionAppLevelToken(c.AppToken), slack.OptionAPIURL(c.URL),
		slack.OptionHTTPClient(doer{c.Client}))
	s := &Client{
		config: c, api: api, log: c.Log, words: words,
		people: &people{api: api, asking: make(chan struct{}, 1)}, channels: &channels{api: api, log: c.Log},
		uploads: &uploads{},
	}
	s.inbox.slots = make(chan struct{}, maxActs)
	return s, nil
}

// A message is what a notice looks like in Slack.
type message struct {
	// text is the fallback that notifications show.
	text   string
	blocks []slack.Block
	// channel and thread are where a new message goes.
	channel string
	thread  string
	chart   bool
}

// Notify posts or updates the message of n.
func (c *Client) Notify(ctx context.Context, n notifier.Notice) (string, error) {
	if q := n.Question; q != nil && q.State == "open" {
		// A group is asked by its mention, where Slack says which group it is.
		asked := *q
		asked.Groups = c.people.ids(ctx, q.Groups)
		n.Question = &asked
	}
	m, err := c.message(n)
	if err != nil {
		return "", fmt.Errorf("notify slack: %w", err)
	}
	at, err := c.deliver(ctx, n, m)
	if err != nil {
		return "", fmt.Errorf("notify slack: %w", c.classify(err))
	}
	return at, nil
}

func (c *Client) deliver(ctx context.Context, n notifier.Notice, m message) (string, error) {
	if channel, ts, ok := parseRef(n.Ref); ok && !reopens(n) {
		err := c.update(ctx, channel, ts, n, m)
		if !gone(err) {
			return ref(channel, ts, n), err
		}
		// Somebody deleted the message; people must still be told.
	} else {
		found, err := c.channels.find(ctx, n, m)
		if err != nil {
			return "", err
		}
		if channel, ts, ok := parseRef(found); ok {
			return ref(channel, ts, n), c.update(ctx, channel, ts, n, m)
		}
	}
	options := c.options(n, m)
	if m.thread != "" {
		options = append(options, slack.MsgOptionTS(m.thread))
	}
	channel, ts, err := c.api.PostMessageContext(ctx, m.channel, options...)
	if err != nil {
		return "", err
	}
	c.channels.learn(m.channel, channel)
	if m.chart {
		c.chart(ctx, n, channel, ts)
	}
	return ref(channel, ts, n), nil
}

// ref is the reference of a message that shows n.
func ref(channel, ts string, n notifier.Notice) string {
	if n.Topic == notifier.TopicPage && n.Resolve {
		ts += over
	}
	return channel + ":" + ts
}

// reopens reports whether n opens a page whose last message says that it is over.
func reopens(n notifier.Notice) bool {
	return n.Topic == notifier.TopicPage && !n.Resolve && strings.HasSuffix(n.Ref, over)
}

func (c *Client) update(ctx context.Context, channel, ts string, n notifier.Notice, m message) error {
	_, _, _, err := c.api.UpdateMessageContext(ctx, channel, ts, c.options(n, m)...)
	return err
}

func (c *Client) options(n notifier.Notice, m message) []slack.MsgOption {
	return []slack.MsgOption{
		slack.MsgOptionText(m.text, false), slack.MsgOptionBlocks(m.blocks...),
		slack.MsgOptionDisableLinkUnfurl(), slack.MsgOptionDisableMediaUnfurl(),
		slack.MsgOptionMetadata(slack.SlackMetadata{EventType: metadataType, EventPayload: map[string]any{"key": n.Key,
			"rollout": n.Rollout.ID, "over": n.Resolve}}),
	}
}

// metadataType marks Belay's messages, over the reference of a page that is.
const (
	metadataType = "belay_notice"
	over         = "/over"
)

// channel is where a new message of n goes.
func (c *Client) channel(n notifier.Notice) (string, error) {
	if n.Question != nil && n.Question.Channel != "" {
		return n.Question.Channel, nil
	}
	if to := c.config.Channels[n.Rollout.Owner]; to != "" {
		return to, nil
	}
	if c.config.Channel != "" {
		return c.config.Channel, nil
	}
	return "", fmt.Errorf("%w: no channel: set channel in the notifier's configuration, or channels for owner %q",
		notifier.ErrPermanent, n.Rollout.Owner)
}

var (
	refForm     = regexp.MustCompile(`^([A-Z0-9]+):([0-9]+(?:\.[0-9]+)?)(?:/over)?$`)
	userForm    = regexp.MustCompile(`^[UW][A-Z0-9]{2,}$`)
	groupForm   = regexp.MustCompile(`^S[A-Z0-9]{2,}$`)
	channelForm = regexp.MustCompile(`^[CGD][A-Z0-9]{5,}$`)
)

func parseRef(ref string) (channel, ts string, ok bool) {
	m := refForm.FindStringSubmatch(ref)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

func isUser(s string) bool  { return userForm.MatchString(s) }
func isGroup(s string) bool { return groupForm.MatchString(s) }
