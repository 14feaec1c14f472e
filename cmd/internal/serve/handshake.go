package serve

import (
	"context"
	"crypto/tls"
	"slices"
	"sync"
)

// handshakes lets one TLS handshake be reckoned at a time, and of those that wait
// the one that came last. So who floods belayd with connections takes neither all
// processors nor, for longer than one handshake, the turn of a person who comes
// after. It is safe for concurrent use.
type handshakes struct {
	mu      sync.Mutex
	busy    bool
	waiting []chan struct{}
}

// config is a TLS config of which each handshake waits for its turn.
func (h *handshakes) config(of *tls.Config) *tls.Config {
	out := of.Clone()
	out.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c, ok := hello.Conn.(*conn); ok {
			if err := h.enter(hello.Context()); err != nil {
				return nil, err
			}
			c.turn.Store(h) // until the first byte of the answer
		}
		if of.GetConfigForClient == nil {
			return nil, nil
		}
		return of.GetConfigForClient(hello)
	}
	return out
}

// enter waits for a turn, or until ctx ends.
func (h *handshakes) enter(ctx context.Context) error {
	h.mu.Lock()
	if !h.busy {
		h.busy = true
		h.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	h.waiting = append(h.waiting, turn)
	h.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.Index(h.waiting, turn)
	if i < 0 { // its turn came in the same moment
		h.next()
		return ctx.Err()
	}
	h.waiting = slices.Delete(h.waiting, i, i+1)
	return ctx.Err()
}

// leave ends a turn.
func (h *handshakes) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next()
}

// next gives the turn to whoever came last; with the lock held.
func (h *handshakes) next() {
	last := len(h.waiting) - 1
	if last < 0 {
		h.busy = false
		return
	}
	close(h.waiting[last])
	h.waiting = h.waiting[:last]
}
