package backoff

import (
	"fmt"
	"testing"
	"time"
)

// A pause doubles up to its bound, a quarter less or more.
func TestPause(t *testing.T) {
	for try, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 9: 10 * time.Second, 1 << 40: 10 * time.Second} {
		for spread, part := range map[float64]time.Duration{0: want * 3 / 4, 0.5: want, 1: want * 5 / 4} {
			if got := Pause(try, time.Second, 10*time.Second, spread); got != part {
				t.Errorf("try %d, spread %v: got %s, want %s", try, spread, got, part)
			}
		}
	}
}

// A thousand rollouts that wait for one server come back each at its own instant, and a
// replay finds the same.
func TestBackoffSpreads(t *testing.T) {
	var tenths [10]int
	for i := range 1000 {
		id := fmt.Sprint("rollout ", i)
		d := For(id, "rollback", 9, 250*time.Millisecond, 5*time.Second)
		if d != For(id, "rollback", 9, 250*time.Millisecond, 5*time.Second) || d < 3750*time.Millisecond || d > 6250*time.Millisecond {
			t.Fatalf("%s: got %s, want the same every time, from 3.75s to 6.25s", id, d)
		}
		tenths[min(9, int((d-3750*time.Millisecond)/(250*time.Millisecond)))]++
	}
	for i, n := range tenths {
		if n < 60 || n > 140 {
			t.Errorf("got %v in ten parts of it, want about 100 in each (part %d)", tenths, i)
		}
	}
}
