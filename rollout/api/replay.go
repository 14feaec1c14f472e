package api

import (
	"context"
	"time"

	"github.com/belayd/belay/rollout/turn"
)

// The bounds of reading the journal for streams. A turn that waits for news is over
// after newsWait. What is decided about a rollout needs the processor more; so what
// is new is told newsDelay later, when whatever brought it about has been carried out.
const (
	batchMax  = 32 << 10 // bytes, but for one entry
	newsWait  = 100 * time.Millisecond
	newsDelay = 100 * time.Millisecond
)

// A batch is what the journal holds for a stream after a revision, as it is sent.
type batch struct {
	text []byte
	last uint64 // the revision of the last entry that was looked at
	err  error  // why there is no more
}

// follow sends the entries after a revision that a stream's reader wants until ctx
// ends, and closes the channel.
func (s *Server) follow(
	ctx context.Context, out *stream, after uint64, wants func(Actor, string) bool, to chan<- batch,
) {
	defer close(to)
	for s.index.beyond(ctx, after) {
		last, ok := s.catchUp(ctx, out, after, wants, to)
		if !ok {
			return
		}
		after = last
		pause(ctx, newsDelay)
	}
}

// catchUp sends the entries after a revision that the index knows, and returns the
// last one's; false when that is the end. They are read and rendered in the reader's
// turns, and sent outside of them: one that is slow takes nobody's.
func (s *Server) catchUp(
	ctx context.Context, out *stream, after uint64, wants func(Actor, string) bool, to chan<- batch,
) (uint64, bool) {
	t, err := s.turns.Enter(ctx, out.actor.Load().Person.ID)
	if err != nil {
		return 0, false
	}
	defer t.End()
	waits := time.AfterFunc(newsWait, t.End)
	defer waits.Stop()
	b := batch{last: after}
	for c, err := range s.c.Engine.Changes(ctx, after) {
		waits.Stop()
		if err == nil {
			b.last = c.Revision
			if wants(*out.actor.Load(), c.Rollout) {
				b.text, err = appendEntry(b.text, c)
			}
		}
		b.err = err
		end, over := err != nil || b.last >= s.index.last(), t.Over()
		if !end && !over && len(b.text) < batchMax {
			continue
		}
		if end || over {
			t.End()
		}
		if !hand(ctx, t, to, b) {
			return 0, false
		}
		if end {
			return b.last, err == nil
		}
		if t.GoOn(ctx) != nil {
			return 0, false
		}
		b.text = nil
		waits.Reset(newsWait)
	}
	return 0, false
}

// hand sends a batch; a turn ends when nobody takes it at once. It is false when ctx
// ends.
func hand(ctx context.Context, t *turn.Turn, to chan<- batch, b batch) bool {
	select {
	case to <- b:
		return true
	default:
		t.End()
	}
	select {
	case to <- b:
		return true
	case <-ctx.Done():
		return false
	}
}
