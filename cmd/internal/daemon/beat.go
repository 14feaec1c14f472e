package daemon

import (
	"context"
	"sync"
	"time"
)

// A heart beats while the daemon lives: it reads the daemon's own metrics, which
// takes the engine's locks and those of every rollout, and beats when that has
// come to an end. Where anything is stuck it stops, and whoever listens starts
// the daemon anew. A store or a source that is away does not stop it.
type heart struct {
	check func()
	beat  func()
	every time.Duration
}

// Run beats until ctx ends. A check that is stuck is not waited for.
func (h heart) Run(ctx context.Context) error {
	tick := time.NewTicker(h.every)
	defer tick.Stop()
	var mu sync.Mutex
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		go func() {
			if !mu.TryLock() {
				return // the one before is stuck, or slow
			}
			defer mu.Unlock()
			h.check()
			if ctx.Err() == nil {
				h.beat()
			}
		}()
	}
}
