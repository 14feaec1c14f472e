package serve

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// turnMax is how long a turn lasts at most, turnBrief while something is written:
// whoever waits for something else than a processor holds nobody up for longer.
const turnMax, turnBrief = 20 * time.Millisecond, 2 * time.Millisecond

// turns let one thing be done for a stranger at a time (a TLS handshake be
// reckoned, a request be answered), and of those that wait the one that came last.
// So who floods belayd takes neither all processors nor, for longer than one turn,
// the place of a person who comes after; and however many wait, what is done for a
// rollout stands in no queue behind them. It is safe for concurrent use.
type turns struct {
	mu      sync.Mutex
	busy    bool
	waiting []chan struct{}
}

// A turn is what one of them has. It is safe for concurrent use.
type turn struct {
	of   *turns
	most *time.Timer // ends it; whoever stops it does instead
}

// enter waits for a turn, or until ctx ends.
func (s *turns) enter(ctx context.Context) (*turn, error) {
	s.mu.Lock()
	if !s.busy {
		s.busy = true
		s.mu.Unlock()
		return s.begin(), nil
	}
	mine := make(chan struct{})
	s.waiting = append(s.waiting, mine)
	s.mu.Unlock()
	select {
	case <-mine:
		return s.begin(), nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, mine); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	} else { // it was given in the same moment
		s.next()
	}
	return nil, ctx.Err()
}

// begin begins a turn.
func (s *turns) begin() *turn {
	t := &turn{of: s}
	t.most = time.AfterFunc(turnMax, t.over)
	return t
}

// end ends a turn, unless it has ended; nil is none.
func (t *turn) end() {
	if t != nil && t.most.Stop() {
		t.over()
	}
}

// soon ends a turn in a short while, unless it has ended; nil is none.
func (t *turn) soon() {
	if t != nil && t.most.Stop() {
		t.most.Reset(turnBrief)
	}
}

// over gives the turn to whoever is next.
func (t *turn) over() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	t.of.next()
}

// next gives the turn to whoever came last; with the lock held.
func (s *turns) next() {
	last := len(s.waiting) - 1
	if last < 0 {
		s.busy = false
		return
	}
	close(s.waiting[last])
	s.waiting = s.waiting[:last]
}

// A visit is a request of somebody who was not recognised before. It is safe for
// concurrent use.
type visit struct {
	of *turns
	// turn is the one that it has; nil: none.
	turn atomic.Pointer[turn]
}

// visitKey is the key of a request's visit in its context.
type visitKey struct{}

// visitOf is the visit that a request is; nil where it is none.
func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

// EndTurn says that a stranger's request has no need of a processor for now. It
// does nothing where the request did not come over a Server.
func EndTurn(ctx context.Context) { visitOf(ctx).end() }

// TakeTurn waits for the next turn after EndTurn; it is an error when ctx ends
// before. It does nothing where the request did not come over a Server.
func TakeTurn(ctx context.Context) error { return visitOf(ctx).begin(ctx) }

// begin waits for a turn.
func (v *visit) begin(ctx context.Context) error {
	if v == nil {
		return nil
	}
	t, err := v.of.enter(ctx)
	v.turn.Swap(t).end()
	return err
}

// end ends the turn.
func (v *visit) end() {
	if v != nil {
		v.turn.Swap(nil).end()
	}
}

// write says that a part of the answer is being written. Over HTTP/2 somebody else
// does that for all requests of the connection.
func (v *visit) write(r *http.Request) {
	switch {
	case v == nil:
	case r.ProtoMajor >= 2:
		v.end()
	default:
		v.turn.Load().soon()
	}
}
