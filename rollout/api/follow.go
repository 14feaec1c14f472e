package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/view"
)

// A StreamEvent is one event of a stream: exactly one of Rollout and Entry is set.
type StreamEvent struct {
	Rollout *view.Rollout
	Entry   *StreamEntry
}

// eventMax bounds one event of a stream, in bytes.
const eventMax = 8 << 20

// Follow yields what happens to a rollout until nothing of it is left to do: its
// state, whenever that changes, and each new journal entry once. A connection that
// is lost is opened again where it broke off. An error ends it: a problem that
// the daemon reported, or ctx.
func (c *Client) Follow(ctx context.Context, id string) iter.Seq2[StreamEvent, error] {
	return c.follow(ctx, "/v1/rollouts/"+url.PathEscape(id)+"/events")
}

// FollowAll yields the journal entries of all rollouts from now on, like Follow.
func (c *Client) FollowAll(ctx context.Context) iter.Seq2[StreamEvent, error] {
	return c.follow(ctx, "/v1/events")
}

func (c *Client) follow(ctx context.Context, path string) iter.Seq2[StreamEvent, error] {
	return func(yield func(StreamEvent, error) bool) {
		lastID, failures := "", 0
		for ctx.Err() == nil {
			began := time.Now()
			done, err := c.read(ctx, path, &lastID, yield)
			if done || ctx.Err() != nil {
				return
			}
			var p *ProblemDetails
			if errors.As(err, &p) && p.Status < http.StatusInternalServerError && p.Status != http.StatusTooManyRequests {
				yield(StreamEvent{}, err)
				return
			}
			if failures++; time.Since(began) > 5*time.Second {
				failures = 1
			}
			if failures > 8 { // about a minute without a connection that lasts
				yield(StreamEvent{}, err)
				return
			}
			pause(ctx, min(250*time.Millisecond<<failures, 10*time.Second))
		}
		yield(StreamEvent{}, ctx.Err())
	}
}

// read reads one connection. It is done when the stream said "end" or the reader
// wants no more.
func (c *Client) read(
	ctx context.Context, path string, lastID *string, yield func(StreamEvent, error) bool,
) (done bool, err error) {
	req, err := c.request(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if *lastID != "" {
		req.Header.Set("Last-Event-ID", *lastID)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return false, c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, problemFrom(resp)
	}
	for m, err := range messages(resp.Body) {
		if err != nil {
			return false, fmt.Errorf("read stream: %w", err)
		}
		ev, known, err := decodeMessage(m)
		switch {
		case err != nil:
			return false, err
		case m.kind == "end":
			return true, nil
		case known && !yield(ev, nil):
			return true, nil
		}
		if m.id != "" {
			*lastID = m.id
		}
	}
	return false, fmt.Errorf("read stream: %w", io.ErrUnexpectedEOF)
}

// A message is one server-sent event as it came.
type message struct{ kind, id, data string }

// messages splits a stream into its events; comments and unknown fields are
// skipped.
func messages(r io.Reader) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, eventMax)
		var m message
		var data []string
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case lines.Text() == "":
				m.data = strings.Join(data, "\n")
				if (m.kind != "" || m.data != "") && !yield(m, nil) {
					return
				}
				m, data = message{}, nil
			case field == "event":
				m.kind = value
			case field == "id":
				m.id = value
			case field == "data":
				data = append(data, value)
			}
		}
		if err := lines.Err(); err != nil {
			yield(message{}, err)
		}
	}
}

// decodeMessage reads the kinds of events that this version knows.
func decodeMessage(m message) (ev StreamEvent, known bool, err error) {
	switch m.kind {
	case "rollout":
		ev.Rollout = &view.Rollout{}
		err = json.Unmarshal([]byte(m.data), ev.Rollout)
	case "entry":
		ev.Entry = &StreamEntry{}
		err = json.Unmarshal([]byte(m.data), ev.Entry)
	default:
		return StreamEvent{}, false, nil
	}
	if err != nil {
		return StreamEvent{}, false, fmt.Errorf("read stream: event %s: %w", m.kind, err)
	}
	return ev, true, nil
}
