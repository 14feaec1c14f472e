// Package turn shares a processor between those who look at rollouts, so that none of
// it is missing to what is done for one.
//
// The rules of the package:
//   - It knows nothing of what is done in a turn, and waits for nothing but its turn.
//   - Whoever asks for much keeps nobody else waiting.
package turn

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// turnMax is how long a turn lasts of what is done in pieces while others wait, and
// aloneMax while nobody does; restTimes how many times as long nobody has one then
// while others wait, and restMax how long at most.
const (
	turnMax   = 2 * time.Millisecond
	aloneMax  = 20 * time.Millisecond
	restTimes = 7
	restMax   = time.Second
)

// A Queue lets one at a time do what takes the processor for long and is done for
// those who look (history, news of it, a policy that is checked), and then nobody:
// for as long as it took, or restTimes as long while others wait. So however many
// look, a small part of one processor is theirs, and whatever is done for a rollout
// finds another. Actors come in turns, so that one who asks for much keeps nobody
// else waiting. It is safe for concurrent use.
type Queue struct {
	mu      sync.Mutex
	busy    bool      // somebody has a turn, or the rest after one
	waiting []*waiter // by round
	crowd   int       // of those that wait for something else before
	round   uint64    // of the turn that was given last
	rounds  map[string]uint64
}

// A waiter waits for its turn.
type waiter struct {
	round uint64
	given chan struct{}
}

// NewQueue is an empty queue.
func NewQueue() *Queue { return &Queue{rounds: map[string]uint64{}} }

// A Turn is what one of them has. It is safe for concurrent use.
type Turn struct {
	of    *Queue
	actor string

	mu    sync.Mutex
	began time.Time // zero: it has ended
}

// Enter waits for an actor's turn, or until ctx ends.
func (s *Queue) Enter(ctx context.Context, actor string) (*Turn, error) {
	t := &Turn{of: s, actor: actor}
	return t, t.begin(ctx)
}

// begin waits for the turn, or until ctx ends.
func (t *Turn) begin(ctx context.Context) error {
	if err := t.of.wait(ctx, t.actor); err != nil {
		return err
	}
	t.mu.Lock()
	t.began = time.Now()
	t.mu.Unlock()
	return nil
}

// GoOn ends a turn that has lasted long enough and waits for the next; it is to be
// called between the pieces of what is done.
func (t *Turn) GoOn(ctx context.Context) error {
	if !t.Over() {
		return nil
	}
	t.End()
	return t.begin(ctx)
}

// Over reports whether it has ended, or has lasted long enough.
func (t *Turn) Over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	took := time.Since(t.began)
	return took >= aloneMax || took >= turnMax && t.of.crowded()
}

// End ends a turn, unless it has ended.
func (t *Turn) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.began.IsZero() {
		return
	}
	rest := time.Since(t.began)
	t.began = time.Time{}
	if t.of.crowded() {
		rest *= restTimes
	}
	time.AfterFunc(min(rest, restMax), t.of.next)
}

// crowded reports whether somebody waits.
func (s *Queue) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)+s.crowd > 0
}

// After waits for what somebody who wants a turn needs before.
func (s *Queue) After(enter func() (leave func(), err error)) (leave func(), err error) {
	s.add(1)
	defer s.add(-1)
	return enter()
}

func (s *Queue) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crowd += n
}

// wait waits until the turn is an actor's, or until ctx ends.
func (s *Queue) wait(ctx context.Context, actor string) error {
	s.mu.Lock()
	w := &waiter{round: max(s.round, s.rounds[actor]) + 1, given: make(chan struct{})}
	s.rounds[actor] = w.round
	at, _ := slices.BinarySearchFunc(s.waiting, w.round+1, func(o *waiter, round uint64) int {
		return cmp.Compare(o.round, round)
	})
	s.waiting = slices.Insert(s.waiting, at, w)
	idle := !s.busy
	s.busy = true
	s.mu.Unlock()
	if idle {
		s.next()
	}
	select {
	case <-w.given:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	at = slices.Index(s.waiting, w)
	if at >= 0 {
		s.waiting = slices.Delete(s.waiting, at, at+1)
	}
	s.mu.Unlock()
	if at < 0 { // it was given in the same moment
		s.next()
	}
	return ctx.Err()
}

// next gives the turn to whoever is next.
func (s *Queue) next() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.busy = false
		clear(s.rounds)
		return
	}
	w := s.waiting[0]
	s.waiting = slices.Delete(s.waiting, 0, 1)
	s.round = w.round
	close(w.given)
}
