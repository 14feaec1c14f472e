package engine

import (
	"context"
	"fmt"
	"sync"
)

// said remembers what was logged, so that a failure that lasts is logged once and
// not at every try.
type said struct {
	mu   sync.Mutex
	last map[string]string
}

// fresh reports whether the text differs from the last one about the same thing.
func (s *said) fresh(about, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last[about] == text {
		return false
	}
	if s.last == nil {
		s.last = map[string]string{}
	}
	s.last[about] = text
	return true
}

// forget lets the same text be logged again: it went well meanwhile.
func (s *said) forget(about string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, about)
}

// warn logs why something of the rollout waits, once as long as it is the same,
// and not when the context ended.
func (l *live) warn(ctx context.Context, what string, err error, attrs ...any) {
	if ctx.Err() == nil && l.said.fresh(fmt.Sprint(what, attrs), err.Error()) {
		l.log.Warn(what, append(attrs, "outcome", err.Error())...) //nolint:sloglint // every caller passes a constant
	}
}
