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
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/view"
)

// The beats of a stream.
const (
	refreshEvery   = time.Second      // how often a rollout's figures are looked at
	heartbeatEvery = 15 * time.Second // of a comment when nothing else is sent
	writeTimeout   = 10 * time.Second // after which a reader that does not read is dropped
	readmitEvery   = 5 * time.Second  // how often a reader must still be let in
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
	return s.stream(w, r, a, after, func(ctx context.Context, out *stream, changes <-chan changed) error {
		if err := out.rollout(snap); err != nil || closed(snap) && !resumed {
			return finish(out, err)
		}
		return s.feedOne(ctx, out, snap.Plan.ID, changes)
	})
}

// feedOne feeds the stream of one rollout until it has ended and everything of it was told.
func (s *Server) feedOne(ctx context.Context, out *stream, id string, changes <-chan changed) error {
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
			if len(changes) > 0 {
				continue // the state after the last of them is enough
			}
		case <-tick.C:
		}
		now, err := s.c.Engine.Rollout(ctx, id)
		if err != nil {
			return err
		}
		if err := out.readmitted(now.Plan.Policy.Labels); err != nil {
			return err
		}
		if err := out.rollout(now); err != nil {
			return err
		}
		if closed(now) && out.last >= now.Revision {
			return finish(out, nil)
		}
	}
}

// closed: the rollout has ended and everything of it was told.
func closed(snap rollout.Snapshot) bool { return snap.State.Settled() }

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
	if err := s.index.ready(r.Context()); err != nil {
		return err
	}
	if !resumed {
		after = s.index.last()
	}
	return s.stream(w, r, a, after, s.feedAll)
}

// feedAll feeds a stream of all rollouts until ctx ends.
func (s *Server) feedAll(ctx context.Context, out *stream, changes <-chan changed) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		if err := out.readmitted(nil); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := out.beat(); err != nil {
				return err
			}
		case c, open := <-changes:
			switch {
			case !open:
				return nil
			case c.err != nil:
				return c.err
			}
			labels, known := s.labelsOf(ctx, c.Rollout)
			if !known || !out.actor.May(labels, RoleView) {
				continue // deleted meanwhile, or not for this actor
			}
			if err := out.entry(c.Change); err != nil {
				return err
			}
		}
	}
}

// labelsOf are the labels of a rollout's policy; false when there is none of that
// id any more.
func (s *Server) labelsOf(ctx context.Context, id string) (map[string]string, bool) {
	if c, ok := s.index.entry(id); ok {
		return c.Labels, true
	}
	snap, err := s.c.Engine.Rollout(ctx, id) // it may be newer than the index
	if err != nil {
		return nil, false
	}
	return snap.Plan.Policy.Labels, true
}

// stream opens a stream, feeds serve with the changes after a revision and ends
// with the request, the server, serve, or the reader's right. Once it has begun
// there is no way to say an error but to end.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, a Actor, after uint64, serve func(context.Context, *stream, <-chan changed) error) error {
	if err := s.streams.enter(a.Person.ID); err != nil {
		return err
	}
	defer s.streams.leave(a.Person.ID)
	ctx, cancel := context.WithCancel(r.Context())
	out := &stream{w: w, c: http.NewResponseController(w), last: after, actor: a, admitted: time.Now(), readmit: s.readmitEvery,
		again: func() (Actor, error) { return s.authenticate(r) }}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	changes := make(chan changed, 64)
	var feeding sync.WaitGroup
	defer feeding.Wait()
	defer cancel()
	feeding.Go(func() { s.follow(ctx, after, changes) })
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

	// actor is who reads, as of the time at which they were last let in; again asks
	// who it is now, whenever readmit has passed.
	actor    Actor
	admitted time.Time
	readmit  time.Duration
	again    func() (Actor, error)
}

// readmitted reports an error when whoever reads would not be let in any more:
// their token, certificate or role was taken away, or has ended.
func (o *stream) readmitted(labels map[string]string) error {
	if time.Since(o.admitted) < o.readmit {
		return nil
	}
	actor, err := o.again()
	switch {
	case err != nil:
		return err
	case !actor.MayAnywhere(RoleView), labels != nil && !actor.May(labels, RoleView):
		return forbidden(actor, []Role{RoleView})
	}
	o.actor, o.admitted = actor, time.Now()
	return nil
}

// rollout sends a rollout's present state when it is not what was sent last, and
// otherwise now and then a comment, so that a dead connection is noticed.
func (o *stream) rollout(snap rollout.Snapshot) error {
	body, err := json.Marshal(view.OfSnapshot(snap))
	if err != nil {
		return fmt.Errorf("encode rollout: %w", err)
	}
	if bytes.Equal(body, o.body) {
		return o.beat()
	}
	o.body = body
	return o.send("rollout", "", body)
}

// entry sends a journal entry; its revision is the event's id.
func (o *stream) entry(c journal.Change) error {
	body, err := json.Marshal(StreamEntry{SchemaVersion: SchemaVersion, Rollout: c.Rollout, Revision: c.Revision, Entry: c.Entry})
	if err != nil {
		return fmt.Errorf("encode entry: %w", err)
	}
	o.last = c.Revision
	return o.send("entry", strconv.FormatUint(c.Revision, 10), body)
}

// beat sends a comment when nothing was sent for a while.
func (o *stream) beat() error {
	if time.Since(o.sent) < heartbeatEvery {
		return nil
	}
	return o.comment()
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
	// Over HTTP/2 a deadline that passes ends the stream, also when nothing is written.
	_ = o.c.SetWriteDeadline(time.Time{})
	return nil
}
