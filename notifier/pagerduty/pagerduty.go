// Package pagerduty calls whoever is on call, by PagerDuty's Events API v2, and
// shows responders what was changed, by its Change Events API.
//
// The rules of the package:
//   - A page is one alert: it is triggered, updated and resolved under the notice's
//     Key as dedup_key. A key longer than the 255 characters that PagerDuty takes
//     is replaced by a digest that is as stable.
//   - A status notice becomes a change event when the rollout's step changes, when
//     a rollback begins and when the rollout ends; other updates of it tell a
//     responder nothing new and are accepted without being sent. The reference
//     that Notify returns is what was told last.
//   - Thread entries and approval requests are no changes of anything in service
//     and are accepted without being sent.
//   - A test is an alert whose summary says so ("[TEST]"). It stays open until a
//     notice of its key resolves it, so that whoever tests can see it arrive.
//   - Whoever acknowledges or resolves an incident of Belay's in PagerDuty
//     acknowledges the page, where a webhook subscription tells Belay of it. What a
//     program does there, Belay's own events among it, is no person's word.
//   - What is sent keeps to the documented limits; what is too long is cut, and
//     what to do (the sentence, the runbook, the commands) is cut last.
//
// The package does not retry and keeps no state.
package pagerduty

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
)

// DefaultURL is PagerDuty's service region for the United States; the European
// one is https://events.eu.pagerduty.com.
const DefaultURL = "https://events.pagerduty.com"

// timeout bounds one call where the given client does not bound it closer.
const timeout = 15 * time.Second

// The documented limits: in characters, and for the whole event in bytes.
const (
	maxSummary  = 1024
	maxDedupKey = 255
	maxEvent    = 512 << 10
	routingKey  = 32
)

// Config says which service is called.
type Config struct {
	// RoutingKey is the integration key of an Events API v2 integration, 32
	// letters and digits; required.
	RoutingKey string
	// URL is where the API is: another region, or a proxy; "" is DefaultURL.
	URL string `yaml:"url" doc:"Another region, or a proxy."`
	// WebhookSecret is that of the V3 webhook subscription which tells of what people
	// do with incidents; "" for none.
	WebhookSecret string
	// Templates override the summaries: "page", "test" and "change".
	Templates map[string]string `yaml:"templates" doc:"Texts instead of the built-in ones."`
	// Client sends the events; required. Log is told what cannot be told anybody
	// else; required.
	Client *http.Client
	Log    *slog.Logger
}

// A Client calls the people of one PagerDuty service. It is safe for concurrent
// use.
type Client struct {
	key    string
	base   string
	client *http.Client
	log    *slog.Logger
	words  *notifier.Templates
	secret []byte
	inbox  inbox
}

// defaults are the summaries by name.
var defaults = map[string]string{
	"page":   `{{.Summary}}`,
	"test":   `[TEST] {{.Summary}}`,
	"change": `{{.Summary}}`,
}

// New checks the configuration and connects to nothing.
func New(c Config) (*Client, error) {
	key := strings.TrimSpace(c.RoutingKey)
	if len(key) != routingKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, fmt.Errorf("pagerduty: routing key: want the %d characters of an Events API v2 integration key "+
			"(got %d)", routingKey, len(key))
	}
	base := c.URL
	if base == "" {
		base = DefaultURL
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("pagerduty: url: want an absolute http or https address")
	}
	if strings.Contains(u.Path, "/v2/") {
		return nil, errors.New("pagerduty: url: want where the API begins, without /v2/enqueue, which is added")
	}
	if c.Client == nil {
		return nil, errors.New("pagerduty: client: want an HTTP client")
	}
	if c.Log == nil {
		return nil, errors.New("pagerduty: log: want a logger")
	}
	secret, err := webhookSecret(c.WebhookSecret)
	if err != nil {
		return nil, err
	}
	words, err := notifier.ParseTemplates(defaults, c.Templates,
		func(s string) string { return notifier.Line(s, maxSummary) }, nil)
	if err != nil {
		return nil, fmt.Errorf("pagerduty: %w", err)
	}
	return &Client{key: key, base: strings.TrimSuffix(base, "/"), client: c.Client, log: c.Log, words: words,
		secret: secret}, nil
}

// Notify triggers, updates or resolves an alert, or sends a change event. The
// reference of an alert is its dedup_key.
func (c *Client) Notify(ctx context.Context, n notifier.Notice) (string, error) {
	switch n.Topic {
	case notifier.TopicPage, notifier.TopicTest:
		e := c.alert(n)
		return e.DedupKey, c.send(ctx, "/v2/enqueue", e.encode)
	case notifier.TopicStatus:
		told := changeOf(n.Rollout)
		if n.Ref == told {
			return told, nil
		}
		e := c.change(n)
		if err := c.send(ctx, "/v2/change/enqueue", e.encode); err != nil {
			return "", err
		}
		return told, nil
	case notifier.TopicThread, notifier.TopicAsk:
		return n.Ref, nil
	}
	return "", fmt.Errorf("send event: %w: unknown topic %q", notifier.ErrPermanent, n.Topic)
}

func (c *Client) send(ctx context.Context, path string, encode func() ([]byte, error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := encode()
	if err != nil {
		// Unreachable: an event holds text, bounded and valid.
		return fmt.Errorf("encode event: %w: %w", notifier.ErrPermanent, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		// Unreachable: New has parsed the address.
		return fmt.Errorf("send event: %w: %w", notifier.ErrPermanent, notifier.Redact(err, c.key))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "belay")
	if _, err := notifier.Do(c.client, req, c.key); err != nil {
		return fmt.Errorf("send event: %w", err)
	}
	return nil
}

// changeOf names what a change event would tell of the rollout: the step it is at,
// or how it ends.
func changeOf(r notifier.Rollout) string {
	if r.Phase == "rolling-back" || r.Over() {
		return "phase:" + r.Phase
	}
	if r.Step == "" {
		return "begun"
	}
	return "step:" + notifier.Truncate(r.Step, 64)
}

// dedupKey is the notice's key, or a digest of a key that is too long.
func dedupKey(key string) string {
	key = strings.ToValidUTF8(key, "?")
	if key != "" && len(key) <= maxDedupKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "belay/" + hex.EncodeToString(sum[:])
}
