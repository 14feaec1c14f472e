package api

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/belayd/belay/rollout/journal"
)

// The bounds of reading history for streams: one at a time reads, replayTurn long,
// and then all of them rest for as long. A turn that waits for news is over after
// replayMax. What is decided about a rollout needs the time more; so what is new is
// told newsDelay later, when whatever brought it about has been carried out.
const (
	replayTurn = 5 * time.Millisecond
	replayMax  = 100 * time.Millisecond
	newsDelay  = 100 * time.Millisecond
)

// changed is a change, or why there are no more.
type changed struct {
	journal.Change
	err error
}

// follow sends the changes after a revision until ctx ends, and closes the channel.
// They are read in turns: history in those of all who read it, and news, which
// comes to all streams at the same time, in others.
func (s *Server) follow(ctx context.Context, after uint64, to chan<- changed) {
	defer close(to)
	for turns := s.replays; s.index.beyond(ctx, after); turns = s.news {
		last, ok := s.catchUp(ctx, turns, after, to)
		if !ok {
			return
		}
		after = last
		pause(ctx, newsDelay)
	}
}

// catchUp sends the changes after a revision that the index knows, and returns the
// last one's; false when that is the end.
func (s *Server) catchUp(ctx context.Context, turns chan struct{}, after uint64, to chan<- changed) (uint64, bool) {
	t := turn{of: turns}
	defer t.end()
	t.begin(ctx)
	for c, err := range s.c.Engine.Changes(ctx, after) {
		select {
		case to <- changed{c, err}:
		default: // a reader that is slow takes nobody's turn
			t.end()
			select {
			case to <- changed{c, err}:
			case <-ctx.Done():
				return 0, false
			}
		}
		switch {
		case err != nil:
			return 0, false
		case c.Revision >= s.index.last():
			return c.Revision, true
		}
		t.goOn(ctx)
	}
	return 0, false
}

// A turn is one stream's time to read history. It belongs to one goroutine.
type turn struct {
	of    chan struct{} // of one element: who has it reads
	began time.Time     // zero: it is not this stream's turn
	give  *time.Timer   // takes the turn away when it is not ended
}

// begin waits for a turn, or until ctx ends.
func (t *turn) begin(ctx context.Context) {
	select {
	case t.of <- struct{}{}:
	case <-ctx.Done():
		return
	}
	t.began = time.Now()
	t.give = time.AfterFunc(replayMax, func() { <-t.of })
}

// goOn goes on with a turn, or begins the next when it has lasted long enough.
func (t *turn) goOn(ctx context.Context) {
	took := time.Since(t.began)
	switch {
	case t.began.IsZero():
	case took < replayTurn:
		return
	default:
		pause(ctx, min(took, replayMax/2))
		t.end()
	}
	t.begin(ctx)
}

// end gives the turn to whoever waits.
func (t *turn) end() {
	if !t.began.IsZero() && t.give.Stop() {
		<-t.of
	}
	t.began = time.Time{}
}

// places bounds the streams that are open, and those of one actor.
type places struct {
	most int

	mu  sync.Mutex
	all int
	of  map[string]int
}

// enter takes a place, or says that there is none.
func (p *places) enter(actor string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch each := max(p.most/4, 1); {
	case p.all >= p.most:
		return unavailable(fmt.Sprintf("there are %d streams already", p.most), 10*time.Second)
	case p.of[actor] >= each:
		return unavailable(fmt.Sprintf("%s has %d streams already", actor, each), 10*time.Second)
	}
	p.all++
	p.of[actor]++
	return nil
}

// leave gives the place back.
func (p *places) leave(actor string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.of[actor]--; p.of[actor] == 0 {
		delete(p.of, actor)
	}
}
