package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
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
	id := snap.Plan.ID
	wants := func(_ Actor, rollout string) bool { return rollout == id }
	return s.stream(w, r, a, after, wants, func(ctx context.Context, out *stream, news <-chan batch) error {
		return s.feedOne(ctx, out, id, news)
	})
}

// feedOne feeds the stream of one rollout until it has ended and everything of it was told.
func (s *Server) feedOne(ctx context.Context, out *stream, id string, news <-chan batch) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		now, body, err := s.present(ctx, out, id)
		if err != nil {
			return err
		}
		if err := out.readmitted(now.Plan.Policy.Labels); err != nil {
			return err
		}
		if err := out.rollout(body); err != nil {
			return err
		}
		if closed(now) && out.last >= now.Revision {
			return out.send("end", []byte(`{"schemaVersion":1}`))
		}
		if err := s.await(ctx, out, tick.C, news); err != nil {
			return err
		}
	}
}

// present is a rollout as it is now, and how it is shown: rendered in the reader's
// turn, as all readers of it want that at the same time.
func (s *Server) present(ctx context.Context, out *stream, id string) (rollout.Snapshot, []byte, error) {
	t, err := s.turns.Enter(ctx, out.actor.Load().Person.ID)
	if err != nil {
		return rollout.Snapshot{}, nil, err
	}
	defer t.End()
	now, err := s.c.Engine.Rollout(ctx, id)
	if err != nil {
		return rollout.Snapshot{}, nil, err
	}
	body, err := json.Marshal(view.OfSnapshot(now))
	return now, body, err
}

// await sends the entries that come until the rollout's state is to be looked at
// again: after the last of them, or for its figures.
func (s *Server) await(ctx context.Context, out *stream, tick <-chan time.Time, news <-chan batch) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
			return nil
		case b, open := <-news:
			if !open {
				return ctx.Err()
			}
			if err := out.entries(b); err != nil {
				return err
			}
			if len(b.text) > 0 && b.last >= s.index.last() {
				return nil
			}
		}
	}
}

// closed: the rollout has ended and everything of it was told.
func closed(snap rollout.Snapshot) bool { return snap.State.Settled() }

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
	wants := func(reader Actor, rollout string) bool {
		labels, known := s.labelsOf(r.Context(), rollout)
		return known && reader.May(labels, RoleView) // else: deleted meanwhile, or not for this reader
	}
	return s.stream(w, r, a, after, wants, feedAll)
}

// feedAll feeds a stream of all rollouts until ctx ends.
func feedAll(ctx context.Context, out *stream, news <-chan batch) error {
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
		case b, open := <-news:
			if !open {
				return nil
			}
			if err := out.entries(b); err != nil {
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

// stream opens a stream, feeds serve with the entries after a revision that the
// reader wants and ends with the request, the server, serve, or the reader's right.
// Once it has begun there is no way to say an error but to end.
func (s *Server) stream(
	w http.ResponseWriter, r *http.Request, a Actor, after uint64,
	wants func(reader Actor, rollout string) bool, serve func(context.Context, *stream, <-chan batch) error,
) error {
	if err := s.streams.enter(a.Person.ID); err != nil {
		return err
	}
	defer s.streams.leave(a.Person.ID)
	ctx, cancel := context.WithCancel(r.Context())
	out := &stream{w: w, c: http.NewResponseController(w), last: after, admitted: time.Now(), readmit: s.readmitEvery,
		again: func() (Actor, error) { return s.authenticate(r) }}
	out.actor.Store(&a)
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	news := make(chan batch, 1)
	var feeding sync.WaitGroup
	defer feeding.Wait()
	defer cancel()
	feeding.Go(func() { s.follow(ctx, out, after, wants, news) })
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
	if err := serve(ctx, out, news); err != nil && ctx.Err() == nil {
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
	actor    atomic.Pointer[Actor]
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
	o.actor.Store(&actor)
	o.admitted = time.Now()
	return nil
}

// rollout sends a rollout's present state when it is not what was sent last, and
// otherwise now and then a comment, so that a dead connection is noticed.
func (o *stream) rollout(body []byte) error {
	if bytes.Equal(body, o.body) {
		return o.beat()
	}
	o.body = body
	return o.send("rollout", body)
}

// entries sends what the journal holds.
func (o *stream) entries(b batch) error {
	o.last = b.last
	if len(b.text) > 0 {
		if err := o.write(b.text); err != nil {
			return err
		}
	}
	return b.err
}

// appendEntry appends a journal entry as it is sent; its revision is the event's id.
func appendEntry(to []byte, c journal.Change) ([]byte, error) {
	body, err := json.Marshal(StreamEntry{SchemaVersion: SchemaVersion, Rollout: c.Rollout, Revision: c.Revision,
		Entry: c.Entry})
	if err != nil {
		return to, fmt.Errorf("encode entry: %w", err)
	}
	return appendEvent(to, "entry", strconv.FormatUint(c.Revision, 10), body), nil
}

// beat sends a comment when nothing was sent for a while.
func (o *stream) beat() error {
	if time.Since(o.sent) < heartbeatEvery {
		return nil
	}
	return o.comment()
}

func (o *stream) comment() error { return o.write([]byte(":\n\n")) }

// send writes one event.
func (o *stream) send(kind string, body []byte) error {
	return o.write(appendEvent(nil, kind, "", body))
}

// appendEvent appends one event; the body is JSON on one line.
func appendEvent(to []byte, kind, id string, body []byte) []byte {
	to = append(append(to, "event: "...), kind...)
	if id != "" {
		to = append(append(to, "\nid: "...), id...)
	}
	to = append(append(to, "\ndata: "...), body...)
	return append(to, "\n\n"...)
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
