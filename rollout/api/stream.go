package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/belayd/belay/rollout"
)

// The beats of a stream.
const (
	refreshEvery   = time.Second      // how often a rollout's figures are looked at
	heartbeatEvery = 15 * time.Second // of a comment when nothing else is sent
	writeTimeout   = 10 * time.Second // after which a reader that does not read is dropped
)

// streamOne streams one rollout: its present state as "rollout" whenever that
// changes, each new journal entry as "entry", and "end" when nothing of it is
// left to do. With Last-Event-ID the entries after that revision come first.
func (s *Server) streamOne(w http.ResponseWriter, r *http.Request, a Actor) error {
	snap, err := s.find(r, a)
	if err != nil {
		return err
	}
	after, resumed, err := lastEventID(r)
	if err != nil {
		return err
	}
	if !resumed {
		after = snap.Revision
	}
	id := snap.Plan.ID
	return s.stream(w, r, after, func(ctx context.Context, out *stream, changes <-chan changed) error {
		if err := out.rollout(snap); err != nil || snap.State.Phase.Terminal() && !resumed && closed(snap) {
			return finish(out, err)
		}
		tick := time.NewTicker(refreshEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case c, open := <-changes:
				switch {
				case !open:
					return nil
				case c.err != nil:
					return c.err
				case c.Rollout != id:
					continue
				}
				if err := out.entry(c.Change); err != nil {
					return err
				}
			case <-tick.C:
			}
			now, err := s.c.Engine.Rollout(ctx, id)
			if err != nil {
				return err
			}
			if err := out.rollout(now); err != nil {
				return err
			}
			if closed(now) && out.last >= now.Revision {
				return finish(out, nil)
			}
		}
	})
}

// closed: the rollout has ended and nothing of it is left to do.
func closed(snap rollout.Snapshot) bool {
	return snap.State.Phase.Terminal() && len(snap.State.Outbox) == 0
}

func finish(out *stream, err error) error {
	if err != nil {
		return err
	}
	return out.send("end", "", []byte(`{"schemaVersion":1}`))
}

// streamAll streams the journal entries of all rollouts that the actor may view.
func (s *Server) streamAll(w http.ResponseWriter, r *http.Request, a Actor) error {
	after, resumed, err := lastEventID(r)
	if err != nil {
		return err
	}
	if err := s.board.ready(r.Context()); err != nil {
		return err
	}
	if !resumed {
		after = s.board.last()
	}
	return s.stream(w, r, after, func(ctx context.Context, out *stream, changes <-chan changed) error {
		idle := time.NewTicker(heartbeatEvery)
		defer idle.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-idle.C:
				if err := out.comment(); err != nil {
					return err
				}
			case c, open := <-changes:
				switch {
				case !open:
					return nil
				case c.err != nil:
					return c.err
				}
				snap, err := s.c.Engine.Rollout(ctx, c.Rollout)
				if err != nil || !a.May(snap.Plan.Policy.Labels, RoleView) {
					continue // deleted meanwhile, or not for this actor
				}
				if err := out.entry(c.Change); err != nil {
					return err
				}
			}
		}
	})
}

// changed is a change, or why there are no more.
type changed struct {
	rollout.Change
	err error
}

// stream opens a stream, feeds serve with the changes after a revision and ends
// with the request, the server, or serve. Once it has begun there is no way to
// say an error but to end.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, after uint64, serve func(context.Context, *stream, <-chan changed) error) error {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return unavailable(fmt.Sprintf("there are %d streams already", s.c.Streams), 10*time.Second)
	}
	ctx, cancel := context.WithCancel(r.Context())
	out := &stream{w: w, c: http.NewResponseController(w), last: after}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	changes := make(chan changed, 64)
	var feeding sync.WaitGroup
	defer feeding.Wait()
	defer cancel()
	feeding.Go(func() {
		defer close(changes)
		for c, err := range s.c.Engine.Changes(ctx, after) {
			select {
			case changes <- changed{c, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	feeding.Go(func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	if err := out.comment(); err != nil {
		return nil
	}
	if err := serve(ctx, out, changes); err != nil && ctx.Err() == nil {
		s.c.Log.Info("stream ended", "request", w.Header().Get("X-Request-Id"), "path", r.URL.Path, "err", err)
	}
	return nil
}

// lastEventID is the revision from which a reader goes on.
func lastEventID(r *http.Request) (revision uint64, resumed bool, err error) {
	v := r.Header.Get("Last-Event-ID")
	if v == "" {
		return 0, false, nil
	}
	if revision, err = strconv.ParseUint(v, 10, 64); err != nil {
		return 0, false, badRequest("Last-Event-ID: want the id of an event before")
	}
	return revision, true, nil
}

// A stream writes server-sent events to one reader.
type stream struct {
	w http.ResponseWriter
	c *http.ResponseController
	// last is the revision of the last entry that was sent; body the rollout as
	// it was last sent.
	last uint64
	body []byte
	sent time.Time
}

// rollout sends a rollout's present state when it is not what was sent last, and
// otherwise now and then a comment, so that a dead connection is noticed.
func (o *stream) rollout(snap rollout.Snapshot) error {
	body, err := json.Marshal(RenderSnapshot(snap))
	if err != nil {
		return fmt.Errorf("encode rollout: %w", err)
	}
	if bytes.Equal(body, o.body) {
		if time.Since(o.sent) < heartbeatEvery {
			return nil
		}
		return o.comment()
	}
	o.body = body
	return o.send("rollout", "", body)
}

// entry sends a journal entry; its revision is the event's id.
func (o *stream) entry(c rollout.Change) error {
	body, err := json.Marshal(StreamEntry{SchemaVersion: SchemaVersion, Rollout: c.Rollout, Revision: c.Revision, Entry: c.Entry})
	if err != nil {
		return fmt.Errorf("encode entry: %w", err)
	}
	o.last = c.Revision
	return o.send("entry", strconv.FormatUint(c.Revision, 10), body)
}

func (o *stream) comment() error { return o.write([]byte(":\n\n")) }

// send writes one event; the body is JSON on one line.
func (o *stream) send(kind, id string, body []byte) error {
	var b bytes.Buffer
	b.WriteString("event: " + kind + "\n")
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("data: ")
	b.Write(body)
	b.WriteString("\n\n")
	return o.write(b.Bytes())
}

func (o *stream) write(b []byte) error {
	o.sent = time.Now()
	// A writer without deadlines (a test's recorder) takes what it gets.
	_ = o.c.SetWriteDeadline(o.sent.Add(writeTimeout))
	if _, err := o.w.Write(b); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := o.c.Flush(); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return nil
}
