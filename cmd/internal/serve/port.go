package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// A Port is an address that is listened on as soon as that is possible. What keeps
// it shut (somebody else has the port, the address is not this machine's yet) keeps
// nobody's rollout from being carried. It is safe for concurrent use.
type Port struct {
	Address string
	Log     *slog.Logger

	mu  sync.Mutex
	err error
}

// The pauses between tries.
const portRetry, portRetryMax = time.Second, 10 * time.Second

// Try tries to listen once; nil: Err says why not.
func (p *Port) Try(ctx context.Context) net.Listener {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.Address)
	if err != nil {
		err = fmt.Errorf("listen on %s: %w", p.Address, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.err == nil {
		p.Log.Error("not listening", "address", p.Address, "outcome",
			"tried again in the background; rollouts are carried meanwhile: "+err.Error())
	}
	p.err = err
	return l
}

// Open tries until it listens; nil when ctx has ended.
func (p *Port) Open(ctx context.Context) net.Listener {
	for wait := portRetry; ; wait = min(2*wait, portRetryMax) {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		if l := p.Try(ctx); l != nil {
			return l
		}
	}
}

// Err is why nobody gets in; nil when it is listened on.
func (p *Port) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
