package slack

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"

	"github.com/belayd/belay/notifier"
)

// The inbox's bounds. Slack wants its acknowledgement within 3 s; what takes
// longer goes on, for at most actTimeout, and the person hears later.
const (
	ackWithin  = 2500 * time.Millisecond
	actTimeout = 15 * time.Second
	maxActs    = 64
	maxMessage = 1 << 20
)

// A deliverFunc decides what becomes of an answer.
type deliverFunc = func(context.Context, notifier.Answer) (notifier.Reply, error)

// An inbox is what hearing needs: the function that decides, while Run runs, and a
// slot for each act under way. When all slots are taken, an act is not taken up and
// not acknowledged: Slack shows the person that it did not work.
type inbox struct {
	mu      sync.Mutex
	deliver deliverFunc
	slots   chan struct{}
	acts    sync.WaitGroup
}

// An act is something a person did. do decides it; late is what Slack is told when
// that takes longer than Slack waits.
type act struct {
	do   func(context.Context) outcome
	late any
}

// An outcome is what came of an act: what Slack is told, and what is to be done
// after that, or when it was too late for it.
type outcome struct {
	ack   any
	after func(context.Context)
	late  func(context.Context)
}

// Run hears people over Socket Mode, where there is an app token, and makes
// Handler answer, until ctx ends. It returns nil then, after the acts under way
// are done, and an error when Slack refuses the app token.
func (c *Client) Run(
	ctx context.Context, deliver func(context.Context, notifier.Answer) (notifier.Reply, error),
) error {
	c.inbox.mu.Lock()
	if c.inbox.deliver != nil {
		c.inbox.mu.Unlock()
		return errors.New("run slack inbox: it is running already")
	}
	c.inbox.deliver = deliver
	c.inbox.mu.Unlock()
	defer func() {
		c.inbox.mu.Lock()
		c.inbox.deliver = nil
		c.inbox.mu.Unlock()
		c.inbox.acts.Wait()
	}()
	if c.config.AppToken == "" {
		<-ctx.Done()
		return nil
	}
	if err := c.listen(ctx); ctx.Err() == nil {
		return fmt.Errorf("run slack inbox: %w", c.classify(err))
	}
	return nil
}

// listen keeps a Socket Mode connection and handles what arrives.
func (c *Client) listen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	socket := socketmode.New(c.api, socketmode.OptionReadLimit(maxMessage),
		socketmode.OptionLog(log.New(logWriter{c}, "", 0)))
	ended := make(chan error, 1)
	go func() { ended <- socket.RunContext(ctx) }()
	for {
		select {
		case err := <-ended:
			return err
		case e := <-socket.Events:
			c.event(ctx, socket, e)
		}
	}
}

// event handles one event; those of the connection itself are logged.
func (c *Client) event(ctx context.Context, socket *socketmode.Client, e socketmode.Event) {
	switch data := e.Data.(type) {
	case slack.InteractionCallback:
		c.heard(ctx, socket, e, c.interaction(data))
	case slack.SlashCommand:
		c.heard(ctx, socket, e, c.command(data))
	case *socketmode.ConnectedEvent:
		c.log.InfoContext(ctx, "slack connected")
	case *slack.ConnectionErrorEvent:
		c.log.WarnContext(ctx, "slack connection failed", "outcome", c.classify(data.ErrorObj).Error())
	case *socketmode.ErrorBadMessage:
		c.log.WarnContext(ctx, "slack message not understood", "outcome", c.classify(data.Cause).Error())
	default:
		if e.Request != nil && e.Request.EnvelopeID != "" {
			c.acknowledge(ctx, socket, e, nil)
		}
	}
}

// heard takes an act up and acknowledges it in time, without keeping the next one
// waiting.
func (c *Client) heard(ctx context.Context, socket *socketmode.Client, e socketmode.Event, a *act) {
	if a == nil {
		c.acknowledge(ctx, socket, e, nil)
		return
	}
	ok := c.begin(*a, func(ack any) { c.acknowledge(ctx, socket, e, ack) })
	if !ok {
		c.log.WarnContext(ctx, "act not taken up: too many are under way")
	}
}

func (c *Client) acknowledge(ctx context.Context, socket *socketmode.Client, e socketmode.Event, payload any) {
	if err := socket.AckCtx(ctx, e.Request.EnvelopeID, payload); err != nil && ctx.Err() == nil {
		c.log.WarnContext(ctx, "slack not acknowledged", "outcome", err.Error())
	}
}

// begin takes an act up, if there is a slot for it: it runs in the background, for
// at most actTimeout, and Run waits for it. answer is called once, within the time
// that Slack waits.
func (c *Client) begin(a act, answer func(ack any)) bool {
	b := &c.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deliver == nil {
		return false
	}
	select {
	case b.slots <- struct{}{}:
	default:
		return false
	}
	inTime := make(chan any)
	tooLate := make(chan struct{})
	b.acts.Go(func() {
		defer func() { <-b.slots }()
		o := bounded(a.do)
		then := o.after
		select {
		case inTime <- o.ack:
		case <-tooLate:
			then = o.late
		}
		if then != nil {
			bounded(func(ctx context.Context) struct{} { then(ctx); return struct{}{} })
		}
	})
	b.acts.Go(func() {
		timer := time.NewTimer(ackWithin)
		defer timer.Stop()
		select {
		case ack := <-inTime:
			answer(ack)
		case <-timer.C:
			close(tooLate)
			answer(a.late)
		}
	})
	return true
}

// bounded runs f with a time of its own: an act that has been heard goes on when
// the daemon stops.
func bounded[T any](f func(context.Context) T) T {
	ctx, cancel := context.WithTimeout(context.Background(), actTimeout)
	defer cancel()
	return f(ctx)
}

// decide hands an answer to deliver, with the person's user groups: an approval may
// ask one of them, and that is also the right to pause and to roll back. It gives
// what the person is to be told.
func (c *Client) decide(ctx context.Context, user string, a notifier.Answer) notifier.Reply {
	c.inbox.mu.Lock()
	deliver := c.inbox.deliver
	c.inbox.mu.Unlock()
	if deliver == nil {
		return notifier.Reply{Text: "Belay is starting or stopping; nothing was decided. Try again in a moment."}
	}
	p, err := c.people.person(ctx, user)
	if errors.Is(err, errRefused) {
		return notifier.Reply{Text: "Not accepted: " + strings.TrimPrefix(err.Error(), errRefused.Error()+": ") + "."}
	}
	if err != nil {
		c.log.WarnContext(ctx, "answer refused", "rollout", a.Rollout, "outcome", c.classify(err).Error())
		return notifier.Reply{Text: "Nothing was decided: Slack did not say who you are. Try again in a moment, or " +
			"use the belay command."}
	}
	a.Who, a.Name, a.At = p.who, notifier.Line(p.name, 80), time.Now()
	note := ""
	if a.Groups, err = c.people.memberOf(ctx, user); err != nil {
		c.log.WarnContext(ctx, "user groups not known", "rollout", a.Rollout, "outcome", c.classify(err).Error())
		note = " (Slack did not tell all user groups; if you may act as a member of one, try again in a moment.)"
	}
	reply, err := deliver(ctx, a)
	if err != nil {
		c.log.WarnContext(ctx, "answer not recorded", "rollout", a.Rollout, "outcome", c.classify(err).Error())
		return notifier.Reply{Text: "It could not be recorded. Nothing may have been decided: look at the rollout, " +
			"and try again in a moment."}
	}
	if !reply.Accepted {
		reply.Text += note
	}
	return reply
}

// postEphemeral tells one person something that only they see: in the channel where they
// acted, or by the address that came with the act.
func (c *Client) postEphemeral(ctx context.Context, channel, thread, user, responseURL, text string) {
	if text == "" {
		return
	}
	text = cut(escaper.Replace(notifier.Lines(text, maxSection)), maxSection)
	options := []slack.MsgOption{slack.MsgOptionText(text, false), slack.MsgOptionDisableLinkUnfurl(),
		slack.MsgOptionDisableMediaUnfurl()}
	if thread != "" {
		options = append(options, slack.MsgOptionTS(thread))
	}
	var err error
	if channel != "" {
		if _, err = c.api.PostEphemeralContext(ctx, channel, user, options...); err == nil {
			return
		}
	}
	if c.trusted(responseURL) {
		err = slack.PostWebhookCustomHTTPContext(ctx, responseURL, c.config.Client,
			&slack.WebhookMessage{Text: text, ResponseType: slack.ResponseTypeEphemeral})
	}
	if err != nil {
		c.log.WarnContext(ctx, "person not told", "outcome", notifier.Redact(c.classify(err), responseURL).Error())
	}
}

// trusted reports whether an address that came with an act is Slack's.
func (c *Client) trusted(address string) bool {
	return strings.HasPrefix(address, "https://hooks.slack.com/") || c.config.URL != DefaultURL && strings.HasPrefix(
		address, c.config.URL)
}

// logWriter takes what the library logs; it does so for debugging only.
type logWriter struct{ c *Client }

func (w logWriter) Write(p []byte) (int, error) {
	w.c.log.Debug("slack library", "message", notifier.Redact(errors.New(notifier.Line(string(p), 500)),
		w.c.config.BotToken, w.c.config.AppToken).Error())
	return len(p), nil
}

var (
	_ notifier.Notifier = (*Client)(nil)
	_ notifier.Inbox    = (*Client)(nil)
	_ http.Handler      = (*Client)(nil)
)
