// Package webhook tells a program of one's own what Belay tells people: a signed
// HTTP POST whose body is a CloudEvent.
//
// The rules of the package:
//   - The body is a CloudEvents 1.0 event in structured JSON mode, Content-Type
//     application/cloudevents+json. Its data is the notifier.Notice as JSON.
//   - The event's id is the notice's Delivery: an event that arrives twice has the
//     same id. Its subject is the notice's Key: the same subject is the same
//     message, updated. Its type is belay.notice.<topic>, or
//     belay.notice.resolved for the end of a page.
//   - The request is signed as Standard Webhooks (standardwebhooks.com) says, so
//     its libraries verify it, and so does Verify. The headers are:
//     webhook-id, the event's id;
//     webhook-timestamp, when it was signed, in Unix seconds;
//     webhook-signature, "v1," and the base64 of the HMAC-SHA256 under the secret
//     of "<id>.<timestamp>.<body>".
//   - A receiver answers 2xx when it has the event. It may answer with the JSON
//     {"ref": "…"}, at most 512 bytes of it: that reference is handed back with
//     every later notice of the same key, in data.ref.
//
// The package does not retry, keeps no state and follows no redirect that the
// given client does not follow.
package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
)

// timeout bounds one delivery where the given client does not bound it closer.
const timeout = 15 * time.Second

// maxRef bounds the reference that a receiver may hand out.
const maxRef = 512

// Config says where events go and how they are signed.
type Config struct {
	// URL takes the events; http or https. It is treated as a secret: no error
	// shows more of it than the host.
	URL string `yaml:"url" required:"true" doc:"Where the events go."`
	// Secret signs them: any text, or "whsec_" and base64 as Standard Webhooks
	// writes it. Required, at least 16 bytes.
	Secret string
	// Source is the CloudEvents source, a URI reference; "" is "/belay".
	Source string `yaml:"source" doc:"The source of the CloudEvents, a URI reference; /belay when missing."`
	// Client sends them; required.
	Client *http.Client
}

// A Client delivers notices to one receiver. It is safe for concurrent use.
type Client struct {
	url     string
	key     []byte
	source  string
	client  *http.Client
	secrets []string
}

// New checks the configuration and connects to nothing.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("webhook: url: want an absolute http or https address")
	}
	key, err := secretKey(c.Secret)
	if err != nil {
		return nil, fmt.Errorf("webhook: secret: %w", err)
	}
	if c.Client == nil {
		return nil, errors.New("webhook: client: want an HTTP client")
	}
	source := c.Source
	if source == "" {
		source = "/belay"
	}
	if _, err := url.Parse(source); err != nil {
		return nil, errors.New("webhook: source: want a URI reference")
	}
	secrets := append([]string{c.Secret, string(key)}, notifier.AddressSecrets(u)...)
	return &Client{url: c.URL, key: key, source: source, client: c.Client, secrets: secrets}, nil
}

// An event is a CloudEvent in structured JSON mode.
type event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            string          `json:"time,omitempty"`
	DataContentType string          `json:"datacontenttype"`
	Data            notifier.Notice `json:"data"`
}

// Notify posts n. The reference is what the receiver answered, what it answered
// before, or "".
func (c *Client) Notify(ctx context.Context, n notifier.Notice) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	e := c.event(n)
	body, err := json.Marshal(e)
	if err != nil {
		// Unreachable unless a notice holds a time beyond the year 9999 or a figure
		// that JSON does not know.
		return "", fmt.Errorf("encode event: %w: %w", notifier.ErrPermanent, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		// Unreachable: New has parsed the address.
		return "", fmt.Errorf("post event: %w: the address is not valid", notifier.ErrPermanent)
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("User-Agent", "belay")
	at := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set(headerID, e.ID)
	req.Header.Set(headerTimestamp, at)
	req.Header.Set(headerSignature, version+sign(c.key, e.ID, at, body))
	answer, err := notifier.Do(c.client, req, c.secrets...)
	if err != nil {
		return "", fmt.Errorf("post event: %w", err)
	}
	var got struct {
		Ref string `json:"ref"`
	}
	if json.Unmarshal(answer, &got) == nil && got.Ref != "" && len(got.Ref) <= maxRef {
		return got.Ref, nil
	}
	return n.Ref, nil
}

func (c *Client) event(n notifier.Notice) event {
	e := event{
		SpecVersion: "1.0", ID: deliveryID(n), Source: c.source,
		Type: "belay.notice." + string(n.Topic), Subject: n.Key,
		DataContentType: "application/json", Data: n,
	}
	if n.Resolve {
		e.Type = "belay.notice.resolved"
	}
	if !n.At.IsZero() {
		e.Time = n.At.UTC().Format(time.RFC3339Nano)
	}
	return e
}

// deliveryID is n.Delivery where that can stand in a header and before the full
// stop of what is signed; otherwise a digest that is as stable.
func deliveryID(n notifier.Notice) string {
	ok := n.Delivery != "" && len(n.Delivery) <= 256
	for _, r := range n.Delivery {
		ok = ok && r > ' ' && r < 0x7f && r != '.'
	}
	if ok {
		return n.Delivery
	}
	sum := sha256.Sum256([]byte(n.Key + "\x00" + n.Delivery + "\x00" + n.At.UTC().Format(time.RFC3339Nano)))
	return hex.EncodeToString(sum[:16])
}

// secretKey is the key that a secret stands for.
func secretKey(secret string) ([]byte, error) {
	secret = strings.TrimSpace(secret)
	key := []byte(secret)
	if rest, ok := strings.CutPrefix(secret, "whsec_"); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(rest); err != nil {
			return nil, errors.New("want base64 after whsec_")
		}
	}
	if len(key) < 16 {
		return nil, errors.New("want at least 16 bytes; make one with: openssl rand -hex 32")
	}
	return key, nil
}
