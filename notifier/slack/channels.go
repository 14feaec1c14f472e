package slack

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/slack-go/slack"

	"github.com/belayd/belay/notifier"
)

// channels knows channels by name and finds messages that were posted before.
type channels struct {
	api *slack.Client
	log *slog.Logger

	mu     sync.Mutex
	ids    map[string]string // by name without "#"
	listed time.Time
	// silent is until when Slack is not asked for what it has refused.
	silent time.Time
}

func (p *channels) learn(name, id string) {
	if name == id || channelForm.MatchString(name) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids == nil {
		p.ids = map[string]string{}
	}
	p.ids[strings.TrimPrefix(name, "#")] = id
}

// refusedFor is how long a call that the workspace does not allow is left out.
const refusedFor = time.Hour

// find looks for the message of n's key among the newest of its channel or thread;
// "" where there is none, or where the workspace does not let Belay look.
func (p *channels) find(ctx context.Context, n notifier.Notice, m message) (string, error) {
	p.mu.Lock()
	silent := time.Now().Before(p.silent)
	p.mu.Unlock()
	if silent {
		return "", nil
	}
	at, err := p.search(ctx, n, m)
	if err != nil && !isRefusal(err) && n.Topic == notifier.TopicPage && ctx.Err() == nil {
		// A page twice is better than a page late.
		return "", nil
	}
	if err == nil || !isRefusal(err) {
		return at, err
	}
	p.mu.Lock()
	p.silent = time.Now().Add(refusedFor)
	p.mu.Unlock()
	p.log.WarnContext(ctx, "slack messages cannot be looked for; a lost answer may cost a second message", "outcome",
		err.Error())
	return "", nil
}

func (p *channels) search(ctx context.Context, n notifier.Notice, m message) (string, error) {
	channel, err := p.id(ctx, m.channel)
	if err != nil || channel == "" {
		return "", err
	}
	oldest := ""
	if !n.Rollout.Started.IsZero() {
		oldest = fmt.Sprintf("%d.000000", n.Rollout.Started.Unix())
	}
	var messages []slack.Message
	if m.thread != "" {
		messages, _, _, err = p.api.GetConversationRepliesContext(ctx, &slack.GetConversationRepliesParameters{
			ChannelID: channel, Timestamp: m.thread, Oldest: oldest, Limit: 200, IncludeAllMetadata: true,
		})
	} else {
		var h *slack.GetConversationHistoryResponse
		h, err = p.api.GetConversationHistoryContext(ctx, &slack.GetConversationHistoryParameters{
			ChannelID: channel, Oldest: oldest, Limit: 200, IncludeAllMetadata: true,
		})
		if err == nil {
			messages = h.Messages
		}
	}
	if err != nil {
		return "", err
	}
	for _, found := range messages {
		payload := found.Metadata.EventPayload
		// A page that is over is no page that opens.
		if found.Metadata.EventType == metadataType && payload["key"] == n.Key &&
			(n.Resolve || payload["over"] != true) {
			return channel + ":" + found.Timestamp, nil
		}
	}
	return "", nil
}

// id is the id of a channel; "" where nobody can say.
func (p *channels) id(ctx context.Context, channel string) (string, error) {
	if channelForm.MatchString(channel) {
		return channel, nil
	}
	name := strings.TrimPrefix(channel, "#")
	p.mu.Lock()
	id, fresh := p.ids[name], time.Since(p.listed) < refusedFor
	p.mu.Unlock()
	if id != "" || fresh {
		return id, nil
	}
	cursor := ""
	for range 20 {
		channels, next, err := p.api.GetConversationsContext(ctx, &slack.GetConversationsParameters{
			Cursor: cursor, Limit: 1000, ExcludeArchived: true, Types: []string{"public_channel", "private_channel"},
		})
		if err != nil {
			return "", err
		}
		for _, c := range channels {
			p.learn(c.Name, c.ID)
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listed = time.Now()
	return p.ids[name], nil
}
