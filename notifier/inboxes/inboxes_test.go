package inboxes

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/notifier"
)

// line is an inbox that takes its time to connect, and then hears or fails.
type line struct {
	connects time.Duration
	fails    error
	heard    atomic.Bool
	runs     atomic.Int64
}

func (l *line) Run(ctx context.Context, deliver func(context.Context, notifier.Answer) (notifier.Reply, error)) error {
	l.runs.Add(1)
	if !sleep(ctx, l.connects) {
		return nil
	}
	if l.fails != nil {
		return l.fails
	}
	l.heard.Store(true)
	defer l.heard.Store(false)
	if _, err := deliver(ctx, notifier.Answer{ID: "x"}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func listening(t *testing.T, first map[string]notifier.Inbox) *Inboxes {
	x := &Inboxes{
		Answer: func(context.Context, string, notifier.Answer) (notifier.Reply, error) { return notifier.Reply{}, nil },
		Go:     func(do func(context.Context)) bool { go do(t.Context()); return true },
		Log:    slog.New(slog.DiscardHandler),
	}
	x.Listen(t.Context(), first)
	return x
}

// An inbox is replaced by one that takes its time to connect: at every instant one of
// the two hears. One that is kept is not disturbed, one that is gone is not heard.
func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept, old, fresh := &line{}, &line{}, &line{connects: 5 * time.Second}
		x := listening(t, map[string]notifier.Inbox{"kept": kept, "chat": old})
		time.Sleep(time.Second)
		x.Replace(map[string]notifier.Inbox{"kept": kept, "chat": fresh})
		for range 60 {
			if time.Sleep(time.Second); !old.heard.Load() && !fresh.heard.Load() {
				t.Fatal("nobody hears")
			}
		}
		if old.heard.Load() || kept.runs.Load() != 1 {
			t.Errorf("a minute later: the old one hears %v, the kept one began %d times, want false and 1", old.heard.Load(), kept.runs.Load())
		}
		x.Replace(nil)
		synctest.Wait()
		if kept.heard.Load() || fresh.heard.Load() {
			t.Error("what is gone is still heard")
		}
	})
}

// An app whose token was revoked is replaced by one that hears: what the old one says
// while it is heard for the last time names the new one no more.
func TestReplaceHeals(t *testing.T) {
	for wait := range 20 {
		synctest.Test(t, func(t *testing.T) {
			x := listening(t, map[string]notifier.Inbox{"chat": &line{fails: errors.New("invalid_auth")}})
			time.Sleep(time.Duration(wait+2) * time.Second)
			if p := x.Problems(); len(p) != 1 {
				t.Fatalf("with a revoked token: got %q, want the inbox named", p)
			}
			x.Replace(map[string]notifier.Inbox{"chat": &line{}})
			time.Sleep(time.Minute)
			if p := x.Problems(); len(p) != 0 {
				t.Errorf("replaced after %d s: got %q, want nothing", wait+2, p)
			}
		})
	}
}

// An inbox that fails is named since its first failure, and is started again ever more
// rarely, but once a minute.
func TestProblems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := &line{fails: errors.New("connection lost")}
		x := listening(t, map[string]notifier.Inbox{"chat": broken})
		began := time.Now()
		time.Sleep(time.Hour)
		want := "notifier chat: nobody can answer by it since " + began.UTC().Format(time.RFC3339) + ": connection lost"
		if p := x.Problems(); len(p) != 1 || !strings.HasPrefix(p[0], want) {
			t.Errorf("got %q, want %q", p, want)
		}
		if n := broken.runs.Load(); n < 60 || n > 70 {
			t.Errorf("in an hour it was started %d times, want about once a minute", n)
		}
		x.Replace(map[string]notifier.Inbox{"chat": &line{}})
		time.Sleep(time.Minute)
		if p := x.Problems(); len(p) != 0 {
			t.Errorf("it hears again: got %q, want nothing", p)
		}
	})
}
