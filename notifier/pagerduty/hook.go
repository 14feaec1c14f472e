package pagerduty

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/analysis/unique"
	"github.com/belayd/belay/notifier"
)

// The bounds of a webhook's delivery: PagerDuty waits some seconds for the answer
// and tries again where it is not 2xx. minSecret is in bytes.
const (
	actTimeout  = 4 * time.Second
	maxDelivery = 1 << 20
	minSecret   = 16
)

// An inbox is what hearing needs: the function that decides, while Run runs.
type inbox struct {
	mu      sync.Mutex
	deliver func(context.Context, notifier.Answer) (notifier.Reply, error)
	acts    sync.WaitGroup
}

// Run makes ServeHTTP answer until ctx ends. It returns nil then, after the acts
// under way are done.
func (c *Client) Run(
	ctx context.Context, deliver func(context.Context, notifier.Answer) (notifier.Reply, error),
) error {
	c.inbox.mu.Lock()
	if c.inbox.deliver != nil {
		c.inbox.mu.Unlock()
		return errors.New("run pagerduty inbox: it is running already")
	}
	c.inbox.deliver = deliver
	c.inbox.mu.Unlock()
	<-ctx.Done()
	c.inbox.mu.Lock()
	c.inbox.deliver = nil
	c.inbox.mu.Unlock()
	c.inbox.acts.Wait()
	return nil
}

// begin takes an act up, unless Run does not run; done ends it.
func (b *inbox) begin() (deliver func(context.Context, notifier.Answer) (notifier.Reply, error), done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deliver == nil {
		return nil, nil
	}
	b.acts.Add(1)
	return b.deliver, b.acts.Done
}

// A delivery is what a V3 webhook subscription sends.
type delivery struct {
	Event struct {
		ID         string    `json:"id"`
		EventType  string    `json:"event_type"`
		OccurredAt time.Time `json:"occurred_at"`
		Agent      *struct {
			ID      string `json:"id"`
			Summary string `json:"summary"`
			Type    string `json:"type"`
		} `json:"agent"`
		Data struct {
			IncidentKey string `json:"incident_key"`
		} `json:"data"`
	} `json:"event"`
}

// ServeHTTP is POST /hooks/pagerduty: what a V3 webhook subscription sends of the
// incidents that Belay opened, signed with its secret. An incident that a person
// acknowledges or resolves there is acknowledged here, in that person's name; all
// else is taken and leads to nothing.
func (c *Client) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(c.secret) == 0 {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDelivery))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	// The signature is over the raw body; nothing is parsed before it holds.
	if !c.signed(r.Header.Values("X-Pagerduty-Signature"), body) {
		http.Error(w, "not signed with the subscription's secret", http.StatusUnauthorized)
		return
	}
	var d delivery
	if err := errors.Join(json.Unmarshal(body, &d), unique.Fields(body, true)); err != nil {
		http.Error(w, "not an event", http.StatusBadRequest)
		return
	}
	a, ok := d.answer()
	if !ok {
		return
	}
	deliver, done := c.inbox.begin()
	if deliver == nil {
		http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
		return
	}
	defer done()
	// An act that was heard goes on when the caller hangs up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), actTimeout)
	defer cancel()
	reply, err := deliver(ctx, a)
	switch {
	case err != nil:
		c.log.WarnContext(ctx, "acknowledgement not recorded", "rollout", a.Rollout, "outcome", err.Error())
		http.Error(w, "not recorded", http.StatusInternalServerError)
	case !reply.Accepted:
		c.log.WarnContext(ctx, "acknowledgement not accepted", "rollout", a.Rollout, "by", a.Who, "outcome", reply.Text)
	}
}

// answer is the act that a delivery tells of; ok is false where it is no person's, or
// about no page of Belay's.
func (d delivery) answer() (a notifier.Answer, ok bool) {
	e := d.Event
	acts := e.EventType == "incident.acknowledged" || e.EventType == "incident.resolved"
	rollout, ours := rolloutOf(e.Data.IncidentKey)
	if !acts || !ours || e.ID == "" || e.Agent == nil || e.Agent.ID == "" || !strings.HasPrefix(e.Agent.Type, "user") {
		return notifier.Answer{}, false
	}
	a = notifier.Answer{
		ID: "pagerduty-" + e.ID, Rollout: rollout, Command: "ack", At: e.OccurredAt,
		Who: "pagerduty:" + notifier.Line(e.Agent.ID, maxField), Name: notifier.Line(e.Agent.Summary, 80),
	}
	if e.EventType == "incident.resolved" {
		a.Reason = "resolved in PagerDuty"
	}
	return a, true
}

// rolloutOf is the rollout whose page has the key; of those that are not a rollout's
// and of a digest that stands for a long one it is not known.
func rolloutOf(key string) (id string, ok bool) {
	if !strings.HasPrefix(key, "rollout/") {
		return "", false
	}
	id = key[strings.LastIndexByte(key, '/')+1:]
	return id, id != ""
}

// signed reports whether one of the signatures is the secret's over the body; while a
// secret is being changed there are several.
func (c *Client) signed(headers []string, body []byte) bool {
	mac := hmac.New(sha256.New, c.secret)
	mac.Write(body)
	want := mac.Sum(nil)
	for _, h := range headers {
		for s := range strings.SplitSeq(h, ",") {
			digits, v1 := strings.CutPrefix(strings.TrimSpace(s), "v1=")
			got, err := hex.DecodeString(digits)
			if v1 && err == nil && hmac.Equal(got, want) {
				return true
			}
		}
	}
	return false
}

// webhookSecret checks the secret of a subscription.
func webhookSecret(s string) ([]byte, error) {
	s = strings.TrimSpace(s)
	if s != "" && len(s) < minSecret {
		return nil, fmt.Errorf("pagerduty: webhook secret: want the one that PagerDuty showed when the subscription "+
			"was made, at least %d bytes (got %d)", minSecret, len(s))
	}
	return []byte(s), nil
}

var (
	_ notifier.Notifier = (*Client)(nil)
	_ notifier.Inbox    = (*Client)(nil)
	_ http.Handler      = (*Client)(nil)
)
