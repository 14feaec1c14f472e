// Package alertmanager turns notices into alerts of Prometheus Alertmanager
// (API v2), which routes, groups, silences and inhibits them as it does all others.
//
// The rules of the package:
//   - An alert is its label set: alertname, severity, rollout, endpoint, router,
//     policy, owner, belay_key (the notice's Key) and the release's labels. They stay
//     the same for a rollout's life, so that one page is one alert: the severity
//     label is that of the alert's name, and how bad things are now is an annotation.
//   - The topics are BelayPage (critical, until it is resolved), BelayRollout (info, a
//     status: as long as the rollout runs, so that other alerts can be inhibited by
//     it) and BelayApproval (info, as long as the question is open). A test is a
//     BelayPage with the label test="true", so that it takes the same route as a
//     page, and ends after notifier.TestLasts. Alertmanager knows states, not
//     entries: those of the thread are accepted without being sent.
//   - An alert is posted with an end far ahead (Lasts), so that a page stays open
//     when belayd is away; it is resolved by an end that has passed. Alertmanager
//     tells nobody of an alert that is resolved before its group was told of
//     (group_wait).
//   - Alertmanager forgets its alerts when it restarts. Run posts again, every
//     minute, what is open; what that is, it asks each time, so that it is right
//     after a restart of belayd and with several replicas.
//
// The package speaks to one Alertmanager; each member of a cluster is a notifier of
// its own, since members do not tell each other their alerts. It does not retry
// and makes no silences.
package alertmanager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/belayd/belay/notifier"
)

// DefaultLasts is how long an alert stays open when nobody posts it again or
// resolves it.
const DefaultLasts = 7 * 24 * time.Hour

// The pace of Run, the length of one call, and how many alerts it may hold.
const (
	refreshEvery = time.Minute
	timeout      = 15 * time.Second
	batch        = 100
)

// forgetAfter bounds how long a resolved key is remembered, see Client.resolved.
const forgetAfter = 15 * time.Minute

// Config says which Alertmanager is told.
type Config struct {
	// URL is where it is, with its route prefix if it has one; required.
	URL string `yaml:"url" required:"true" doc:"Alertmanager's address."`
	// Lasts is how long an alert stays open without being posted again; 0 is
	// DefaultLasts.
	Lasts time.Duration `yaml:"lasts" doc:"How long an alert stays open without being posted again; it is posted again several times in that time."`
	// Templates override the summary annotations: "page", "rollout", "approval" and
	// "test".
	Templates map[string]string `yaml:"templates" doc:"Texts instead of the built-in ones."`
	// Client sends the alerts; required.
	Client *http.Client
	// Log is told when Run cannot post; required.
	Log *slog.Logger
}

// A Client posts to one Alertmanager. It is safe for concurrent use.
type Client struct {
	api     string
	lasts   time.Duration
	client  *http.Client
	log     *slog.Logger
	secrets []string
	words   *notifier.Templates

	mu sync.Mutex
	// resolved holds the keys that Notify has resolved and when the notice said so:
	// Run, whose list may be a moment older, does not open them again.
	resolved map[string]resolution
}

type resolution struct{ notice, now time.Time }

// New checks the configuration and connects to nothing.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("alertmanager: url: want an absolute http or https address")
	}
	if c.Client == nil {
		return nil, errors.New("alertmanager: client: want an HTTP client")
	}
	if c.Log == nil {
		return nil, errors.New("alertmanager: log: want a logger")
	}
	if c.Lasts == 0 {
		c.Lasts = DefaultLasts
	}
	if c.Lasts < 2*refreshEvery {
		return nil, fmt.Errorf("alertmanager: lasts: want at least %s (got %s)", 2*refreshEvery, c.Lasts)
	}
	words, err := notifier.ParseTemplates(defaults, c.Templates,
		func(s string) string { return notifier.Line(s, maxAnnotation) }, nil)
	if err != nil {
		return nil, fmt.Errorf("alertmanager: %w", err)
	}
	var secrets []string
	if p, ok := u.User.Password(); ok {
		secrets = []string{c.URL, p}
	}
	return &Client{
		api: u.JoinPath("api/v2/alerts").String(), lasts: c.Lasts, client: c.Client, log: c.Log,
		secrets: secrets, words: words, resolved: map[string]resolution{},
	}, nil
}

// Notify posts the alert of n, open or resolved. There is no reference: the alert is
// known by its labels.
func (c *Client) Notify(ctx context.Context, n notifier.Notice) (string, error) {
	if n.Topic == notifier.TopicThread {
		return "", nil
	}
	if alertname(n.Topic) == "" {
		return "", fmt.Errorf("post alert: %w: unknown topic %q", notifier.ErrPermanent, n.Topic)
	}
	now := time.Now()
	if over(n) {
		c.remember(n, now)
	}
	if err := c.post(ctx, []alert{c.alert(n, now)}); err != nil {
		return "", fmt.Errorf("post alert: %w", err)
	}
	return "", nil
}

// Run posts again, once a minute, what open returns: the notices that are open now
// for the rollouts this process acts for. It returns nil when ctx ends. A failure
// is logged and made good by the next minute.
func (c *Client) Run(ctx context.Context, open func(context.Context) ([]notifier.Notice, error)) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		if err := c.refresh(ctx, open); err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "alerts not refreshed", "outcome", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *Client) refresh(ctx context.Context, open func(context.Context) ([]notifier.Notice, error)) error {
	notices, err := open(ctx)
	if err != nil {
		return fmt.Errorf("list open notices: %w", err)
	}
	now := time.Now()
	var as []alert
	for _, n := range notices {
		if alertname(n.Topic) == "" || over(n) || c.isResolved(n, now) {
			continue
		}
		as = append(as, c.alert(n, now))
	}
	for len(as) > 0 {
		k := min(len(as), batch)
		if err := c.post(ctx, as[:k]); err != nil {
			return fmt.Errorf("post alerts again: %w", err)
		}
		as = as[k:]
	}
	return nil
}

func (c *Client) remember(n notifier.Notice, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, r := range c.resolved {
		if now.Sub(r.now) > forgetAfter {
			delete(c.resolved, k)
		}
	}
	c.resolved[n.Key] = resolution{notice: n.At, now: now}
}

func (c *Client) isResolved(n notifier.Notice, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.resolved[n.Key]
	return ok && now.Sub(r.now) <= forgetAfter && !n.At.After(r.notice)
}

// post sends alerts in one call.
func (c *Client) post(ctx context.Context, as []alert) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := json.Marshal(as)
	if err != nil {
		// Unreachable unless a time is beyond the year 9999.
		return fmt.Errorf("encode alerts: %w: %w", notifier.ErrPermanent, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.api, bytes.NewReader(body))
	if err != nil {
		// Unreachable: New has parsed the address.
		return fmt.Errorf("%w: the address is not valid", notifier.ErrPermanent)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "belay")
	_, err = notifier.Do(c.client, req, c.secrets...)
	return err
}

// over says whether the notice ends its alert.
func over(n notifier.Notice) bool {
	if n.Resolve {
		return true
	}
	switch n.Topic {
	case notifier.TopicStatus:
		return n.Rollout.Over()
	case notifier.TopicAsk:
		return n.Question != nil && n.Question.State != "open"
	case notifier.TopicPage, notifier.TopicTest, notifier.TopicThread:
		return false
	}
	return false
}
