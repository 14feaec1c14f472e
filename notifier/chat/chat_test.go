package chat_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/chat"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/rollout/realtest/goldentest"
)

const (
	path = "/workflows/cAnAry-path-token/invoke?sig=cAnAry-signature"
	arn  = "arn:aws:sns:eu-west-1:123456789012:releases"
)

var services = []chat.Service{chat.Teams, chat.Discord, chat.SNS}

// A channel is the other side: it takes what its service would take and refuses the rest.
type channel struct {
	service chat.Service

	mu    sync.Mutex
	posts map[string]int // by the notice's key
	last  []byte
}

type noticeKey struct{}

// keyed says with every request which notice it is about: nothing in a message does.
type keyed struct{ *chat.Client }

func (k keyed) Notify(ctx context.Context, n notifier.Notice) (string, error) {
	return k.Client.Notify(context.WithValue(ctx, noticeKey{}, n.Key), n)
}

type transport struct{ next http.RoundTripper }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if key, ok := r.Context().Value(noticeKey{}).(string); ok {
		r = r.Clone(r.Context())
		r.Header.Set("Test-Key", key)
	}
	return t.next.RoundTrip(r)
}

func (c *channel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = check(c.service, r.Header.Get("Content-Type"), body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.posts[r.Header.Get("Test-Key")]++
	c.last = body
}

// check holds a body against the limits that the services publish.
func check(s chat.Service, contentType string, body []byte) error {
	if s == chat.SNS {
		form, err := url.ParseQuery(string(body))
		subject := form.Get("Subject")
		switch {
		case err != nil || !strings.HasPrefix(contentType, "application/x-www-form-urlencoded"):
			return fmt.Errorf("not a form: %s, %w", contentType, err)
		case form.Get("Action") != "Publish" || form.Get("Version") != "2010-03-31" || form.Get("TopicArn") != arn:
			return fmt.Errorf("not a Publish: %v", form)
		case len(subject) >= 100 || strings.ContainsFunc(subject, func(r rune) bool { return r < ' ' || r > '~' }):
			return fmt.Errorf("subject %q: want fewer than 100 characters of ASCII without control characters", subject)
		case form.Get("Message") == "" || len(form.Get("Message")) > 256<<10 || !utf8.ValidString(form.Get("Message")):
			return fmt.Errorf("message of %d bytes: want 1 to 256 KiB of UTF-8", len(form.Get("Message")))
		}
		return nil
	}
	if contentType != "application/json" {
		return fmt.Errorf("content type %q", contentType)
	}
	if s == chat.Teams {
		if len(body) > 28<<10 {
			return fmt.Errorf("%d bytes: want at most 28 KiB", len(body))
		}
		var m struct {
			Type        string
			Attachments []struct {
				ContentType string
				Content     struct{ Type, Version string }
			}
		}
		err := json.Unmarshal(body, &m)
		if err != nil || m.Type != "message" || len(m.Attachments) != 1 ||
			m.Attachments[0].ContentType != "application/vnd.microsoft.card.adaptive" || m.Attachments[0].Content.Type != "AdaptiveCard" {
			return fmt.Errorf("not a message with a card (%w)", err)
		}
		return nil
	}
	var m struct {
		Embeds []struct{ Title, Description string }
		Allow  *struct{ Parse []string } `json:"allowed_mentions"`
	}
	err := json.Unmarshal(body, &m)
	if err != nil || len(m.Embeds) != 1 || m.Allow == nil || len(m.Allow.Parse) != 0 {
		return fmt.Errorf("not an embed without mentions (%w)", err)
	}
	title, text := utf8.RuneCountInString(m.Embeds[0].Title), utf8.RuneCountInString(m.Embeds[0].Description)
	if title > 256 || text > 4096 || title+text > 6000 {
		return fmt.Errorf("title of %d, text of %d characters: want at most 256, 4096", title, text)
	}
	return nil
}

func open(t *testing.T, s chat.Service) (keyed, *channel, *notifiertest.Server) {
	t.Helper()
	ch := &channel{service: s, posts: map[string]int{}}
	server := notifiertest.NewServer(t, ch)
	client := notifiertest.Client()
	client.Transport = transport{client.Transport}
	c, err := chat.New(chat.Config{Service: s, URL: server.URL + path, Topic: arn, Client: client})
	if err != nil {
		t.Fatalf("New: got %v, want no error", err)
	}
	return keyed{c}, ch, server
}

func TestExercise(t *testing.T) {
	for _, s := range services {
		t.Run(string(s), func(t *testing.T) {
			notifiertest.Exercise(t, func(t *testing.T) notifiertest.Subject {
				c, ch, server := open(t, s)
				return notifiertest.Subject{
					Notifier: c, Secrets: []string{"cAnAry-path-token", "cAnAry-signature"},
					// Every update is another message; they are about one thing.
					Messages: func(key string) int {
						ch.mu.Lock()
						defer ch.mu.Unlock()
						return min(ch.posts[key], 1)
					},
					Break: server.Break, Silence: server.Silence, Heal: server.Heal,
				}
			})
		})
	}
}

func TestRetryTable(t *testing.T) {
	for _, s := range services {
		c, _, server := open(t, s)
		notifiertest.RetryTable(t, c, server, "cAnAry-path-token", "cAnAry-signature")
	}
}

// TestGoldenMessages holds what each service gets of each kind against the files in
// testdata.
func TestGoldenMessages(t *testing.T) {
	resolved := notifiertest.Notice(notifier.TopicPage)
	resolved.Resolve, resolved.Summary = true, "recs: blue has 100% again"
	for _, s := range services {
		c, ch, _ := open(t, s)
		for _, topic := range notifiertest.Topics() {
			golden(t, c, ch, string(topic), notifiertest.Notice(topic))
		}
		golden(t, c, ch, "acknowledged", notifiertest.Acknowledged())
		golden(t, c, ch, "resolved", resolved)
	}
}

func golden(t *testing.T, c keyed, ch *channel, name string, n notifier.Notice) {
	t.Helper()
	if _, err := c.Notify(t.Context(), n); err != nil {
		t.Fatalf("Notify(%s): got %v, want no error", name, err)
	}
	var got bytes.Buffer
	if ch.service == chat.SNS {
		form, _ := url.ParseQuery(string(ch.last))
		fmt.Fprintf(&got, "Subject: %s\n\n%s", form.Get("Subject"), form.Get("Message"))
	} else if err := json.Indent(&got, ch.last, "", "  "); err != nil {
		t.Fatalf("indent the message: got %v, want no error", err)
	}
	got.WriteByte('\n')

	file := filepath.Join("testdata", string(ch.service), name+".txt")
	goldentest.Check(t, file, got.String())
}

// TestTextIsText: what a release says about itself is shown, not obeyed.
func TestTextIsText(t *testing.T) {
	for _, s := range services {
		c, ch, _ := open(t, s)
		n := notifiertest.Notice(notifier.TopicPage)
		n.Summary = "@everyone ```\n**see** [here](https://evil.example)"
		if _, err := c.Notify(t.Context(), n); err != nil {
			t.Fatalf("%s: Notify: got %v, want no error", s, err)
		}
		switch s {
		case chat.Teams:
			if bytes.Contains(ch.last, []byte(`"TextBlock"`)) {
				t.Errorf("teams: got a TextBlock, which reads Markdown, in\n%s", ch.last)
			}
		case chat.Discord:
			var m struct {
				Embeds []struct{ Title, Description string }
			}
			if err := json.Unmarshal(ch.last, &m); err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(m.Embeds[0].Description, "```"); got != 2 {
				t.Errorf("discord: got %d fences, want the two around the text:\n%s", got, m.Embeds[0].Description)
			}
			if !strings.Contains(m.Embeds[0].Title, `\[here\](https`) {
				t.Errorf("discord: title: got %q, want its link escaped", m.Embeds[0].Title)
			}
		case chat.SNS:
			form, _ := url.ParseQuery(string(ch.last))
			if got := form["TopicArn"]; len(got) != 1 || got[0] != arn {
				t.Errorf("sns: topic: got %q, want the configured one alone", got)
			}
		}
	}
}

func TestNew(t *testing.T) {
	good := chat.Config{Service: chat.SNS, URL: "https://sns.eu-west-1.amazonaws.com/", Topic: arn, Client: notifiertest.Client()}
	for want, change := range map[string]func(*chat.Config){
		"service: want":         func(c *chat.Config) { c.Service = "irc" },
		"url: want an absolute": func(c *chat.Config) { c.URL = "sns.amazonaws.com" },
		"topic: want a topic's": func(c *chat.Config) { c.Topic = "arn:aws:sqs:eu-west-1:123456789012:releases" },
		"client: want":          func(c *chat.Config) { c.Client = nil },
		"no message has this":   func(c *chat.Config) { c.Templates = map[string]string{"pgae": "x"} },
	} {
		c := good
		change(&c)
		if _, err := chat.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: got %v, want an error with %q", err, want)
		}
	}
	if _, err := chat.New(good); err != nil {
		t.Errorf("New: got %v, want no error", err)
	}
}
