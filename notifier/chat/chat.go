// Package chat posts notices as plain messages where people read but do not answer:
// a Microsoft Teams channel, a Discord channel, an Amazon SNS topic.
//
// The rules of the package:
//   - What is posted cannot be updated, so an update is another message; of a status
//     the beginning and the end are posted, as notifier.PlainOnce says. A message says
//     which command answers it.
//   - Texts of a release cannot act: no markup of theirs is shown as such, nobody is
//     mentioned, and every limit of the other side is kept by cutting, with "…".
//   - The address of a channel is a secret: whoever has it may post. No error shows more
//     of it than the host.
//
// The package does not retry, keeps no state and hears no answers. What the services take
// is from their published references: Adaptive Cards 1.4 in a message with attachments
// (learn.microsoft.com, "Create incoming webhooks with Workflows"), "Execute Webhook" and
// "Embed Limits" (docs.discord.com/developers), and the action Publish of the SNS API of
// 2010-03-31 (docs.aws.amazon.com/sns/latest/api).
package chat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
)

// A Service is where messages go, and so the form they have.
type Service string

// The services.
const (
	// Teams is a Microsoft Teams channel, by the address of a workflow "When a Teams
	// webhook request is received", or of an incoming webhook.
	Teams Service = "teams"
	// Discord is a Discord channel, by the address of its webhook.
	Discord Service = "discord"
	// SNS is an Amazon SNS topic; the given client signs the requests.
	SNS Service = "sns"
)

// timeout bounds one delivery where the given client does not bound it closer.
const timeout = 15 * time.Second

// Config says where messages go.
type Config struct {
	Service Service
	// URL takes the messages; https, or http to this machine. Of SNS it is the region's
	// endpoint.
	URL string
	// Topic is the topic's ARN, of SNS alone.
	Topic string
	// Templates override the texts, see notifier.PlainTexts for their names.
	Templates map[string]string
	// Client sends them; required.
	Client *http.Client
}

// A Client posts to one channel or topic. It is safe for concurrent use.
type Client struct {
	service Service
	url     string
	topic   string
	words   *notifier.Templates
	client  *http.Client
	secrets []string
}

// New checks the configuration, all of it, and connects to nothing.
func New(c Config) (*Client, error) {
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(string(c.Service)+": "+format, args...))
	}

	if !slices.Contains([]Service{Teams, Discord, SNS}, c.Service) {
		return nil, fmt.Errorf("chat: service: want teams, discord or sns (got %q)", c.Service)
	}

	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		problem("url: want an absolute http or https address")
	}
	if c.Service == SNS && !topicARN(c.Topic) {
		problem("topic: want a topic's ARN, arn:aws:sns:<region>:<account>:<name> (got %q)", notifier.Line(c.Topic, 80))
	}
	if c.Client == nil {
		problem("client: want an HTTP client")
	}
	words, err := notifier.ParseTemplates(notifier.PlainTexts, c.Templates, clean, nil)
	if err != nil {
		problem("%w", err)
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}

	return &Client{
		service: c.Service, url: c.URL, topic: c.Topic, words: words, client: c.Client,
		secrets: notifier.AddressSecrets(u),
	}, nil
}

// topicARN reports whether s has the form of a topic's ARN.
func topicARN(s string) bool {
	fields := strings.Split(s, ":")
	if len(fields) != 6 || fields[0] != "arn" || fields[2] != "sns" {
		return false
	}
	for _, f := range fields[1:] {
		if f == "" || strings.ContainsFunc(f, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return false
		}
	}
	return true
}

// Notify posts n, unless it is an update that is not posted.
func (c *Client) Notify(ctx context.Context, n notifier.Notice) (string, error) {
	ref, said := notifier.PlainOnce(n)
	if said {
		return ref, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	kind := notifier.PlainKind(n)
	m := message{
		subject: notifier.Line(c.words.Text(kind+"-subject", n), maxSubject),
		body:    c.words.Text(kind, n),
		link:    n.Rollout.URL,
		urgent:  kind == "page" || kind == "test",
	}
	contentType, body := c.encode(m)

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		// Unreachable: New has parsed the address.
		return "", fmt.Errorf("post message: %w: the address is not valid", notifier.ErrPermanent)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "belay")
	if _, err := notifier.Do(c.client, req, c.secrets...); err != nil {
		return "", fmt.Errorf("post message: %w", err)
	}
	return ref, nil
}

// maxText bounds each value in a message, maxSubject its subject, in characters.
const (
	maxText    = 2000
	maxSubject = 250
)

func clean(s string) string { return notifier.Lines(s, maxText) }
