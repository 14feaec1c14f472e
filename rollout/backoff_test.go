package rollout

import (
	"testing"
	"time"
)

// A pause doubles up to its bound, and is spread over the upper half of it.
func TestBackoff(t *testing.T) {
	for try, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 9: 10 * time.Second, 1 << 40: 10 * time.Second} {
		if got := Backoff(try, time.Second, 10*time.Second, 0); got != want {
			t.Errorf("try %d: got %s, want %s", try, got, want)
		}
		if got := Backoff(try, time.Second, 10*time.Second, 1); got != want/2 {
			t.Errorf("try %d, spread: got %s, want %s", try, got, want/2)
		}
	}
}
