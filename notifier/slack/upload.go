package slack

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/slack-go/slack"

	"github.com/belayd/belay/notifier"
)

// chartTimeout bounds an upload: a picture is worth less than the next message.
const chartTimeout = 10 * time.Second

// uploads remembers until when a workspace that allows no files is left alone.
type uploads struct {
	mu     sync.Mutex
	silent time.Time
}

// chart uploads the picture of the guardrails into the thread of a message that has
// just been posted. It is a courtesy: the message stands without it, and a failure
// is logged and nothing more.
func (c *Client) chart(ctx context.Context, n notifier.Notice, channel, ts string) {
	c.uploads.mu.Lock()
	silent := time.Now().Before(c.uploads.silent)
	c.uploads.mu.Unlock()
	if c.config.NoCharts || silent {
		return
	}
	png, err := picture(n)
	if err != nil || png == nil {
		if err != nil {
			c.log.WarnContext(ctx, "chart not drawn", "rollout", n.Rollout.ID, "outcome", err.Error())
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, chartTimeout)
	defer cancel()
	_, err = c.api.UploadFileContext(ctx, slack.UploadFileParameters{
		Reader: bytes.NewReader(png), FileSize: len(png), Filename: "guardrails.png",
		Title: notifier.Line("Guardrails of "+n.Rollout.Endpoint+", "+n.Rollout.Candidate+" "+n.Rollout.Version,
			maxHeader),
		// What the picture shows stands in the message, too.
		AltTxt: notifier.Line(fmt.Sprintf("The guardrails of %s with their intervals and limits, as listed in the "+
			"message.", n.Rollout.Endpoint), 900),
		Channel: channel, ThreadTimestamp: ts,
	})
	if err == nil {
		return
	}
	if isRefusal(err) {
		c.uploads.mu.Lock()
		c.uploads.silent = time.Now().Add(refusedFor)
		c.uploads.mu.Unlock()
	}
	c.log.WarnContext(ctx, "chart not uploaded", "rollout", n.Rollout.ID, "outcome", c.classify(err).Error())
}
