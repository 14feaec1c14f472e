package notifiertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/notifier"
)

// A Subject is one adapter under test together with its other side.
type Subject struct {
	Notifier notifier.Notifier
	// Secrets are what must never be in an error: keys, tokens, passwords, and
	// addresses that hold one.
	Secrets []string
	// Messages gives how many messages the other side holds for people under the
	// key: 1 after any number of updates.
	Messages func(key string) int
	// Tells says which topics reach the other side; nil is all of them. The others
	// are accepted and lead to nothing.
	Tells func(notifier.Topic) bool
	// Break makes the other side unreachable, Silence makes it take calls without
	// answering (the channel has a value for each call that arrived), Heal ends
	// both.
	Break   func()
	Silence func() <-chan struct{}
	Heal    func()
}

// Exercise runs the contract of a notifier. Each part gets a subject of its own.
func Exercise(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	parts := []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"every topic is delivered", everyTopic},
		{"the same key is the same message", sameKey},
		{"a repeated delivery is one message", repeated},
		{"hostile text is delivered", hostile},
		{"an ended context ends the call", ended},
		{"an outage may pass and tells no secret", outage},
		{"concurrent notices all arrive", concurrent},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.run(t, open(t)) })
	}
}

func (s Subject) tells(topic notifier.Topic) bool { return s.Tells == nil || s.Tells(topic) }

// want fails the test unless the other side holds n messages under the key of a
// topic that it is told, and none otherwise.
func (s Subject) want(t *testing.T, n notifier.Notice, count int) {
	t.Helper()
	if !s.tells(n.Topic) {
		count = 0
	}
	if got := s.Messages(n.Key); got != count {
		t.Errorf("messages under key %q: got %d, want %d", n.Key, got, count)
	}
}

func everyTopic(t *testing.T, s Subject) {
	for _, topic := range Topics() {
		n := Notice(topic)
		if _, err := s.Notifier.Notify(t.Context(), n); err != nil {
			t.Errorf("Notify(%s): got %v, want no error", topic, err)
			continue
		}
		s.want(t, n, 1)
	}
}

// sameKey tells of a page that is opened, gets worse, is acknowledged and resolved, and of a
// question that is asked and decided: one message each, under one reference; that of
// a page that is over may differ, since what opens after it is another page.
func sameKey(t *testing.T, s Subject) {
	for _, topic := range Topics() {
		n := Notice(topic)
		ref, err := s.Notifier.Notify(t.Context(), n)
		if err != nil {
			t.Errorf("Notify(%s): got %v, want no error", topic, err)
			continue
		}
		for i := range 3 {
			n.Ref, n.Delivery = ref, fmt.Sprintf("%s/%d", n.Key, i+2)
			n.Summary = fmt.Sprintf("%s (update %d)", n.Summary, i+1)
			n.At = n.At.Add(time.Minute)
			if topic == notifier.TopicPage && i == 1 {
				n.Acknowledged = Acknowledged().Acknowledged
			}
			n.Resolve = topic == notifier.TopicPage && i == 2
			if n.Question != nil && i == 2 {
				q := *n.Question
				q.State, q.Answers = "approved", []notifier.ShownVote{{Who: "slack:T1/U2", When: n.At, Approve: true,
					Reason: "looks good"}}
				n.Question = &q
			}
			again, err := s.Notifier.Notify(t.Context(), n)
			if err != nil {
				t.Errorf("Notify(%s, update %d): got %v, want no error", topic, i+1, err)
				continue
			}
			if again != ref && !n.Resolve {
				t.Errorf("Notify(%s, update %d): got ref %q, want the one it was given, %q", topic, i+1, again, ref)
			}
		}
		s.want(t, n, 1)
	}
}

// repeated tells of an answer that was lost: the outbox delivers the same notice
// again without a reference, and people see one message.
func repeated(t *testing.T, s Subject) {
	n := Notice(notifier.TopicPage)
	first, err := s.Notifier.Notify(t.Context(), n)
	if err != nil {
		t.Fatalf("Notify: got %v, want no error", err)
	}
	second, err := s.Notifier.Notify(t.Context(), n)
	if err != nil {
		t.Fatalf("Notify again: got %v, want no error", err)
	}
	if first != second {
		t.Errorf("Notify again: got ref %q, want %q", second, first)
	}
	s.want(t, n, 1)
}

// hostile sends what a label, a version or a reason may hold when nobody checked.
func hostile(t *testing.T, s Subject) {
	for i, text := range []string{
		strings.Repeat("long ", 5000),
		"<!channel> <@U1> <https://evil.example|click> *bold* `code` &amp; \"quoted\"",
		"two\r\nlines\r\nBcc: everybody@example.com\r\n\r\n.\r\n",
		"broken \xff\xfe utf-8 \x00 and \x1b[31mcontrol",
		"{{.}} ${HOME} %s %d",
		"",
	} {
		for _, topic := range Topics() {
			n := numbered(Notice(topic), i)
			n.Summary = text
			n.Rollout.Version, n.Rollout.Sentence, n.Rollout.Requester = text, text, text
			n.Rollout.Labels = map[string]string{text: text, "tier": text}
			n.Rollout.Runbook, n.Rollout.URL = text, text
			n.Rollout.Guardrails[0].Sentence = text
			n.Rollout.ManualRollback = text
			if n.Question != nil {
				n.Question.Step = text
				n.Question.Answers = []notifier.ShownVote{{Who: text, When: n.At, Reason: text}}
			}
			if _, err := s.Notifier.Notify(t.Context(), n); err != nil {
				t.Errorf("Notify(%s) of %.40q: got %v, want no error", topic, text, err)
				continue
			}
			s.want(t, n, 1)
		}
	}
}

// ended tells of a daemon that stops while the other side keeps silent, and of a
// call that begins after the end.
func ended(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	arrived := s.Silence()
	done := make(chan error, 1)
	go func() {
		_, err := s.Notifier.Notify(ctx, Notice(notifier.TopicPage))
		done <- err
	}()
	<-arrived
	cancel()
	s.wantEnded(t, "Notify in a context that ends", <-done)
	_, err := s.Notifier.Notify(ctx, Notice(notifier.TopicPage))
	s.wantEnded(t, "Notify in an ended context", err)
	s.Heal()
	if _, err := s.Notifier.Notify(t.Context(), Notice(notifier.TopicPage)); err != nil {
		t.Errorf("Notify after the silence: got %v, want no error", err)
	}
}

func (s Subject) wantEnded(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%s: got %v, want context.Canceled", what, err)
	}
	if errors.Is(err, notifier.ErrPermanent) {
		t.Errorf("%s: got %v, want an error that may pass", what, err)
	}
}

func outage(t *testing.T, s Subject) {
	s.Break()
	n := Notice(notifier.TopicPage)
	_, err := s.Notifier.Notify(t.Context(), n)
	if err == nil {
		t.Fatal("Notify while the other side is away: got no error, want one")
	}
	if errors.Is(err, notifier.ErrPermanent) {
		t.Errorf("Notify while the other side is away: got %v, want an error that may pass", err)
	}
	NoSecret(t, err, s.Secrets...)
	s.Heal()
	if _, err := s.Notifier.Notify(t.Context(), n); err != nil {
		t.Fatalf("Notify after the outage: got %v, want no error", err)
	}
	s.want(t, n, 1)
}

func concurrent(t *testing.T, s Subject) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := s.Notifier.Notify(t.Context(), numbered(Notice(notifier.TopicPage), i)); err != nil {
				t.Errorf("Notify %d: got %v, want no error", i, err)
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		s.want(t, numbered(Notice(notifier.TopicPage), i), 1)
	}
}

// NoSecret fails the test if any error that err shows, at any depth and in any
// format, holds a secret.
func NoSecret(t *testing.T, err error, secrets ...string) {
	t.Helper()
	seen := fmt.Appendf(nil, "%v %+v %#v", err, err, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		seen = append(seen, " "+e.Error()...)
	}
	for _, secret := range secrets {
		if secret != "" && bytes.Contains(seen, []byte(secret)) {
			t.Errorf("error holds a secret: got %v, want it without %q", err, secret)
		}
	}
}

// RetryTable runs the table of notifier.StatusError against an adapter that talks
// HTTP: server is its other side, and every answer holds the secrets, as a
// careless server's might.
func RetryTable(t *testing.T, n notifier.Notifier, server *Server, secrets ...string) {
	t.Helper()
	echo := "you sent " + strings.Join(secrets, " and ")
	for status := 300; status <= 599; status++ {
		if http.StatusText(status) == "" && status != 499 && status != 599 {
			continue
		}
		server.Answer(status, nil, echo)
		_, err := n.Notify(t.Context(), Notice(notifier.TopicPage))
		if err == nil {
			t.Errorf("Notify answered %d: got no error, want one", status)
			continue
		}
		if got, want := errors.Is(err, notifier.ErrPermanent), permanent(status); got != want {
			t.Errorf("Notify answered %d: got permanent = %t (%v), want %t", status, got, err, want)
		}
		NoSecret(t, err, secrets...)
	}
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		for header, want := range map[string]time.Duration{"7": 7 * time.Second, "0": 0,
			"99999999": notifier.MaxRetryAfter} {
			server.Answer(status, http.Header{"Retry-After": {header}}, echo)
			_, err := n.Notify(t.Context(), Notice(notifier.TopicPage))
			var retry *notifier.RetryError
			if !errors.As(err, &retry) || retry.After != want {
				t.Errorf("Notify answered %d, Retry-After %s: got %v, want a RetryError of %s", status, header,
					err, want)
				continue
			}
			NoSecret(t, err, secrets...)
			NoSecret(t, retry, secrets...)
		}
	}
	server.Heal()
}

// permanent is the retry table in other words: all that is no server's trouble
// and no question of time.
func permanent(status int) bool {
	switch status {
	case 408, 425, 429, 500, 502, 503, 504, 506, 507, 508, 510, 511, 599:
		return false
	}
	return true
}
