// Package refusals tells people of release events that were refused, without
// burying them: whatever a producer sends, they get one message a trigger and
// minute.
//
// The first refusal is told at once and opens a minute; those that come within it
// are counted, and at its end the same message says how many they were. What is
// counted when the process ends is told no more: each refusal is in the store and
// in the log.
package refusals

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/belayd/belay/rollout/trigger"
)

// Window is for how long the refusals of a trigger are one message.
const Window = time.Minute

// A Digest is what there is to tell of one trigger and minute.
type Digest struct {
	// First opened the minute, Last is the newest; Count counts both and all between.
	First, Last trigger.Refusal
	Count       int
	// Refs are what notifiers returned for the message.
	Refs *Refs
}

// Refs are what notifiers returned for a message, by their names, so that they
// update it. They are safe for concurrent use.
type Refs struct{ by sync.Map }

// Get is what the notifier returned last; "" when it returned nothing yet.
func (r *Refs) Get(notifier string) string {
	ref, _ := r.by.Load(notifier)
	s, _ := ref.(string)
	return s
}

// Set keeps what the notifier returned.
func (r *Refs) Set(notifier, ref string) { r.by.Store(notifier, ref) }

// Key names the message: every telling of it has the same.
func (d Digest) Key() string {
	return fmt.Sprintf("refused/%s/%d", d.First.Trigger, d.First.Sequence)
}

// Text is the message.
func (d Digest) Text() string {
	text := fmt.Sprintf("A release event on %s (message %d) was refused: %s", d.First.Subject, d.First.Sequence,
		d.First.Reason)
	switch d.Count {
	case 1:
		return text
	case 2:
		return fmt.Sprintf("%s. Another one followed within a minute (message %d).", text, d.Last.Sequence)
	}
	return fmt.Sprintf("%s. %d more followed within a minute (the last is message %d).", text, d.Count-1, d.Last.Sequence)
}

// A Teller folds refusals. It is safe for concurrent use.
type Teller struct {
	tell func(context.Context, Digest)

	mu   sync.Mutex
	open map[string]*minute
}

// A minute is the one that is open for a trigger.
type minute struct {
	Digest
	ends time.Time
	told int
}

// New makes a Teller that tells by tell, which must come to an end by itself.
func New(tell func(context.Context, Digest)) *Teller {
	return &Teller{tell: tell, open: map[string]*minute{}}
}

// Refused takes a refusal. It tells of the first of a minute before it returns, so
// that the caller can be sure of it; the others it counts.
func (t *Teller) Refused(ctx context.Context, r trigger.Refusal) {
	t.mu.Lock()
	m := t.open[r.Trigger]
	if m != nil && time.Now().Before(m.ends) {
		m.Last = r
		m.Count++
		t.mu.Unlock()
		return
	}
	fresh := &minute{Digest: Digest{First: r, Last: r, Count: 1, Refs: &Refs{}}, ends: time.Now().Add(Window), told: 1}
	t.open[r.Trigger] = fresh
	t.mu.Unlock()
	if m != nil {
		t.close(ctx, m)
	}
	t.tell(ctx, fresh.Digest)
}

// close tells of a minute that is over, where there is more than was told.
func (t *Teller) close(ctx context.Context, m *minute) {
	t.mu.Lock()
	d, more := m.Digest, m.Count > m.told
	m.told = m.Count
	t.mu.Unlock()
	if more {
		t.tell(ctx, d)
	}
}

// Run closes minutes as they end, until ctx does.
func (t *Teller) Run(ctx context.Context) error {
	tick := time.NewTicker(Window / 60)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, m := range t.over(now) {
				t.close(ctx, m)
			}
		}
	}
}

// over takes out the minutes that have ended.
func (t *Teller) over(now time.Time) []*minute {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*minute
	maps.DeleteFunc(t.open, func(_ string, m *minute) bool {
		ended := !now.Before(m.ends)
		if ended {
			out = append(out, m)
		}
		return ended
	})
	return out
}
