package refusals

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout/trigger"
)

// told records what is told, and when.
type told struct {
	mu    sync.Mutex
	began time.Time
	lines []string
	slow  time.Duration
}

func (r *told) tell(_ context.Context, d Digest) {
	time.Sleep(r.slow)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf("%s %s ×%d", time.Since(r.began).Round(time.Second), d.Key(), d.Count))
}

func run(t *testing.T, r *told) *Teller {
	r.began = time.Now()
	x := New(r.tell)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = x.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return x
}

func refusal(name string, n uint64) trigger.Refusal {
	return trigger.Refusal{Trigger: name, Sequence: n, Subject: "models.x", Reason: "not JSON"}
}

// A flood of two thousand refusals in a quarter of an hour is two tellings of one
// message a minute: the first at once, and how many they were.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &told{}
		x := run(t, r)
		for n := range uint64(2000) {
			x.Refused(t.Context(), refusal("a", n))
			time.Sleep(450 * time.Millisecond)
		}
		time.Sleep(2 * Window)
		if got := len(r.lines); got < 15 || got > 32 {
			t.Errorf("told %d times in 15 minutes, want two a minute:\n%v", got, r.lines)
		}
		keys := map[string]int{}
		total := 0
		for _, l := range r.lines {
			var at, key string
			var count int
			if _, err := fmt.Sscanf(l, "%s %s ×%d", &at, &key, &count); err != nil {
				t.Fatal(err)
			}
			total += count - keys[key]
			keys[key] = count
		}
		if total != 2000 || len(keys) > 16 {
			t.Errorf("the %d messages tell of %d refusals, want 2000 in at most 16", len(keys), total)
		}
	})
}

// One refusal is one telling; triggers do not share a minute; the next minute is
// another message.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &told{}
		x := run(t, r)
		x.Refused(t.Context(), refusal("a", 1))
		x.Refused(t.Context(), refusal("b", 2))
		x.Refused(t.Context(), refusal("b", 3))
		time.Sleep(2*Window + 500*time.Millisecond)
		x.Refused(t.Context(), refusal("a", 4))
		time.Sleep(2 * Window)
		want := []string{"0s refused/a/1 ×1", "0s refused/b/2 ×1", "1m0s refused/b/2 ×2", "2m1s refused/a/4 ×1"}
		if !slices.Equal(r.lines, want) {
			t.Errorf("got %v, want %v", r.lines, want)
		}
	})
}

// Who is slow to be told holds up the first of a minute alone; nothing that is
// counted meanwhile is lost.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &told{slow: 20 * time.Second}
		x := run(t, r)
		began := time.Now()
		for n := range uint64(100) {
			x.Refused(t.Context(), refusal("a", n))
		}
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("a hundred refusals took %s, want the first alone to wait 20s", took)
		}
		time.Sleep(2 * Window)
		if len(r.lines) != 2 || r.lines[1] != "1m20s refused/a/0 ×100" {
			t.Errorf("got %v, want a second telling of all hundred", r.lines)
		}
	})
}

// The message says what was refused, and how many.
func TestText(t *testing.T) {
	d := Digest{First: refusal("a", 7), Last: refusal("a", 9), Count: 1}
	for count, want := range map[int]string{
		1:    "A release event on models.x (message 7) was refused: not JSON",
		2:    "A release event on models.x (message 7) was refused: not JSON. Another one followed within a minute (message 9).",
		1201: "A release event on models.x (message 7) was refused: not JSON. 1200 more followed within a minute (the last is message 9).",
	} {
		d.Count = count
		if got := d.Text(); got != want {
			t.Errorf("%d: got %q, want %q", count, got, want)
		}
	}
}
